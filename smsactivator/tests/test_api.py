"""The storefront API over HTTP: what each address answers, and to whom, and what it refuses."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from orders import termination
from orders.delivery import Arrival, record_sms
from orders.models import Offer, Order, Sms
from orders.upstreams.base import Message
from refunds import automatic
from refunds.models import Refund
from refunds.tests import world
from wallet import keys
from wallet.models import Customer, Deposit, Storefront, Transfer, Wallet
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
PROBLEM = "application/problem+json"
# One for all, for a client's first request reads the list of all static files.
HTTP = Client(raise_request_exception=False)


class Shop:
    """A storefront as its own server sees us: a key and requests."""

    def __init__(self, storefront: Storefront) -> None:
        self.storefront = storefront
        self.key, plain = keys.issue(storefront, name="test", created_by="tester")
        self.authorization = f"Bearer {plain}"

    def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **extra: Any
    ) -> Any:
        """A response; ``body`` is sent as it is when it is bytes or text, else as JSON."""
        extra["HTTP_AUTHORIZATION"] = self.authorization
        if key is not None:
            extra["HTTP_IDEMPOTENCY_KEY"] = key
        if body is None:
            return HTTP.generic(method, f"/api/v1{path}", **extra)
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        extra = {"content_type": "application/json", **extra}
        return HTTP.generic(method, f"/api/v1{path}", data, **extra)

    def order(self, customer: Customer, offer: Offer, key: str = "key-1") -> Any:
        body = {"customer": customer.external_id, "offer": offer.pk}
        return self.ask("POST", "/orders", body, key=key)


@pytest.fixture
def shop() -> Shop:
    return Shop(world.storefront())


@pytest.fixture
def noon():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["Content-Type"]) == (status, PROBLEM)
    problem = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"]
    return problem


def written() -> dict[str, Any]:
    """How much of everything there is."""
    models = (Customer, Wallet, Transfer, Deposit, Order, Sms, Refund)
    return {model.__name__: model.objects.count() for model in models} | {
        "history": Order.history.count() + Customer.history.count(),
        "wallets": list(Wallet.objects.order_by("pk").values_list("balance", "version")),
        "customers": list(Customer.objects.order_by("pk").values_list("email", "status")),
        "orders": list(Order.objects.order_by("pk").values_list("state", "settlement")),
    }


# --- what each address answers ---


def test_a_customer_is_created_once_then_updated_and_read(shop, noon):
    created = shop.ask("PUT", "/customers/ada", {"email": "ada@example.com"})
    again = shop.ask("PUT", "/customers/ada", {"email": "ada@example.com"})
    updated = shop.ask("PUT", "/customers/ada", {"status": "suspended"})
    read = shop.ask("GET", "/customers/ada")

    customer = {
        "id": "ada",
        "email": "ada@example.com",
        "status": "active",
        "wallet_state": "active",
        "created_at": "2026-06-01T12:00:00Z",
    }
    assert (created.status_code, created.json()) == (201, customer)
    assert (again.status_code, again.json()) == (200, customer)
    suspended = customer | {"status": "suspended"}
    assert (updated.status_code, updated.json()) == (200, suspended)
    assert (read.status_code, read.json()) == (200, suspended)
    assert list(Customer.history.order_by("pk").values_list("history_type", "history_actor")) == [
        (kind, f"API key {shop.key.prefix}… of Shop") for kind in "+~"
    ]


def test_a_payment_is_credited_once(shop, noon):
    shop.ask("PUT", "/customers/ada", {})
    body = {"amount": "12.5", "reference": "btc:1"}

    first = shop.ask("POST", "/customers/ada/deposits", body)
    again = shop.ask("POST", "/customers/ada/deposits", body | {"amount": "12.5000"})
    other = shop.ask("POST", "/customers/ada/deposits", body | {"amount": "12.6"})

    deposit = {
        "reference": "btc:1",
        "amount": "12.5000",
        "balance_after": "12.5000",
        "posted_at": "2026-06-01T12:00:00Z",
    }
    assert (first.status_code, first.json()) == (201, deposit)
    assert (again.status_code, again.json()) == (200, deposit)
    assert_problem(other, 409, "idempotency_conflict")
    wallet = shop.ask("GET", "/customers/ada/wallet")
    assert (wallet.status_code, wallet.json()) == (
        200,
        {
            "customer": "ada",
            "currency": "USD",
            "balance": "12.5000",
            "version": 1,
            "state": "active",
            "reason": "",
        },
    )


def test_an_order_is_placed_once_for_its_key(shop, noon, django_capture_on_commit_callbacks):
    customer, offer = world.customer("1.0000"), world.offer("0.7500")

    with django_capture_on_commit_callbacks() as queued:
        placed = shop.order(customer, offer)
        again = shop.order(customer, offer)
    read = shop.ask("GET", f"/orders/{placed.json()['id']}")

    expected = {
        "id": Order.objects.get().pk,
        "customer": customer.external_id,
        "offer": offer.pk,
        "kind": "activation",
        "service": "tg",
        "country": offer.country,
        "price": "0.7500",
        "state": "placed",
        "refunded": False,
        "phone": "",
        "placed_at": "2026-06-01T12:00:00Z",
        "deadline": None,
        "rental_ends_at": None,
        "ended_at": None,
        "sms": [],
    }
    assert (placed.status_code, placed.json()) == (201, expected)
    assert (again.status_code, again.json()) == (200, expected)
    assert (read.status_code, read.json()) == (200, expected)
    assert len(queued) == 1
    assert shop.ask("GET", f"/customers/{customer.external_id}/wallet").json()["balance"] == (
        "0.2500"
    )


def test_a_key_that_stands_for_another_offer_is_a_conflict(shop):
    customer = world.customer("10")
    assert shop.order(customer, world.offer()).status_code == 201
    before = written()

    problem = assert_problem(shop.order(customer, world.offer()), 409, "idempotency_conflict")

    assert "it cannot also be an order of offer" in problem["detail"]
    assert written() == before


def test_two_customers_may_use_the_same_key(shop):
    offer = world.offer()
    orders = [shop.order(world.customer(), offer) for _ in range(2)]
    assert [order.status_code for order in orders] == [201, 201]


def test_an_order_that_cannot_be_placed_says_why(shop):
    customer, offer = world.customer("0.4999"), world.offer("0.5000")
    before = written()

    poor = assert_problem(shop.order(customer, offer), 402, "insufficient_funds")
    Offer.objects.filter(pk=offer.pk).update(active=False)
    gone = assert_problem(shop.order(customer, offer), 409, "offer_not_for_sale")

    assert poor["detail"] == (
        "The wallet holds 0.4999 USD and 0.5000 USD are needed: deposit first."
    )
    assert gone["detail"] == f"Offer {offer.pk} is not for sale at the moment: see GET /offers."
    assert written() == before


def test_a_suspended_customer_gets_money_and_no_orders(shop):
    customer = world.customer("1")
    path = f"/customers/{customer.external_id}"
    shop.ask("PUT", path, {"status": "suspended"})

    problem = assert_problem(shop.order(customer, world.offer()), 403, "customer_suspended")
    deposit = shop.ask("POST", f"{path}/deposits", {"amount": "1", "reference": "late"})

    assert problem["detail"] == f"Customer {customer.external_id} is suspended."
    assert deposit.status_code == 201


def test_a_terminated_customer_is_told_the_clause(shop):
    customer, offer = world.customer("1"), world.offer()
    order = world.place(customer, offer)
    senior, other = person("Senior agent"), person("Senior agent")
    asked = termination.request(senior, customer.pk, reason="Resold", key=uuid4())

    problem = assert_problem(shop.order(customer, offer), 403, "wallet_frozen")
    assert "is frozen" in problem["detail"]
    termination.confirm(other, asked.pk)

    path = f"/customers/{customer.external_id}/deposits"
    pay = shop.ask("POST", path, {"amount": "1", "reference": "late"})
    cancel = shop.ask("POST", f"/orders/{order.pk}/cancel")
    clause = "wallet balance is forfeited per /aup"
    for refused, code in (
        (shop.order(customer, offer), "wallet_forfeited"),
        (pay, "wallet_forfeited"),
        (cancel, "order_forfeited"),
    ):
        assert clause in assert_problem(refused, 403, code)["detail"]


def test_the_sms_of_an_order_are_shown_in_the_order_they_came(shop, noon):
    order = world.allocated()
    for code in ("111", "222"):
        record_sms({order.pk: [Arrival(Message(code, f"Your code is {code}", "Telegram"))]})

    shown = shop.ask("GET", f"/orders/{order.pk}").json()

    assert (shown["state"], shown["phone"], shown["deadline"], shown["refunded"]) == (
        "sms_received",
        "+79001234567",
        "2026-06-01T12:20:00Z",
        False,
    )
    assert shown["sms"] == [
        {
            "code": code,
            "text": f"Your code is {code}",
            "sender": "Telegram",
            "received_at": "2026-06-01T12:00:00Z",
        }
        for code in ("111", "222")
    ]


def test_a_late_sms_is_never_shown(shop):
    order = world.allocated()
    automatic.cancel(order.pk, actor=world.TESTER)
    record_sms({order.pk: [Arrival(Message("999"))]})
    assert Sms.objects.get(order=order).late

    shown = shop.ask("GET", f"/orders/{order.pk}")
    cancelled_again = shop.ask("POST", f"/orders/{order.pk}/cancel")

    assert shown.json()["sms"] == cancelled_again.json()["sms"] == []
    assert "999" not in shown.content.decode().replace(order.phone, "")


def test_a_cancel_refunds_at_once_and_again_answers_the_same(shop, noon):
    customer = world.customer("1")
    order = world.allocated(world.place(customer, world.offer("1")))

    first = shop.ask("POST", f"/orders/{order.pk}/cancel")
    again = shop.ask("POST", f"/orders/{order.pk}/cancel")

    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert (first.json()["state"], first.json()["refunded"], first.json()["ended_at"]) == (
        "cancelled",
        True,
        "2026-06-01T12:00:00Z",
    )
    assert world.balance(customer) == 1
    assert Order.history.latest().history_actor == f"API key {shop.key.prefix}… of Shop"


def test_a_cancel_after_an_sms_is_refused_with_the_reason(shop):
    order = world.allocated()
    record_sms({order.pk: [Arrival(Message("111"))]})
    before = written()

    problem = assert_problem(shop.ask("POST", f"/orders/{order.pk}/cancel"), 409, "sms_received")

    assert problem["detail"] == (
        f"Order {order.pk} received an SMS, so it was delivered and can no longer be cancelled. "
        "If the SMS did not serve its purpose, write to support."
    )
    assert written() == before


def test_a_cancel_after_another_refund_is_refused_with_the_reason(shop):
    [order] = world.overdue_orders(1)
    automatic.sweep()
    problem = assert_problem(shop.ask("POST", f"/orders/{order.pk}/cancel"), 409, "already_ended")
    assert problem["detail"] == (
        f"Order {order.pk} ended as expired and its price went back to the wallet already."
    )


def test_a_statement_is_paged_from_the_newest_line_with_its_running_balance(shop, noon):
    customer = world.customer("10")
    first = world.place(customer, world.offer("1"))
    second = world.place(customer, world.offer("2.5"))
    automatic.cancel(first.pk, actor=world.TESTER)
    path = f"/customers/{customer.external_id}/statement"

    page = shop.ask("GET", f"{path}?limit=3").json()
    rest = shop.ask("GET", f"{path}?limit=3&before={page['next']}").json()

    def line(version: int, kind: str, amount: str, after: str, order: Order | None) -> Any:
        return {
            "version": version,
            "posted_at": "2026-06-01T12:00:00Z",
            "kind": kind,
            "amount": amount,
            "balance_after": after,
            "order": order and order.pk,
        }

    assert page == {
        "items": [
            line(4, "auto_refund", "1.0000", "7.5000", first),
            line(3, "purchase", "-2.5000", "6.5000", second),
            line(2, "purchase", "-1.0000", "9.0000", first),
        ],
        "next": 2,
    }
    assert rest == {"items": [line(1, "deposit", "10.0000", "10.0000", None)], "next": None}


def test_offers_are_paged_and_filtered_and_only_those_for_sale(shop):
    offers = [world.offer(service="tg") for _ in range(3)]
    rental = world.offer("3", kind=Offer.Kind.RENTAL, service="wa", country="7")
    world.offer(active=False)

    first = shop.ask("GET", "/offers?limit=2").json()
    second = shop.ask("GET", f"/offers?limit=2&after={first['next']}").json()
    found = shop.ask("GET", "/offers?service=wa&country=7").json()

    assert [item["id"] for item in first["items"]] == [offers[0].pk, offers[1].pk]
    assert first["next"] == offers[1].pk
    assert [item["id"] for item in second["items"]] == [offers[2].pk, rental.pk]
    assert second["next"] is None
    assert found == {
        "items": [
            {
                "id": rental.pk,
                "title": rental.title,
                "service": "wa",
                "country": "7",
                "kind": "rental",
                "rental_hours": 4,
                "price": "3.0000",
            }
        ],
        "next": None,
    }


# --- to whom ---

ADDRESSES = [
    ("GET", "/offers"),
    ("PUT", "/customers/{customer}"),
    ("GET", "/customers/{customer}"),
    ("POST", "/customers/{customer}/deposits"),
    ("GET", "/customers/{customer}/wallet"),
    ("GET", "/customers/{customer}/statement"),
    ("POST", "/orders"),
    ("GET", "/orders/{order}"),
    ("POST", "/orders/{order}/cancel"),
]
# Their tests are in support/tests/test_api.py.
OF_SUPPORT = [
    ("POST", "/customers/{customer}/tickets"),
    ("GET", "/customers/{customer}/tickets"),
    ("GET", "/tickets/{ticket}"),
    ("POST", "/tickets/{ticket}/messages"),
]


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_nobody_enters_without_a_live_key(shop, method, path):
    order = world.place()
    path = path.format(customer=order.customer.external_id, order=order.pk)
    revoked, plain = keys.issue(shop.storefront, name="old", created_by="tester")
    keys.revoke(revoked.pk, revoked_by="tester")
    before = written()

    for header in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer sf_unknown",
        "Bearer ключ",
        "Bearer \udcff",
        "Bearer a\x00",
        f"Bearer {plain}",
        f"Basic {plain}",
        f"Token {plain}",
        plain,
    ):
        extra = {} if header is None else {"HTTP_AUTHORIZATION": header}
        response = HTTP.generic(method, f"/api/v1{path}", **extra)
        assert_problem(response, 401, "unauthenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert written() == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/customers/{customer}", None),
        ("GET", "/customers/{customer}/wallet", None),
        ("GET", "/customers/{customer}/statement", None),
        ("POST", "/customers/{customer}/deposits", {"amount": "1", "reference": "x"}),
        ("POST", "/orders", {"customer": "{customer}", "offer": 1}),
        ("GET", "/orders/{order}", None),
        ("POST", "/orders/{order}/cancel", None),
    ],
)
def test_what_is_another_storefronts_looks_like_what_does_not_exist(shop, method, path, body):
    theirs = world.place(world.customer(shop=world.storefront("Other")))
    before = written()

    def answer(customer: str, order: int) -> tuple[int, str]:
        content = json.dumps(body).replace("{customer}", customer) if body else None
        address = path.format(customer=customer, order=order)
        response = shop.ask(method, address, content, key="k")
        assert response.headers["Content-Type"] == PROBLEM
        text = response.content.decode().replace(customer, "…").replace(f"order {order}", "…")
        return response.status_code, text

    assert answer(theirs.customer.external_id, theirs.pk) == answer("nobody", theirs.pk + 1)
    assert answer(theirs.customer.external_id, theirs.pk)[0] == 404
    assert written() == before


def test_two_storefronts_may_name_their_customers_alike(shop):
    other = Shop(world.storefront("Other"))
    assert shop.ask("PUT", "/customers/ada", {"email": "ada@here.com"}).status_code == 201
    assert other.ask("PUT", "/customers/ada", {"email": "ada@there.com"}).status_code == 201
    assert shop.ask("GET", "/customers/ada").json()["email"] == "ada@here.com"


# --- what it refuses ---

LONG = "x" * 100_000
NOT_TEXT = [None, 1, 1.5, True, [], {}]
BAD: dict[str, dict[str, list[Any]]] = {
    "deposit": {
        "amount": [
            *NOT_TEXT,
            *[
                "",
                " ",
                "-1",
                "+1",
                "0",
                "0.0000",
                "0.00001",
                "1e5",
                "1,5",
                " 1",
                "1 ",
                "1\n",
                "0x1",
            ],
            *["NaN", "Infinity", "-Infinity", "9" * 30, "1000000.0001", "٣", "1_0", ".5", "5."],
            LONG,
        ],
        "reference": [*NOT_TEXT, "", " ", "a b", "a\x00", "a\n", "é", "\ud800", "x" * 129, LONG],
        "currency": ["EUR"],
    },
    "customer": {
        "email": [
            *[1, 1.5, True, [], {}, "nobody", "a@b", "a\x00@b.com", "a@b.com\x00", "a@b.com\n"],
            *["\ud800@b.com", "a b@c.com", "x" * 250 + "@b.com", LONG],
        ],
        "status": [1, True, [], {}, "", "gone", "ACTIVE", "active\x00", LONG],
        "balance": ["100"],
    },
    "order": {
        "customer": [
            *NOT_TEXT,
            "",
            "ada@example.com",
            "+4477",
            "a\n",
            "a b",
            "a/b",
            "a\x00",
            "é",
            "\ud800",
            "x" * 65,
            LONG,
        ],
        "offer": [None, "1", 1.0, 1.5, True, [], {}, "abc", "", 0, -1, 2**63, 10**30],
        "price": ["0.01"],
    },
}
ADDRESS = {
    "deposit": ("POST", "/customers/{customer}/deposits"),
    "customer": ("PUT", "/customers/{customer}"),
    "order": ("POST", "/orders"),
}


def name(value: Any) -> str:
    return ascii(value) if len(ascii(value)) < 40 else f"{ascii(value)[:10]}…{len(ascii(value))}"


class Scene:
    """A customer with an order, and a right body for each address, so that one thing is wrong."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.order = world.allocated()
        self.customer = self.order.customer.external_id
        self.bodies: dict[str, dict[str, Any]] = {
            "deposit": {"amount": "1", "reference": "ref"},
            "customer": {"email": "new@example.com", "status": "suspended"},
            "order": {"customer": self.customer, "offer": world.offer().pk},
        }
        self.before = written()

    def send(self, what: str, body: Any, **extra: Any) -> Any:
        method, path = ADDRESS[what]
        extra.setdefault("key", "key-of-the-scene")
        return self.shop.ask(method, path.format(customer=self.customer), body, **extra)


