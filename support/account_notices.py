"""Telling customers what became of their account, once each, on a thread of its own.

As ``support.notices`` does of payouts: ``wallet.models.AccountOutcome`` is the outbox, and one
transaction carries an outcome to the thread. The thread is opened by us when there is none: its
key has a blank, which no key of a customer has. Locks: the ticket, the outcome.
"""

from __future__ import annotations

import itertools
import time

from django.db import IntegrityError, transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.history import Actor
from support import account_words, inbound, isolation, locking, replies
from support.models import Message, Ticket
from support.notices import PATIENCE
from wallet.models import AccountOutcome, Customer

ACCOUNTS = Actor.automatic("accounts")
KEY = "our account notices"


def tell_due() -> int:
    """Tell outcomes that nobody was told of, the oldest first; returns how many.

    Raises Unfinished when all have been tried and one met an error in code.
    """
    due = AccountOutcome.objects.filter(told_at=None).order_by("pk")
    until = time.monotonic() + PATIENCE
    keys = list(due.values_list("pk", flat=True))
    in_time = itertools.takewhile(lambda _: time.monotonic() <= until, keys)
    return isolation.each("account outcome", in_time, tell)


def tell(outcome_id: int) -> bool:
    """Tell one outcome, once; tells whether it did. A customer's outcomes are told in order."""
    with transaction.atomic():
        customer = Customer.objects.filter(outcomes=outcome_id).first()
        if customer is None:
            return False
        ticket = locking.lock_thread(_thread(customer).pk, customer.pk)[-1]
        outcome = (
            AccountOutcome.objects.select_for_update(no_key=True)
            .filter(pk=outcome_id, told_at=None)
            .first()
        )
        if outcome is None or _is_out_of_turn(outcome):
            return False
        replies.say(
            ticket,
            None,
            account_words.words(outcome),
            key=f"account-outcome:{outcome.pk}",
            print_=inbound.fingerprint("account outcome", outcome.pk),
            kind=Message.Kind.NOTICE,
            via=ACCOUNTS.label,
        )
        # Nobody's reply depends on it: who has the page open can send what they write.
        locking.save(
            ticket,
            actor=ACCOUNTS,
            reason=f"Told the customer: {outcome.get_what_display().lower()}",
            quietly=True,
        )
        outcome.told_at = timezone.now()
        outcome.save(update_fields=["told_at"])
        return True


def _thread(customer: Customer) -> Ticket:
    """The first ticket of the customer's account thread; opened, once, if there is none.

    Nobody waits on it: a reply of the customer opens it, and what is never answered closes.
    """
    known = Ticket.objects.filter(customer=customer, key=KEY, follows=None)
    found = known.first()
    if found is not None:
        return found
    ticket = Ticket(
        customer=customer,
        subject=account_words.SUBJECT,
        channel=Ticket.Channel.EMAIL if customer.email else Ticket.Channel.API,
        opened_at=timezone.now(),
        key=KEY,
    )
    ticket.resolve()
    ticket.resolved_at = ticket.opened_at
    try:
        history.create(
            [ticket], actor=ACCOUNTS, reason="Opened, to tell what became of the account"
        )
    except IntegrityError:
        # Another sweep has opened it meanwhile.
        return known.get()
    return ticket


def _is_out_of_turn(outcome: AccountOutcome) -> bool:
    """Whether an earlier outcome of the customer is still to be told."""
    earlier = AccountOutcome.objects.filter(customer=outcome.customer_id, pk__lt=outcome.pk)
    return earlier.filter(told_at=None).exists()
