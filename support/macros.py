"""Canned replies: ``{{name}}`` stands for a fact of the case, each with a type of its own.

What a case does not know stays as it is written, and a text with such a gap is not sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from refunds import policy
from refunds.models import RefundRequest
from smsactivator.common import history
from smsactivator.common.errors import Invalid, NotFound
from smsactivator.common.history import Actor
from support.casefile import CaseFile, CaseOrder
from support.models import Macro
from wallet.deciding import given
from wallet.limits import require

GAP = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


class MacroRefused(Invalid):
    """The canned reply names something that no case has, or has a name that is taken."""

    code = "macro_refused"


class MacroUnknown(NotFound):
    """There is no such canned reply."""

    code = "unknown_macro"


class GapLeft(Invalid):
    """The text still has a gap to be filled. Nothing was sent."""

    code = "gap_left"


def _words(value: Any) -> str:
    return str(value)


def _usd(value: Decimal) -> str:
    """USD with two places at least: customers do not read "0.5000"."""
    plain = f"{value.normalize():f}"
    whole, _, part = plain.partition(".")
    return f"{whole}.{part.ljust(2, '0')} USD"


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Variable:
    """A fact that a canned reply can name: what it is, how it is written, where it is found."""

    meaning: str
    written: Callable[[Any], str]
    value: Callable[[CaseFile], Any]


def _order(file: CaseFile) -> CaseOrder | None:
    """The one order that the ticket is about. With several nobody knows which is meant."""
    return file.orders[0] if len(file.orders) == 1 else None


def _of_order(read: Callable[[CaseOrder], Any]) -> Callable[[CaseFile], Any]:
    return lambda file: None if (one := _order(file)) is None else read(one)


def _request(file: CaseFile) -> RefundRequest | None:
    """The newest refund that was asked for on the ticket."""
    return file.here[0].request if file.here else None


def _of_request(read: Callable[[RefundRequest], Any]) -> Callable[[CaseFile], Any]:
    return lambda file: None if (one := _request(file)) is None else read(one)


VARIABLES: dict[str, Variable] = {
    "ticket": Variable("the ticket's number", _words, lambda file: file.ticket.pk),
    "customer": Variable(
        "the customer's id at the storefront",
        _words,
        lambda file: file.ticket.customer.external_id,
    ),
    "balance": Variable("what the wallet holds", _usd, lambda file: file.wallet.balance),
    "order": Variable("the order's number", _words, _of_order(lambda one: one.order.pk)),
    "service": Variable("the order's service", _words, _of_order(lambda one: one.order.service)),
    "country": Variable("the order's country", _words, _of_order(lambda one: one.order.country)),
    "price": Variable("the order's price", _usd, _of_order(lambda one: one.order.price)),
    "placed": Variable(
        "when the order was placed", _moment, _of_order(lambda one: one.order.placed_at)
    ),
    "amount": Variable(
        "the amount of the refund on this ticket", _usd, _of_request(lambda one: one.amount)
    ),
    "clause": Variable(
        "the clause of that refund in the policy's words",
        _words,
        _of_request(lambda one: policy.text(one.clause, one.policy_version)),
    ),
}


def filled(body: str, file: CaseFile) -> str:
    """The text with every fact that the case has; the other gaps stay as they are."""

    def value(found: re.Match[str]) -> str:
        variable = VARIABLES.get(found[1])
        known = variable.value(file) if variable else None
        return found[0] if variable is None or known in {None, ""} else variable.written(known)

    return GAP.sub(value, body)


def refuse_gaps(body: str) -> None:
    """Raise GapLeft while the text has a gap."""
    gaps = sorted({found[1] for found in GAP.finditer(body)})
    if gaps:
        names = ", ".join("{{" + name + "}}" for name in gaps)
        raise GapLeft(f"Fill {names} in, or take it out: the text was not sent.")


def refuse_unknown(body: str) -> None:
    """Raise MacroRefused for a gap that no case can fill, or that is not written as one."""
    rest = GAP.sub("", body)
    if "{{" in rest or "}}" in rest:
        raise MacroRefused("A gap is written {{name}}, with two braces on each side.")
    unknown = sorted({found[1] for found in GAP.finditer(body)} - VARIABLES.keys())
    if unknown:
        raise MacroRefused(
            f"No case has {', '.join(unknown)}. It has: {', '.join(sorted(VARIABLES))}."
        )


def save(
    person: Any, macro_id: int | None, *, title: str, body: str, active: bool, reason: str
) -> Macro:
    """Add a canned reply (without ``macro_id``) or change one. Locks it.

    Raises PermissionDenied, ReasonMissing, MacroUnknown, and MacroRefused for a gap that no case
    can fill, an empty text, or a title that is taken.
    """
    require(person, "support.change_macro")
    title, body, reason = title.strip(), body.strip(), given(reason)
    if not title or not body:
        raise MacroRefused("A canned reply has a title and a text.")
    refuse_unknown(body)
    actor = Actor.person(person)
    try:
        with transaction.atomic():
            if macro_id is None:
                made = Macro(title=title, body=body, active=active)
                history.create([made], actor=actor, reason=reason)
                return made
            macro = Macro.objects.select_for_update(no_key=True).filter(pk=macro_id).first()
            if macro is None:
                raise MacroUnknown(f"There is no canned reply {macro_id}.")
            macro.title, macro.body, macro.active = title, body, active
            history.save([macro], ["title", "body", "active"], actor=actor, reason=reason)
            return macro
    except IntegrityError:
        raise MacroRefused(f"There is a canned reply called {title} already.") from None