@pytest.fixture
def scene(shop) -> Scene:
    return Scene(shop)


@pytest.mark.parametrize("what", ADDRESS)
def test_the_right_bodies_of_the_scene_are_taken(scene, what):
    assert scene.send(what, scene.bodies[what]).status_code in {200, 201}
    assert written() != scene.before


@pytest.mark.parametrize(
    ("what", "field", "value"),
    [(what, f, value) for what, fields in BAD.items() for f in fields for value in fields[f]],
    ids=name,
)
def test_a_bad_value_is_refused_by_name_and_nothing_is_written(scene, what, field, value):
    response = scene.send(what, scene.bodies[what] | {field: value})

    problem = assert_problem(
        response,
        422,
        "amount_out_of_range" if value in ("0", "0.0000", "1000000.0001") else "invalid",
    )
    if problem["code"] == "invalid":
        assert [error["where"] for error in problem["errors"]] == [f"body.{field}"]
    assert len(response.content) < 2000
    assert written() == scene.before


@pytest.mark.parametrize(
    ("what", "field"),
    [
        ("deposit", "amount"),
        ("deposit", "reference"),
        ("order", "customer"),
        ("order", "offer"),
    ],
)
def test_a_missing_field_is_refused_by_name(scene, what, field):
    body = {name: value for name, value in scene.bodies[what].items() if name != field}
    problem = assert_problem(scene.send(what, body), 422, "invalid")
    assert problem["errors"] == [{"where": f"body.{field}", "what": "Field required"}]
    assert written() == scene.before


