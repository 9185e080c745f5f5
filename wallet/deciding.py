"""What every decision by two people has in common: who may make it, and that it is made once.

Locks are taken in one order everywhere: the person, the decision, orders by primary key, wallets by
primary key.
"""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from django.db.models import Model
from django.utils import timezone

from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.seen import refuse_outdated
from wallet.models import Decision

SomeDecision = TypeVar("SomeDecision", bound=Decision)
SomeRequest = TypeVar("SomeRequest", bound=Model)


class DecisionUnknown(NotFound):
    """There is no such request."""

    code = "unknown_decision"


class OwnRequest(Refused):
    """The one who requested it may not decide it."""

    code = "own_request"
    status = 403


class AlreadyDecided(Refused):
    """Somebody has decided it before."""

    code = "already_decided"


class RequestConflict(Refused):
    """The same form was sent before, with other content."""

    code = "request_conflict"


class ReasonMissing(Refused):
    """A decision says why."""

    code = "reason_missing"
    status = 422


def same_request(model: type[SomeRequest], key: UUID, **content: Any) -> SomeRequest | None:
    """The request that this form made before, or None. The caller holds the person's lock.

    Raises RequestConflict when it was made with other content.
    """
    made = model._default_manager.filter(request_key=key).first()
    if made is None:
        return None
    if any(getattr(made, name) != value for name, value in content.items()):
        raise RequestConflict(
            f"This form was sent before, as {made}, with other content: open it anew to ask for "
            "something else."
        )
    return made


def lock_requested(model: type[SomeDecision], pk: int, seen: int | None = None) -> SomeDecision:
    """The decision, locked, as the page showed it. Raises DecisionUnknown, Outdated."""
    found = model._default_manager.select_for_update(no_key=True).filter(pk=pk).first()
    if found is None:
        raise DecisionUnknown(f"There is no {model._meta.verbose_name} {pk}.")
    refuse_outdated(found, seen)
    return found


def decide(decision: Decision, person: Any, reason: str) -> None:
    """Note who decides a locked request and why; the caller takes it through its transition.

    Raises AlreadyDecided, and OwnRequest when the person requested it.
    """
    _refuse_decided(decision)
    if why := why_not_decide(person, decision):
        raise OwnRequest(why)
    _note(decision, person, reason)


def why_not_decide(person: Any, decision: Decision) -> str:
    """Why this person does not decide what waits for it; "" if nothing keeps them."""
    if decision.requested_by_id == person.pk:
        return "You requested this yourself, so somebody else decides it. You can withdraw it."
    return ""


def take_back(decision: Decision, person: Any) -> None:
    """Note that the one who requested it takes it back. Raises AlreadyDecided, OwnRequest."""
    _refuse_decided(decision)
    if decision.requested_by_id != person.pk:
        raise OwnRequest("Only the one who requested this can withdraw it. You can reject it.")
    _note(decision, person, "")


def given(reason: str) -> str:
    """The reason without blanks around it. Raises ReasonMissing."""
    reason = reason.strip()
    if not reason:
        raise ReasonMissing("Say why: whoever reads this in years will ask.")
    return reason


def _refuse_decided(decision: Decision) -> None:
    if decision.state != Decision.State.REQUESTED:
        raise AlreadyDecided(
            f"{decision} was {decision.get_state_display().lower()} by {decision.decided_by} "
            f"at {decision.decided_at:%Y-%m-%d %H:%M:%S} UTC."
        )


def _note(decision: Decision, person: Any, reason: str) -> None:
    decision.decided_by = person
    decision.decided_at = timezone.now()
    decision.decision_reason = reason.strip()


# What a decision writes, beside what is its own.
DECIDED = ("state", "decided_by", "decided_at", "decision_reason")
