"""Everything that a decision on a ticket needs, read for one page: a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Prefetch, Q, Sum
from django.utils import timezone

from orders.models import DELIVERED, Order, Sms, State
from refunds import policy
from refunds.decisions import is_against, is_goodwill, suggested_part
from refunds.explaining import last_report
from refunds.facts import is_sms_ruled_out, is_terminated, read
from refunds.models import Refund, RefundRequest
from refunds.policy import Outcome, Rule, Verdict
from smsactivator.common.links import Link, collect
from smsactivator.common.money import usd
from smsactivator.common.seen import counted
from support import payouts, queries
from support.models import Attachment, Message, Outbound, Ticket, TicketPayout, TicketRefund
from wallet.models import Correction, Payout, PayoutMethod, Transfer, Wallet
from wallet.payouts import CENT

THREAD = 200  # newest messages that a page shows
LINES = 10  # newest lines of the wallet
ORDERS = 20  # newest orders of the customer that can be chosen from
OTHERS = 20  # newest requests, payouts and tickets of the customer


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of the thread with its files and its deliveries.

    ``elsewhere`` are files (by primary key) whose content stands on another customer's ticket too.
    """

    message: Message
    attachments: list[Attachment]
    deliveries: list[Outbound]
    elsewhere: set[int]


@dataclass(frozen=True, slots=True)
class Option:
    """A clause that an order's refund can be decided under, and the policy's verdict on it."""

    rule: Rule
    verdict: Verdict

    @property
    def supported(self) -> bool:
        """Whether the facts of the order bear the clause out."""
        return self.verdict.clause == self.rule.clause


@dataclass(frozen=True, slots=True)
class CaseOrder:
    """An order that the ticket is about: what was known and done, and what can still be done.

    ``left`` is what is left of its price, ``suggested`` what to refund of it, USD. ``decided`` are
    the requests that were decided, the oldest first, ``final`` those of them after a dispute.
    """

    order: Order
    sms: list[Sms]
    refunds: list[Refund]
    verdict: Verdict
    options: list[Option]
    left: Decimal
    suggested: Decimal
    open_request: RefundRequest | None
    decided: list[RefundRequest]

    @property
    def refundable(self) -> bool:
        """Whether something is left of its price, and no request of it waits."""
        return self.left > 0 and self.open_request is None

    @property
    def final(self) -> list[RefundRequest]:
        """What was decided for good, the oldest first."""
        found = [(one.resolved_at, one.pk, one) for one in self.decided if one.resolved_at]
        return [one for _, _, one in sorted(found, key=lambda ruling: ruling[:2])]


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """A refund that was asked for, of this customer, and the ticket that it is decided on: of a
    disputed one where it was disputed, which may be a ticket that follows the first.
    """

    request: RefundRequest
    ticket_id: int | None
    disputed_by: Message | None
    evidence: Message | None
    against: bool
    goodwill: bool


@dataclass(frozen=True, slots=True)
class CasePayout:
    """A payout of this customer, and the ticket that it was asked for on.

    ``shared`` says whether another customer gave the same address, ``unwritten`` whether it stands
    in no message that the customer sent on this ticket, ``entered_by`` who of us entered it as
    said by the customer then, or "".
    """

    payout: Payout
    ticket_id: int | None
    shared: bool
    unwritten: bool
    entered_by: str

    @property
    def waits(self) -> bool:
        """Whether it waits for an approval."""
        return self.payout.state in {Payout.State.REQUESTED, Payout.State.FIRST_APPROVED}


@dataclass(frozen=True, slots=True)
class CaseFile:
    """What one page shows of a ticket.

    ``refunded`` is what was refunded to the customer in all, ``goodwill`` what was given as
    goodwill, which is no refund, and not reversed. ``payable`` is what of the balance can be paid
    out, in whole cents, ``minimum`` the policy's least payout now. All USD.
    """

    ticket: Ticket
    wallet: Wallet
    thread: list[Entry]
    thread_is_longer: bool
    orders: list[CaseOrder]
    choices: list[Order]
    here: list[CaseRequest]
    elsewhere: list[CaseRequest]
    lines: list[tuple[Transfer, list[Link]]]
    tickets: list[Ticket]
    refunded: Decimal
    goodwill: Decimal
    payouts_here: list[CasePayout]
    payouts_elsewhere: list[CasePayout]
    methods: list[PayoutMethod]
    payable: Decimal
    minimum: Decimal

    def decided_before(self, request: RefundRequest) -> list[RefundRequest]:
        """What was decided on the order of a request beside itself, the oldest first."""
        found = [one for one in self.orders if one.order.pk == request.order_id]
        return [ruling for one in found for ruling in one.decided if ruling.pk != request.pk]

    def new_evidence(self, ruled: Sequence[CaseOrder]) -> list[Entry]:
        """What the customer sent on this ticket after a final decision on one of these orders."""
        finals = [one.final[-1].resolved_at for one in ruled if one.final]
        since = min((at for at in finals if at is not None), default=None)
        return [
            entry
            for entry in self.thread
            if since is not None
            and entry.message.kind == Message.Kind.CUSTOMER
            and not entry.message.entered
            and entry.message.created_at > since
        ]

    @property
    def open_requests(self) -> list[CaseRequest]:
        """What is still to be decided on this ticket, the oldest first."""
        return [one for one in reversed(self.here) if _is_open(one.request)]


