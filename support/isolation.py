"""Many rows, each in a transaction of its own: one that meets an error in code stops no other."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable

log = logging.getLogger(__name__)


class Unfinished(RuntimeError):
    """Errors in code left some rows as they were; the log says which, and where."""


def each(what: str, pks: Iterable[int], verb: Callable[[int], bool]) -> int:
    """Call ``verb`` on every key, and return how many times it did something.

    An error is logged with its place and without its words, which may repeat a row and so name the
    customer; when all were tried, Unfinished is raised.
    """
    done = 0
    failed: list[int] = []
    for pk in pks:
        try:
            done += verb(pk)
        except Exception as error:  # noqa: BLE001 - raised below, without the words
            failed.append(pk)
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("%s %s: %s at\n%s", what, pk, type(error).__name__, place)  # noqa: TRY400
    if failed:
        raise Unfinished(f"{what} {', '.join(map(str, failed))}: see the log")
    return done
