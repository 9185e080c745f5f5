"""Finding orders by what people know of them: a number, a phone, a customer."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from orders.models import Order

SHORTEST_PREFIX = 6  # digits; a shorter number is looked for exactly
_LARGEST_ID = 2**63 - 1
_LONGEST_PHONE = 20


def found(orders: QuerySet[Order], term: str, customers: list[int]) -> QuerySet[Order]:
    """Orders with this number, this phone number (or its first digits), or of these customers.

    Each way in has an index: an exact id, a range of phone numbers (they are stored with a plus,
    which the term may lack), the customers' own orders.
    """
    digits = "".join(c for c in term if c not in " +-().#")
    numeric = digits.isascii() and digits.isdigit()
    if customers and not numeric:
        return orders.filter(customer_id__in=customers)
    if not numeric:
        return orders.none()
    ways = []
    if not term.startswith("+") and int(digits) <= _LARGEST_ID:
        ways.append(Order.objects.filter(pk=int(digits)))
    ways.append(_phoned(digits))
    if customers:
        ways.append(Order.objects.filter(customer_id__in=customers))
    first, *rest = (way.order_by().values("pk") for way in ways)
    return orders.filter(pk__in=first.union(*rest, all=True))


def _phoned(digits: str) -> QuerySet[Order]:
    phone = f"+{digits}"
    if len(digits) < SHORTEST_PREFIX:
        return Order.objects.filter(phone=phone)
    # A range, which the ordinary index serves in every collation; LIKE alone would not.
    last = phone.ljust(_LONGEST_PHONE, "9")
    return Order.objects.filter(
        ~Q(phone=""), phone__gte=phone, phone__lte=last, phone__startswith=phone
    )