def read_case(ticket: Ticket) -> CaseFile:
    """The case of a ticket that was read with its customer, wallet and people.

    The same number of queries, however much there is of anything.
    """
    wallet = ticket.customer.wallet
    messages = list(
        Message.objects.filter(ticket=ticket).select_related("author").order_by("-id")[: THREAD + 1]
    )
    shown = list(reversed(messages[:THREAD]))
    linked = list(
        Order.objects.filter(tickets=ticket)
        .select_related("upstream", "offer")
        .prefetch_related(
            Prefetch("messages", Sms.objects.order_by("received_at", "pk")),
            Prefetch("refunds", Refund.objects.order_by("part")),
            Prefetch(
                "refund_requests",
                RefundRequest.objects.select_related(
                    "requested_by", "decided_by", "resolved_by"
                ).order_by("pk"),
            ),
        )
        .order_by("-id")[:ORDERS]
    )
    asked = RefundRequest.objects.select_related(
        "order",
        "requested_by",
        "decided_by",
        "resolved_by",
        "case__disputed_by__author",
        "case__evidence",
    ).order_by("-id")
    # All of them: what waits here for a decision is never the one that did not fit.
    here = list(asked.filter(pk__in=queries.cases_of(ticket).values("request")))
    elsewhere = asked.filter(order__customer=ticket.customer_id).exclude(
        pk__in=[request.pk for request in here]
    )
    lines = list(Transfer.objects.filter(wallet=wallet.pk).order_by("-wallet_version")[:LINES])
    causes = collect("wallet.Transfer", [line.pk for line in lines])
    refunded = Refund.objects.filter(order__customer=ticket.customer_id).aggregate(
        sum=Sum("amount")
    )["sum"]
    goodwill = Correction.objects.filter(
        customer=ticket.customer_id,
        kind=Correction.Kind.GOODWILL,
        state=Correction.State.CONFIRMED,
        transfer__reversals=None,
    ).aggregate(sum=Sum("amount"))["sum"]
    payouts_here, payouts_elsewhere = _payouts(ticket)
    return CaseFile(
        ticket=ticket,
        wallet=wallet,
        thread=_entries(ticket, shown),
        thread_is_longer=len(messages) > THREAD,
        orders=[_order(order, wallet, ticket.opened_at) for order in linked],
        choices=list(
            Order.objects.filter(customer=ticket.customer_id)
            .exclude(pk__in=[order.pk for order in linked])
            .order_by("-id")[:ORDERS]
        ),
        here=[_request(request) for request in here],
        elsewhere=[_request(request) for request in elsewhere[:OTHERS]],
        lines=[(line, causes[line.pk]) for line in lines],
        tickets=list(
            Ticket.objects.filter(customer=ticket.customer_id)
            .exclude(pk=ticket.pk)
            .order_by("-id")[:OTHERS]
        ),
        refunded=refunded or usd(0),
        goodwill=goodwill or usd(0),
        payouts_here=payouts_here,
        payouts_elsewhere=payouts_elsewhere,
        methods=list(PayoutMethod.objects.filter(enabled=True).order_by("code")),
        payable=wallet.balance.quantize(CENT, rounding="ROUND_DOWN"),
        minimum=payouts.terms(timezone.now()).minimum,
    )


