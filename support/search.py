"""Finding tickets by what people know of them: words, numbers, a customer."""

from __future__ import annotations

import re

from django.contrib.postgres.search import SearchQuery, SearchVector
from django.db.models import QuerySet

from orders import search as orders
from orders.models import Order
from support.models import Message, Ticket, TicketOrder
from wallet.pages import named_customers, whole_number

MOST = 1_000  # tickets that words lead to, the newest
WORDS = SearchVector("body", config="simple")
# As our pages name them.
NAMED = re.compile(r"\s*(ticket|order)\s*#?(\d+)\s*", re.IGNORECASE)


def found(tickets: QuerySet[Ticket], term: str) -> QuerySet[Ticket]:
    """Tickets with this number, about this order or phone number, of this customer, or in whose
    thread or subject all the words stand. Each way in has an index.
    """
    customers = named_customers(term)
    if customers:
        return tickets.filter(customer__in=customers)
    if any(character.isalpha() for character in term):
        return tickets.filter(pk__in=_worded(term) | _named(term))
    pks = _about(term)
    if (pk := whole_number(term)) is not None:
        pks.add(pk)
    return tickets.filter(pk__in=pks)


def _about(term: str) -> set[int]:
    about = orders.newest(orders.found(Order.objects.all(), term, []))
    return set(TicketOrder.objects.filter(order__in=about).values_list("ticket", flat=True)[:MOST])


def _named(term: str) -> set[int]:
    """What "Ticket 12" or "Order 183" names."""
    if (named := NAMED.fullmatch(term)) is None:
        return set()
    kind, number = named.groups()
    if kind.lower() == "order":
        return _about(number)
    pk = whole_number(number)
    return set() if pk is None else {pk}


def _worded(term: str) -> set[int]:
    query = SearchQuery(term, config="simple", search_type="websearch")
    said = (
        Message.objects.annotate(words=WORDS)
        .filter(words=query)
        .order_by("-id")
        .values_list("ticket", flat=True)[:MOST]
    )
    named = (
        Ticket.objects.annotate(words=SearchVector("subject", config="simple"))
        .filter(words=query)
        .order_by("-id")
        .values_list("pk", flat=True)[:MOST]
    )
    return {*said, *named}
