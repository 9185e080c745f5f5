"""Deliveries: whether what was said to customers reached them, and what people do if not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from smsactivator.common import actions
from smsactivator.common.actions import Action, Done, ReasonForm, without_key
from smsactivator.common.admin import Facts, ReadOnlyAdmin
from smsactivator.common.display import (
    BAD,
    BUSY,
    GOOD,
    NOTHING,
    WAITING,
    badge,
    moment,
    mono,
    number,
)
from smsactivator.common.links import Link, admin_url, source_for
from support import outbox
from support.models import Outbound, Ticket
from wallet.pages import customer_link

TONES = {
    Outbound.State.QUEUED: WAITING,
    Outbound.State.SENDING: BUSY,
    Outbound.State.SENT: GOOD,
    Outbound.State.FAILED: BAD,
    Outbound.State.UNKNOWN: BAD,
}


@source_for("support.Ticket")
def deliveries_of_tickets(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The lists of what was delivered on these tickets."""
    return {
        pk: [
            Link(
                "Deliveries",
                admin_url("support_outbound_changelist", message__ticket=pk),
                "support.view_outbound",
            )
        ]
        for pk in pks
    }


def _state(outbound: Outbound) -> Outbound.State:
    return Outbound.State(outbound.state)


actions.register(
    "support.Outbound",
    Action(
        name="retry",
        label="Retry",
        explains="It is sent again now. If it was perhaps sent, the customer may get it twice: "
        "look first whether it arrived.",
        form=ReasonForm,
        permission=outbox.PERMISSION,
        offered=lambda _person, outbound: (
            _state(outbound) in {Outbound.State.FAILED, Outbound.State.UNKNOWN}
        ),
        why_not=lambda _person, outbound: outbox.why_not_retry(outbound),
        run=lambda person, outbound, typed: Done(
            f"{outbox.retry(person, outbound.pk, **without_key(typed))} is queued again."
        ),
    ),
    Action(
        name="sent",
        label="It was sent",
        explains="You found that it reached the customer, as by their answer or in the mail "
        "server's log. It counts as delivered, and nothing is sent.",
        form=ReasonForm,
        permission=outbox.PERMISSION,
        offered=lambda _person, outbound: _state(outbound) == Outbound.State.UNKNOWN,
        run=lambda person, outbound, typed: Done(
            f"{outbox.confirm_sent(person, outbound.pk, **without_key(typed))} counts as delivered."
        ),
    ),
    Action(
        name="bounced",
        label="It bounced",
        explains="The mail came back. It has failed, and the customer waits again since their own "
        "message. Retry it when the reason is gone.",
        form=ReasonForm,
        permission=outbox.PERMISSION,
        offered=lambda _person, outbound: (
            outbound.way == Outbound.Way.EMAIL
            and _state(outbound) in {Outbound.State.SENT, Outbound.State.UNKNOWN}
        ),
        run=lambda person, outbound, typed: Done(
            f"{outbox.mark_bounced(person, outbound.pk, **without_key(typed))} has failed."
        ),
        dangerous=True,
    ),
)


@admin.register(Outbound)
class OutboundAdmin(ReadOnlyAdmin):
    """What was to reach customers, and whether it did."""

    related = ("message__ticket__customer", "message__author")
    list_display = (
        "id",
        "queued",
        "state_badge",
        "way",
        "ticket_number",
        "customer",
        "tried",
        "next_or_sent",
        "problem",
    )
    list_filter = (("state", ChoicesDropdownFilter),)
    linked_lookups = ("message__ticket",)
    history_permission = "support.view_historicaloutbound"

    @display(description="Queued (UTC)")
    def queued(self, outbound: Outbound) -> SafeString:
        return moment(outbound.queued_at)

    @display(description="State")
    def state_badge(self, outbound: Outbound) -> SafeString:
        return badge(_state(outbound).label, TONES[_state(outbound)])

    @display(description="Ticket")
    def ticket_number(self, outbound: Outbound) -> str:
        return str(outbound.message.ticket_id)

    @display(description="Customer")
    def customer(self, outbound: Outbound) -> SafeString:
        return customer_link(outbound.message.ticket.customer)

    @display(description="Attempts")
    def tried(self, outbound: Outbound) -> SafeString:
        return number(outbound.attempts)

    @display(description="Delivered, or next (UTC)")
    def next_or_sent(self, outbound: Outbound) -> SafeString:
        return moment(outbound.sent_at or outbound.due_at)

    def links(self, request: HttpRequest, obj: Outbound) -> list[Link]:
        ticket = obj.message.ticket
        links = [
            Link(
                f"Customer {ticket.customer.external_id}",
                admin_url("wallet_customer_change", ticket.customer_id),
                "wallet.view_customer",
            ),
            *super().links(request, obj),
        ]
        if self.admin_site.is_registered(Ticket):
            page = admin_url("support_ticket_change", ticket.pk)
            links.insert(0, Link(str(ticket), page, "support.view_ticket"))
        return links

    def facts(self, request: HttpRequest, obj: Outbound) -> Iterable[Facts]:
        message = obj.message
        yield Facts(
            "Delivery",
            [
                ("State", self.state_badge(obj)),
                ("Problem", obj.problem or NOTHING),
                ("Way", Outbound.Way(obj.way).label),
                ("Queued (UTC)", moment(obj.queued_at)),
                ("Attempts", number(obj.attempts)),
                *self._times(obj),
                ("To", mono(obj.sent_to)),
                ("Message-ID", mono(obj.mail_id)),
                ("Idempotency key", mono(obj.key)),
            ],
        )
        said = [
            ("Ticket", f"{message.ticket.pk}: {message.ticket.subject}"),
            ("Customer", customer_link(message.ticket.customer)),
            ("Kind", message.get_kind_display()),
            ("By", str(message.author) if message.author else message.via),
            ("Written (UTC)", moment(message.created_at)),
        ]
        if request.user.has_perm("support.view_message"):
            said.append(("Text", message.body))
        yield Facts("What is delivered", said)

    @staticmethod
    def _times(obj: Outbound) -> list[tuple[str, SafeString]]:
        if obj.sent_at:
            return [("Delivered (UTC)", moment(obj.sent_at))]
        if obj.due_at is None:
            return []
        state = _state(obj)
        return [
            (
                "Counts as lost (UTC)" if state == Outbound.State.SENDING else "Next (UTC)",
                moment(obj.due_at),
            )
        ]
