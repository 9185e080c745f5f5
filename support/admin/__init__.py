"""The admin pages of support."""

from support.admin import calendar, entering, macros, outbox, reports, tickets, waits

__all__ = ["calendar", "entering", "macros", "outbox", "reports", "tickets", "waits"]