def _payouts(ticket: Ticket) -> tuple[list[CasePayout], list[CasePayout]]:
    """The customer's payouts that were asked for on this ticket, all of them, and other ones."""
    asked = (
        Payout.objects.filter(customer=ticket.customer_id)
        .select_related("method", "requested_by", "case")
        # What the page shows of each, for the form that takes one back.
        .annotate(steps=counted(Payout))
        .order_by("-id")
    )
    here = list(asked.filter(case__ticket=ticket))
    elsewhere = list(asked.exclude(pk__in=[payout.pk for payout in here])[:OTHERS])
    shared = set(
        Payout.objects.filter(address__in={payout.address for payout in (*here, *elsewhere)})
        .exclude(customer=ticket.customer_id)
        .values_list("address", "memo")
    )
    addresses = {address for address, _ in shared}
    unwritten = queries.unwritten([payout.pk for payout in here])

    def read(payout: Payout) -> CasePayout:
        case: TicketPayout | None = getattr(payout, "case", None)
        return CasePayout(
            payout=payout,
            ticket_id=case.ticket_id if case else None,
            # As wallet.payouts.also_used_by.
            shared=(payout.address, payout.memo) in shared
            if payout.method.memo_rule == PayoutMethod.MemoRule.REQUIRED
            else payout.address in addresses,
            unwritten=payout.pk in unwritten,
            entered_by=unwritten.get(payout.pk, ""),
        )

    return [read(payout) for payout in here], [read(payout) for payout in elsewhere]


def _is_open(request: RefundRequest) -> bool:
    return request.state in queries.UNDECIDED


def _request(request: RefundRequest) -> CaseRequest:
    case: TicketRefund | None = getattr(request, "case", None)
    home = (case.disputed_by or case) if case else None
    return CaseRequest(
        request=request,
        ticket_id=home.ticket_id if home else None,
        disputed_by=case.disputed_by if case else None,
        evidence=case.evidence if case else None,
        against=is_against(request),
        goodwill=is_goodwill(request),
    )


def _order(order: Order, wallet: Wallet, lost_since: datetime) -> CaseOrder:
    version = policy.in_force(order.placed_at)
    refunds = list(order.refunds.all())
    back = sum((refund.amount for refund in refunds), Decimal(0))
    known: dict[str, Any] = {
        "sms": sum(not sms.late for sms in order.messages.all()),
        "sms_ruled_out": is_sms_ruled_out(order),
        "refunded": back,
        "terminated": is_terminated(order, wallet.state),
    }
    requests = list(order.refund_requests.all())
    report = last_report(requests)
    claimed: dict[str, Any] = {}
    if report is not None:
        claimed = {
            "reported": report.clause,
            "reported_by": report.requested_by.get_username(),
        }
    goodwill = sum((one.amount for one in requests if one.goodwill_id), Decimal(0))
    # A rental whose number was reported broken refunds itself.
    refundable = order.state in DELIVERED or (
        order.state == State.ACTIVE and order.broken_at is None
    )
    left = usd(order.price - back - goodwill) if refundable else usd(0)
    return CaseOrder(
        order=order,
        sms=list(order.messages.all()),
        refunds=refunds,
        verdict=version.verdict(read(order, **known, **claimed)),
        options=[
            Option(rule, version.verdict(read(order, **known, reported=rule.clause)))
            for rule in version.rules
            if rule.outcome in {Outcome.TICKET, Outcome.NOT_REFUNDABLE}
        ],
        left=left,
        suggested=min(left, suggested_part(order, lost_since)),
        open_request=next((one for one in requests if _is_open(one)), None),
        decided=[
            one
            for one in requests
            if one.decided_at is not None and one.state != RefundRequest.State.WITHDRAWN
        ],
    )


def _entries(ticket: Ticket, messages: list[Message]) -> list[Entry]:
    pks = [message.pk for message in messages]
    attachments: dict[int, list[Attachment]] = defaultdict(list)
    files = list(
        Attachment.objects.filter(message__in=pks)
        .select_related("blob")
        .defer("blob__content")
        .order_by("pk")
    )
    for one in files:
        attachments[one.message_id].append(one)
    elsewhere = set(
        Attachment.objects.filter(blob__in={one.blob_id for one in files})
        .filter(~Q(message__ticket__customer=ticket.customer_id))
        .values_list("blob_id", flat=True)
    )
    deliveries: dict[int, list[Outbound]] = defaultdict(list)
    for delivery in Outbound.objects.filter(message__in=pks).order_by("pk"):
        deliveries[delivery.message_id].append(delivery)
    return [
        Entry(
            message=message,
            attachments=attachments[message.pk],
            deliveries=deliveries[message.pk],
            elsewhere={one.pk for one in attachments[message.pk] if one.blob_id in elsewhere},
        )
        for message in messages
    ]
