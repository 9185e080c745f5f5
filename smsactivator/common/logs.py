"""What the log leaves out."""

from __future__ import annotations

import logging

from django.core.exceptions import PermissionDenied


class ForbiddenInOneLine(logging.Filter):
    """A request that is forbidden is a line: where in our code it was refused is no news."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, that of a PermissionDenied without its traceback."""
        if record.exc_info and isinstance(record.exc_info[1], PermissionDenied):
            record.exc_info = record.exc_text = None
        return True
