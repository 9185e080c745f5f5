"""Mails to customers: a public message of a thread, in plain text."""

from __future__ import annotations

import re
from email.utils import make_msgid, parseaddr

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email

from support.models import Message, Outbound, Ticket

LONGEST_CHAIN = 10  # Message-IDs in References: the first of the thread, and the newest
BYTES = "application/octet-stream"


class Unwritable(Exception):
    """No mail can be made of the message; the words say why."""


def new_mail_id() -> str:
    """A Message-ID that nobody has used."""
    domain = parseaddr(settings.SUPPORT_EMAIL)[1].rpartition("@")[2]
    return make_msgid("support", domain=domain or "localhost")


def problem_with(address: str) -> str:
    """Why no mail can go to a customer's address, in words; empty if it can."""
    if not address:
        return "The customer's account has no email address."
    try:
        validate_email(address)
    except ValidationError:
        return "The email address of the customer's account is not one."
    return ""


def write(outbound: Outbound) -> EmailMessage:
    """The mail of a delivery, to the address and under the Message-ID that were noted on it.

    A delivered mail of the same thread is what it replies to; one that was not sent is no anchor.
    Raises Unwritable.
    """
    message = outbound.message
    headers = {"Message-ID": outbound.mail_id}
    if chain := _chain(outbound):
        headers |= {"In-Reply-To": chain[-1], "References": " ".join(chain)}
    if message.kind == Message.Kind.NOTICE:
        headers["Auto-Submitted"] = "auto-generated"
    mail = EmailMessage(
        subject=subject(message.ticket),
        body=message.body,
        from_email=settings.SUPPORT_EMAIL,
        to=[outbound.sent_to],
        reply_to=[settings.SUPPORT_EMAIL],
        headers=headers,
    )
    for file in message.attachments.select_related("blob").order_by("pk"):
        # A text or a mail would be taken apart and written anew: the bytes are to arrive as is.
        kind = BYTES if file.content_type.startswith(("text/", "message/")) else file.content_type
        mail.attach(one_line(file.name) or "file", bytes(file.blob.content), kind)
    try:
        mail.message()
    except (ValueError, UnicodeError) as error:
        raise Unwritable(f"No mail can be made of it ({type(error).__name__}).") from None
    return mail


def subject(ticket: Ticket) -> str:
    """``Re: <subject> [#<ticket>]``, on one line whatever the customer typed."""
    return f"Re: {one_line(ticket.subject)} [#{ticket.pk}]"


def one_line(text: str) -> str:
    """The text without what could begin another header."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", text).split())


def _chain(outbound: Outbound) -> list[str]:
    sent = list(
        Outbound.objects.filter(
            message__ticket=outbound.message.ticket_id,
            way=Outbound.Way.EMAIL,
            state=Outbound.State.SENT,
        )
        .exclude(pk=outbound.pk)
        .order_by("sent_at", "pk")
        .values_list("mail_id", flat=True)
    )
    return sent if len(sent) <= LONGEST_CHAIN else [sent[0], *sent[1 - LONGEST_CHAIN :]]