MALFORMED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 422, "invalid"),
    "blank": (b"  ", 400, "not_json"),
    "no JSON": (b"{", 400, "not_json"),
    "form": (b"amount=1&reference=x", 400, "not_json"),
    "null": (b"null", 422, "invalid"),
    "list": (b"[]", 422, "invalid"),
    "list of objects": (b'[{"amount": "1", "reference": "x"}]', 422, "invalid"),
    "text": (b'"text"', 422, "invalid"),
    "number": (b"1", 422, "invalid"),
    "two values": (b"{} {}", 400, "not_json"),
    "invalid UTF-8": (b'{"reference": "\xff\xfe"}', 400, "not_json"),
    "UTF-16": ('{"reference": "x"}'.encode("utf-16"), 400, "not_json"),
    "NUL": (b'{"reference": "a\x00b"}', 400, "not_json"),
    "NaN": (b'{"amount": NaN}', 400, "not_json"),
    "Infinity": (b'{"amount": -Infinity}', 400, "not_json"),
    "a number of 5000 digits": (b'{"offer": ' + b"9" * 5000 + b"}", 400, "not_json"),
    "open nesting": (b"[" * 100_000, 400, "not_json"),
    "deep nesting": (b"[" * 100_000 + b"]" * 100_000, 400, "not_json"),
    "deep objects": (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, 400, "not_json"),
    "10 MB": (b'{"reference": "' + b"x" * 10_000_000 + b'"}', 413, "too_big"),
}


