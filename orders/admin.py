"""Orders with their SMS, offers and upstreams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminURLInputWidget,
)

from orders import admin_decisions as admin_decisions
from orders import catalogue, privacy, queries, reading, search
from orders import timelines as timelines
from orders.models import (
    DELIVERED,
    LEAST_REASON,
    OPEN,
    REFUNDED,
    Offer,
    Order,
    Sms,
    SmsReading,
    State,
    Upstream,
)
from orders.models import UpstreamSide as Side
from orders.pages import order_link as order_link
from orders.pages import sms_link
from smsactivator.common.admin import (
    ChoiceFilter,
    Facts,
    ReadOnlyAdmin,
    ReasonedAdmin,
    Table,
    TimeRangeFilter,
)
from smsactivator.common.display import (
    BAD,
    BUSY,
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
from smsactivator.common.errors import Refused
from smsactivator.common.links import Link, admin_url, anchor, collect, joined, source_for
from smsactivator.common.money import WholeField
from wallet.pages import customer_link, named_customers

STATE_TONES = {
    State.PLACED: BUSY,
    State.AWAITING_SMS: BUSY,
    State.ACTIVE: BUSY,
    State.SMS_RECEIVED: GOOD,
    State.COMPLETED: GOOD,
    State.ENDED: GOOD,
    State.ALLOCATION_FAILED: BAD,
    State.EXPIRED: WAITING,
    State.CANCELLED: QUIET,
    State.NUMBER_BROKEN: BAD,
    State.FORFEITED: BAD,
}
SIDE_TONES = {Side.UNKNOWN: WAITING, Side.LOST: BAD, Side.BUYING: BUSY, Side.RELEASING: BUSY}


@source_for("wallet.Transfer")
def orders_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The orders that these transfers paid for or settled."""
    links: dict[int, list[Link]] = defaultdict(list)
    orders = Order.objects.filter(Q(purchase_id__in=pks) | Q(settlement_id__in=pks))
    wanted = set(pks)
    for pk, purchase, settlement in orders.order_by().values_list("pk", "purchase", "settlement"):
        for transfer in {purchase, settlement} & wanted:
            links[transfer].append(order_link(pk))
    return links


@source_for("wallet.Customer")
def orders_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The lists of these customers' orders."""
    return {
        pk: [
            Link(
                "Orders",
                admin_url("orders_order_changelist", customer__id__exact=pk),
                "orders.view_order",
            )
        ]
        for pk in pks
    }


class OverdueFilter(ChoiceFilter):
    """The orders that should have been refunded by now."""

    title = "overdue"
    parameter_name = "overdue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Overdue now")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        return queries.overdue(queryset) if self.value() == "yes" else queryset


def messages_table(messages: Iterable[Sms], *, in_full: bool = False) -> Table:
    """SMS, masked; ``in_full`` on the page that answers a recorded reading alone."""
    return Table(
        title="SMS",
        headers=("Received (UTC)", "From", "Code", "Text", ""),
        rows=[
            (
                moment(sms.received_at),
                sms.sender or NOTHING,
                mono(sms.code if in_full else privacy.masked_code(sms.code)),
                sms.text if in_full else privacy.masked_text(sms.text, sms.code),
                badge("Late — never shown to the customer", WAITING) if sms.late else "",
            )
            for sms in messages
        ],
        empty="No SMS has arrived.",
    )


class ReadingForm(forms.Form):
    """Why somebody reads SMS in full."""

    reason = forms.CharField(
        min_length=LEAST_REASON,
        max_length=2000,
        label="Why do you read this?",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Kept for good, and read by whoever asks why in years to come.",
    )


