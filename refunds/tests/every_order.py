"""Every combination of what can happen to an order, made through the product's own verbs."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

from orders import delivery, polling, termination
from orders.delivery import Arrival
from orders.models import Offer, Order
from orders.upstreams.base import Message
from refunds import automatic
from refunds.tests import world
from smsactivator.common.errors import Refused
from wallet.tests.world import person

KINDS = (Offer.Kind.ACTIVATION, Offer.Kind.RENTAL)
PURCHASES = ("pending", "refused", "bought")
EVENTS = ("nothing", "sms", "broken", "cancel")
LAST_EVENTS = (*EVENTS, "late sms", "terminate")


@dataclass(frozen=True, slots=True)
class Story:
    """What happens to one order: its purchase; then in its first minute; before its deadline; and
    just after it, before anybody looks at the upstream or sweeps.
    """

    kind: str
    purchase: str
    first: str
    second: str
    third: str


# Without a number there is nothing that an SMS could come to, or that could break.
WITHOUT_NUMBER = ("nothing", "cancel", "terminate")
STORIES = [
    Story(kind, purchase, *events)
    for kind, purchase in product(KINDS, PURCHASES)
    for events in (
        product(EVENTS, EVENTS, LAST_EVENTS)
        if purchase == "bought"
        else product(("nothing", "cancel"), ("nothing", "cancel"), WITHOUT_NUMBER)
    )
]


def tell(stories: Iterable[Story], clock: Any, *, sweeping: bool) -> dict[int, Story]:
    """Let the stories happen, all at once. Returns them by the orders' numbers.

    When ``sweeping``, the sweep runs after each event, as on a good day; otherwise only what is
    told here happens, so one thing comes on top of the other.
    """
    offers = {kind: world.offer("1", kind=kind) for kind in KINDS}
    told: dict[int, Story] = {}
    for story in stories:
        order = world.place(world.customer("1"), offers[Offer.Kind(story.kind)])
        if story.purchase == "bought":
            world.allocated(order)
        elif story.purchase == "refused":
            Order.objects.filter(pk=order.pk).update(
                refused_at=order.placed_at, refusal_code="NO_NUMBERS"
            )
        told[order.pk] = story
    for slot, wait in (
        ("first", timedelta(seconds=30)),
        ("second", timedelta(minutes=10)),
        ("third", timedelta(minutes=10)),
    ):
        clock.shift(wait)
        for event in LAST_EVENTS:
            happens([pk for pk, story in told.items() if getattr(story, slot) == event], event)
        if sweeping:
            automatic.sweep()
            delivery.finish_delivered()
    world.looked_at()
    clock.shift(timedelta(seconds=1))
    return told


def happens(order_ids: list[int], event: str) -> None:
    """One thing happens to these orders; what is refused is no error."""
    if event in {"sms", "late sms"}:
        text = f"Code {uuid4().hex[:6]}"
        delivery.record_sms(
            {pk: [Arrival(Message("", text), in_time=event == "sms")] for pk in order_ids}
        )
    elif event == "broken":
        polling.mark_broken(dict.fromkeys(order_ids, "STATUS_REVOKE"))
    elif event == "cancel":
        for pk in order_ids:
            with suppress(Refused):
                automatic.cancel(pk, actor=world.TESTER)
    elif event == "terminate" and order_ids:
        one, other = person("Senior agent"), person("Senior agent")
        for customer in Order.objects.filter(pk__in=order_ids).values_list("customer", flat=True):
            asked = termination.request(one, customer, reason="Resold numbers", key=uuid4())
            termination.confirm(other, asked.pk)