@pytest.mark.parametrize("what", ADDRESS)
@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_body_is_refused_and_nothing_is_written(scene, what, body):
    content, status, code = MALFORMED[body]
    response = scene.send(what, content)
    assert_problem(response, status, code)
    assert len(response.content) < 2000
    assert written() == scene.before


@pytest.mark.parametrize("what", ADDRESS)
def test_a_field_named_twice_is_refused(scene, what):
    fields = [
        f"{json.dumps(field)}: {json.dumps(value)}"
        for field, value in [*scene.bodies[what].items(), *scene.bodies[what].items()]
    ]
    problem = assert_problem(scene.send(what, f"{{{', '.join(fields)}}}"), 400, "not_json")
    assert "names a field twice" in problem["detail"]
    assert written() == scene.before


@pytest.mark.parametrize("what", ADDRESS)
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "",
    ],
)
def test_a_body_that_is_not_called_json_is_refused(scene, what, content_type):
    response = scene.send(what, scene.bodies[what], content_type=content_type)
    assert_problem(response, 415, "unsupported_media_type")
    assert written() == scene.before


def test_many_unknown_fields_are_answered_in_short(scene):
    body = scene.bodies["deposit"] | {f"field-{number}": 1 for number in range(10_000)}
    problem = assert_problem(scene.send("deposit", body), 422, "invalid")
    assert len(problem["errors"]) == 20
    assert written() == scene.before


