"""Finding orders by what people know of them: a number, a phone, a customer."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from orders.models import Order

SHORTEST_PREFIX = 6  # digits; a shorter number is looked for exactly
MOST = 1000  # orders that the first digits of a phone number lead to
_LONGEST_ID = 18  # digits that every primary key can have
_LONGEST_PHONE = 20


def found(orders: QuerySet[Order], term: str, customers: list[int]) -> QuerySet[Order]:
    """Orders with this number, this phone number (or its first digits), or of these customers.

    Each way in has an index: an exact id, a range of phone numbers (they are stored with a plus,
    which the term may lack), the customers' own orders.
    """
    digits = "".join(c for c in term if c not in " +-().#")
    if not (digits.isascii() and digits.isdigit()):
        return orders.filter(customer_id__in=customers)
    pks = list(_phoned(digits).values_list("pk", flat=True)[:MOST])
    if not term.startswith("+") and len(digits) <= _LONGEST_ID:
        pks.append(int(digits))
    if not customers:
        return orders.filter(pk__in=pks)
    theirs = Order.objects.filter(customer_id__in=customers).order_by().values("pk")
    known = Order.objects.filter(pk__in=pks).order_by().values("pk")
    return orders.filter(pk__in=theirs.union(known))


def newest(orders: QuerySet[Order]) -> list[int]:
    """The primary keys of the newest ``MOST`` of these orders.

    For lists of what belongs to orders: given the keys, PostgreSQL asks for just those rows; given
    a subquery it may rather walk the whole list in its order.
    """
    return list(orders.order_by("-id").values_list("pk", flat=True)[:MOST])


def _phoned(digits: str) -> QuerySet[Order]:
    phone = f"+{digits}"
    if len(digits) < SHORTEST_PREFIX:
        return Order.objects.filter(phone=phone).order_by("-id")
    # A range, which the ordinary index serves in every collation; LIKE alone would not.
    last = phone.ljust(_LONGEST_PHONE, "9")
    return Order.objects.filter(
        ~Q(phone=""), phone__gte=phone, phone__lte=last, phone__startswith=phone
    ).order_by("phone")
