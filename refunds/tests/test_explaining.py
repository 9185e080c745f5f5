"""An order explained: facts, verdict, clause, what happened, what can be done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders import polling
from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import Offer, Order
from orders.upstreams.base import Message
from refunds import automatic, decisions, disputes
from refunds.explaining import explain
from refunds.policy import Clause
from refunds.tests import every_order, world
from refunds.tests.test_replay import activation, approved, asked, denied
from refunds.tests.versions import JULY
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def told(*arguments: Any) -> str:
    out = StringIO()
    call_command("explain_refund", *(str(one) for one in arguments), stdout=out)
    return out.getvalue()


def test_an_order_that_expired_is_explained_to_the_end(clock: Any) -> None:
    order = activation(clock, sms_after=None)
    refund = order.refunds.get()

    assert (
        told(order.pk)
        == f"""\
Facts
  At: 2026-06-01 12:21:01 UTC
  Kind: activation
  Price: 1.0000 USD
  Placed at: 2026-06-01 12:00:00 UTC
  Allocated at: 2026-06-01 12:00:00 UTC
  Deadline: 2026-06-01 12:20:00 UTC
  First SMS at: —
  Rental ends at: —
  Ended at: 2026-06-01 12:21:01 UTC
  Refused at: —
  Refusal code: —
  Broken at: —
  Broken signal: —
  Cancelled: no
  Allocation timed out: no
  SMS ruled out: yes
  Terminated: no
  SMS: 0
  Refunded: 1.0000 USD
Verdict
  Refunded automatically: No SMS had arrived by 2026-06-01 12:20:00 UTC.
  By version 2026-05-07, in force when the order was placed.
Clause
  auto.no_sms_in_time: No SMS within the SLA
  No SMS within the 20-minute SLA — the order auto-cancels and the full price is credited back to \
the wallet.
What happened
  Order {order.pk} is expired.
  Refund {refund.pk} of 1.0000 USD on 2026-06-01 12:21:01 UTC, automatic: auto.no_sms_in_time of \
version 2026-05-07.
What can be done
  Nothing is left to refund.
