"""Each role sees exactly its pages, and nobody changes money or orders by hand."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from orders.models import Offer, Order, Sms, Upstream
from refunds.models import Refund, Sweep
from smsactivator import roles
from smsactivator.tests import world
from wallet.models import ApiKey, AuditRun, Customer, Deposit, Storefront, Transfer, Wallet

pytestmark = pytest.mark.django_db

SUPPORT, SENIOR, FINANCE, ADMIN = "Support agent", "Senior agent", "Finance", ""
EVERYONE = {SUPPORT, SENIOR, FINANCE, ADMIN}
PAGES: dict[str, set[str]] = {
    "wallet_customer": EVERYONE,
    "wallet_wallet": EVERYONE,
    "wallet_transfer": EVERYONE,
    "wallet_deposit": EVERYONE,
    "orders_order": EVERYONE,
    "orders_sms": EVERYONE,
    "refunds_refund": EVERYONE,
    "wallet_auditrun": {SENIOR, FINANCE, ADMIN},
    "wallet_storefront": {ADMIN},
    "wallet_apikey": {ADMIN},
    "orders_offer": {ADMIN},
    "orders_upstream": {ADMIN},
    "refunds_sweep": {ADMIN},
    "auth_user": {ADMIN},
    "auth_group": {ADMIN},
}
READ_ONLY = sorted(
    set(PAGES)
    - {"wallet_storefront", "wallet_apikey", "orders_offer", "orders_upstream"}
    - {"auth_user", "auth_group"}
)
ROLES = [SUPPORT, SENIOR, FINANCE, ADMIN]


def signed_in(role: str) -> Client:
    client = Client()
    client.force_login(world.person(role))
    return client


@pytest.fixture
def shop() -> dict[str, Any]:
    """A row of everything that has a page, by the page's name."""
    buyer = world.customer()
    delivered = world.place(buyer)
    world.deliver(world.await_sms(delivered))
    refund = world.refund(world.await_sms(world.place(buyer)))
    now = timezone.now()
    return {
        "wallet_customer": buyer.pk,
        "wallet_wallet": buyer.pk,
        "wallet_transfer": refund.transfer_id,
        "wallet_deposit": Deposit.objects.get().pk,
        "orders_order": delivered.pk,
        "orders_sms": Sms.objects.get().pk,
        "refunds_refund": refund.pk,
        "wallet_auditrun": AuditRun.objects.create(
            started_at=now, finished_at=now, passed=True, checks=world.figures(escrow="0.0000")
        ).pk,
        "wallet_storefront": world.storefront().pk,
        "wallet_apikey": ApiKey.objects.create(
            storefront=world.storefront(), name="bot", prefix="sf_1234567", digest="d"
        ).pk,
        "orders_offer": world.offer().pk,
        "orders_upstream": world.upstream().pk,
        "refunds_sweep": Sweep.objects.create(name="no_sms", finished_at=now, refunded=1).pk,
        "auth_user": world.person(name="someone").pk,
        "auth_group": Group.objects.get(name=SUPPORT).pk,
    }


def admin_path(page: str, action: str, *args: Any) -> str:
    return reverse(f"admin:{page}_{action}", args=args)


def state_of_the_books() -> list[Any]:
    models = (Customer, Wallet, Transfer, Deposit, Order, Sms, Refund, AuditRun, Sweep)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_exactly_its_pages(role: str, shop: dict[str, Any]) -> None:
    client = signed_in(role)

    for page, seen_by in PAGES.items():
        expected = 200 if role in seen_by else 403
        assert client.get(admin_path(page, "changelist")).status_code == expected, page
        one = client.get(admin_path(page, "change", str(shop[page]).replace("_", "_5F")))
        assert one.status_code == expected, page