@pytest.mark.parametrize(
    "key", [None, "", " ", "a b", "ключ", "é", "a\x00", "x" * 129, "x" * 10_240], ids=name
)
def test_an_order_needs_an_idempotency_key_in_printable_ascii(scene, key):
    problem = assert_problem(scene.send("order", scene.bodies["order"], key=key), 422, "invalid")
    assert problem["errors"][0]["where"] == "header.Idempotency-Key"
    assert written() == scene.before


@pytest.mark.parametrize(
    "number",
    ["0", "-1", str(2**63), "9" * 5000, "abc", "1.0", "1_0", "%201", "+1", "0x1", "%00", "%D9%A3"],
    ids=name,
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/orders/{}"), ("POST", "/orders/{}/cancel")])
def test_what_is_no_order_number_is_refused(scene, method, path, number):
    response = scene.shop.ask(method, path.format(number))
    problem = assert_problem(response, 422, "invalid")
    assert problem["errors"][0]["where"] == "path.order_id"
    assert written() == scene.before


@pytest.mark.parametrize(
    "customer",
    [
        "ada@example.com",
        "ada%40example.com",
        "%2B4477",
        "a%0A",
        "%00",
        "a%00",
        "%FF",
        "a%20b",
        "%C3%A9",
        "x" * 65,
        LONG[:5000],
    ],
    ids=name,
)
@pytest.mark.parametrize(
    ("method", "path"), [address for address in ADDRESSES if "{customer}" in address[1]]
)
def test_what_is_no_customer_id_is_refused(scene, method, path, customer):
    body = {"amount": "1", "reference": "x"} if "deposits" in path else {}
    response = scene.shop.ask(method, path.format(customer=customer), body)
    problem = assert_problem(response, 422, "invalid")
    assert problem["errors"][0]["where"] == "path.external_id"
    assert written() == scene.before


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/offers?after=0", "query.after"),
        ("/offers?after=-1", "query.after"),
        ("/offers?after=abc", "query.after"),
        (f"/offers?after={2**63}", "query.after"),
        ("/offers?limit=0", "query.limit"),
        ("/offers?limit=201", "query.limit"),
        ("/offers?limit=1.0", "query.limit"),
        ("/offers?limit=", "query.limit"),
        ("/offers?service=%00", "query.service"),
        ("/offers?service=%FF", "query.service"),
        ("/offers?service=", "query.service"),
        ("/offers?service=" + "x" * 33, "query.service"),
        ("/offers?country=" + "x" * 17, "query.country"),
        ("/customers/{customer}/statement?before=0", "query.before"),
        ("/customers/{customer}/statement?before=1_0", "query.before"),
        (f"/customers/{{customer}}/statement?before={2**63}", "query.before"),
        ("/customers/{customer}/statement?limit=0", "query.limit"),
        ("/customers/{customer}/statement?limit=201", "query.limit"),
    ],
)
def test_a_bad_query_is_refused_by_name(scene, path, where):
    response = scene.shop.ask("GET", path.format(customer=scene.customer))
    problem = assert_problem(response, 422, "invalid")
    assert problem["errors"][0]["where"] == where