class ReadsInFull(ReadOnlyAdmin):
    """A page from which SMS can be read in full, by those who may, who say why.

    The texts are in the answer to the POST and nowhere else: in no redirect, message, session,
    address or log, and the browser is told to keep no copy.
    """

    # The name of the form's address, which takes the row's key.
    reading_url = ""

    def which(self, obj: Any) -> dict[str, int]:
        """The order, and perhaps the one SMS of it, that this row stands for."""
        raise NotImplementedError

    def buttons(self, request: HttpRequest, obj: Any) -> list[Link]:
        url = admin_url(self.reading_url, obj.pk)
        return [*super().buttons(request, obj), Link("Read SMS in full…", url, reading.READS_SMS)]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reading_view)
        return [path("<int:pk>/read-sms/", view, name=self.reading_url), *super().get_urls()]

    def reading_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask why (GET), and answer with the texts when the reading is recorded (POST)."""
        if request.method not in {"GET", "HEAD", "POST"} or not (
            self.has_view_permission(request) and request.user.has_perm(reading.READS_SMS)
        ):
            raise PermissionDenied
        obj = self.get_object(request, str(pk))
        if obj is None:
            raise Http404(f"There is no {self.opts.verbose_name} {pk}.")
        form = ReadingForm(request.POST if request.method == "POST" else None)
        status = 200
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Read SMS in full",
            "subject": self.title_of(obj),
            "form": form,
            "back": admin_url(f"{self.opts.app_label}_{self.opts.model_name}_change", obj.pk),
        }
        if request.method == "POST":
            status = 422
            if form.is_valid():
                reason = form.cleaned_data["reason"]
                try:
                    messages = reading.read(request.user, **self.which(obj), reason=reason)
                except Refused as refusal:
                    form.add_error(None, refusal.message)
                    status = refusal.status
                else:
                    status = 200
                    request.taken = True  # type: ignore[attr-defined]  # its draft is needed no more
                    context |= {
                        "title": "SMS in full",
                        "reason": reason,
                        "table": messages_table(messages, in_full=True),
                    }
        response = TemplateResponse(request, "orders/read_sms.html", context, status=status)
        response["Cache-Control"] = "no-store"
        return response


@admin.register(Order)
class OrderAdmin(ReadsInFull):
    """Orders: found by number, phone or customer, and told on one page."""

    reading_url = "orders_order_read_sms"
    related = ("customer", "upstream", "offer")
    time_field = "placed_at"
    list_display = (
        "id",
        "customer_name",
        "what",
        "state_badge",
        "price_usd",
        "phone_number",
        "upstream",
        "placed",
        "due",
    )
    list_filter = (
        ("state", ChoicesDropdownFilter),
        OverdueFilter,
        ("kind", ChoicesDropdownFilter),
        ("upstream", RelatedDropdownFilter),
        ("placed_at", TimeRangeFilter),
    )
    linked_lookups = ("customer__id__exact",)
    search_fields = ("pk", "phone", "customer__external_id", "customer__email")
    search_help_text = "Order, phone number (or its first 6 digits), customer's id or email"
    history_permission = "orders.view_historicalorder"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            queryset = search.found(queryset, term, named_customers(term))
        return queryset, False

    @display(description="Customer")
    def customer_name(self, order: Order) -> SafeString:
        return customer_link(order.customer)

    @display(description="Service / country")
    def what(self, order: Order) -> str:
        return f"{order.service} / {order.country}"

    @display(description="State")
    def state_badge(self, order: Order) -> SafeString:
        state = State(order.state)
        return badge(state.label, STATE_TONES[state])

    @display(description="Price, USD")
    def price_usd(self, order: Order) -> SafeString:
        return money(order.price)

    @display(description="Phone")
    def phone_number(self, order: Order) -> SafeString:
        return mono(order.phone)

    @display(description="Placed (UTC)")
    def placed(self, order: Order) -> SafeString:
        return moment(order.placed_at)

    @display(description="Deadline")
    def due(self, order: Order) -> SafeString:
        return moment(order.deadline, after=order.placed_at)

    def title_of(self, obj: Order) -> str:
        return f"Order {obj.pk}"

    def which(self, obj: Order) -> dict[str, int]:
        return {"order_id": obj.pk}

    def buttons(self, request: HttpRequest, obj: Order) -> list[Link]:
        return super().buttons(request, obj) if obj.messages.exists() else []

    def links(self, request: HttpRequest, obj: Order) -> list[Link]:
        return [
            Link(
                f"Customer {obj.customer.external_id}",
                admin_url("wallet_customer_change", obj.customer_id),
                "wallet.view_customer",
            ),
            Link(
                "Wallet statement",
                admin_url("wallet_wallet_change", obj.customer_id),
                "wallet.view_wallet",
            ),
            *super().links(request, obj),
        ]

    def facts(self, request: HttpRequest, obj: Order) -> Iterable[Facts]:
        user = request.user
        offer = Link(
            obj.offer.title, admin_url("orders_offer_change", obj.offer_id), "orders.view_offer"
        )
        kind = Offer.Kind(obj.kind).label
        yield Facts(
            "Order",
            [
                ("State", self.state_badge(obj)),
                ("Customer", customer_link(obj.customer)),
                ("Phone", self.phone_number(obj)),
                ("Offer", offer.html(user)),
                ("Service / country", mono(self.what(obj))),
                ("Kind", f"{kind}, {obj.rental_hours} hours" if obj.rental_hours else kind),
                ("Idempotency key", mono(obj.idempotency_key)),
            ],
        )
        yield Facts("Money", list(self._money(obj, user)))
        yield Facts("Times (UTC)", list(self._times(obj)))
        yield Facts("Upstream side", list(self._upstream(obj, user)))

    def _money(self, obj: Order, user: Any) -> Iterable[tuple[str, SafeString | str]]:
        yield "Price, USD", money(obj.price)
        yield (
            "Paid",
            Link(
                f"Transfer {obj.purchase_id}",
                admin_url("wallet_transfer_change", obj.purchase_id),
                "wallet.view_transfer",
            ).html(user),
        )
        if obj.state in OPEN:
            yield "Now", "In escrow"
        elif obj.settlement_id is not None:
            settlement = Link(
                f"Transfer {obj.settlement_id}",
                admin_url("wallet_transfer_change", obj.settlement_id),
                "wallet.view_transfer",
            ).html(user)
            if obj.state in DELIVERED:
                yield "Delivered", settlement
            elif obj.state in REFUNDED:
                yield "Refunded", settlement
            else:
                yield "Forfeited", settlement
        known = collect("orders.Order", [obj.pk])[obj.pk]
        refunds = [link for link in known if link.permission.startswith("refunds.")]
        yield "Refund", joined(link.html(user) for link in refunds) or NOTHING

    def _times(self, obj: Order) -> Iterable[tuple[str, SafeString | str]]:
        yield "Placed", moment(obj.placed_at)
        yield "Number allocated", moment(obj.allocated_at)
        if obj.kind == Offer.Kind.RENTAL:
            yield "Rental ends", moment(obj.rental_ends_at)
        else:
            deadline = moment(obj.deadline)
            if obj.state == State.AWAITING_SMS and obj.deadline is not None:
                left = obj.deadline - timezone.now()
                deadline = format_html(
                    "{} {}",
                    deadline,
                    badge(f"passed {duration(left)} ago", BAD)
                    if left.total_seconds() < 0
                    else badge(f"{duration(left)} left", BUSY),
                )
            yield "Deadline", deadline
        yield "First SMS", moment(obj.first_sms_at)
        yield "Ended", moment(obj.ended_at)

    def _upstream(self, obj: Order, user: Any) -> Iterable[tuple[str, SafeString | str]]:
        side = Side(obj.upstream_side)
        yield (
            "Upstream",
            Link(
                obj.upstream.name,
                admin_url("orders_upstream_change", obj.upstream_id),
                "orders.view_upstream",
            ).html(user),
        )
        yield "Their side", badge(side.label, SIDE_TONES.get(side, QUIET))
        yield "Their reference", mono(obj.upstream_ref)
        yield "Their charge, USD", money(obj.upstream_cost)
        yield "Purchase begun", moment(obj.allocation_started_at)
        yield "To be asked again", moment(obj.upstream_due_at)
        if obj.refused_at:
            yield (
                "Refused to sell",
                format_html("{} {}", moment(obj.refused_at), mono(obj.refusal_code)),
            )
        if obj.broken_at:
            yield (
                "Reported broken",
                format_html("{} {}", moment(obj.broken_at), mono(obj.broken_signal)),
            )

    def tables(self, request: HttpRequest, obj: Order) -> Iterable[Table]:
        if request.user.has_perm("orders.view_sms"):
            yield messages_table(obj.messages.order_by("received_at", "pk"))


@admin.register(Sms)
class SmsAdmin(ReadsInFull):
    """SMS, masked."""

    reading_url = "orders_sms_read_sms"
    history_permission = "orders.view_historicalorder"
    related = ("order__customer",)
    list_display = (
        "id",
        "received",
        "of_order",
        "sender",
        "code_masked",
        "text_masked",
        "lateness",
    )
    list_filter = ("late",)
    search_fields = ("order__pk",)
    search_help_text = "Order, phone number (or its first 6 digits), customer's id or email"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            orders = search.found(Order.objects.all(), term, named_customers(term))
            queryset = queryset.filter(order_id__in=search.newest(orders))
        return queryset, False

    @display(description="Received (UTC)")
    def received(self, sms: Sms) -> SafeString:
        return moment(sms.received_at)

    @display(description="Order")
    def of_order(self, sms: Sms) -> SafeString:
        link = order_link(sms.order_id)
        return anchor(link.text, link.url)

    @display(description="Code")
    def code_masked(self, sms: Sms) -> SafeString:
        return mono(privacy.masked_code(sms.code))

    @display(description="Text")
    def text_masked(self, sms: Sms) -> str:
        return privacy.masked_text(sms.text, sms.code)

    @display(description="Late")
    def lateness(self, sms: Sms) -> SafeString | str:
        return badge("Late — never shown to the customer", WAITING) if sms.late else ""

    def which(self, obj: Sms) -> dict[str, int]:
        return {"order_id": obj.order_id, "sms_id": obj.pk}

    def links(self, request: HttpRequest, obj: Sms) -> list[Link]:
        return [order_link(obj.order_id), *super().links(request, obj)]

    def facts(self, request: HttpRequest, obj: Sms) -> Iterable[Facts]:
        yield Facts(
            "SMS",
            [
                ("Received (UTC)", moment(obj.received_at)),
                ("From", obj.sender or NOTHING),
                ("To", mono(obj.order.phone)),
                ("Code", self.code_masked(obj)),
                ("Text", self.text_masked(obj)),
                ("Late", self.lateness(obj) or "No"),
                ("Customer", customer_link(obj.order.customer)),
            ],
        )


@admin.register(SmsReading)
class SmsReadingAdmin(ReadOnlyAdmin):
    """Who read SMS in full, and why."""

    related = ("order__customer", "person")
    time_field = "read_at"
    list_display = ("id", "read", "person", "of_order", "shown_count", "reason")
    list_filter = (("person", RelatedDropdownFilter), ("read_at", TimeRangeFilter))
    search_fields = ("order__pk",)
    search_help_text = "Order, phone number (or its first 6 digits), customer's id or email"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            orders = search.found(Order.objects.all(), term, named_customers(term))
            queryset = queryset.filter(order_id__in=search.newest(orders))
        return queryset, False

    @display(description="Read (UTC)")
    def read(self, made: SmsReading) -> SafeString:
        return moment(made.read_at)

    @display(description="Order")
    def of_order(self, made: SmsReading) -> SafeString:
        link = order_link(made.order_id)
        return anchor(link.text, link.url)

    @display(description="SMS")
    def shown_count(self, made: SmsReading) -> SafeString:
        return number(len(made.shown))

    def links(self, request: HttpRequest, obj: SmsReading) -> list[Link]:
        return [order_link(obj.order_id), *super().links(request, obj)]

    def facts(self, request: HttpRequest, obj: SmsReading) -> Iterable[Facts]:
        yield Facts(
            "SMS reading",
            [
                ("Read (UTC)", moment(obj.read_at)),
                ("By", str(obj.person)),
                ("Why", obj.reason),
                ("Order", order_link(obj.order_id).html(request.user)),
                ("Customer", customer_link(obj.order.customer)),
                ("SMS", joined(sms_link(pk).html(request.user) for pk in obj.shown)),
            ],
        )


class CatalogueAdmin(ReasonedAdmin):
    """Edited by administrators, with reason and history."""

    def write(self, obj: Any, fields: list[str], *, person: Any, reason: str) -> None:
        """Through the catalogue's verb."""
        catalogue.save(obj, fields, person=person, reason=reason)