@pytest.mark.parametrize("role", ROLES)
def test_the_sidebar_leads_to_the_role_s_pages_only(role: str, shop: dict[str, Any]) -> None:
    front = signed_in(role).get(reverse("admin:index"))
    sidebar = front.content.decode().split('id="nav-sidebar-apps"')[1].split("content-main")[0]

    assert front.status_code == 200
    for page, seen_by in PAGES.items():
        linked = f'href="{admin_path(page, "changelist")}"' in sidebar
        assert linked == (role in seen_by), page


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_stranger_and_a_user_without_role_see_nothing(page: str, shop: dict[str, Any]) -> None:
    no_role = world.person(name="newcomer")
    no_role.is_superuser = False
    no_role.save()
    newcomer = Client()
    newcomer.force_login(no_role)

    assert Client().get(admin_path(page, "changelist")).status_code == 302
    assert newcomer.get(admin_path(page, "changelist")).status_code == 403
    assert newcomer.get(reverse("admin:index")).status_code == 200


@pytest.mark.parametrize("role", ROLES)
def test_no_post_changes_money_orders_or_customers(role: str, shop: dict[str, Any]) -> None:
    client = signed_in(role)
    before = state_of_the_books()
    fields = {"state": "expired", "amount": "1", "balance": "999", "action": "delete_selected"}

    for page in READ_ONLY:
        key = str(shop[page]).replace("_", "_5F")
        for path in (
            admin_path(page, "changelist"),
            admin_path(page, "add"),
            admin_path(page, "change", key),
            admin_path(page, "delete", key),
        ):
            assert client.post(path, fields).status_code == 403, path
        assert client.get(admin_path(page, "add")).status_code == 403
        assert client.get(admin_path(page, "delete", key)).status_code == 403
    assert state_of_the_books() == before


@pytest.mark.parametrize("role", [SUPPORT, SENIOR, FINANCE])
@pytest.mark.parametrize(
    "page", ["wallet_storefront", "wallet_apikey", "orders_offer", "orders_upstream", "auth_user"]
)
def test_only_administrators_set_up_the_shop(role: str, page: str, shop: dict[str, Any]) -> None:
    client = signed_in(role)

    for action, args in (("add", []), ("change", [shop[page]]), ("delete", [shop[page]])):
        assert client.post(admin_path(page, action, *args), {"name": "x"}).status_code == 403
    assert client.post(f"/admin/wallet/apikey/{shop['wallet_apikey']}/revoke/").status_code == 403
    assert ApiKey.objects.get().revoked_at is None


def test_the_catalogue_is_never_deleted_from(shop: dict[str, Any]) -> None:
    client = signed_in(ADMIN)

    for page in ("orders_offer", "orders_upstream", "wallet_storefront", "wallet_apikey"):
        assert client.post(admin_path(page, "delete", shop[page])).status_code == 403
    assert (Offer.objects.count(), Upstream.objects.count(), Storefront.objects.count()) == (
        1,
        1,
        1,
    )


def test_the_groups_hold_exactly_the_roles_permissions() -> None:
    for role, names in roles.ROLES.items():
        held = {
            f"{permission.content_type.app_label}.{permission.codename}"
            for permission in Group.objects.get(name=role).permissions.select_related(
                "content_type"
            )
        }
        assert held == set(names)
        assert all(name.split(".")[1].startswith("view_") for name in held)


def test_sync_mends_a_group_and_may_run_again() -> None:
    group = Group.objects.get(name=FINANCE)
    group.permissions.clear()

    roles.sync()
    roles.sync()

    assert group.permissions.count() == len(roles.ROLES[FINANCE])
    assert Group.objects.count() == 3


def test_roles_are_removed_and_made_again() -> None:
    roles.remove()
    assert Group.objects.count() == 0
    roles.sync()
    assert Group.objects.count() == 3


def test_every_model_of_ours_has_a_page() -> None:
    ours = {
        f"{model._meta.app_label}_{model._meta.model_name}"
        for label in ("wallet", "orders", "refunds")
        for model in apps.get_app_config(label).get_models()
        if not model._meta.model_name.startswith("historical")
    }
    assert ours <= set(PAGES)