@pytest.mark.parametrize("number", [2**63 - 1, 999_999_999])
def test_what_is_unknown_is_not_found(scene, number):
    assert_problem(scene.shop.ask("GET", f"/orders/{number}"), 404, "unknown_order")
    assert_problem(scene.shop.ask("POST", f"/orders/{number}/cancel"), 404, "unknown_order")
    body = scene.bodies["order"]
    assert_problem(scene.send("order", body | {"offer": number}), 404, "unknown_offer")
    assert_problem(scene.send("order", body | {"customer": "nobody"}), 404, "unknown_customer")
    assert written() == scene.before


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/offers", "GET"),
        ("/customers/{customer}", "PUT, GET"),
        ("/customers/{customer}/deposits", "POST"),
        ("/customers/{customer}/wallet", "GET"),
        ("/customers/{customer}/statement", "GET"),
        ("/orders", "POST"),
        ("/orders/{order}", "GET"),
        ("/orders/{order}/cancel", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(scene, path, allowed):
    address = path.format(customer=scene.customer, order=scene.order.pk)
    methods = set(re.findall(r"\w+", allowed))
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - methods:
        response = scene.shop.ask(method, address)
        assert_problem(response, 405, "error")
        assert set(re.findall(r"\w+", response.headers["Allow"])) == methods
    assert written() == scene.before


@pytest.mark.parametrize(
    "path",
    ["/api/v1/nothing", "/api/v1/", "/api/", "/api/v2/offers", "/api/v1/offers/", "/api/v1/%00"],
)
def test_an_unknown_address_is_a_problem_too(shop, path):
    for method in ("GET", "POST"):
        response = HTTP.generic(method, path, HTTP_AUTHORIZATION=shop.authorization)
        problem = assert_problem(response, 404, "error")
        assert problem["detail"] == "There is nothing here: /api/v1/docs lists what there is."


def test_an_email_address_is_no_customer_id_and_the_answer_says_so(shop):
    response = shop.ask("PUT", "/customers/ada@example.com", {})
    problem = assert_problem(response, 422, "invalid")
    assert problem["errors"] == [
        {
            "where": "path.external_id",
            "what": "use the storefront's own id, not an address: 1 to 64 of A-Z a-z 0-9 . _ : -",
        }
    ]
    assert not Customer.objects.exists()


@pytest.mark.parametrize(
    "length", ["abc", "-1", "+5", " 5", "1_0", "0x1", "٣", "9" * 5000], ids=name
)
def test_a_length_that_is_no_number_is_refused_everywhere(scene, length):
    for what in ADDRESS:
        answer = scene.send(what, scene.bodies[what], CONTENT_LENGTH=length)
        assert_problem(answer, 400, "bad_request")
    for method, path in (("GET", "/api/v1/offers"), ("POST", "/admin/login/"), ("GET", "/healthz")):
        response = HTTP.generic(method, path, CONTENT_LENGTH=length)
        assert_problem(response, 400, "bad_request")
    assert written() == scene.before


def test_a_length_beyond_what_we_take_is_too_big(scene):
    answer = scene.send("deposit", scene.bodies["deposit"], CONTENT_LENGTH="9" * 15)
    assert_problem(answer, 413, "too_big")
    assert written() == scene.before


def test_text_that_utf_8_cannot_write_is_no_key():
    for plain in ("\ud800", "sf_\udcff", "\x00", ""):
        assert keys.authenticate(plain) is None


# --- its documentation ---


def test_the_openapi_document_is_open_to_all_and_names_every_address():
    response = HTTP.get("/api/v1/openapi.json")
    assert response.status_code == 200
    document = response.json()
    assert {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    } == {
        (
            method,
            f"/api/v1{path}".replace("{customer}", "{external_id}")
            .replace("{order}", "{order_id}")
            .replace("{ticket}", "{ticket_id}"),
        )
        for method, path in [*ADDRESSES, *OF_SUPPORT]
    }
    amount = document["components"]["schemas"]["DepositIn"]["properties"]["amount"]
    assert amount["type"] == "string"
    assert all(
        operation["security"] == [{"StorefrontKey": []}]
        for methods in document["paths"].values()
        for operation in methods.values()
    )


def test_the_openapi_document_lists_the_refusals_of_every_address():
    document = HTTP.get("/api/v1/openapi.json").json()
    problem = {"$ref": "#/components/schemas/Problem"}
    for methods in document["paths"].values():
        for operation in methods.values():
            expected = {"400", "401", "422"}
            expected |= {"413", "415"} if "requestBody" in operation else set()
            answers = operation["responses"]
            assert expected <= set(answers)
            for status in answers:
                if status >= "400":
                    assert answers[status]["content"] == {PROBLEM: {"schema": problem}}
            for parameter in operation.get("parameters", []):
                assert not {"ge", "le", "gt", "lt", "anyOf"} & set(parameter["schema"])
    assert document["paths"]["/api/v1/orders"]["post"]["responses"]["415"]["description"] == (
        "Unsupported Media Type"
    )


def test_the_document_bounds_a_whole_number_in_words_of_json_schema():
    document = HTTP.get("/api/v1/openapi.json").json()
    [_, _, after, limit] = document["paths"]["/api/v1/offers"]["get"]["parameters"]
    [order] = document["paths"]["/api/v1/orders/{order_id}"]["get"]["parameters"]

    assert (limit["schema"]["minimum"], limit["schema"]["maximum"]) == (1, 200)
    for parameter in (after, order):
        assert (parameter["schema"]["minimum"], parameter["schema"]["maximum"]) == (1, 2**63 - 1)


@pytest.mark.parametrize("keys", ["key-1,key-1", "key-1, key-2", ",", "key-1,"])
def test_two_idempotency_keys_are_refused(shop, keys):
    # As a server hands on what came as two headers.
    response = shop.order(world.customer(), world.offer(), key=keys)

    problem = assert_problem(response, 422, "invalid")
    assert "send one key" in problem["detail"]
    assert not Order.objects.exists()


def test_no_answer_of_the_api_is_kept_on_its_way(shop):
    order = world.allocated(world.place())
    record_sms({order.pk: [Arrival(Message("1234", "Code 1234"))]})
    read = shop.ask("GET", f"/orders/{order.pk}")
    assert read.json()["sms"][0]["text"] == "Code 1234"

    answers = [read, shop.ask("GET", "/orders/0"), shop.ask("PATCH", f"/orders/{order.pk}")]
    answers.append(HTTP.get(f"/api/v1/orders/{order.pk}"))
    assert [answer.status_code for answer in answers] == [200, 422, 405, 401]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}


