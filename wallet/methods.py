"""The coins and networks that payouts are made in, as administrators set them up."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction

from smsactivator.common import history
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from wallet import addresses
from wallet.deciding import given
from wallet.limits import require
from wallet.models import PayoutMethod

# Payouts were asked for in it: another coin or network is another method.
FIXED = ("code", "currency", "network", "address_format")


class MethodFixed(Refused):
    """A method's coin, network and form of address stay what they are."""

    code = "method_fixed"


def as_customers_call_it(method: PayoutMethod) -> str:
    """A method with the name that customers write for its network, if there is one."""
    standard = addresses.standard_of(method)
    return f"{method} ({standard})" if standard else str(method)


def save(method: PayoutMethod, fields: Collection[str], *, person: Any, reason: str) -> None:
    """Write a new method, or these ``fields`` of one, with its history.

    Locks the method. Raises PermissionDenied, ReasonMissing, MethodFixed, AddressRefused for a
    contract that is none.
    """
    new = method._state.adding
    require(person, f"wallet.{'add' if new else 'change'}_payoutmethod")
    reason = given(reason)
    method.contract = method.contract.strip()
    if method.contract and (
        problem := addresses.problem_with(method.address_format, method.contract)
    ):
        raise addresses.AddressRefused(f"This is no contract on {method.network}: {problem}")
    actor = Actor.person(person)
    with transaction.atomic():
        if new:
            history.create([method], actor=actor, reason=reason)
        elif fields:
            if not set(fields).isdisjoint(FIXED):
                raise MethodFixed(
                    f"The coin and network of {method} are fixed: add another payout method."
                )
            PayoutMethod.objects.select_for_update(no_key=True).get(pk=method.pk)
            history.save([method], [*fields], actor=actor, reason=reason)
