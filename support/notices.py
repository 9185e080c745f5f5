"""Telling customers what became of their payouts, once each, on the tickets they asked on.

``wallet.models.PayoutOutcome`` is an outbox on the wallet's floor: whoever changes a payout writes
down, in that transaction, what its customer is to be told. This sweep carries each outcome to its
ticket in one transaction: the notice under a key of its own, its delivery, and ``told_at``. Whoever
dies in the middle has told nothing, and the next sweep tells it. Locks: the ticket, the outcome.
"""

from __future__ import annotations

import itertools
import logging
import time

from django.db import transaction
from django.utils import timezone

from smsactivator.common.history import Actor
from support import inbound, isolation, locking, payout_words, replies
from support.models import Message, TicketPayout
from wallet.models import PayoutOutcome, Wallet

log = logging.getLogger(__name__)

PAYOUTS = Actor.automatic("payouts")
PATIENCE = 20  # seconds after which a beat's run leaves the rest to the next


def tell_due() -> int:
    """Tell outcomes that nobody was told of, the oldest first; returns how many.

    Only its time bounds a run: were it a number, as many that cannot be told would stop all others
    for good. Raises Unfinished when all have been tried and one met an error in code.
    """
    due = PayoutOutcome.objects.filter(told_at=None).order_by("pk")
    until = time.monotonic() + PATIENCE
    keys = list(due.values_list("pk", flat=True))
    in_time = itertools.takewhile(lambda _: time.monotonic() <= until, keys)
    return isolation.each("payout outcome", in_time, tell)


def tell(outcome_id: int) -> bool:
    """Tell one outcome, once; tells whether it did. A closed ticket carries notices too.

    A payout's outcomes are told in their order. One that was asked for on no ticket, which only
    code can do, has nobody to be told: it is logged, and not looked at again.
    """
    with transaction.atomic():
        home = TicketPayout.objects.filter(payout__outcomes=outcome_id).first()
        ticket = locking.lock(home.ticket_id) if home else None
        outcome = (
            PayoutOutcome.objects.select_for_update(no_key=True, of=("self",))
            .select_related("payout__method")
            .filter(pk=outcome_id, told_at=None)
            .first()
        )
        if outcome is None or _is_out_of_turn(outcome):
            return False
        if ticket is None:
            log.warning("outcome %s of a payout that no ticket has was told to nobody", outcome.pk)
        else:
            state = Wallet.objects.values_list("state", flat=True).get(pk=ticket.customer_id)
            body = payout_words.words(outcome, forfeited=state == Wallet.State.FORFEITED)
            replies.say(
                ticket,
                None,
                body,
                key=f"payout-outcome:{outcome.pk}",
                print_=inbound.fingerprint("payout outcome", outcome.pk),
                kind=Message.Kind.NOTICE,
                via=PAYOUTS.label,
            )
            # Nobody's reply depends on it: who has the page open can send what they write.
            locking.save(
                ticket, actor=PAYOUTS, reason=f"Told the customer: {outcome}", quietly=True
            )
        outcome.told_at = timezone.now()
        outcome.save(update_fields=["told_at"])
        return ticket is not None


def _is_out_of_turn(outcome: PayoutOutcome) -> bool:
    """Whether an earlier outcome of the payout is still to be told."""
    earlier = PayoutOutcome.objects.filter(payout=outcome.payout_id, pk__lt=outcome.pk)
    return earlier.filter(told_at=None).exists()