"""
    )


def test_neither_the_sms_nor_the_number_is_told(clock: Any) -> None:
    order = activation(clock, sms_after=1)
    sms = order.messages.get()
    denied(order, Clause.SERVICE_REJECTED)

    text = told(order.pk)

    assert sms.text
    assert sms.text not in text
    assert sms.code not in text
    assert order.phone.lstrip("+") not in text
    assert order.phone[-4:] not in text


def test_a_report_is_judged_as_it_was_made_or_as_it_is_asked(clock: Any) -> None:
    order = activation(clock, sms_after=1)
    assert "No clause applies: An SMS arrived in time and nothing else was reported." in told(
        order.pk
    )

    rejected = told(order.pk, "--reported", Clause.SERVICE_REJECTED)
    assert "Refundable by ticket: An SMS arrived in time." in rejected
    assert "Not known, but supposed: the service rejected it." in rejected
    assert "of up to 1.0000 USD under ticket.service_rejected; another person" in rejected

    request = asked(order, Clause.ORDERED_WRONG)
    assert "Not refundable: An SMS arrived in time." in told(order.pk)
    claimed = f"claimed by {request.requested_by}: the wrong service or country was ordered"
    assert f"Not known, but {claimed}." in told(order.pk)
    assert f"As reported in Refund request {request.pk}." in told(order.pk)
    decisions.withdraw(request.requested_by, request.pk)
    assert "No clause applies" in told(order.pk)


def test_another_version_is_asked_by_name(clock: Any, add_version: Any) -> None:
    add_version("v2026_07_01", JULY)
    order = activation(clock, sms_after=12)

    text = told(order.pk, "--as-of", "2026-07-01")

    assert "Refunded automatically: The SMS took more than 10 minutes." in text
    assert "By version 2026-07-01; in force was 2026-05-07." in text
    assert "ticket.unreadable" not in told(order.pk)
    with pytest.raises(CommandError, match=r"Version 2026-05-07 .* no clause ticket\.unreadable"):
        told(order.pk, "--reported", "ticket.unreadable")
    unreadable = told(order.pk, "--reported", "ticket.unreadable", "--as-of", "2026-07-01")
    assert "Refunded automatically" in unreadable


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "There is no order 0"),
        ((10**30,), "There is no order 1000000000000000000000000000000"),
        (("x",), "invalid int value"),
        (("{order}", "--reported", "mercy"), r"has no clause mercy\. There are: auto\."),
        (("{order}", "--reported", "auto.no_sms_in_time"), "is known without a report"),
        (("{order}", "--reported", "none.terminated"), "is known without a report"),
        (("{order}", "--as-of", "2020-01-01"), r"no version 2020-01-01 .* 2026-05-07"),
    ],
)
def test_what_is_unknown_is_named_and_exits_with_an_error(
    arguments: tuple[Any, ...], words: str
) -> None:
    order = world.place()

    with pytest.raises(CommandError, match=words):
        told(*(str(one).format(order=order.pk) for one in arguments))


# --- what can be done -----------------------------------------------------------------------------


def next_of(order: Order, **asked: str) -> tuple[str, ...]:
    return explain(order.pk, **asked).next


def test_what_can_be_done_with_an_open_order(clock: Any) -> None:
    placed = world.place()
    order = world.allocated()
    rental = world.allocated(world.place(what=world.offer("2", kind=Offer.Kind.RENTAL)))
    cancel = "The customer can cancel it now, for a full refund at once."

    assert next_of(placed) == (cancel,)
    assert next_of(order) == (cancel, "Without an SMS by its deadline it refunds itself.")
    assert next_of(rental)[0] == cancel
    assert next_of(rental, reported="ticket.rental_issue")[1].startswith("From a ticket an agent")
    polling.mark_broken({order.pk: "STATUS_CANCEL", rental.pk: "STATUS_REVOKE"})
    due = ("It is due: the next sweep refunds the full price, in seconds.",)
    assert next_of(order) == next_of(rental) == due


def test_what_can_be_done_with_a_request(clock: Any) -> None:
    order = activation(clock, sms_after=1)
    request = asked(order, Clause.SERVICE_REJECTED, "0.4")
    assert next_of(order) == (f"{request} waits for another person to approve or deny it.",)

    decisions.deny(person("Senior agent"), request.pk, reason="No evidence")
    assert (
        next_of(order)[0] == f"The customer may dispute {request}, once, by a reply on the thread."
    )
    disputes.dispute(request.pk, actor=world.TESTER)
    assert next_of(order) == (
        f"{request} is disputed and waits for a senior agent who took no part.",
    )
    disputes.overturn(person("Senior agent"), request.pk, reason="The screenshot shows it")
    assert next_of(order)[:1] == (f"{request} is final.",)
    found = explain(order.pk)
    assert "of up to 0.6000 USD" in found.next[1]
    assert found.happened[1].startswith(f"Refund {order.refunds.get().pk} of 0.4000 USD")
    assert "overturned and credited" in found.happened[2]


def test_what_can_be_done_when_it_is_not_refundable(clock: Any) -> None:
    order = activation(clock, sms_after=1)
    goodwill = "The policy does not refund it. A senior agent can give goodwill from a ticket"
    assert next_of(order, reported=Clause.BANNED_LATER)[0].startswith(goodwill)
    assert next_of(order)[0].startswith("If the customer reports something, ask again")
    given = approved(order, Clause.BANNED_LATER)
    found = explain(order.pk)
    assert found.happened[-1].startswith(f"{given} of 1.0000 USD under none.banned_later: approved")
    assert ", as goodwill" in found.happened[-1]
    assert found.next == ("Nothing is left to refund.",)


def test_nothing_is_refunded_after_a_termination(clock: Any) -> None:
    order = activation(clock, sms_after=1)
    every_order.happens([order.pk], "terminate")

    found = explain(order.pk, reported=Clause.SERVICE_REJECTED)

    assert found.verdict.clause == Clause.TERMINATED
    assert found.next == (
        "Nothing is refunded after a termination. A reinstatement is a decision of its own.",
    )


def test_an_explanation_takes_a_fixed_number_of_queries(clock: Any) -> None:
    plain = activation(clock, sms_after=1)
    busy = activation(clock, sms_after=1)
    for _ in range(3):
        approved(busy, Clause.SERVICE_REJECTED, "0.1")
    for clause in (Clause.WRONG_SERVICE, Clause.ORDERED_WRONG, Clause.BANNED_LATER):
        denied(busy, clause, "0.1")

    counts = []
    for order in (plain, busy):
        with CaptureQueriesContext(connection) as captured:
            explain(order.pk)
        counts.append(len(captured))

    assert counts[0] == counts[1] <= 10


def test_an_sms_that_came_late_is_no_fact(clock: Any) -> None:
    order = activation(clock, sms_after=None)
    record_sms({order.pk: [Arrival(Message("99"), in_time=False)]})

    assert explain(order.pk).facts.sms == 0
    clock.shift(timedelta(hours=1))
    finish_delivered()
    assert automatic.sweep() == 0
