"""Refunds, each with the policy's own words, and the sweeps that make them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    RelatedDropdownFilter,
)

from orders import search
from orders.admin import order_link
from orders.models import DELIVERED, REFUNDED, Order, State
from refunds import policy, queries
from refunds.admin_policy import PreviewPages
from refunds.models import Refund, RefundRequest, Sweep
from refunds.policy import Outcome
from refunds.timelines import refund_link as refund_link
from smsactivator.common.admin import ChoiceFilter, Facts, ReadOnlyAdmin, TimeRangeFilter
from smsactivator.common.display import (
    BAD,
    GOOD,
    NOTHING,
    QUIET,
    WAITING,
    badge,
    duration,
    moment,
    money,
    mono,
    number,
)
from smsactivator.common.links import Link, admin_url, anchor, joined, source_for
from wallet.pages import customer_link, named_customers, whole_number


def request_link(pk: int, state: str) -> Link:
    """A refund request's page, by its state."""
    return Link(
        f"Refund request {pk}: {RefundRequest.State(state).label}",
        admin_url("refunds_refundrequest_change", pk),
        "refunds.view_refundrequest",
    )


@source_for("wallet.Transfer")
def refunds_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The refunds that these transfers paid; a decided one settles no order and names it here."""
    rows = Refund.objects.filter(transfer_id__in=pks)
    return {
        transfer: [*([order_link(order)] if part else []), refund_link(pk, clause)]
        for transfer, pk, clause, order, part in rows.values_list(
            "transfer_id", "pk", "clause", "order_id", "part"
        )
    }


@source_for("orders.Order")
def refunds_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The refunds of these orders, and what was asked for them."""
    links: dict[int, list[Link]] = defaultdict(list)
    rows = Refund.objects.filter(order_id__in=pks).order_by("pk")
    for order, pk, clause in rows.values_list("order_id", "pk", "clause"):
        links[order].append(refund_link(pk, clause))
    asked = RefundRequest.objects.filter(order_id__in=pks).order_by("pk")
    for order, pk, state in asked.values_list("order_id", "pk", "state"):
        links[order].append(request_link(pk, state))
    return links


