"""Addresses to which nothing is paid out: tokens' own contracts, what nobody has the key of, ours.

What is sent there is lost, or comes back to us as a customer's deposit. Finance keeps the list, a
method's row its coin's contract; what can be seen by an address alone is in ``wallet.addresses``.
It is asked when a payout is asked for, approved, sent again, gathered and exported, and when a file
of an exported batch is taken; the database refuses the same steps of payouts
(wallet/sql/refused_addresses.sql).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from django.db import IntegrityError, transaction

from smsactivator.common import history
from smsactivator.common.errors import Invalid, Refused
from smsactivator.common.history import Actor
from wallet import addresses
from wallet.addresses import AddressRefused
from wallet.deciding import given
from wallet.limits import require
from wallet.models import Payout, PayoutMethod, RefusedAddress

REFUSE = "wallet.refuse_address"
# What was refused stays the same place; another one is another row.
FIXED = ("network", "address")

# An address by its format and key.
Place = tuple[str, str]


class NetworkUnknown(Invalid):
    """No payout method is on this network."""

    code = "unknown_network"


class ListedAlready(Refused):
    """The address is on the list."""

    code = "listed_already"


class AddressFixed(Refused):
    """A row of the list stays the address that it is."""

    code = "address_fixed"


# --- the list ---


def save(row: RefusedAddress, fields: Collection[str], *, person: Any, reason: str) -> None:
    """Put an address on the list, or write these ``fields`` of one, with its history.

    An address whose checksum is wrong is refused, so that the list holds what was meant. Locks the
    row. Raises PermissionDenied, ReasonMissing, NetworkUnknown, AddressRefused, ListedAlready,
    AddressFixed.
    """
    require(person, REFUSE)
    reason = given(reason)
    actor = Actor.person(person)
    if not row._state.adding:
        if not set(fields).isdisjoint(FIXED):
            raise AddressFixed(f"{row} stays the address that it is: add another one.")
        with transaction.atomic():
            RefusedAddress.objects.select_for_update(no_key=True).get(pk=row.pk)
            if fields:
                history.save([row], [*fields], actor=actor, reason=reason)
        return
    row.network, row.address = row.network.strip().upper(), row.address.strip()
    row.address_format = _format_on(row.network)
    if problem := addresses.problem_with(row.address_format, row.address):
        raise AddressRefused(f"This is not an address on {row.network}: {problem}")
    row.key = addresses.key_of(row.address_format, row.address)
    try:
        history.create([row], actor=actor, reason=reason)
    except IntegrityError:
        listed = RefusedAddress.objects.filter(address_format=row.address_format, key=row.key)
        if (known := listed.first()) is None:
            raise
        raise ListedAlready(
            f"It is on the list already, as “{known}”{'' if known.active else ', switched off'}."
        ) from None


def networks() -> list[str]:
    """The networks that payouts are made on."""
    return list(
        PayoutMethod.objects.order_by("network").values_list("network", flat=True).distinct()
    )


def _format_on(network: str) -> str:
    method = PayoutMethod.objects.filter(network=network).first()
    if method is None:
        raise NetworkUnknown(f"Payouts are made on {', '.join(networks())}, not on {network}.")
    return str(method.address_format)


# --- what it says ---


def refuse(method: PayoutMethod, address: str) -> None:
    """Raise AddressRefused with the reason if nothing is paid out to the address.

    It never repeats the address.
    """
    for why in _known([(method.address_format, address)]).values():
        raise AddressRefused(
            f"Nothing is paid out to this address: it is {why}. Ask the customer for their own."
        )


def refused_among(payouts: Iterable[Payout]) -> dict[int, str]:
    """Why those of the payouts that go to nobody do, in words, by their ids: two queries."""
    placed = {payout.pk: (str(payout.method.address_format), payout.address) for payout in payouts}
    known = _known(placed.values())
    return {pk: known[place] for pk, place in placed.items() if place in known}


def _known(wanted: Iterable[Place]) -> dict[Place, str]:
    """Of these formats and addresses, those that nothing is paid out to, and why in words."""
    keys = {place: (place[0], addresses.key_of(*place)) for place in wanted}
    if not keys:
        return {}
    found = {
        (method.address_format, addresses.key_of(method.address_format, method.contract)): (
            f"the contract of {method}"
        )
        for method in PayoutMethod.objects.exclude(contract="")
    }
    listed = RefusedAddress.objects.filter(active=True, key__in={key for _, key in keys.values()})
    found |= {(row.address_format, row.key): row.words for row in listed}
    return {place: found[key] for place, key in keys.items() if key in found}
