"""What logs, error pages and reports leave out."""

from __future__ import annotations

import logging
import re
from typing import Any

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.utils.safestring import SafeString
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

HIDDEN = "********"
# The password of a URL ends at the last @ before the path; as a parameter it ends with its value.
_IN_URL = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/?#:@'\"<>]*):[^\s/?#'\"<>]*@", re.IGNORECASE)
_AS_PARAMETER = re.compile(
    r"\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"<>;,)]+)", re.IGNORECASE
)


def scrub(text: str) -> str:
    """The text without the passwords of the URLs and connection strings in it."""
    if "://" in text:
        text = _IN_URL.sub(rf"\1:{HIDDEN}@", text)
    return _AS_PARAMETER.sub(rf"\1{HIDDEN}", text)


class Record(logging.LogRecord):
    """A line of the log whose words, and whose traceback, show no password.

    The kind of all records of the process, so it does not matter who writes them where: Django,
    Celery's workers and gunicorn have handlers and formatters of their own.
    """

    def getMessage(self) -> str:  # noqa: N802 - the library's name
        """The line's words."""
        return scrub(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback, which formatters put here before they use it."""
        return self._exc_text

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        self._exc_text = None if text is None else scrub(text)


def install() -> None:
    """Have every line that this process logs be a ``Record``."""
    logging.setLogRecordFactory(Record)


class SafeFilter(SafeExceptionReporterFilter):
    """Settings and the environment as error pages show them: also without passwords in URLs."""

    def cleanse_setting(self, key: str | int, value: Any) -> Any:
        """The value to show."""
        shown = super().cleanse_setting(key, value)
        # Some settings are read late, and only then are text.
        return scrub(str(shown)) if isinstance(shown, str) else shown


class Reporter(ExceptionReporter):
    """An error's page or report, without passwords in URLs wherever they stand in it."""

    def get_traceback_html(self) -> SafeString:
        """The page."""
        return SafeString(scrub(super().get_traceback_html()))

    def get_traceback_text(self) -> SafeString:
        """The report."""
        return SafeString(scrub(super().get_traceback_text()))


class ForbiddenInOneLine(logging.Filter):
    """A request that is forbidden, or no request at all, is a line: our code's place is no news."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, that of a refusal without its traceback.

        What a stranger sends is no error of ours.
        """
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, PermissionDenied | SuspiciousOperation):
            record.exc_info = record.exc_text = None
            if record.levelno > logging.WARNING:
                record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True
