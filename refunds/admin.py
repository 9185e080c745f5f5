"""Refunds, each with the policy's own words, and the sweeps that make them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter, display
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from orders import search
from orders.admin import order_link
from orders.models import REFUNDED, Order
from refunds import queries
from refunds.models import Refund, Sweep
from refunds.policy import TEXT, Clause
from smsactivator.common.admin import Facts, ReadOnlyAdmin, TimeRangeFilter
from smsactivator.common.display import NOTHING, duration, moment, money, mono, number
from smsactivator.common.links import Link, admin_url, anchor, source_for
from wallet.admin import customer_link, named_customers, whole_number


def refund_link(pk: int, clause: str) -> Link:
    """A refund's page, by its clause."""
    return Link(
        f"Refund {pk}: {Clause(clause).label}",
        admin_url("refunds_refund_change", pk),
        "refunds.view_refund",
    )


@source_for("wallet.Transfer")
def refunds_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The refunds that these transfers paid."""
    rows = Refund.objects.filter(transfer_id__in=pks).values_list("transfer_id", "pk", "clause")
    return {transfer: [refund_link(pk, clause)] for transfer, pk, clause in rows}


@source_for("orders.Order")
def refunds_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The refunds of these orders."""
    links: dict[int, list[Link]] = defaultdict(list)
    rows = Refund.objects.filter(order_id__in=pks).order_by("pk")
    for order, pk, clause in rows.values_list("order_id", "pk", "clause"):
        links[order].append(refund_link(pk, clause))
    return links


@source_for("wallet.Customer")
def refunds_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The lists of these customers' refunds."""
    return {
        pk: [
            Link(
                "Refunds",
                admin_url("refunds_refund_changelist", customer=pk),
                "refunds.view_refund",
            )
        ]
        for pk in pks
    }


class CustomerFilter(SimpleListFilter):
    """The refunds of one customer's newest orders; the customer's page leads here."""

    title = "customer"
    parameter_name = "customer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        chosen = self.value()
        return [(chosen, f"Customer {chosen}")] if chosen else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Refund]) -> QuerySet[Refund]:
        pk = whole_number(self.value() or "")
        if pk is None:
            return queryset
        orders = Order.objects.filter(customer=pk, state__in=REFUNDED)
        return queryset.filter(order_id__in=search.newest(orders))


@admin.register(Refund)
class RefundAdmin(ReadOnlyAdmin):
    """Money that went back, and by which clause."""

    related = ("order__customer", "order__upstream")
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
    search_fields = ("pk", "order__pk")
    search_help_text = "Refund or order, phone number, customer's id or email"

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

    @display(description="Refunded (UTC)")
    def refunded(self, refund: Refund) -> SafeString:
        return moment(refund.created_at)

    @display(description="Clause")
    def clause_words(self, refund: Refund) -> str:
        return Clause(refund.clause).label

    @display(description="Order")
    def of_order(self, refund: Refund) -> SafeString:
        link = order_link(refund.order_id)
        return anchor(link.text, link.url)

    @display(description="Customer")
    def customer(self, refund: Refund) -> SafeString:
        return customer_link(refund.order.customer)

    @display(description="Upstream")
    def upstream(self, refund: Refund) -> str:
        return refund.order.upstream.name

    @display(description="Amount, USD")
    def amount_usd(self, refund: Refund) -> SafeString:
        return money(refund.amount)

    def links(self, request: HttpRequest, obj: Refund) -> list[Link]:
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

    def facts(self, request: HttpRequest, obj: Refund) -> Iterable[Facts]:
        transfer = Link(
            f"Transfer {obj.transfer_id}",
            admin_url("wallet_transfer_change", obj.transfer_id),
            "wallet.view_transfer",
        )
        clause = Clause(obj.clause)
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
                ("Clause", clause.label),
                ("In its words", f"“{TEXT[clause]}”"),
                ("Name", mono(clause.value)),
                ("Version in force", obj.policy_version),
            ],
        )
        yield Facts(
            "What was known",
            [(_label(name), _fact(value)) for name, value in obj.facts.items()]
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
