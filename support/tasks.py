"""Celery tasks of support: each calls one verb. All may run twice, late or never."""

from __future__ import annotations

import logging

from celery import shared_task

from support import casework, clocks, recalculation
from support.models import Outbound

log = logging.getLogger(__name__)


@shared_task
def recalculate_open_tickets() -> int:
    """Make due times right after a change of the calendar, its holidays or its time zone.

    A change queues it. The beat calls it too: holidays and zones change with their packages.
    """
    changed = recalculation.recalculate_open_tickets()
    if changed:
        log.info("the due times of %s tickets were recalculated", changed)
    return changed


@shared_task
def record_clocks() -> int:
    """Record the warnings and breaches that the clocks of tickets have reached."""
    found = clocks.record_all()
    if found:
        log.info("warnings or breaches of %s waits were recorded", found)
    return found


@shared_task
def close_resolved() -> int:
    """Close the tickets whose grace period is over."""
    return casework.close_resolved()


@shared_task
def show(outbound_id: int) -> None:
    """Deliver to the storefront: nothing waits for a network."""
    from support import delivery

    delivery.attempt(outbound_id)


@shared_task
def send(outbound_id: int) -> None:
    """Deliver by mail: waits for the mail server, on a queue of its own."""
    from support import delivery

    delivery.attempt(outbound_id)


@shared_task
def tend_outbox() -> int:
    """Flag attempts that were interrupted; show what was never shown."""
    from support import delivery

    delivery.flag_lost()
    return delivery.deliver_due(Outbound.Way.API)


@shared_task
def send_due() -> int:
    """Send mails whose task never ran, or whose next attempt is due."""
    from support import delivery

    return delivery.deliver_due(Outbound.Way.EMAIL)


@shared_task
def tell_payouts() -> int:
    """Tell customers what became of their payouts."""
    from support import notices

    return notices.tell_due()


@shared_task
def tell_accounts() -> int:
    """Tell customers what became of their accounts."""
    from support import account_notices

    return account_notices.tell_due()
