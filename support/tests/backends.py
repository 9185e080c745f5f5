"""Mail backends that are not SMTP, and do not work."""

from __future__ import annotations

from typing import Any

from django.core.mail.backends.base import BaseEmailBackend


class Broken(BaseEmailBackend):
    """Breaks while it sends, and repeats the mail's words."""

    def send_messages(self, email_messages: Any) -> int:
        raise RuntimeError(f"cannot send to {email_messages[0].to}")


class Silent(BaseEmailBackend):
    """Says that it has sent nothing, and not why."""

    def send_messages(self, email_messages: Any) -> int:
        return 0


class Cut(BaseEmailBackend):
    """Loses the connection at an unknown moment; the error names the customer."""

    def send_messages(self, email_messages: Any) -> int:
        raise ConnectionResetError(f"cut off at {email_messages[0].to}")