def test_the_docs_page_is_open_to_all_and_works_offline():
    page = HTTP.get("/api/v1/docs")
    assert page.status_code == 200
    html = page.content.decode()
    assert not re.findall(r"(?:https?:)?//[\w.-]+", html)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert "/static/ninja/swagger-ui-bundle.js" in loaded
    for address in loaded:
        file = HTTP.get(address)
        assert file.status_code == 200, address
        file.close()


# --- what it costs ---


def queries(shop: Shop, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert shop.ask("GET", path).status_code == 200
    return len(captured)


def test_an_order_costs_the_same_with_many_sms(shop):
    order = world.allocated()
    path = f"/orders/{order.pk}"
    record_sms({order.pk: [Arrival(Message("1"))]})
    one = queries(shop, path)

    record_sms({order.pk: [Arrival(Message(str(n))) for n in range(50)]})

    assert len(shop.ask("GET", path).json()["sms"]) == 50
    assert queries(shop, path) == one == 3


def test_a_statement_costs_the_same_with_many_lines(shop):
    customer, offer = world.customer("100"), world.offer()
    path = f"/customers/{customer.external_id}/statement?limit=200"
    automatic.cancel(world.place(customer, offer).pk, actor=world.TESTER)
    few = queries(shop, path)

    for _ in range(30):
        automatic.cancel(world.place(customer, offer).pk, actor=world.TESTER)

    assert len(shop.ask("GET", path).json()["items"]) == 63
    assert queries(shop, path) == few == 3


def test_a_page_of_offers_costs_the_same_however_many_there_are(shop):
    world.offer()
    few = queries(shop, "/offers")
    for _ in range(60):
        world.offer()
    assert len(shop.ask("GET", "/offers").json()["items"]) == 61
    assert queries(shop, "/offers") == few == 2
