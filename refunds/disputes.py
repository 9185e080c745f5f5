"""Disputes: the customer does not agree with a denial, once, and a senior agent decides for good.

Policy, "Disputes": "If you disagree with a refund decision, reply to the support thread with
additional evidence and we will escalate to a senior agent." The senior took no part before.

Locks are taken in one order: the person, the request, the order, the wallet.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone
from django_fsm import can_proceed

from refunds.decisions import (
    credit,
    decided_already,
    is_against,
    lock_request,
    refuse_part,
    refuse_ruled_meanwhile,
)
from refunds.models import RefundRequest
from smsactivator.common import history
from smsactivator.common.errors import Refused
from smsactivator.common.history import Actor
from wallet.deciding import OwnRequest, given
from wallet.limits import lock, require

RESOLVED = ("state", "resolved_by", "resolved_at", "resolution_reason")


class NotDisputable(Refused):
    """The request was not denied, or was disputed before: then it is final."""

    code = "not_disputable"


def dispute(request_id: int, *, actor: Actor) -> RefundRequest:
    """The customer does not agree with a denial. Once. Locks the request.

    Raises RequestUnknown, NotDisputable.
    """
    with transaction.atomic():
        asked = lock_request(request_id)
        if not can_proceed(asked.dispute):
            raise NotDisputable(
                f"{asked} is {asked.get_state_display().lower()}: only a denial can be disputed, "
                "and once."
            )
        asked.dispute()
        asked.disputed_at = timezone.now()
        # One of us may have entered what the customer said elsewhere.
        how = "reply" if actor.user_id is None else "a message that was entered"
        fields = ["state", "disputed_at"]
        history.save([asked], fields, actor=actor, reason=f"Disputed by {how}")
        return asked


def uphold(person: Any, request_id: int, *, reason: str) -> RefundRequest:
    """Agree with the denial. It is final. Locks the person, the request.

    Raises PermissionDenied, ReasonMissing, RequestUnknown, AlreadyDecided, OwnRequest for one who
    took part before, in this or in another dispute of the order.
    """
    with transaction.atomic():
        asked = _take(person, request_id, reason)
        asked.uphold()
        _save(asked, person, "Upheld")
        return asked


def overturn(person: Any, request_id: int, *, reason: str) -> RefundRequest:
    """Grant what was denied: the wallet is credited in this transaction. It is final.

    Locks the person, the request, the order, the wallet. Raises as ``uphold`` and as
    ``refunds.decisions.approve``, FinallyDecided too: when another request of the order was denied
    for good before this one was disputed.
    """
    with transaction.atomic():
        asked = _take(person, request_id, reason)
        refuse_ruled_meanwhile(asked)
        asked.overturn()
        asked.against_verdict = is_against(asked)
        fields = (*RESOLVED, "against_verdict")
        credit(asked, person, asked.resolution_reason, fields, "Overturned")
        return asked


def dismiss(person: Any, request_id: int, *, reason: str) -> RefundRequest:
    """The reply was no dispute, but a "thanks" or the like: the denial stands. Raises as
    ``uphold``.
    """
    with transaction.atomic():
        asked = _take(person, request_id, reason)
        asked.dismiss()
        _save(asked, person, "No dispute")
        return asked


def _take(person: Any, request_id: int, reason: str) -> RefundRequest:
    """A disputed request, locked, with who resolves it noted."""
    require(person, "refunds.resolve_dispute")
    reason = given(reason)
    lock(person)
    asked = lock_request(request_id)
    if asked.state != RefundRequest.State.DISPUTED:
        raise decided_already(asked)
    if person.pk in {asked.requested_by_id, asked.decided_by_id}:
        raise OwnRequest("You took part in this decision, so another senior agent decides now.")
    refuse_part(asked, person)
    asked.resolved_by = person
    asked.resolved_at = timezone.now()
    asked.resolution_reason = reason
    return asked


def _save(asked: RefundRequest, person: Any, done: str) -> None:
    history.save(
        [asked],
        RESOLVED,
        actor=Actor.person(person),
        reason=f"{done}: {asked.resolution_reason}",
    )
