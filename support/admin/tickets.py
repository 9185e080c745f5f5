"""Tickets: the queues, and the page of a case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter

from refunds.models import RefundRequest
from smsactivator.common.actions import warns_of
from smsactivator.common.admin import (
    BoundedChangeList,
    ChoiceFilter,
    Facts,
    ReadOnlyAdmin,
    TimeRangeFilter,
)
from smsactivator.common.display import BAD, NOTHING, QUIET, badge, moment
from smsactivator.common.errors import Refused
from smsactivator.common.flags import flags_for
from smsactivator.common.links import Link, admin_url, source_for
from smsactivator.common.panels import facts_for
from smsactivator.common.timeline import timeline
from support import casework, macros, presence, queries, queues, search
from support.admin import bulk
from support.admin.casepage import (
    ACTS,
    NOT_WRITTEN,
    TICKET_TONES,
    build_form,
    context_of,
    due_badge,
    keep,
    only_entered,
)
from support.bulk import STEPS
from support.casefile import read_case
from support.models import Macro, Ticket, TicketOrder, TicketPayout, TicketRefund
from support.timelines import ticket_link
from wallet.models import Payout
from wallet.pages import customer_link


@source_for("wallet.Customer")
def tickets_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The lists of these customers' tickets."""
    return {
        pk: [
            Link(
                "Tickets",
                admin_url("support_ticket_changelist", customer__id__exact=pk),
                "support.view_ticket",
            )
        ]
        for pk in pks
    }


