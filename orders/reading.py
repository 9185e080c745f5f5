"""Reading SMS in full: who reads them says why, and the reading is kept for good.

Every page shows SMS masked (``orders.privacy``), to everybody. This is the one way to their text.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from orders.locking import OrderUnknown
from orders.models import LEAST_REASON, Order, Sms, SmsReading
from smsactivator.common.errors import Invalid, NotFound
from wallet.limits import require

READS_SMS = "orders.view_sms_text"


class ReadingWithoutReason(Invalid):
    """Whoever reads SMS in full says why, in words."""

    code = "reading_without_reason"


class NothingToRead(NotFound):
    """The order has no such SMS."""

    code = "nothing_to_read"


def read(person: Any, order_id: int, *, reason: str, sms_id: int | None = None) -> list[Sms]:
    """The SMS of an order with their texts and codes, or one of them; the oldest first.

    Each call is a reading of its own (``SmsReading``), committed before anything is returned: what
    cannot be recorded is not read. So it is not for use inside another transaction, which might
    still be rolled back, and refuses that with RuntimeError. Raises PermissionDenied,
    ReadingWithoutReason, OrderUnknown, NothingToRead.
    """
    require(person, READS_SMS)
    reason = reason.strip()
    if len(reason) < LEAST_REASON:
        raise ReadingWithoutReason(
            f"Say why you read these SMS, in at least {LEAST_REASON} characters: it is kept."
        )
    with transaction.atomic(durable=True):
        if not Order.objects.filter(pk=order_id).exists():
            raise OrderUnknown(f"There is no order {order_id}.")
        messages = Sms.objects.filter(order=order_id).order_by("received_at", "pk")
        if sms_id is not None:
            messages = messages.filter(pk=sms_id)
        read_now = list(messages)
        if not read_now:
            raise NothingToRead(
                f"Order {order_id} has no SMS."
                if sms_id is None
                else f"Order {order_id} has no SMS {sms_id}."
            )
        SmsReading.objects.create(
            order_id=order_id,
            shown=[sms.pk for sms in read_now],
            person=person,
            reason=reason,
            read_at=timezone.now(),
        )
    return read_now