@admin.register(Offer)
class OfferAdmin(CatalogueAdmin):
    """What the storefronts may sell. An offer is never deleted; it is switched off."""

    formfield_overrides = {
        models.PositiveIntegerField: {
            "form_class": WholeField,
            "widget": UnfoldAdminIntegerFieldWidget,
        }
    }
    related = ("upstream",)
    list_display = ("title", "kind", "service", "country", "price_usd", "upstream", "standing")
    list_filter = (
        ("upstream", RelatedDropdownFilter),
        ("kind", ChoicesDropdownFilter),
        "active",
    )
    search_fields = ("title", "service", "country")
    fieldsets = (
        (None, {"fields": ("title", "active", "price")}),
        ("At the upstream", {"fields": ("upstream", "service", "country", "kind", "rental_hours")}),
        (None, {"fields": ("reason",)}),
    )

    @display(description="Price, USD")
    def price_usd(self, offer: Offer) -> SafeString:
        return money(offer.price)

    @display(description="State")
    def standing(self, offer: Offer) -> SafeString:
        return badge("On sale", GOOD) if offer.active else badge("Off", QUIET)


@admin.register(Upstream)
class UpstreamAdmin(CatalogueAdmin):
    """The wholesalers."""

    formfield_overrides = {
        models.URLField: {"assume_scheme": "https", "widget": UnfoldAdminURLInputWidget}
    }
    list_display = ("name", "code", "base_url", "looked", "trouble")
    fieldsets = ((None, {"fields": ("code", "name", "base_url", "reason")}),)

    @display(description="Last looked at (UTC)")
    def looked(self, upstream: Upstream) -> SafeString:
        return moment(upstream.looked_at)

    @display(description="Last error")
    def trouble(self, upstream: Upstream) -> SafeString | str:
        return upstream.last_error or NOTHING
