"""What of an SMS is shown to people who may not read it."""

from __future__ import annotations

import re

HIDDEN = "••••••"
LEFT = 2  # the last characters of a code that stay, to compare with what a customer says
# A word with a digit in it may be a code, a number, an amount; an address may log somebody in.
_TELLING = re.compile(r"\S*\d\S*|\S*://\S*")


def masked_code(code: str) -> str:
    """The code with all but its last two characters hidden; wholly hidden when it is short."""
    if not code:
        return ""
    return HIDDEN + (code[-LEFT:] if len(code) >= 2 * LEFT else "")


def masked_text(text: str, code: str) -> str:
    """The text with its code and every telling word hidden.

    Text in which no code was recognised is hidden whole: any word of it may be the code.
    """
    if not text:
        return ""
    if not code or code not in text:
        return f"{HIDDEN} ({len(text)} characters)"
    hidden = masked_code(code)
    return hidden.join(_TELLING.sub(HIDDEN, part) for part in text.split(code))
