"""Each role sees exactly its pages, and nobody changes money or orders by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from axes.models import AccessFailureLog, AccessLog
from django.apps import apps
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from orders import reading, termination
from orders.models import Offer, Order, Sms, SmsReading, Upstream
from refunds.models import Refund, RefundRequest, Sweep
from smsactivator import closing, roles
from smsactivator.tests import payouts, world
from support.models import Outbound, Wait
from support.tests import threads
from support.tests import world as tickets
from wallet import claims, corrections, holdings, results
from wallet.closes import owed_at
from wallet.models import (
    ApiKey,
    AuditRun,
    Claim,
    Correction,
    Customer,
    Deposit,
    LiabilityCheck,
    Payout,
    PayoutMethod,
    PayoutMove,
    PayoutOutcome,
    RefusedAddress,
    Reinstatement,
    RoleLimit,
    Seal,
    Storefront,
    Termination,
    Transfer,
    Wallet,
)
from wallet.tests import paying
from wallet.tests.exported import written
from wallet.tests.test_results import HEADER, said
from wallet.tests.test_resultsheets import as_csv

pytestmark = pytest.mark.django_db

SUPPORT, SENIOR, FINANCE, ADMIN = "Support agent", "Senior agent", "Finance", ""
AUDITOR = "Auditor"
EVERYONE = {SUPPORT, SENIOR, FINANCE, AUDITOR, ADMIN}
PAGES: dict[str, set[str]] = {
    "wallet_customer": EVERYONE,
    "wallet_wallet": EVERYONE,
    "wallet_transfer": EVERYONE,
    "wallet_deposit": EVERYONE,
    "orders_order": EVERYONE,
    "orders_sms": EVERYONE,
    "orders_smsreading": {SENIOR, AUDITOR, ADMIN},
    "refunds_refund": EVERYONE,
    "support_outbound": {SUPPORT, SENIOR, AUDITOR, ADMIN},
    "refunds_refundrequest": EVERYONE,
    "wallet_correction": EVERYONE,
    "wallet_claim": EVERYONE,
    "wallet_termination": EVERYONE,
    "wallet_reinstatement": EVERYONE,
    "wallet_payoutbatch": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_resultfile": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_rolelimit": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_export": {FINANCE, AUDITOR, ADMIN},
    "wallet_payout": EVERYONE,
    "wallet_payoutmethod": EVERYONE,
    "wallet_refusedaddress": EVERYONE,
    "wallet_seal": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_auditrun": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_close": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_holding": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_liabilitycheck": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "support_wait": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_storefront": {AUDITOR, ADMIN},
    "wallet_apikey": {AUDITOR, ADMIN},
    "orders_offer": {AUDITOR, ADMIN},
    "orders_upstream": {AUDITOR, ADMIN},
    "refunds_sweep": {AUDITOR, ADMIN},
    "auth_user": {AUDITOR, ADMIN},
    "auth_group": {AUDITOR, ADMIN},
    "axes_accesslog": {AUDITOR, ADMIN},
    "axes_accessfailurelog": {AUDITOR, ADMIN},
}
# Shown on a page of these alone.
PARTS = {
    *("wallet_payoutmove", "wallet_payoutoutcome", "wallet_batchline", "wallet_payoutfile"),
    *("wallet_filedownload", "wallet_resultline"),
    *("wallet_exportpart", "wallet_exportdownload", "wallet_closefigure"),
    *("wallet_sealedrows", "wallet_claimfile", "wallet_claimfilereading"),
    # Told to the customer, on a thread of their own.
    "wallet_accountoutcome",
}
BY_HAND = ("add_", "change_", "delete_")
READ_ONLY = sorted(
    set(PAGES)
    - {"wallet_storefront", "wallet_apikey", "orders_offer", "orders_upstream"}
    - {"auth_user", "auth_group", "wallet_rolelimit", "wallet_export", "wallet_payoutmethod"}
    # Entered by finance, and changed by nobody: test_finance_pages.py.
    - {"wallet_holding", "wallet_liabilitycheck"}
    # Kept by finance: test_refused_address_pages.py.
    - {"wallet_refusedaddress"}
)
ROLES = [SUPPORT, SENIOR, FINANCE, AUDITOR, ADMIN]


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
    reading.read(world.person(name="reader"), delivered.pk, reason="The code is disputed")
    refund = world.refund(world.await_sms(world.place(buyer)))
    now = timezone.now()
    return {
        "wallet_customer": buyer.pk,
        "wallet_wallet": buyer.pk,
        "wallet_transfer": refund.transfer_id,
        "wallet_deposit": Deposit.objects.earliest("pk").pk,
        "orders_order": delivered.pk,
        "orders_sms": Sms.objects.get().pk,
        "orders_smsreading": SmsReading.objects.get().pk,
        "refunds_refund": refund.pk,
        "support_outbound": threads.delivery().pk,
        "refunds_refundrequest": world.requested(delivered).pk,
        **decisions(buyer),
        **batched(),
        "wallet_rolelimit": RoleLimit.objects.earliest("pk").pk,
        "wallet_export": written(world.person(FINANCE, name="exporter"), "transfers").pk,
        "wallet_payout": payouts.asked(world.person(SUPPORT, name="pia")).pk,
        "wallet_payoutmethod": PayoutMethod.objects.earliest("pk").pk,
        "wallet_refusedaddress": RefusedAddress.objects.earliest("pk").pk,
        "wallet_seal": Seal.objects.create(
            day=date(2025, 1, 1), transfers=0, digest="0" * 64, sealed_at=now
        ).pk,
        **closed(),
        "wallet_auditrun": AuditRun.objects.create(
            started_at=now, finished_at=now, passed=True, checks=world.figures(escrow="0.0000")
        ).pk,
        "support_wait": waiting(buyer).pk,
        "wallet_storefront": world.storefront().pk,
        "wallet_apikey": ApiKey.objects.create(
            storefront=world.storefront(), name="bot", prefix="sf_1234567", digest="d"
        ).pk,
        "orders_offer": world.offer().pk,
        "orders_upstream": world.upstream().pk,
        "refunds_sweep": Sweep.objects.create(name="no_sms", finished_at=now, refunded=1).pk,
        "auth_user": world.person(name="someone").pk,
        "auth_group": Group.objects.get(name=SUPPORT).pk,
        "axes_accesslog": AccessLog.objects.create(username="ann", attempt_time=now).pk,
        "axes_accessfailurelog": AccessFailureLog.objects.create(username="ann").pk,
    }


def batched() -> dict[str, Any]:
    """A batch that was exported, a file of it, and a result file."""
    people = paying.crew()
    payout = paying.taken_to("exported", people, world.customer())
    batch = payout.lines.get().batch
    sent = as_csv(HEADER, said(payout)[:6])
    file = results.upload(people.finance, name="r.csv", content=sent, key=uuid4())
    return {
        "wallet_payoutbatch": batch.pk,
        "wallet_payoutbatch_file": batch.files.get(format="csv").pk,
        "wallet_resultfile": file.pk,
    }


def decisions(buyer: Customer) -> dict[str, Any]:
    """A correction, a claim, a termination and a reinstatement, each in its first state."""
    senior, other = (world.person(SENIOR, name=name) for name in ("sonia", "sam"))
    gone = world.customer()
    ended = termination.request(senior, gone.pk, reason="Resold numbers", key=uuid4())
    termination.confirm(other, ended.pk)
    correction = corrections.request_goodwill(
        senior, buyer.pk, amount=Decimal(1), reason="Waited", key=uuid4()
    )
    deposit = Deposit.objects.get(transfer__wallet=buyer.pk)
    return {
        "wallet_correction": correction.pk,
        "wallet_claim": claims.record(senior, deposit.pk, reference="cb", evidence="Filed").pk,
        "wallet_termination": ended.pk,
        "wallet_reinstatement": termination.request_reinstatement(
            senior, ended.pk, give_back=True, reason="Mix-up", key=uuid4()
        ).pk,
    }


def closed() -> dict[str, Any]:
    """A close of the day that is sealed, and a check of what is held."""
    finance, now = world.person(FINANCE, name="fred"), timezone.now()
    close = closing.close_days(finance, Seal.objects.get().day)[0]
    held = holdings.record(
        finance, name="Cold", amount=Decimal(9), as_of=now, source="Statement", key=uuid4()
    )
    owed = owed_at(now)
    check = LiabilityCheck.objects.create(
        at=now,
        wallets=owed.wallets,
        escrow=owed.escrow,
        payouts=owed.payouts,
        held=held.amount,
        holdings=[held.pk],
        oldest=held.as_of,
        checked_by=finance,
        checked_at=now,
    )
    return {
        "wallet_close": close.pk,
        "wallet_holding": held.pk,
        "wallet_liabilitycheck": check.pk,
    }


def waiting(buyer: Customer) -> Wait:
    return tickets.ask(buyer).waits.get()


def admin_path(page: str, action: str, *args: Any) -> str:
    return reverse(f"admin:{page}_{action}", args=args)


def state_of_the_books() -> list[Any]:
    models = (
        *(Customer, Wallet, Transfer, Deposit, Order, Sms, SmsReading, Refund, AuditRun, Sweep),
        *(Correction, Claim, Termination, Reinstatement, Seal, Outbound, RefundRequest),
        *(Payout, PayoutMethod, PayoutMove, PayoutOutcome),
    )
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


@pytest.mark.parametrize("role", [SUPPORT, SENIOR, FINANCE, AUDITOR])
@pytest.mark.parametrize(
    "page",
    [
        *("wallet_storefront", "wallet_apikey", "wallet_payoutmethod"),
        *("orders_offer", "orders_upstream", "auth_user"),
    ],
)
def test_only_administrators_set_up_the_shop(role: str, page: str, shop: dict[str, Any]) -> None:
    client = signed_in(role)

    for action, args in (("add", []), ("change", [shop[page]]), ("delete", [shop[page]])):
        assert client.post(admin_path(page, action, *args), {"name": "x"}).status_code == 403
    assert client.post(f"/admin/wallet/apikey/{shop['wallet_apikey']}/revoke/").status_code == 403
    assert ApiKey.objects.get().revoked_at is None


def test_the_catalogue_is_never_deleted_from(shop: dict[str, Any]) -> None:
    client = signed_in(ADMIN)

    for page in (
        *("orders_offer", "orders_upstream"),
        *("wallet_storefront", "wallet_apikey", "wallet_payoutmethod"),
    ):
        assert client.post(admin_path(page, "delete", shop[page])).status_code == 403
    assert (Offer.objects.count(), Upstream.objects.count(), Storefront.objects.count()) == (
        1,
        1,
        1,
    )


def test_the_groups_hold_exactly_the_roles_permissions() -> None:
    for role, names in roles.permissions().items():
        held = {
            f"{permission.content_type.app_label}.{permission.codename}"
            for permission in Group.objects.get(name=role).permissions.select_related(
                "content_type"
            )
        }
        assert held == set(names)
        # Nobody in a role adds, changes or deletes a row by hand: these go through verbs.
        by_hand = {name for name in held if name.split(".")[1].startswith(BY_HAND)}
        assert by_hand <= {"support.change_macro"}


def test_sync_mends_a_group_and_may_run_again() -> None:
    group = Group.objects.get(name=FINANCE)
    group.permissions.clear()

    roles.sync()
    roles.sync()

    assert group.permissions.count() == len(roles.ROLES[FINANCE])
    assert Group.objects.count() == 4


def test_roles_are_removed_and_made_again() -> None:
    roles.remove()
    assert Group.objects.count() == 0
    roles.sync()
    assert Group.objects.count() == 4


def test_every_model_of_ours_has_a_page() -> None:
    ours = {
        f"{model._meta.app_label}_{model._meta.model_name}"
        for label in ("wallet", "orders", "refunds")
        for model in apps.get_app_config(label).get_models()
        if not model._meta.model_name.startswith("historical")
    }
    assert ours - PARTS <= set(PAGES)


# --- the auditor ---


def test_an_auditor_views_every_model_and_may_nothing_else() -> None:
    held = world.person(AUDITOR).get_all_permissions()

    for label in ("wallet", "orders", "refunds", "support"):
        for model in apps.get_app_config(label).get_models():
            assert f"{label}.view_{model._meta.model_name}" in held
    # The text of SMS is not a model's.
    assert all(name.split(".")[1].startswith("view_") for name in held)
    assert "orders.view_sms_text" not in held
    assert not RoleLimit.objects.filter(role__name=AUDITOR).exists()


def test_an_auditor_reads_the_histories_and_the_books(shop: dict[str, Any]) -> None:
    client = signed_in(AUDITOR)

    for page in (
        *("wallet_customer", "wallet_wallet", "wallet_correction", "wallet_claim"),
        *("wallet_termination", "wallet_reinstatement", "orders_order", "refunds_refundrequest"),
        "wallet_export",
        *("wallet_payout", "wallet_payoutmethod"),
    ):
        shown = client.get(admin_path(page, "change", shop[page]))
        assert shown.context["timeline"] or page == "wallet_wallet", page
    front = client.get(reverse("admin:index")).content.decode()
    assert 'id="audit"' in front


def test_an_auditor_is_offered_no_action_and_every_post_is_refused(shop: dict[str, Any]) -> None:
    client = signed_in(AUDITOR)
    before = state_of_the_books()
    setup = {"username": "x", "name": "x", "title": "x", "active": "", "each": "1", "daily": "1"}

    for page in PAGES:
        key = str(shop[page]).replace("_", "_5F")
        shown = client.get(admin_path(page, "change", key))
        assert not shown.context.get("actions"), page
        assert "/do/" not in shown.content.decode(), page
        assert 'name="_save"' not in shown.content.decode(), page
        for path in (
            admin_path(page, "changelist"),
            admin_path(page, "add"),
            admin_path(page, "change", key),
            admin_path(page, "delete", key),
        ):
            assert client.post(path, setup).status_code == 403, path
        assert client.get(admin_path(page, "add")).status_code == 403, page
    for name in ("password", "revoke"):
        path = {
            "password": f"/admin/auth/user/{shop['auth_user']}/password/",
            "revoke": f"/admin/wallet/apikey/{shop['wallet_apikey']}/revoke/",
        }[name]
        assert client.post(path, setup).status_code == 403, path
    assert state_of_the_books() == before
    assert ApiKey.objects.get().revoked_at is None