@source_for("wallet.Correction")
def requests_of_corrections(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The refund requests that these corrections granted as goodwill."""
    rows = RefundRequest.objects.filter(goodwill_id__in=pks)
    return {
        correction: [request_link(pk, state)]
        for correction, pk, state in rows.values_list("goodwill_id", "pk", "state")
        if correction is not None
    }


@source_for("wallet.Customer")
def refunds_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The lists of these customers' refunds, and of what was asked for them."""
    return {
        pk: [
            Link(
                "Refunds",
                admin_url("refunds_refund_changelist", customer=pk),
                "refunds.view_refund",
            ),
            Link(
                "Refund requests",
                admin_url("refunds_refundrequest_changelist", customer=pk),
                "refunds.view_refundrequest",
            ),
        ]
        for pk in pks
    }


class CustomerFilter(ChoiceFilter):
    """The refunds of one customer's newest orders; the customer's page leads here."""

    title = "customer"
    parameter_name = "customer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.value()
        return [(chosen, f"Customer {chosen}")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        pk = whole_number(self.value() or "")
        if pk is None:
            return queryset
        orders = Order.objects.filter(customer=pk, state__in=(*REFUNDED, *DELIVERED))
        return queryset.filter(order_id__in=search.newest(orders))


class FurtherFilter(ChoiceFilter):
    """What opened a final decision again."""

    title = "further to a final decision"
    parameter_name = "further"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(further_to__isnull=False) if self.value() == "yes" else queryset


class OfOrders(ReadOnlyAdmin):
    """Rows that belong to an order each, found by what finds orders."""

    search_fields = ("pk", "order__pk")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            orders = search.found(Order.objects.all(), term, named_customers(term))
            ways = Q(order_id__in=search.newest(orders))
            if (pk := whole_number(term)) is not None:
                ways |= Q(pk=pk)
            queryset = queryset.filter(ways)
        return queryset, False

    @display(description="Order")
    def of_order(self, row: Any) -> SafeString:
        link = order_link(row.order_id)
        return anchor(link.text, link.url)

    @display(description="Customer")
    def customer(self, row: Any) -> SafeString:
        return customer_link(row.order.customer)

    @display(description="Clause")
    def clause_words(self, row: Any) -> str:
        return policy.title(row.clause)

    @display(description="Amount, USD")
    def amount_usd(self, row: Any) -> SafeString:
        return money(row.amount)

    def links(self, request: HttpRequest, obj: Any) -> list[Link]:
        customer = obj.order.customer
        return [
            order_link(obj.order_id),
            Link(
                f"Customer {customer.external_id}",
                admin_url("wallet_customer_change", customer.pk),
                "wallet.view_customer",
            ),
            Link(
                "Wallet statement",
                admin_url("wallet_wallet_change", customer.pk),
                "wallet.view_wallet",
            ),
            *super().links(request, obj),
        ]


@admin.register(Refund)
class RefundAdmin(OfOrders):
    """Money that went back, and by which clause."""

    related = ("order__customer", "order__upstream", "decided_by", "request__requested_by")
    time_field = "created_at"
    list_display = (
        "id",
        "refunded",
        "clause_words",
        "of_order",
        "customer",
        "amount_usd",
        "upstream",
        "policy_version",
    )
    list_filter = (
        CustomerFilter,
        ("clause", ChoicesDropdownFilter),
        ("order__upstream", RelatedDropdownFilter),
        ("created_at", TimeRangeFilter),
    )
    search_help_text = "Refund or order, phone number, customer's id or email"
    history_permission = "orders.view_historicalorder"

    def get_urls(self) -> list[URLPattern]:
        return [*PreviewPages(self.admin_site).urls(), *super().get_urls()]

    @display(description="Refunded (UTC)")
    def refunded(self, refund: Refund) -> SafeString:
        return moment(refund.created_at)

    @display(description="Upstream")
    def upstream(self, refund: Refund) -> str:
        return refund.order.upstream.name

    def facts(self, request: HttpRequest, obj: Refund) -> Iterable[Facts]:
        transfer = Link(
            f"Transfer {obj.transfer_id}",
            admin_url("wallet_transfer_change", obj.transfer_id),
            "wallet.view_transfer",
        )
        clause = policy.rule(obj.clause, obj.policy_version)
        yield Facts(
            "Refund",
            [
                ("Amount, USD", money(obj.amount)),
                ("Refunded (UTC)", moment(obj.created_at)),
                ("Order", order_link(obj.order_id).html(request.user)),
                ("Customer", customer_link(obj.order.customer)),
                ("Upstream", obj.order.upstream.name),
                ("Transfer", transfer.html(request.user)),
            ],
        )
        yield Facts(
            "By the policy",
            [
                ("Clause", clause.title),
                ("In its words", f"“{clause.text}”"),
                ("Name", mono(clause.clause)),
                ("Version in force", obj.policy_version),
            ],
        )
        if obj.decided_by is not None:
            asked = obj.request
            yield Facts(
                "Decided",
                [
                    (
                        "On",
                        request_link(asked.pk, asked.state).html(request.user)
                        if asked
                        else NOTHING,
                    ),
                    ("By", str(obj.decided_by)),
                    ("Reason", obj.reason),
                    ("Part of this order's refunds", f"{obj.part}"),
                ],
            )
        yield from _known_and_claimed(obj.facts, obj.request)


TONES = {
    RefundRequest.State.REQUESTED: WAITING,
    RefundRequest.State.ESCALATED: WAITING,
    RefundRequest.State.WITHDRAWN: QUIET,
    RefundRequest.State.APPROVED: GOOD,
    RefundRequest.State.DENIED: BAD,
    RefundRequest.State.DISPUTED: WAITING,
    RefundRequest.State.UPHELD: BAD,
    RefundRequest.State.OVERTURNED: GOOD,
    RefundRequest.State.DISMISSED: QUIET,
}
VERDICTS = {
    Outcome.AUTOMATIC: "Refunds itself",
    Outcome.TICKET: "A person decides",
    Outcome.NOT_REFUNDABLE: "Not refundable",
    Outcome.NONE: "No clause covers it",
}


@admin.register(RefundRequest)
class RefundRequestAdmin(OfOrders):
    """What people ask to be refunded, and what became of it. It is decided on its ticket."""

    related = (
        *("order__customer", "requested_by", "decided_by", "resolved_by"),
        *("goodwill", "refund", "further_to"),
    )
    time_field = "requested_at"
    list_display = (
        "id",
        "asked",
        "state_badge",
        "clause_words",
        "against",
        "further_badge",
        "of_order",
        "customer",
        "amount_usd",
        "requested_by",
        "decided_by",
    )
    list_filter = (
        CustomerFilter,
        ("state", ChoicesDropdownFilter),
        ("clause", ChoicesDropdownFilter),
        "against_verdict",
        FurtherFilter,
        ("requested_at", TimeRangeFilter),
    )
    search_help_text = "Request or order, phone number, customer's id or email"
    history_permission = "refunds.view_historicalrefundrequest"

    @display(description="Requested (UTC)")
    def asked(self, asked: RefundRequest) -> SafeString:
        return moment(asked.requested_at)

    @display(description="State")
    def state_badge(self, asked: RefundRequest) -> SafeString:
        state = RefundRequest.State(asked.state)
        return badge(state.label, TONES[state])

    @display(description="Verdict")
    def against(self, asked: RefundRequest) -> SafeString:
        return badge("Decided against it", BAD) if asked.against_verdict else NOTHING

    @display(description="Further")
    def further_badge(self, asked: RefundRequest) -> SafeString:
        return NOTHING if asked.further_to_id is None else badge("To a final decision", WAITING)

    def facts(self, request: HttpRequest, obj: RefundRequest) -> Iterable[Facts]:
        clause = policy.rule(obj.clause, obj.policy_version)
        yield Facts(
            "Asked for",
            [
                ("State", self.state_badge(obj)),
                ("Amount, USD", money(obj.amount)),
                ("Order", order_link(obj.order_id).html(request.user)),
                ("Price of the order, USD", money(obj.order.price)),
                ("Customer", self.customer(obj)),
                ("Clause", clause.title),
                ("In its words", f"“{clause.text}”"),
                ("Requested by", str(obj.requested_by)),
                ("Requested (UTC)", moment(obj.requested_at)),
                ("Reason", obj.reason),
            ],
        )
        yield from self._further(request, obj)
        yield Facts(
            "The policy's verdict",
            [
                ("Verdict", VERDICTS[Outcome(obj.verdict)]),
                ("By", policy.title(obj.verdict_clause) if obj.verdict_clause else NOTHING),
                ("Why", obj.verdict_why or NOTHING),
                *_mixed(obj),
                ("Version in force", obj.policy_version),
            ],
        )
        yield from self._decided(request, obj)
        yield from _known_and_claimed(obj.facts, obj)

    def _further(self, request: HttpRequest, obj: RefundRequest) -> Iterable[Facts]:
        """The final decision that it asks to look at again, and those that ask so of this one."""
        if (earlier := obj.further_to) is not None:
            link = request_link(earlier.pk, earlier.state).html(request.user)
            yield Facts(
                "Further to a final decision",
                [
                    ("Decision", link),
                    ("New evidence", obj.evidence),
                    ("Of (UTC)", moment(obj.evidence_at)),
                ],
            )
        if obj.resolved_at is not None:
            later = obj.further.order_by("pk").values_list("pk", "state")
            links = [request_link(pk, state).html(request.user) for pk, state in later]
            if links:
                yield Facts("Opened again", [("By", joined(links))])

    def _decided(self, request: HttpRequest, obj: RefundRequest) -> Iterable[Facts]:
        if obj.decided_by is not None:
            yield Facts(
                "Decided",
                [
                    ("By", str(obj.decided_by)),
                    ("Decided (UTC)", moment(obj.decided_at)),
                    ("Reason", obj.decision_reason or NOTHING),
                    ("Against the verdict", "Yes" if obj.against_verdict else "No"),
                    ("Money", self._money(request, obj)),
                ],
            )
        if obj.disputed_at is not None:
            yield Facts(
                "Disputed",
                [
                    ("Disputed (UTC)", moment(obj.disputed_at)),
                    ("Resolved by", str(obj.resolved_by) if obj.resolved_by else NOTHING),
                    ("Resolved (UTC)", moment(obj.resolved_at)),
                    ("Reason", obj.resolution_reason or NOTHING),
                    ("Final", "Yes" if obj.resolved_by else "Not yet: a senior agent decides"),
                ],
            )

    def _money(self, request: HttpRequest, obj: RefundRequest) -> SafeString:
        if obj.goodwill is not None:
            link = Link(
                f"Goodwill: {obj.goodwill}",
                admin_url("wallet_correction_change", obj.goodwill.pk),
                "wallet.view_correction",
            )
            return link.html(request.user)
        refund = getattr(obj, "refund", None)
        return NOTHING if refund is None else refund_link(refund.pk, obj.clause).html(request.user)


def _mixed(asked: RefundRequest) -> list[tuple[str, str]]:
    """What is said of a verdict from before claims were told apart from what was known."""
    if not asked.facts.get("reported") or "reported_by" in asked.facts:
        return []
    return [("Read it as", f"What {asked.requested_by} claimed is told as if it had been known.")]


def _known_and_claimed(facts: dict[str, Any], asked: RefundRequest | None) -> Iterable[Facts]:
    """The facts that a decision rests on, and apart from them what somebody claimed.

    Those of older decisions do not name who: it was whoever asked.
    """
    reported, by = (facts.get(name, "") for name in policy.Facts.claimed())
    if reported:
        title = dict(policy.choices()).get(reported, reported)
        who = by or (str(asked.requested_by) if asked is not None else NOTHING)
        yield Facts("What was claimed", [("Claimed", title), ("By", who)])
    yield Facts(
        "What was known",
        [
            (_label(name), State(value).label if name == "state" else _fact(value))
            for name, value in facts.items()
            if name not in policy.Facts.claimed()
        ]
        or [("Facts", NOTHING)],
    )


def _label(name: str) -> str:
    """A fact's name in words."""
    words = " ".join(w.upper() if w in {"sms", "sla"} else w for w in name.split("_"))
    return words[:1].upper() + words[1:]


def _fact(value: Any) -> SafeString | str:
    """A fact's value in words."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "Yes" if value else "No"
    if isinstance(value, str) and "T" in value:
        try:
            at = parse_datetime(value)
        except ValueError:
            at = None
        if isinstance(at, datetime) and at.tzinfo is not None:
            return moment(at)
    return str(value)


@admin.register(Sweep)
class SweepAdmin(ReadOnlyAdmin):
    """When each sweep last ran."""

    ordering = ("name",)
    list_display = ("name", "finished", "since", "refunded_count")

    @display(description="Finished (UTC)")
    def finished(self, sweep: Sweep) -> SafeString:
        return moment(sweep.finished_at)

    @display(description="Ago")
    def since(self, sweep: Sweep) -> str:
        return duration(queries.age(sweep))

    @display(description="Refunded by the last run")
    def refunded_count(self, sweep: Sweep) -> SafeString:
        return number(sweep.refunded)

    def title_of(self, obj: Sweep) -> str:
        return f"Sweep {obj.name}"

    def facts(self, request: HttpRequest, obj: Sweep) -> Iterable[Facts]:
        yield Facts(
            "Last run",
            [
                ("Finished (UTC)", self.finished(obj)),
                ("Ago", self.since(obj)),
                ("Orders refunded", self.refunded_count(obj)),
            ],
        )
