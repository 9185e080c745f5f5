"""What a password must not be, beside Django's own rules."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError

LEAST_DIFFERENT = 6
SHORTEST_COMMON = 6  # shorter words of the list are in many good passwords


class DifferentCharacters:
    """Not one or two characters again and again."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError for a password of too few characters that differ."""
        if len(set(password.lower())) < LEAST_DIFFERENT:
            raise ValidationError(self.get_help_text(), code="password_too_uniform")

    def get_help_text(self) -> str:
        """The rule, in words."""
        return f"Your password must contain at least {LEAST_DIFFERENT} different characters."


class NotCommonInDisguise(CommonPasswordValidator):
    """Django's list of common passwords, also doubled, or with digits and signs around them."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError for one of the list, however it was made longer."""
        plain = password.lower().strip()
        bare = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)
        for word in {plain, bare, _half(plain), _half(bare)}:
            if word == plain or len(word) >= SHORTEST_COMMON:
                super().validate(word, user)


def _half(text: str) -> str:
    """What is said twice, or all of it."""
    half = text[: len(text) // 2]
    return half if half * 2 == text else text
