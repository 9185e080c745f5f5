"""Operating errors: what somebody outside can bring about, and can do something about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Refused(Exception):
    """The request was understood and refused; nothing was changed.

    ``code`` is stable and machine-readable, ``status`` is the HTTP status the API answers with, and
    the message tells a person what can be done.
    """

    code = "refused"
    status = 409

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFound(Refused):
    """What was named does not exist, or belongs to somebody else (the two look the same)."""

    code = "not_found"
    status = 404


def why_refused(check: Callable[..., object], *args: Any) -> str:
    """What a check of a verb says when it refuses; "" when it lets pass."""
    try:
        check(*args)
    except Refused as refusal:
        return refusal.message
    return ""


class Invalid(Refused):
    """The request itself is malformed: a value out of its range, a field missing."""

    code = "invalid"
    status = 422