@source_for("refunds.RefundRequest")
def tickets_of_requests(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The tickets that are about the orders of these refund requests."""
    orders = dict(RefundRequest.objects.filter(pk__in=pks).values_list("pk", "order_id"))
    links = tickets_of_orders(list(orders.values()))
    return {pk: links.get(order, []) for pk, order in orders.items()}


@source_for("orders.Order")
def tickets_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The tickets that are about these orders."""
    links: dict[int, list[Link]] = {}
    rows = TicketOrder.objects.filter(order__in=pks).order_by("ticket")
    for order, ticket in rows.values_list("order_id", "ticket_id"):
        links.setdefault(order, []).append(ticket_link(ticket))
    return links


@source_for("wallet.Payout")
def tickets_of_payouts(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The tickets that these payouts were asked for on."""
    cases = TicketPayout.objects.filter(payout__in=pks).select_related("ticket")
    return {case.payout_id: [ticket_link(case.ticket_id, case.ticket.subject)] for case in cases}


WRITTEN = "What the customer wrote"


@facts_for("wallet.Payout")
def what_the_customer_wrote(payout: Payout, person: Any) -> Iterable[Facts]:
    """Whether the payout's address is the customer's own, by what they wrote on its ticket."""
    case = TicketPayout.objects.filter(payout=payout).select_related("ticket").first()
    if case is None:
        yield Facts(WRITTEN, [("Ticket", "Entered without a ticket")])
        return
    unwritten = queries.unwritten([payout.pk])
    yield Facts(
        WRITTEN,
        [
            ("Ticket", ticket_link(case.ticket_id, case.ticket.subject).html(person)),
            (
                "Address",
                format_html(
                    "{} {}", badge(NOT_WRITTEN, BAD), only_entered(unwritten[payout.pk]).rstrip(".")
                )
                if unwritten
                else "Stands in a message of the customer",
            ),
        ],
    )


@flags_for("wallet.Payout")
def addresses_not_written(payouts: Sequence[Payout]) -> Mapping[int, Iterable[SafeString]]:
    """Which of these payouts name an address that the customer did not write on their ticket."""
    unwritten = queries.unwritten([payout.pk for payout in payouts])
    return {pk: [badge(NOT_WRITTEN, BAD)] for pk in unwritten}


@warns_of("wallet.Payout", "approve")
def address_not_written(payout: Payout) -> list[str]:
    """What whoever approves a payout is told of its ticket."""
    return [
        f"{NOT_WRITTEN}. Ask whoever entered it where it comes from. {only_entered(by)}".strip()
        for by in queries.unwritten([payout.pk]).values()
    ]


@facts_for("refunds.RefundRequest")
def what_disputed_it(asked: RefundRequest, person: Any) -> Iterable[Facts]:
    """The message that disputed a denial, and whether the customer sent it."""
    case = (
        TicketRefund.objects.filter(request=asked, disputed_by__isnull=False)
        .select_related("disputed_by__author")
        .first()
    )
    if case is None or case.disputed_by is None:
        return
    said = case.disputed_by
    how = f"entered by {said.author}" if said.entered else f"sent by the customer ({said.via})"
    link = ticket_link(said.ticket_id).html(person)
    yield Facts("What disputed it", [("Message", format_html("{}, {}, on {}", said, how, link))])


class QueueFilter(ChoiceFilter):
    """A queue, in the order in which its tickets are due."""

    title = "queue"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(queue.name, queue.label) for queue in queues.QUEUES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Ticket]) -> QuerySet[Ticket]:
        queue = queues.BY_NAME.get(self.value() or "")
        return queue.tickets(queryset, request.user) if queue else queryset


class QueuesChangeList(BoundedChangeList):
    """A queue is chosen by its tab: it is none of the filters that are set."""

    def get_filters(self, request: HttpRequest) -> tuple[Any, ...]:
        *found, active = super().get_filters(request)
        asked = self.get_filters_params().items()
        return *found, active and any(any(values) for name, values in asked if name != "queue")

    def get_queryset(self, request: HttpRequest, **kwargs: Any) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request, **kwargs)
        kept = {"queue", *self.model_admin.linked_lookups}
        cleared = [name for name in self.get_filters_params() if name not in kept]
        self.clear_all_filters_qs = self.get_query_string(remove=cleared)
        return queryset


@admin.register(Ticket)
class TicketAdmin(ReadOnlyAdmin):
    """Tickets in their queues, and each as one page with all that its decision needs."""

    related = ("customer__storefront", "customer__wallet", "assignee", "claimed_by")
    time_field = "opened_at"
    list_display = (
        "id",
        "about",
        "customer_name",
        "state_badge",
        "due",
        "who",
        "opened",
    )
    list_display_links = ("id", "about")
    list_filter = (
        QueueFilter,
        ("state", ChoicesDropdownFilter),
        ("assignee", RelatedDropdownFilter),
        ("channel", ChoicesDropdownFilter),
        ("opened_at", TimeRangeFilter),
    )
    actions = bulk.ACTIONS
    action_form = bulk.ChoosingForm
    linked_lookups = ("customer__id__exact",)
    list_before_template = "support/tabs.html"
    search_fields = ("pk", "subject")
    search_help_text = "Words of the thread, ticket or order, phone number, customer's id or email"
    history_permission = "support.view_historicalticket"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[QueuesChangeList]:
        """The list that knows its queues."""
        return QueuesChangeList

    def get_ordering(self, request: HttpRequest) -> Sequence[Any]:
        queue = queues.BY_NAME.get(request.GET.get("queue", ""))
        return queue.order if queue else super().get_ordering(request)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        return (search.found(queryset, term) if term else queryset), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with the queues as tabs above it."""
        chosen = request.GET.get("queue", "")
        tabs = [
            {
                "label": queue.label,
                "count": queues.count(queue, request.user),
                "url": admin_url("support_ticket_changelist", queue=queue.name),
                "chosen": queue.name == chosen,
            }
            for queue in queues.QUEUES
        ]
        tabs.append(
            {
                "label": "All",
                "count": "",
                "url": admin_url("support_ticket_changelist"),
                "chosen": not chosen,
            }
        )
        if request.method == "POST":
            bulk.refuse_odd(request)
        context = {**(extra_context or {}), "tabs": tabs}
        if chosen in queues.BY_NAME:
            context["title"] = queues.BY_NAME[chosen].label
        response = super().changelist_view(request, context)
        if isinstance(response, TemplateResponse) and response.context_data:
            bulk.tell_listed(response.context_data)
        return response

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """The plan of what was ticked; of "all", what the page that was sent had found."""
        response: HttpResponse | None = super().response_action(
            request, bulk.as_listed(request, queryset)
        )
        return response

    def nothing_here(self, request: HttpRequest) -> str:
        """Of a queue that nobody narrowed, that nothing waits in it."""
        asked = {name for name, value in request.GET.items() if value}
        queue = queues.BY_NAME.get(request.GET.get("queue", ""))
        return queue.empty if queue and asked == {"queue"} else ""

    def may_send_to_list(self, request: HttpRequest) -> bool:
        """Who has an action: it leads to its plan, and changes nothing itself."""
        return any(request.user.has_perm(step.permission) for step in STEPS.values())

    def has_take_permission(self, request: HttpRequest) -> bool:
        """For the list's action."""
        return request.user.has_perm(STEPS["take"].permission)

    def has_approve_permission(self, request: HttpRequest) -> bool:
        """For the list's action."""
        return request.user.has_perm(STEPS["approve"].permission)

    def has_deny_permission(self, request: HttpRequest) -> bool:
        """For the list's action."""
        return request.user.has_perm(STEPS["deny"].permission)

    @display(description="Ticket")
    def about(self, ticket: Ticket) -> str:
        return ticket.subject

    @display(description="Customer")
    def customer_name(self, ticket: Ticket) -> SafeString:
        return customer_link(ticket.customer)

    @display(description="State")
    def state_badge(self, ticket: Ticket) -> SafeString:
        return badge(ticket.get_state_display(), TICKET_TONES[Ticket.State(ticket.state)])

    @display(description="Due")
    def due(self, ticket: Ticket) -> SafeString | str:
        now = timezone.now()
        if ticket.dispute_due_at is not None:
            return due_badge("Dispute", ticket.dispute_due_at, now)
        return due_badge("Answer", ticket.due_at, now) or NOTHING

    @display(description="With")
    def who(self, ticket: Ticket) -> SafeString | str:
        if casework.is_claimed(ticket, timezone.now()):
            return badge(f"{ticket.claimed_by} has it now", QUIET)
        return str(ticket.assignee) if ticket.assignee else NOTHING

    @display(description="Opened (UTC)")
    def opened(self, ticket: Ticket) -> SafeString:
        return moment(ticket.opened_at)

    def get_urls(self) -> list[URLPattern]:
        act = path(
            "<path:object_id>/case/",
            self.admin_site.admin_view(self.case_view),
            name="support_ticket_case",
        )
        look = path(
            "<path:object_id>/presence/",
            self.admin_site.admin_view(self.presence_view),
            name="support_ticket_presence",
        )
        many = path(
            "bulk/<slug:name>/",
            self.admin_site.admin_view(self.bulk_view),
            name="support_ticket_bulk",
        )
        return [many, act, look, *super().get_urls()]

    def bulk_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """A step on many tickets."""
        return bulk.view(self, request, name)

    def presence_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The page is open (POST): who else has it open, and the ticket's version now."""
        if request.method != "POST":
            raise PermissionDenied
        ticket = self._ticket(request, object_id)
        people = presence.look(request.user, ticket.pk)
        return JsonResponse({"others": presence.words(people), "version": ticket.version})

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of a case."""
        if request.method not in {"GET", "HEAD"} or object_id is None:
            raise PermissionDenied
        return self._page(request, self._ticket(request, object_id), {}, status=200)

    def case_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Do one act on a case (POST). What a verb refuses is said, and what was typed stays."""
        if request.method != "POST":
            return HttpResponseRedirect(admin_url("support_ticket_change", unquote(object_id)))
        ticket = self._ticket(request, object_id)
        act = request.POST.get("act", "")
        if act not in ACTS:
            raise Http404(f"There is no act {act}.")
        if not request.user.has_perm(casework.ANSWER):
            raise PermissionDenied
        _kind, place, run = ACTS[act]
        form = build_form(act, read_case(ticket), request.POST, request.FILES)
        status = 422
        if form.is_valid():
            try:
                done = run(request.user, ticket, form.cleaned_data)
            except Refused as refusal:
                ticket = self._ticket(request, object_id)
                keep(form, refusal, ticket)
                status = refusal.status
            else:
                messages.success(request, done)
                return HttpResponseRedirect(admin_url("support_ticket_change", ticket.pk))
        return self._page(request, ticket, {place: form}, status=status)

    def _ticket(self, request: HttpRequest, object_id: str) -> Ticket:
        ticket: Ticket | None = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, ticket):
            raise PermissionDenied
        if ticket is None:
            raise Http404(f"There is no ticket {object_id}.")
        return ticket

    def _page(
        self, request: HttpRequest, ticket: Ticket, sent: dict[str, forms.Form], *, status: int
    ) -> HttpResponse:
        now = timezone.now()
        file = read_case(ticket)
        # The answer to an act is this page too.
        request.page_at = admin_url("support_ticket_change", ticket.pk)  # type: ignore[attr-defined]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(ticket),
            "object": ticket,
            "post_url": admin_url("support_ticket_case", ticket.pk),
            "links": [link for link in self.links(request, ticket) if link.allowed(request.user)],
            # Who only reads leaves no trace on the desk.
            "presence_url": request.user.has_perm(casework.ANSWER)
            and admin_url("support_ticket_presence", ticket.pk),
            "others": presence.words(presence.others(request.user, ticket.pk)),
            "macros": [
                {"pk": one.pk, "title": one.title, "filled": macros.filled(one.body, file)}
                for one in Macro.objects.filter(active=True).order_by("title")
            ],
            **context_of(request, file, now=now, sent=sent),
        }
        if request.user.has_perm(self.history_permission):
            context["timeline"], context["timeline_is_longer"] = timeline(ticket, request.user)
        return TemplateResponse(request, "support/case.html", context, status=status)

    def links(self, request: HttpRequest, obj: Ticket) -> list[Link]:
        pk = obj.customer_id
        found = [
            Link(
                f"Customer {obj.customer.external_id}",
                admin_url("wallet_customer_change", pk),
                "wallet.view_customer",
            ),
            Link("Wallet statement", admin_url("wallet_wallet_change", pk), "wallet.view_wallet"),
        ]
        if obj.follows_id:
            found.append(
                Link(
                    f"Follows ticket {obj.follows_id}",
                    admin_url("support_ticket_change", obj.follows_id),
                    "support.view_ticket",
                )
            )
        return [*found, *super().links(request, obj)]
