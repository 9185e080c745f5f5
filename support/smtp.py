"""Django's SMTP backend, told apart by what is known of a mail that did not go through.

smtplib raises the same exception whether the connection broke before the mail or after it. What
tells the two apart is the server's 354: it is the one answer after which the mail itself is sent.
"""

from __future__ import annotations

import smtplib
from typing import Any

from django.core.mail import EmailMessage
from django.core.mail.backends import smtp

GO_AHEAD = 354
AUTHENTICATION_REQUIRED = 530


class NotSent(smtplib.SMTPException):
    """The mail was surely not accepted. ``final``: nor will it be, however often it is tried.

    ``code`` is the server's, if it answered; ``words`` are for people and may name the recipient.
    """

    def __init__(self, words: str, *, code: int | None = None, final: bool = False) -> None:
        # Only the code is an argument: what is logged of an exception names nobody.
        super().__init__(code)
        self.words = words
        self.code = code
        self.final = final


class PerhapsSent(smtplib.SMTPException):
    """The connection broke after the mail had begun: it may have been accepted."""


class _Noting:
    """Notes that the server asked for the mail itself."""

    mail_begun = False

    def getreply(self) -> tuple[int, bytes]:
        code, words = super().getreply()  # type: ignore[misc]
        if code == GO_AHEAD:
            self.mail_begun = True
        return code, words


class _Smtp(_Noting, smtplib.SMTP):
    pass


class _SmtpSsl(_Noting, smtplib.SMTP_SSL):
    pass


class EmailBackend(smtp.EmailBackend):
    """Raises NotSent or PerhapsSent for a mail that was not accepted, and nothing for others."""

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _SmtpSsl if self.use_ssl else _Smtp

    def open(self) -> bool | None:
        """Connect and log in. A server that refuses us has refused no mail, whatever its code."""
        try:
            return super().open()
        except (OSError, UnicodeError) as error:
            self.close()
            raise _of_the_server(error) from None

    def close(self) -> None:
        """Say goodbye. Mails that were accepted before stay accepted, however this ends."""
        try:
            super().close()
        except OSError:
            self.connection = None

    def _send(self, email_message: EmailMessage) -> bool:
        connection: Any = self.connection
        connection.mail_begun = False
        try:
            return bool(super()._send(email_message))  # type: ignore[misc]
        except OSError as error:
            raise _judged(error, mail_begun=connection.mail_begun) from None


def _of_the_server(error: Exception) -> NotSent:
    """What stood in the way before any mail: no server, no TLS, no login."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return NotSent("The mail server refuses our login.", code=error.smtp_code)
    if isinstance(error, smtplib.SMTPResponseException):
        return NotSent("The mail server refuses us.", code=error.smtp_code)
    if isinstance(error, TimeoutError):
        return NotSent("The mail server does not answer.")
    return NotSent("The mail server cannot be reached.")


def _judged(error: OSError, *, mail_begun: bool) -> NotSent | PerhapsSent:
    """What an exception of smtplib's says about the mail."""
    code, words = _answer(error)
    if code is not None and 400 <= code < 600:
        said = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        return NotSent(
            f"The mail server answered {code} {said}".strip(),
            code=code,
            final=code >= 500 and code != AUTHENTICATION_REQUIRED,
        )
    if mail_begun:
        return PerhapsSent()
    return NotSent("The connection to the mail server broke before the mail began.")


def _answer(error: OSError) -> tuple[int | None, bytes | str]:
    """The server's answer to the sender, the recipient, or the mail; None if it gave none."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        [(code, words), *_] = error.recipients.values()
        return code, words
    # The base of these two also stands for an answer that made no sense.
    if isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError):
        return error.smtp_code, error.smtp_error
    return None, ""
