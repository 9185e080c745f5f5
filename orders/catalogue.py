"""The catalogue: offers and upstreams, changed by people, each change recorded with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction

from orders.models import Offer, Upstream
from smsactivator.common import history
from smsactivator.common.history import Actor


def save(item: Offer | Upstream, fields: Sequence[str], *, person: Any, reason: str) -> None:
    """Write a new offer or upstream, or these ``fields`` of an existing one, with its history.

    Locks the row. Orders keep the price they were placed at. Raises PermissionDenied when the
    person may not add or change such things.
    """
    meta = item._meta
    new = item._state.adding
    verb = "add" if new else "change"
    if not person.has_perm(f"{meta.app_label}.{verb}_{meta.model_name}"):
        raise PermissionDenied
    actor = Actor.person(person)
    with transaction.atomic():
        if new:
            history.create([item], actor=actor, reason=reason)
        elif fields:
            type(item)._default_manager.select_for_update(no_key=True).get(pk=item.pk)
            history.save([item], fields, actor=actor, reason=reason)
