"""Tickets and what belongs to them."""

from support.models.calendar import Calendar, CalendarException
from support.models.outbox import Outbound
from support.models.tickets import (
    LONGEST_BODY,
    LONGEST_SUBJECT,
    Attachment,
    AttachmentReading,
    Blob,
    Message,
    Ticket,
    TicketOrder,
    TicketPayout,
    TicketRefund,
    Wait,
)
from support.models.working import Macro, Viewing

__all__ = [
    "LONGEST_BODY",
    "LONGEST_SUBJECT",
    "Attachment",
    "AttachmentReading",
    "Blob",
    "Calendar",
    "CalendarException",
    "Macro",
    "Message",
    "Outbound",
    "Ticket",
    "TicketOrder",
    "TicketPayout",
    "TicketRefund",
    "Viewing",
    "Wait",
]
