"""The API does what its document says: generated requests, valid and not, against every check."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks

from orders.models import Order
from refunds.tests import world
from smsactivator.wsgi import application
from support.tests.world import ask, delivered
from wallet import customers, deposits, keys
from wallet.models import Customer

pytestmark = pytest.mark.django_db

# Of each of 13 addresses; with some 45 of each that are not drawn, 5,000 requests in all.
EXAMPLES = 345

load_all_checks()
document = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
# A wallet that does not hold the price is no fault of the request.
document.config.checks.positive_data_acceptance.expected_statuses += ["402"]


@dataclass
class Shop:
    """What the requests are about: half of those that name something name what there is."""

    key: str
    customer: Customer
    order: Order
    ticket: int


@pytest.fixture
def one_transaction():
    """Requests of a whole application end with their connection; a test's has to stay."""
    for ends in (request_started, request_finished):
        ends.disconnect(close_old_connections)
    yield
    for ends in (request_started, request_finished):
        ends.connect(close_old_connections)


@pytest.fixture
def shop(db, one_transaction) -> Shop:
    storefront = world.storefront()
    _, key = keys.issue(storefront, name="test", created_by="tester")
    customer, _ = customers.create_or_update(storefront.pk, "tg-1001", actor=world.TESTER)
    deposits.deposit(customer, amount=Decimal(100), reference="tx-1")
    order = delivered(customer)
    return Shop(key, customer, order, ask(customer).pk)


@document.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_documented(case: schemathesis.Case, shop: Shop) -> None:
    if not case.meta.generation.mode.is_negative:
        if _is_sent_broken(case):
            return
        _name_what_there_is(case.path_parameters, shop)
        _say_whole_numbers(case.body)
    headers = {} if _is_about_the_key(case) else {"Authorization": f"Bearer {shop.key}"}

    case.call_and_validate(headers=headers)


def _name_what_there_is(parameters: dict[str, Any], shop: Shop) -> None:
    there_is = {"order_id": shop.order.pk, "ticket_id": shop.ticket}
    for name, number in there_is.items():
        if name in parameters and int(parameters[name]) % 2:
            parameters[name] = number
    if len(str(parameters.get("external_id", ""))) % 2:
        parameters["external_id"] = shop.customer.external_id


def _is_sent_broken(case: schemathesis.Case) -> bool:
    """Whether a form has a part without content: this client leaves out the line before it."""
    if case.media_type != "multipart/form-data":
        return False
    values = case.body.values()
    parts = [part for value in values for part in (value if isinstance(value, list) else [value])]
    return any(getattr(part, "data", part) in ("", b"") for part in parts)


def _say_whole_numbers(body: Any) -> None:
    """To JSON Schema 1.0 is an integer; to us 1 is, so that an order has one number."""
    if isinstance(body, dict) and isinstance(body.get("offer"), float):
        body["offer"] = int(body["offer"])
    if isinstance(body, dict) and isinstance(body.get("orders"), list):
        body["orders"] = [int(order) for order in body["orders"]]


def _is_about_the_key(case: schemathesis.Case) -> bool:
    """Whether the request is wrong by its key, which ours would mend."""
    phase = case.meta.phase.data
    named = {change.parameter for change in getattr(phase, "mutations", None) or ()}
    return "Authorization" in named | {getattr(phase, "parameter", None)}
