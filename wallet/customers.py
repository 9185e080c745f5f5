"""Customers: created and updated by their storefront, each with one wallet."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from smsactivator.common import history
from smsactivator.common.errors import NotFound
from smsactivator.common.history import Actor
from wallet.models import Customer, Wallet


class CustomerUnknown(NotFound):
    """This storefront has no such customer."""

    code = "unknown_customer"


def find(storefront_id: int, external_id: str) -> Customer:
    """The storefront's customer, with its wallet. Raises CustomerUnknown."""
    try:
        return Customer.objects.select_related("wallet").get(
            storefront_id=storefront_id, external_id=external_id
        )
    except Customer.DoesNotExist:
        raise CustomerUnknown(
            f"There is no customer {external_id!r}: create it first with PUT /customers/{{id}}."
        ) from None


def create_or_update(
    storefront_id: int,
    external_id: str,
    *,
    email: str | None = None,
    status: str | None = None,
    actor: Actor,
) -> tuple[Customer, bool]:
    """The customer as given, and whether it is new. A new one gets its empty wallet.

    What is None stays as it is (a new customer is active and has no email address). Saying the same
    again changes nothing and writes no history. Two requests that create the same customer at once
    create one. Locks the customer's row.
    """
    while True:
        with transaction.atomic():
            customer = (
                Customer.objects.select_for_update(no_key=True)
                .filter(storefront_id=storefront_id, external_id=external_id)
                .first()
            )
            if customer is not None:
                changed = []
                for name, value in (("email", email), ("status", status)):
                    if value is not None and getattr(customer, name) != value:
                        setattr(customer, name, value)
                        changed.append(name)
                if changed:
                    history.save(
                        [customer], changed, actor=actor, reason="Updated by the storefront"
                    )
                return customer, False
        try:
            with transaction.atomic():
                customer = Customer(
                    storefront_id=storefront_id,
                    external_id=external_id,
                    email=email or "",
                    status=status or Customer.Status.ACTIVE,
                    created_at=timezone.now(),
                )
                created = "Created by the storefront"
                history.create([customer], actor=actor, reason=created)
                history.create([Wallet(customer=customer)], actor=actor, reason=created)
                return customer, True
        except IntegrityError:
            # Another request created it in between: the next round finds it. Anything else that
            # the database refuses would be refused again, so make sure that it was that.
            if not Customer.objects.filter(
                storefront_id=storefront_id, external_id=external_id
            ).exists():
                raise
