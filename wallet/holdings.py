"""What finance holds, and whether it covers what customers are owed."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Lower
from django.utils import timezone

from smsactivator.common.errors import Invalid, Refused
from smsactivator.common.money import usd
from smsactivator.common.seen import TOLD, in_words, outdated
from wallet import closes, limits
from wallet.deciding import same_request
from wallet.horizon import writers_have_ended
from wallet.models import Holding, LiabilityCheck

PERMISSION = "wallet.record_holding"
# Machines' clocks need not agree to the second, and a posting may still be on its way.
SETTLES_IN = timedelta(seconds=30)
HOLDING = 0x68656C64  # any advisory lock that nothing else takes: "held"
HELD_FOR = timedelta(days=1)  # how long an entry says what is held
PATIENCE = 5.0  # seconds to wait for transactions that may still write before the moment


class StillMoving(Refused):
    """Transfers of that moment may still come in."""

    code = "still_moving"


def record(
    person: Any,
    *,
    name: str,
    amount: Decimal,
    as_of: datetime,
    source: str,
    key: UUID,
    seen: int | None = None,
) -> Holding:
    """Enter what is held at one place at one moment; sent twice, it is one entry.

    Needs ``wallet.record_holding``. What was entered wrongly is entered again: the newest entry of
    a name counts, whatever the case of its letters. Nothing held any more is an amount of 0. Locks
    the person's row; entries and checks come one after another. ``seen`` is how many entries the
    page knew of. Raises Invalid, Outdated, and RequestConflict for a form that was sent before with
    something else.
    """
    limits.require(person, PERMISSION)
    name, source = " ".join(name.split()), source.strip()
    if not name or not source:
        raise Invalid("Say where it is held and where the figure comes from.")
    if as_of > timezone.now():
        raise Invalid("What will be held at a moment to come is not known yet.")
    try:
        exact = usd(amount)
    except ValueError as wrong:
        raise Invalid(f"{wrong}.") from None
    if exact < 0:
        raise Invalid("What is held is 0 USD or more.")
    with transaction.atomic():
        limits.lock(person)
        _alone()
        content: dict[str, Any] = {
            "name": name,
            "amount": exact,
            "as_of": as_of,
            "source": source,
            "entered_by_id": person.pk,
        }
        if made := same_request(Holding, key, **content):
            return made
        _refuse_outdated(seen)
        return Holding.objects.create(entered_at=timezone.now(), request_key=key, **content)


def held_at(moment: datetime) -> list[Holding]:
    """The newest entry of each place as of a moment, by name."""
    return list(
        Holding.objects.filter(as_of__lte=moment)
        .annotate(place=Lower("name"))
        .order_by("place", "-as_of", "-id")
        .distinct("place")
        .select_related("entered_by")
    )


def is_recent(as_of: datetime, at: datetime) -> bool:
    """Whether an entry still says what is held at a moment: up to HELD_FOR later."""
    return at - as_of <= HELD_FOR


def check(
    person: Any, *, at: datetime, note: str, key: UUID, seen: int | None = None
) -> LiabilityCheck:
    """Set what is owed to customers at a moment beside what is held, and keep it.

    Needs ``wallet.record_holding``. Sent twice, it is one check. Waits a little for transfers that
    are on their way, and blocks no posting; entries and checks come one after another. Entries that
    are old are summed all the same; what they come to is then not to be compared (``is_recent``).
    Raises Invalid for a moment to come or when nothing was entered as held, StillMoving for one
    that is not settled, Outdated when more was entered than the page knew of (``seen``), and
    RequestConflict for a form that was sent before with something else.
    """
    limits.require(person, PERMISSION)
    note = note.strip()
    if at > timezone.now():
        raise Invalid("What will be owed at a moment to come is not known yet.")
    if at > timezone.now() - SETTLES_IN or not writers_have_ended(PATIENCE):
        raise StillMoving(
            f"Transfers of that moment may still come in: ask again in "
            f"{SETTLES_IN.seconds} seconds, or for an earlier moment."
        )
    with transaction.atomic():
        limits.lock(person)
        _alone()
        content: dict[str, Any] = {"at": at, "note": note, "checked_by_id": person.pk}
        if made := same_request(LiabilityCheck, key, **content):
            return made
        _refuse_outdated(seen)
        holdings = held_at(at)
        if not holdings:
            raise Invalid("Nothing was entered as held at that moment: enter it first.")
        owed = closes.owed_at(at)
        return LiabilityCheck.objects.create(
            wallets=owed.wallets,
            escrow=owed.escrow,
            payouts=owed.payouts,
            held=sum((holding.amount for holding in holdings), Decimal(0)),
            holdings=[holding.pk for holding in holdings],
            oldest=min(holding.as_of for holding in holdings),
            checked_at=timezone.now(),
            request_key=key,
            **content,
        )


def known() -> int:
    """How many entries there are, which is what the page of a step shows."""
    return Holding.objects.count()


def _refuse_outdated(seen: int | None) -> None:
    """After ``_alone``. Raises Outdated."""
    now = known()
    if seen is None or seen == now:
        return
    unseen = min(now - seen if seen < now else now, TOLD + 1)
    last = Holding.objects.select_related("entered_by").order_by("-pk")[:unseen]
    steps = [
        (str(one.entered_by), f"entered {one.amount} USD at {one.name}", one.entered_at)
        for one in last
    ]
    raise outdated("What is held", in_words(steps))


def _alone() -> None:
    """One entry or check after another, until the end of the transaction; readers go on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [HOLDING])
