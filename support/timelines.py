"""What tickets tell on timelines, and what is told of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from refunds.models import RefundRequest
from refunds.timelines import SEES_REQUESTS, request_link
from smsactivator.common.links import Link, admin_url
from smsactivator.common.timeline import LONGEST, Entry, entries_for, histories
from support.models import Ticket, TicketPayout, TicketRefund
from wallet.models import Payout
from wallet.pages import payout_link

SEES_TICKETS = "support.view_historicalticket"
SEES_PAYOUTS = "wallet.view_historicalpayout"


def ticket_link(pk: int, subject: str = "") -> Link:
    """A ticket's page. Its subject is the customer's words, for those who see tickets."""
    number = f"Ticket {pk}"
    text = f"{number}: {subject}" if subject else number
    return Link(text, admin_url("support_ticket_change", pk), "support.view_ticket", number)


@entries_for("support.Ticket")
def refunds_of_tickets(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """The refunds that people asked for on these tickets, and what became of them."""
    cases = TicketRefund.objects.filter(ticket_id__in=pks).select_related("request")
    found = {case.request_id: case for case in cases.order_by("-pk")[: LONGEST + 1]}
    entries: dict[int, list[Entry]] = defaultdict(list)
    for pk, steps in histories(
        RefundRequest,
        list(found),
        named=lambda pk: request_link(found[pk].request),
        permission=SEES_REQUESTS,
    ).items():
        entries[found[pk].ticket_id].extend(steps)
    return entries


@entries_for("support.Ticket")
def payouts_of_tickets(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """The payouts that were asked for on these tickets, and what became of them."""
    cases = TicketPayout.objects.filter(ticket_id__in=pks).select_related("payout")
    found = {case.payout_id: case for case in cases.order_by("-pk")[: LONGEST + 1]}
    entries: dict[int, list[Entry]] = defaultdict(list)
    for pk, steps in histories(
        Payout,
        list(found),
        named=lambda pk: payout_link(found[pk].payout),
        permission=SEES_PAYOUTS,
    ).items():
        entries[found[pk].ticket_id].extend(steps)
    return entries


@entries_for("wallet.Customer")
def tickets_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What happened to these customers' newest tickets."""
    newest = Ticket.objects.filter(customer_id__in=pks).order_by("-pk")[: LONGEST + 1]
    found = {ticket.pk: ticket for ticket in newest}
    entries: dict[int, list[Entry]] = defaultdict(list)
    for pk, steps in histories(
        Ticket,
        list(found),
        named=lambda pk: ticket_link(pk, found[pk].subject),
        permission=SEES_TICKETS,
    ).items():
        entries[found[pk].customer_id].extend(steps)
    return entries
