"""A month of refunds and decisions, made through the verbs: November 2026, to the microsecond."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import uuid4

import time_machine

from orders.delivery import Arrival, record_sms
from orders.models import Offer, Order, Upstream
from orders.upstreams.base import Message as UpstreamMessage
from refunds import automatic, decisions, disputes
from refunds.models import RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from support.models import Message, Outbound, Ticket, Wait
from wallet.models import Customer
from wallet.tests.world import person

TICK = timedelta(microseconds=1)
FORMULA = '=cmd|" /C calc"!A1'
_keys = count(1)


def at(day: int, hour: int = 10, minute: int = 0, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def on(moment: datetime) -> AbstractContextManager[Any]:
    return time_machine.travel(moment, tick=False)


class Month:
    """Two upstreams, two offers (``a`` at 1 USD, ``b`` at 2.5 USD), two agents, two seniors."""

    buyer: Customer
    a: Offer
    b: Offer

    def __init__(self) -> None:
        self.ann, self.abe = (person("Support agent", name=name) for name in ("ann", "abe"))
        self.sonia, self.sam = (person("Senior agent", name=name) for name in ("sonia", "sam"))
        with on(at(1, month=10)):
            self.buyer = world.customer("100")
            alpha = Upstream.objects.create(
                code="al", name="Alpha", base_url="http://127.0.0.1:9/a"
            )
            beta = Upstream.objects.create(code="be", name=FORMULA, base_url="http://127.0.0.1:9/b")
            self.a = world.offer("1", upstream=alpha, service="tg", country="7")
            self.b = world.offer("2.5", upstream=beta, service="wa", country="44")
        self.edges_at_the_beginning()
        self.automatic_refunds()
        self.decided_refunds()
        self.disputed_refunds()
        self.edges_at_the_end()

    def edges_at_the_beginning(self) -> None:
        """One refunded in the last microsecond of October, one in the first of November."""
        with on(at(1, 0) - TICK):
            out, inside = self.placed(self.a), self.placed(self.a)
            automatic.cancel(out.pk, actor=world.TESTER)
        with on(at(1, 0)):
            automatic.cancel(inside.pk, actor=world.TESTER)

    def automatic_refunds(self) -> None:
        """3 November: one expires, one is cancelled."""
        with on(at(3, 12)):
            self.allocated(self.a)
        with on(at(3, 12, 21)):
            world.looked_at(self.a.upstream)
            automatic.sweep()
        with on(at(3, 12, 59)):
            cancelled = self.placed(self.b)
        with on(at(3, 13)):
            automatic.cancel(cancelled.pk, actor=world.TESTER)

    def decided_refunds(self) -> None:
        """Two parts of one order, goodwill, and a request that is withdrawn."""
        order = self.delivered(self.b, at(5))
        self.approve(
            self.abe, self.ask(self.ann, order, "1", Clause.SERVICE_REJECTED, at(6)), at(6, 12)
        )
        self.approve(
            self.sonia, self.ask(self.ann, order, "0.5", Clause.WRONG_SERVICE, at(7)), at(7, 11)
        )
        bought_wrong = self.delivered(self.a, at(8))
        self.goodwill = self.ask(self.ann, bought_wrong, "1", Clause.ORDERED_WRONG, at(9))
        self.approve(self.sonia, self.goodwill, at(9, 14))
        asked = self.ask(
            self.ann, self.delivered(self.a, at(15)), "1", Clause.WRONG_SERVICE, at(15, 11)
        )
        with on(at(15, 12)):
            decisions.withdraw(self.ann, asked.pk)

    def disputed_refunds(self) -> None:
        """A denial that is overturned, one that is upheld, one whose reply was no dispute."""
        overturned = self.denied(self.abe, self.a, 16, hours=1)
        self.disputed(overturned, at(17), "overturn", self.sonia, at(18))
        upheld = self.denied(self.sonia, self.b, 19, hours=3)
        self.disputed(upheld, at(20), "uphold", self.sam, at(20, 12))
        dismissed = self.denied(self.abe, self.a, 21, hours=5)
        self.disputed(dismissed, at(22), "dismiss", self.sonia, at(22, 14))

    def edges_at_the_end(self) -> None:
        """One refunded in the last microsecond of November, one in the first of December."""
        with on(at(30, 23)):
            inside, out = self.placed(self.a), self.placed(self.a)
        with on(at(1, 0, month=12) - TICK):
            automatic.cancel(inside.pk, actor=world.TESTER)
        with on(at(1, 0, month=12)):
            automatic.cancel(out.pk, actor=world.TESTER)

    # --- steps ---

    def placed(self, offer: Offer) -> Order:
        return world.place(self.buyer, offer)

    def allocated(self, offer: Offer) -> Order:
        return world.allocated(self.placed(offer))

    def delivered(self, offer: Offer, moment: datetime) -> Order:
        with on(moment):
            order = self.allocated(offer)
            record_sms({order.pk: [Arrival(UpstreamMessage("1234", "Code 1234"))]})
        return order

    def ask(
        self, who: Any, order: Order, amount: str, clause: Clause, moment: datetime
    ) -> RefundRequest:
        with on(moment):
            return decisions.request(
                who,
                order.pk,
                amount=Decimal(amount),
                clause=clause,
                reason="The customer wrote",
                key=uuid4(),
            )

    def approve(self, who: Any, asked: RefundRequest, moment: datetime) -> None:
        with on(moment):
            decisions.approve(who, asked.pk, reason="Seen")

    def denied(self, who: Any, offer: Offer, day: int, *, hours: int) -> RefundRequest:
        asked = self.ask(
            self.ann,
            self.delivered(offer, at(day, 8)),
            str(offer.price),
            Clause.SERVICE_REJECTED,
            at(day, 9),
        )
        with on(at(day, 9 + hours)):
            decisions.deny(who, asked.pk, reason="The screenshot is of another service")
        return asked

    def disputed(
        self, asked: RefundRequest, when: datetime, how: str, who: Any, moment: datetime
    ) -> None:
        with on(when):
            disputes.dispute(asked.pk, actor=world.TESTER)
        with on(moment):
            getattr(disputes, how)(who, asked.pk, reason="Looked again")


def ticket(buyer: Customer, *, opened: datetime, subject: str = "No code") -> Ticket:
    return Ticket.objects.create(
        customer=buyer, subject=subject, channel=Ticket.Channel.API, opened_at=opened
    )


def wait(
    of: Ticket,
    since: datetime,
    *,
    due: datetime,
    ended: datetime | None = None,
    outcome: str = "",
    by: Any = None,
    clock: str = Wait.Clock.ANSWER,
) -> Wait:
    """A run of a ticket's clock; ``by`` is the author of the reply that ended it and arrived."""
    reply = by and Message.objects.create(
        ticket=of,
        kind=Message.Kind.REPLY,
        body="Here it is",
        created_at=ended,
        author=by,
        via="test",
        key=f"reply-{next(_keys)}",
    )
    if reply:
        Outbound.objects.create(
            message=reply, way="api", key=reply.key, state="sent", queued_at=ended, sent_at=ended
        )
    return Wait.objects.create(
        ticket=of,
        clock=clock,
        since=since,
        half_at=since + (due - since) / 2,
        three_quarters_at=since + (due - since) * 3 / 4,
        due_at=due,
        ended_at=ended,
        outcome=outcome or ("answered" if ended else ""),
        reply=reply,
    )
