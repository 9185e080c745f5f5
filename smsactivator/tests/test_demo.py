"""The demo's data and the traffic that it gets."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO

import httpx
import pytest
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command

from orders.models import Offer, Upstream
from smsactivator.management.commands import demo_traffic, seed_demo
from wallet import keys
from wallet.models import ApiKey, Storefront


def seed(data_dir, upstream_url="http://127.0.0.1:9/"):
    output = StringIO()
    call_command(
        "seed_demo", "--data-dir", str(data_dir), "--upstream-url", upstream_url, stdout=output
    )
    return output.getvalue()


@pytest.mark.django_db
def test_the_demo_has_a_login_for_each_role(tmp_path):
    printed = seed(tmp_path)
    for username, group in seed_demo.PEOPLE.items():
        assert username in printed
        user = authenticate(username=username, password=seed_demo.PASSWORD)
        assert user.is_staff
        assert user.is_superuser is (username == "admin")
        assert [found.name for found in user.groups.all()] == ([group] if group else [])


@pytest.mark.django_db
def test_seeding_again_changes_nothing_but_the_upstreams_address(tmp_path):
    # given
    seed(tmp_path)
    key = (tmp_path / "storefront.key").read_text()
    password = authenticate(username="agent", password=seed_demo.PASSWORD).password
    # when the simulator is at another port
    seed(tmp_path, "http://127.0.0.1:10/")
    # then
    assert Upstream.objects.get().base_url == "http://127.0.0.1:10/"
    assert [row.history_type for row in Upstream.history.order_by("history_id")] == ["+", "~"]
    assert Offer.objects.count() == Offer.history.count() == len(seed_demo.OFFERS)
    assert (tmp_path / "storefront.key").read_text() == key
    assert ApiKey.objects.count() == 1
    assert authenticate(username="agent", password=seed_demo.PASSWORD).password == password


@pytest.mark.django_db
def test_the_storefronts_key_is_good_and_private(tmp_path):
    seed(tmp_path)
    kept = tmp_path / "storefront.key"
    assert kept.stat().st_mode & 0o777 == 0o600
    key = keys.authenticate(kept.read_text().strip())
    assert key.storefront == Storefront.objects.get(name="Demo shop")


@pytest.mark.django_db
def test_a_key_whose_file_is_lost_is_revoked_and_replaced(tmp_path):
    seed(tmp_path)
    kept = tmp_path / "storefront.key"
    lost = kept.read_text().strip()
    kept.unlink()

    seed(tmp_path)

    assert keys.authenticate(lost) is None
    assert keys.authenticate(kept.read_text().strip()) is not None


@pytest.mark.django_db
def test_a_revoked_key_is_replaced(tmp_path):
    seed(tmp_path)
    keys.revoke(ApiKey.objects.get().pk, revoked_by="a test")
    seed(tmp_path)
    assert keys.authenticate((tmp_path / "storefront.key").read_text().strip()) is not None


@pytest.mark.django_db
def test_demo_data_is_refused_in_production(tmp_path, settings):
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="no place in production"):
        seed(tmp_path)
    assert not Storefront.objects.exists()


class Shop:
    """The far side of the storefront API, as the traffic sees it."""

    def __init__(self) -> None:
        self.balance = Decimal(0)
        self.requests: list[tuple[str, str]] = []
        self.failing = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.requests.append((request.method, path))
        if self.failing:
            return httpx.Response(500, text="Your code is 123456")
        body = json.loads(request.content or "{}")
        if path == "/offers":
            offer = {"id": 1, "kind": "activation", "price": "2.00"}
            return httpx.Response(200, json={"items": [offer]})
        if path.endswith("/deposits"):
            self.balance += Decimal(body["amount"])
        if path == "/orders":
            assert request.headers["Idempotency-Key"]
            assert self.balance >= 2
            self.balance -= 2
        return httpx.Response(200, json={"id": 1, "balance": str(self.balance)})


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def traffic(shop, lines):
    with httpx.Client(
        base_url="http://shop.invalid/api/v1", transport=httpx.MockTransport(shop)
    ) as client:
        traffic = demo_traffic.Traffic(client, lines.append)
        traffic.customers = ["demo-001"]
        yield traffic


def order_now(traffic):
    traffic.next_order = 0.0
    traffic.step(rate=1.0)


def test_a_customer_deposits_only_when_the_wallet_is_low(traffic, shop):
    # given 12 orders of 2.00 USD, which one deposit of 25.00 pays
    for _order in range(12):
        order_now(traffic)
    assert shop.balance == Decimal("1.00")
    # when there is one more
    order_now(traffic)
    # then a second deposit paid it
    assert shop.balance == Decimal("24.00")


def test_refunds_are_spent_before_more_is_deposited(traffic, shop):
    order_now(traffic)
    shop.balance += 100  # refunds
    for _order in range(13):
        order_now(traffic)
    assert shop.balance == 125 - 14 * 2


def test_an_answer_that_is_no_success_is_logged_without_its_text(traffic, shop, lines):
    order_now(traffic)
    shop.failing = True
    order_now(traffic)
    assert "POST /orders -> 500" in lines
    assert "123456" not in "".join(lines)
    # and the traffic goes on
    shop.failing = False
    order_now(traffic)
    assert shop.requests[-1] == ("POST", "/orders")
    assert "POST /orders -> 500" not in lines[lines.index("POST /orders -> 500") + 1 :]


def test_a_shop_that_cannot_be_reached_is_tried_again(lines):
    def refuse(request):
        raise httpx.ConnectError("refused")

    with httpx.Client(
        base_url="http://shop.invalid", transport=httpx.MockTransport(refuse)
    ) as client:
        traffic = demo_traffic.Traffic(client, lines.append)
        assert traffic.step(rate=1.0) == 1.0
    assert lines == ["the shop cannot be reached: ConnectError"]
