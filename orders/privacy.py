"""What of an SMS is shown to people who may not read it."""

from __future__ import annotations

import re
import unicodedata

HIDDEN = "••••••"
LEFT = 2  # the last characters of a code that stay, to compare with what a customer says
_AROUND = ".,;:!?()[]{}<>\"'«»“”…—•*-"  # what may stand around a word without being of it
_WITHIN = "'\u2018\u2019-"  # what a plain word may hold between its letters
_CODE = "\ue000"  # stands for the code while words are looked at; no letter, so it can only hide


def masked_code(code: str) -> str:
    """The code with all but its last two characters hidden; wholly hidden when it is short."""
    if not code:
        return ""
    return HIDDEN + (code[-LEFT:] if len(code) >= 2 * LEFT else "")


def masked_text(text: str, code: str) -> str:
    """The text with its code hidden, and every word that is not of letters alone.

    A digit may be of a code, a number, an amount; a dot, a slash or a sign inside a word may be of
    an address that logs somebody in. Text in which no code was recognised is hidden whole: any
    word of it may be the code.
    """
    if not text:
        return ""
    if not code or code not in text:
        return f"{HIDDEN} ({len(text)} characters)"
    shown = masked_code(code)
    return re.sub(r"\S+", lambda found: _masked(found[0], shown), text.replace(code, _CODE))


def _masked(word: str, code: str) -> str:
    core = word.strip(_AROUND)
    if all(character in _WITHIN or _is_letter(character) for character in core):
        return word
    before, after = word.split(core, 1)
    return before + (code if _CODE in core else HIDDEN) + after


def _is_letter(character: str) -> bool:
    # With the marks that letters of some scripts are written with.
    return unicodedata.category(character)[0] in "LM"
