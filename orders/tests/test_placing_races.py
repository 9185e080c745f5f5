"""Orders placed at the same time: one key one order, and no more than the wallet holds."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import pytest
import redis
from django.conf import settings

from orders import placing
from orders.models import Offer, Order, Upstream
from wallet.ledger import IdempotencyConflict, InsufficientFunds
from wallet.models import Transfer
from wallet.tests import world
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 15


@pytest.fixture
def queued():
    """How many allocations the broker holds since the test began. The queue is left empty."""
    prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]
    assert prefix.startswith("test-")
    queue = f"{prefix}upstream"
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.delete(queue)
        yield lambda: broker.llen(queue)
        broker.delete(queue)


@pytest.fixture
def offers() -> list[Offer]:
    upstream = Upstream.objects.create(code="sim", name="Sim", base_url="http://127.0.0.1:9")
    return [
        Offer.objects.create(
            upstream=upstream, service="tg", country=str(number), title="Telegram", price="0.6"
        )
        for number in range(2)
    ]


def order(customer, offer: Offer, key: str):
    return partial(
        placing.place, customer, offer_id=offer.pk, idempotency_key=key, actor=world.TESTER
    )


def test_the_same_order_at_once_is_one_order_one_charge_and_one_allocation(offers, queued):
    ada = world.customer("100")
    for number in range(ROUNDS):
        call = order(ada, offers[0], f"key-{number}")

        outcomes = at_once(call, call, call)

        assert sorted(created for _, created in outcomes) == [False, False, True]
        assert len({placed.pk for placed, _ in outcomes}) == 1
    assert Order.objects.count() == Order.history.count() == queued() == ROUNDS
    assert Transfer.objects.filter(kind=Transfer.Kind.PURCHASE).count() == ROUNDS
    assert world.figures(ada) == (100 - ROUNDS * Decimal("0.6"), 1 + ROUNDS)


def test_one_key_for_two_offers_at_once_is_one_order_and_one_conflict(offers, queued):
    ada = world.customer("100")
    for number in range(ROUNDS):
        outcomes = at_once(*[order(ada, offer, f"key-{number}") for offer in offers])

        [conflict] = [o for o in outcomes if isinstance(o, IdempotencyConflict)]
        [(placed, created)] = [o for o in outcomes if o is not conflict]
        assert created
        assert f"stands for order {placed.pk} of offer {placed.offer_id}" in str(conflict)
    assert Order.objects.count() == queued() == ROUNDS
    assert world.figures(ada)[1] == 1 + ROUNDS


def test_two_orders_racing_for_the_last_money_are_one_order(offers, queued):
    for _ in range(ROUNDS):
        ada = world.customer("1")

        outcomes = at_once(*[order(ada, offer, f"key-{offer.pk}") for offer in offers])

        [refused] = [o for o in outcomes if isinstance(o, InsufficientFunds)]
        [(placed, created)] = [o for o in outcomes if o is not refused]
        assert created
        assert str(refused) == (
            "The wallet holds 0.4000 USD and 0.6000 USD are needed: deposit first."
        )
        assert Order.objects.get(customer=ada).pk == placed.pk
        assert world.figures(ada) == (Decimal("0.4000"), 2)
    assert queued() == ROUNDS
    world.assert_books_agree()
