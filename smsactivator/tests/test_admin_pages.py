"""What the pages show, how they find it, and what they cost."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from orders import privacy, search
from orders import queries as order_queries
from orders.models import Offer, State
from refunds import decisions, disputes, policy
from refunds.models import Refund
from refunds.policy import Clause
from smsactivator.auditing import audit_ledger
from smsactivator.common import admin as common_admin
from smsactivator.common.display import duration
from smsactivator.tests import payouts, world
from wallet import keys, ledger
from wallet.models import Account, ApiKey, AuditRun, Transfer

pytestmark = pytest.mark.django_db

LISTS = [
    "wallet_customer",
    "wallet_wallet",
    "wallet_transfer",
    "wallet_deposit",
    "orders_order",
    "orders_sms",
    "refunds_refund",
    "refunds_refundrequest",
    "wallet_payout",
]


def signed_in(role: str = "", name: str = "") -> Client:
    client = Client()
    client.force_login(world.person(role, name=name))
    return client


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


def listed(client: Client, page: str, **query: str) -> set[int]:
    response = client.get(reverse(f"admin:{page}_changelist"), query)
    assert response.status_code == 200, response.headers
    return {row.pk for row in response.context["cl"].result_list}


def busy_shop(count: int) -> None:
    agent = world.person("Support agent", name=f"agent of {count}")
    for number in range(count):
        buyer = world.customer()
        delivered = world.await_sms(world.place(buyer))
        world.deliver(delivered, text=f"Your code is 4829{number}")
        world.requested(delivered)
        world.refund(world.await_sms(world.place(buyer)))
        payouts.asked(agent, "20", buyer)


# --- cost ---------------------------------------------------------------------------------------


def test_a_list_takes_as_many_queries_for_fifty_rows_as_for_five() -> None:
    client = signed_in()
    busy_shop(5)
    few = {}
    for page in LISTS:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            client.get(reverse(f"admin:{page}_changelist"))
        few[page] = len(captured)

    busy_shop(50)

    for page in LISTS:
        with CaptureQueriesContext(connection) as captured:
            client.get(reverse(f"admin:{page}_changelist"), {"_facets": "1"})
        assert len(captured) == few[page], page
        # Six of them count what waits in the queues of the navigation.
        assert len(captured) <= 6 + 9, page


def test_a_statement_and_the_front_page_take_constant_queries() -> None:
    client = signed_in()
    buyer = world.customer()
    urls = [reverse("admin:wallet_wallet_change", args=[buyer.pk]), reverse("admin:index")]
    counts: list[list[int]] = []
    for orders in (2, 20):
        for _ in range(orders):
            world.refund(world.await_sms(world.place(buyer)))
        counts.append([])
        for url in urls:
            with CaptureQueriesContext(connection) as captured:
                client.get(url)
            counts[-1].append(len(captured))

    assert counts[0] == counts[1]


def test_a_list_counts_and_reaches_a_limited_number_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(common_admin, "LISTED", 3)
    client = signed_in()
    busy_shop(2)

    response = client.get(reverse("admin:orders_order_changelist"))

    assert response.context["cl"].result_count == 3
    assert "The list ends here, after the newest 3" in response.content.decode()
    assert client.get(reverse("admin:orders_order_changelist"), {"o": "5.-4"}).status_code == 200


# --- finding ------------------------------------------------------------------------------------


def test_orders_are_found_by_number_phone_and_customer() -> None:
    client = signed_in("Support agent")
    ann = world.customer("tg-ann", email="ann@example.com")
    bob = world.customer("tg-bob")
    first = world.await_sms(world.place(ann), phone="+447700900001")
    second = world.await_sms(world.place(ann), phone="+447700900002")
    other = world.await_sms(world.place(bob), phone="+33612345678")

    for term, found in {
        str(first.pk): {first.pk},
        f"#{other.pk}": {other.pk},
        "+447700900001": {first.pk},
        "447700900001": {first.pk},
        "+44 7700 900002": {second.pk},
        "447700": {first.pk, second.pk},
        "+336123": {other.pk},
        "tg-ann": {first.pk, second.pk},
        "ann@example.com": {first.pk, second.pk},
        "tg-an": set(),
        "7700900001": set(),
        "999999999999999999999999": set(),
        "9" * 5000: set(),
        "%": set(),
    }.items():
        assert listed(client, "orders_order", q=term) == found, term


def test_a_customer_whose_id_is_a_number_is_found_beside_the_order_of_that_number() -> None:
    client = signed_in("Support agent")
    order = world.place(world.customer())
    namesake = world.customer(str(order.pk))
    theirs = world.place(namesake)

    assert listed(client, "orders_order", q=str(order.pk)) == {order.pk, theirs.pk}


def test_refunds_deposits_transfers_and_wallets_are_found() -> None:
    client = signed_in("Finance")
    ann = world.customer("tg-ann", email="ann@example.com")
    refund = world.refund(world.await_sms(world.place(ann), phone="+447700900001"))
    bob = world.customer("tg-bob")
    deposit = bob.storefront.deposits.get(transfer__wallet=bob.pk)

    assert listed(client, "refunds_refund", q="ann@example.com") == {refund.pk}
    assert listed(client, "refunds_refund", q="+447700900001") == {refund.pk}
    assert listed(client, "refunds_refund", q="tg-bob") == set()
    assert listed(client, "wallet_deposit", q=deposit.reference) == {deposit.pk}
    assert listed(client, "wallet_deposit", q="tg-bob") == {deposit.pk}
    assert listed(client, "wallet_transfer", q="tg-bob") == {deposit.transfer_id}
    assert listed(client, "wallet_transfer", q=f"refund:auto:{refund.order_id}") == {
        refund.transfer_id
    }
    assert listed(client, "wallet_wallet", q="tg-ann") == {ann.pk}
    assert listed(client, "wallet_customer", q=str(bob.pk)) == {bob.pk}
    assert listed(client, "refunds_refund", customer=str(ann.pk)) == {refund.pk}
    assert listed(client, "wallet_deposit", transfer__wallet=str(bob.pk)) == {deposit.pk}


def test_orders_are_filtered_by_state_upstream_kind_and_time() -> None:
    client = signed_in("Support agent")
    buyer = world.customer()
    old = world.place(buyer, at=datetime(2026, 5, 7, 12, 0, tzinfo=UTC))
    new = world.await_sms(
        world.place(buyer, of=world.offer(at="Grizzly"), at=datetime(2026, 5, 8, tzinfo=UTC))
    )

    assert listed(client, "orders_order", state__exact=State.PLACED) == {old.pk}
    assert listed(client, "orders_order", upstream__id__exact=str(new.upstream_id)) == {new.pk}
    assert listed(client, "orders_order", kind__exact=Offer.Kind.RENTAL) == set()
    assert listed(client, "orders_order", placed_at_to_0="2026-05-07") == {old.pk}
    assert listed(client, "orders_order", placed_at_from_0="2026-05-08") == {new.pk}
    both = {"placed_at_from_0": "2026-05-07", "placed_at_from_1": "12:00:00"}
    assert listed(client, "orders_order", **both) == {old.pk, new.pk}
    assert listed(client, "orders_order", **both, placed_at_to_0="2026-05-07") == {old.pk}
    late = {"placed_at_from_0": "2026-05-07", "placed_at_from_1": "12:00:01"}
    assert listed(client, "orders_order", **late) == {new.pk}
    for odd in ("2026-02-31", "9999-12-31", "yesterday"):
        assert listed(client, "orders_order", placed_at_to_0=odd) == {old.pk, new.pk}


def test_refunds_are_filtered_by_clause_upstream_and_day() -> None:
    client = signed_in("Finance")
    buyer = world.customer()
    expired = world.refund(world.await_sms(world.place(buyer)))
    failed = world.refund(
        world.place(buyer, of=world.offer(at="Grizzly")), Clause.ALLOCATION_FAILED
    )
    today = f"{expired.created_at:%Y-%m-%d}"

    assert listed(client, "refunds_refund", clause__exact=Clause.NO_SMS_IN_TIME) == {expired.pk}
    upstream = str(failed.order.upstream_id)
    assert listed(client, "refunds_refund", order__upstream__id__exact=upstream) == {failed.pk}
    assert listed(client, "refunds_refund", created_at_from_0=today) == {expired.pk, failed.pk}
    assert listed(client, "refunds_refund", created_at_to_0="2026-01-01") == set()


def test_transfers_are_filtered_by_kind() -> None:
    client = signed_in("Finance")
    ann = world.customer("tg-ann")
    order = world.await_sms(world.place(ann))
    refund = world.refund(order)
    kinds = {"purchase": order.purchase_id, "auto_refund": refund.transfer_id}

    for kind, pk in kinds.items():
        assert listed(client, "wallet_transfer", kind__exact=kind) == {pk}
    assert listed(client, "wallet_transfer", kind__exact="goodwill") == set()


@pytest.mark.parametrize("kind", ["decided_refund", "goodwill", "payout", "reversal"])
def test_a_rare_kind_of_transfer_is_a_range_of_the_index(kind: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = Transfer.objects.filter(kind=kind).order_by("-id")[:50].explain()
    assert "transfer_rare_newest" in plan


def test_phone_search_is_a_range_of_the_index() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = search._phoned("447700").explain()
    assert "order_phone" in plan


# --- what a list does not tell --------------------------------------------------------------------


def asked(client: Client, page: str, query: str) -> int:
    return client.get(f"{reverse(f'admin:{page}_changelist')}?{query}").status_code


@pytest.mark.parametrize(
    "query",
    [
        "code__startswith=4",
        "code=482915",
        "order_id=1&code__regex=^4",
        "text__contains=4829",
        "digest__startswith=a",
        "sender__icontains=t",
        "order__id__exact=1",
        "order__customer__email__startswith=a",
        "order__messages__code__startswith=4",
        "pk__in=1,2",
        "late__exact__startswith=1",
        "_to_field=code",
        "_to_field=digest",
        "unknown=1",
    ],
)
def test_no_address_asks_what_an_sms_holds(query: str) -> None:
    world.deliver(world.await_sms(world.place(world.customer())))
    for role in ("Support agent", "Finance"):
        assert asked(signed_in(role), "orders_sms", query) == 400


def test_an_sms_is_not_found_by_its_text_and_lists_keep_their_order() -> None:
    client = signed_in("Support agent")
    first, second = (
        world.deliver(
            world.await_sms(world.place(world.customer())), text=f"{code} is it", code=code
        )
        for code in ("900001", "100002")
    )

    for term in ("900001", "900001 is it", first.digest):
        assert listed(client, "orders_sms", q=term) == set()
    for order in ("0", "1", "4", "5", "-5", "6", "4.5", "x"):
        response = client.get("/admin/orders/sms/", {"o": order})
        assert list(response.context["cl"].result_list) == [second, first], order


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("wallet_customer", "email__icontains=a"),
        ("wallet_customer", "wallet__balance__gt=1"),
        ("wallet_wallet", "balance__gt=1"),
        ("wallet_wallet", "customer__email__icontains=a"),
        ("wallet_transfer", "key__contains=1"),
        ("wallet_deposit", "reference__icontains=a"),
        ("wallet_deposit", "transfer__amount__gt=1"),
        ("wallet_storefront", "keys__digest__startswith=a"),
        ("wallet_apikey", "digest__startswith=a"),
        ("wallet_apikey", "prefix__startswith=sf_1"),
        ("wallet_auditrun", "checks__icontains=a"),
        ("orders_order", "phone__contains=7"),
        ("orders_order", "messages__code__startswith=4"),
        ("orders_offer", "price__gt=1"),
        ("orders_upstream", "base_url__contains=a"),
        ("refunds_refund", "order__messages__code__startswith=4"),
        ("refunds_sweep", "name__startswith=n"),
        ("support_outbound", "sent_to__startswith=a"),
        ("support_outbound", "message__body__contains=a"),
        ("auth_user", "password__startswith=a"),
        ("auth_user", "email__startswith=a"),
        ("auth_group", "name__startswith=a"),
    ],
)
def test_no_list_takes_a_lookup_that_nobody_named(page: str, query: str) -> None:
    assert asked(signed_in(), page, query) == 400


def test_every_list_that_a_page_links_to_opens() -> None:
    client = signed_in("Finance")
    buyer = world.customer()
    theirs = world.place(buyer)
    world.place(world.customer())
    world.refund(world.await_sms(world.place(buyer)))
    pages = [f"/admin/wallet/customer/{buyer.pk}/change/", "/admin/"]

    linked = {
        unescape(url)
        for page in pages
        for url in re.findall(r'href="(/admin/[^"]+[?][^"]+)"', text_of(client, page))
    }

    for url in linked:
        assert client.get(url).status_code == 200, url
    assert f"/admin/orders/order/?customer__id__exact={buyer.pk}" in linked
    assert "/admin/orders/order/?overdue=yes" in linked
    # And the refunds by clause, what waits, the payouts that do, and the customer's deposits,
    # refunds, corrections, tickets and payouts.
    assert len(linked) == 2 + 7 + 7 + 4 + 5
    assert theirs.pk in listed(client, "orders_order", customer__id__exact=str(buyer.pk))
    assert len(listed(client, "orders_order", customer__id__exact=str(buyer.pk))) == 2


# Filters of two values are links; the form carries only what was chosen.
LINKED = {"late__exact", "active__exact", "against_verdict__exact"}


def test_every_field_of_a_filter_may_be_sent() -> None:
    client = signed_in()
    world.storefront("Other")
    world.offer(at="Grizzly")
    world.deliver(world.await_sms(world.place(world.customer())))
    for page in [*LISTS, "wallet_auditrun", "wallet_apikey", "orders_offer"]:
        url = reverse(f"admin:{page}_changelist")
        form = text_of(client, url).partition('id="filter-form"')[2].partition("</form>")[0]
        fields = set(re.findall(r'name="([^"]+)"', form))
        links = re.findall(r'href="[?]((?:late|active|against_verdict)__exact=\d)"', form)
        assert fields or links, page
        for query in [
            *(f"{field}=" for field in fields - LINKED),
            *links,
        ]:
            assert client.get(f"{url}?{query}").status_code == 200, (page, query)


def test_the_filters_of_users_work() -> None:
    client = signed_in()
    for query in ("is_active__exact=1", "is_superuser__exact=0", "groups__id__exact=1"):
        assert asked(client, "auth_user", query) == 200
    # No choice of the list's: everybody who works here has a role, or is an administrator.
    assert asked(client, "auth_user", "groups__isnull=True") == 400


def test_a_nul_in_an_address_is_refused() -> None:
    client = signed_in()
    for page, query in {
        "orders_order": "state__exact=%00",
        "refunds_refund": "clause__exact=a%00",
        "wallet_customer": "status__exact=%00",
        "orders_sms": "q=%00",
        "wallet_wallet": "%00=1",
        "auth_user": "q=a%00",
    }.items():
        assert asked(client, page, query) == 400, page
    for path in ("refunds/sweep/%00", "orders/order/%00", "wallet/apikey/%00", "auth/user/%00"):
        answer = client.get(f"/admin/{path}/change/", follow=True)
        assert answer.status_code in {200, 404}, path
        assert answer.redirect_chain in ([], [("/admin/", 302)])


def test_a_history_page_tells_nothing_of_an_sms() -> None:
    sms = world.deliver(world.await_sms(world.place(world.customer())))
    page = text_of(signed_in("Support agent"), f"/admin/orders/sms/{sms.pk}/history/")
    assert "482915" not in page
    assert sms.digest not in page


def completed(client: Client, app: str, model: str, field: str, term: str) -> int:
    query = {"app_label": app, "model_name": model, "field_name": field, "term": term}
    return client.get("/admin/autocomplete/", query).status_code


def test_only_roles_are_completed_while_somebody_types() -> None:
    client = signed_in()
    support = signed_in("Support agent")

    assert completed(client, "auth", "user", "groups", "Sup") == 200
    assert completed(client, "auth", "user", "groups", "\x00") == 400
    assert completed(support, "auth", "user", "groups", "Sup") == 403
    for model, field in (("order", "messages"), ("sms", "order"), ("order", "customer")):
        assert completed(support, "orders", model, field, "1") == 404


# --- the statement ------------------------------------------------------------------------------


@pytest.mark.broken_books
def test_a_statement_pages_by_version_with_exact_running_balances() -> None:
    client = signed_in("Support agent")
    buyer = world.customer(funds="0")
    with transaction.atomic():
        ledger.post(
            [
                ledger.Posting(
                    Transfer.Kind.DEPOSIT,
                    Account.CRYPTO_DEPOSITS,
                    buyer.pk,
                    Decimal("1.0001"),
                    f"d{number}",
                )
                for number in range(120)
            ]
        )
    url = reverse("admin:wallet_wallet_change", args=[buyer.pk])

    newest = client.get(url).context
    middle = client.get(url, {"upto": newest["statement"].older}).context
    oldest = client.get(url, {"upto": middle["statement"].older}).context

    assert [line["version"] for line in newest["lines"]] == list(range(120, 70, -1))
    assert [line["version"] for line in middle["lines"]] == list(range(70, 20, -1))
    assert [line["version"] for line in oldest["lines"]] == list(range(20, 0, -1))
    assert newest["lines"][0]["balance"] == newest["balance"] == "120.0120"
    assert newest["brought_forward"] == middle["lines"][0]["balance"] == "70.0070"
    assert oldest["brought_forward"] == "0.0000"
    assert (newest["statement"].newer, oldest["statement"].older) == (None, None)
    assert (middle["statement"].newer, oldest["statement"].newer) == (120, 70)


def test_a_statement_names_the_cause_of_each_line() -> None:
    client = signed_in("Support agent")
    buyer = world.customer(funds="10")
    refund = world.refund(world.await_sms(world.place(buyer)))

    lines = client.get(reverse("admin:wallet_wallet_change", args=[buyer.pk])).context["lines"]

    assert [(line["kind"], line["debit"], line["credit"], line["balance"]) for line in lines] == [
        ("Automatic refund", "", "1.5000", "10.0000"),
        ("Purchase", "1.5000", "", "8.5000"),
        ("Deposit", "", "10.0000", "10.0000"),
    ]
    order = reverse("admin:orders_order_change", args=[refund.order_id])
    assert order in lines[0]["causes"]
    assert reverse("admin:refunds_refund_change", args=[refund.pk]) in lines[0]["causes"]
    assert order in lines[1]["causes"]
    assert "Deposit pay-" in lines[2]["causes"]


def test_the_line_of_a_decided_refund_names_its_order_and_its_refund() -> None:
    buyer = world.customer(funds="10")
    order = world.place(buyer)
    world.deliver(world.await_sms(order))
    asked = world.requested(order)
    refund = decisions.approve(world.person("Senior agent"), asked.pk).refund

    client = signed_in("Support agent")
    newest = client.get(reverse("admin:wallet_wallet_change", args=[buyer.pk])).context["lines"][0]

    assert newest["kind"] == "Decided refund"
    assert reverse("admin:orders_order_change", args=[order.pk]) in newest["causes"]
    assert reverse("admin:refunds_refund_change", args=[refund.pk]) in newest["causes"]


def test_the_statement_of_an_empty_wallet_says_so() -> None:
    buyer = world.customer(funds="0")
    page = text_of(signed_in(), reverse("admin:wallet_wallet_change", args=[buyer.pk]))
    assert "Nothing was ever posted to this wallet." in page


# --- orders and refunds -------------------------------------------------------------------------


def test_an_order_s_page_tells_its_money_its_refund_and_its_history() -> None:
    refund = world.refund(world.await_sms(world.place(world.customer("tg-ann"))))
    order = refund.order

    page = text_of(signed_in("Support agent"), f"/admin/orders/order/{order.pk}/change/")

    assert reverse("admin:wallet_transfer_change", args=[order.purchase_id]) in page
    assert reverse("admin:wallet_transfer_change", args=[order.settlement_id]) in page
    assert f"Refund {refund.pk}: No SMS within the SLA" in page
    assert '<span class="badge origin-automatic">Automatic</span> test' in page
    assert "Placed by the storefront" in page
    assert 'State: <span class="old">Placed</span> → <span class="new">Awaiting SMS</span>' in page
    assert 'State: <span class="old">Awaiting SMS</span> → <span class="new">Expired</span>' in page


def test_history_is_for_those_who_may_see_it() -> None:
    order = world.place(world.customer())
    url = f"/admin/orders/order/{order.pk}/change/"
    assert "Placed by the storefront" in text_of(signed_in("Senior agent"), url)
    assert "Placed by the storefront" not in text_of(signed_in("Finance"), url)


def test_a_refund_s_page_quotes_the_policy_and_its_facts() -> None:
    refund = world.refund(world.await_sms(world.place(world.customer())))
    page = text_of(signed_in("Finance"), f"/admin/refunds/refund/{refund.pk}/change/")
    assert policy.text(Clause.NO_SMS_IN_TIME) in page
    assert "<dt>SMS</dt><dd>No</dd>" in page
    assert "2026-05-07" in page


@pytest.mark.parametrize("role", ["Support agent", "Finance", "Senior agent", ""])
def test_sms_are_masked_on_every_page_for_everybody(role: str) -> None:
    order = world.await_sms(world.place(world.customer()))
    sms = world.deliver(order, text="Dear Ann, your code is 482915 for t.me", code="482915")
    client = signed_in(role)

    for url in (
        f"/admin/orders/order/{order.pk}/change/",
        "/admin/orders/sms/",
        f"/admin/orders/sms/{sms.pk}/change/",
    ):
        page = text_of(client, url)
        assert "482915" not in page, url
        assert "••••••15" in page, url


def test_a_late_sms_is_marked_as_never_shown() -> None:
    order = world.await_sms(world.place(world.customer()))
    world.refund(order)
    world.sms(order, text="Your code is 1", code="1", late=True)
    page = text_of(signed_in("Support agent"), f"/admin/orders/order/{order.pk}/change/")
    assert "Late — never shown to the customer" in page


@pytest.mark.parametrize(
    ("text", "code", "masked"),
    [
        ("Your code is 482915.", "482915", "Your code is ••••••15."),
        ("Code 123", "123", "Code ••••••"),
        ("G-482915 or https://x.io/a", "482915", "••••••15 or ••••••"),
        ("482915 until 12:30, PIN 482915", "482915", "••••••15 until ••••••, PIN ••••••15"),
        ("Code 482915. Or open wa.me/v/XyZabc", "482915", "Code ••••••15. Or open ••••••"),
        ("Code 482915, open telegram.me.", "482915", "Code ••••••15, open ••••••."),
        ("Open wa.me/v/482915XyZ or ?c=482915&t=XyZ", "482915", "Open ••••••15 or ?••••••15"),
        ("482915 or /XyZ or key=XyZ or a@b or #XyZ", "482915", "••••••15" + " or ••••••" * 4),
        ("Code 123-456", "123-456", "Code ••••••56"),
        ("Code 123-456", "123456", "•••••• (12 characters)"),
        ("Code is: 4829 15", "4829 15", "Code is: ••••••15"),
        ("Code is: 4829 15", "4829", "Code is: ••••••29 ••••••"),
        ("Code is: 4829 15", "482915", "•••••• (16 characters)"),
        ("Code ٤٨٢٩١٥ or 482915", "482915", "Code •••••• or ••••••15"),
        ("Code ٤٨٢٩١٥", "٤٨٢٩١٥", "Code ••••••١٥"),  # noqa: RUF001
        ("Code ٤٨٢٩١٥", "482915", "•••••• (11 characters)"),
        ("Code ①②③ or ４８２９ or 482915", "482915", "Code •••••• or •••••• or ••••••15"),  # noqa: RUF001
        ("Your word is ABCD!", "ABCD", "Your word is ••••••CD!"),
        ("ABCDABCD, xABCD", "ABCD", "••••••CD, ••••••CD"),
        ("您的验证码是482915，请勿告诉他人", "482915", "••••••15"),  # noqa: RUF001
        ("आपका कोड 482915 है", "482915", "आपका कोड ••••••15 है"),
        (
            "Don't share (482915) — one-time\ncode",
            "482915",
            "Don't share (••••••15) — one-time\ncode",
        ),
        ("Your word is banana", "", "•••••• (19 characters)"),
        ("Your word is banana", "482915", "•••••• (19 characters)"),
        ("", "", ""),
    ],
)
def test_masking(text: str, code: str, masked: str) -> None:
    assert privacy.masked_text(text, code) == masked


# --- audits -------------------------------------------------------------------------------------


def check(name: str, count: int, named: int) -> dict[str, Any]:
    differences = [f"wallet {number}: holds 1, should hold 2" for number in range(named)]
    figures = {"escrow": "1.0000"}
    return {
        "name": name,
        "seconds": 1.25,
        "count": count,
        "differences": differences,
        "figures": figures,
    }


def test_an_audit_s_page_counts_all_differences_and_names_the_first() -> None:
    now = timezone.now()
    run = AuditRun.objects.create(
        started_at=now,
        finished_at=now,
        passed=False,
        checks=[check("agree", 0, 0), check("few", 3, 3), check("many", 12_345, 20)],
    )
    client = signed_in("Finance")

    response = client.get(f"/admin/wallet/auditrun/{run.pk}/change/")
    checks, few, many = response.context["tables"]

    assert checks.headers == ("Check", "Result", "Differences", "Took", "Figures, USD")
    assert [(row[0], row[3], row[4]) for row in checks.rows] == [
        (name, "1.250 s", "escrow 1.0000") for name in ("agree", "few", "many")
    ]
    assert [strip_tags(row[2]) for row in checks.rows] == ["0", "3", "12,345"]
    assert [strip_tags(row[1]) for row in checks.rows] == ["Agrees", "Differs", "Differs"]
    assert (few.title, len(few.rows)) == ("Differences: few", 3)
    assert (many.title, len(many.rows)) == ("Differences: many (first 20 of 12,345)", 20)
    assert "3 checks, 2 failed" in text_of(client, "/admin/wallet/auditrun/")
    assert client.get("/admin/").context["audit"]["failed"] == ["few", "many"]


def test_a_real_audit_s_page_opens() -> None:
    world.place(world.customer())
    run = audit_ledger()
    page = text_of(signed_in("Finance"), f"/admin/wallet/auditrun/{run.pk}/change/")
    assert "Agrees" in page
    assert "Differs" not in page


# --- set-up -------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_only_its_hash_is_kept() -> None:
    client = signed_in(name="boss")
    shop = world.storefront()

    issued = client.post("/admin/wallet/apikey/add/", {"storefront": shop.pk, "name": "Bot"})

    plain = issued.context["plain"]
    key = ApiKey.objects.get()
    assert issued.content.decode().count(plain) == 1
    assert "no-store" in issued["Cache-Control"]
    assert keys.authenticate(plain) == key
    assert (key.created_by, key.prefix) == ("boss", plain[:10])
    assert plain not in str(ApiKey.objects.values().get())
    for url in ("/admin/wallet/apikey/", f"/admin/wallet/apikey/{key.pk}/change/"):
        assert plain not in text_of(client, url)
    assert ApiKey.objects.count() == 1


def test_a_key_is_revoked_by_a_confirmed_post() -> None:
    client = signed_in(name="boss")
    key, plain = keys.issue(world.storefront(), name="Bot", created_by="boss")
    url = f"/admin/wallet/apikey/{key.pk}/revoke/"

    assert "will be refused" in text_of(client, url)
    assert keys.authenticate(plain) == key
    assert client.post(url).status_code == 302
    assert keys.authenticate(plain) is None
    key.refresh_from_db()
    assert key.revoked_by == "boss"
    assert "was revoked before" in client.post(url, follow=True).content.decode()


def test_issuing_needs_a_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.person())
    data = {"storefront": world.storefront().pk, "name": "Bot"}
    assert client.post("/admin/wallet/apikey/add/", data).status_code == 403
    assert ApiKey.objects.count() == 0


def test_an_offer_s_change_records_who_and_why() -> None:
    client = signed_in(name="boss")
    offer = world.offer(price="1.5")
    data = {
        "title": offer.title,
        "active": "on",
        "price": "1.7500",
        "upstream": offer.upstream_id,
        "service": offer.service,
        "country": offer.country,
        "kind": offer.kind,
    }
    url = f"/admin/orders/offer/{offer.pk}/change/"

    assert client.post(url, data).status_code == 200  # no reason, no change
    offer.refresh_from_db()
    assert offer.price == Decimal("1.5000")
    assert client.post(url, data | {"reason": "Dearer upstream"}).status_code == 302

    offer.refresh_from_db()
    last = offer.history.order_by("-history_id").first()
    assert offer.price == last.price == Decimal("1.7500")
    assert (last.history_actor, last.history_change_reason) == ("boss", "Dearer upstream")
    assert last.history_user.username == "boss"
    assert offer.history.count() == 2
    assert "Dearer upstream" in text_of(client, url)


def test_an_offer_is_added_with_its_history() -> None:
    client = signed_in(name="boss")
    data = {
        "title": "Telegram in Chile",
        "active": "on",
        "price": "0.9",
        "upstream": world.upstream().pk,
        "service": "tg",
        "country": "cl",
        "kind": "rental",
        "reason": "Asked for",
    }
    refused = client.post("/admin/orders/offer/add/", data | {"rental_hours": 1})
    assert refused.status_code == 200
    assert Offer.objects.count() == 0  # too short a rental

    assert client.post("/admin/orders/offer/add/", data | {"rental_hours": 24}).status_code == 302
    assert Offer.objects.get().history.get().history_actor == "boss"


# --- the front page -----------------------------------------------------------------------------


def test_the_front_page_s_figures_are_exact() -> None:
    client = signed_in()
    now = timezone.now()
    buyer = world.customer()
    upstream = world.upstream()
    upstream.looked_at = now
    upstream.save()
    world.place(buyer)
    world.await_sms(world.place(buyer), deadline=now + timedelta(minutes=5))
    overdue = world.await_sms(world.place(buyer), deadline=now - timedelta(seconds=90))
    world.deliver(world.await_sms(world.place(buyer)))
    for clause in (Clause.CANCELLED_BEFORE_SMS, Clause.NO_SMS_IN_TIME, Clause.NO_SMS_IN_TIME):
        world.refund(world.await_sms(world.place(buyer)), clause)
    AuditRun.objects.create(
        started_at=now,
        finished_at=now,
        passed=False,
        checks=world.figures(escrow="4.5000", open_orders="4.4000"),
    )

    context = client.get("/admin/").context

    assert context["overdue"]["count"] == 1
    assert order_queries.overdue_orders() == order_queries.Overdue(1, overdue.deadline)
    assert context["open_orders"] == {"count": 3, "price": "4.5000"}
    assert [(r["label"], r["hour"], r["day_amount"]) for r in context["flows"]] == [
        ("Placed", 7, "10.5000"),
        ("Delivered", 1, "1.5000"),
        ("Refunded", 3, "4.5000"),
    ]
    assert [(c["label"], c["count"], c["amount"]) for c in context["refunds"]["clauses"]] == [
        ("No SMS within the SLA", 2, "3.0000"),
        ("Cancelled before any SMS", 1, "1.5000"),
        ("Number broken", 0, "0.0000"),
        ("Allocation failed", 0, "0.0000"),
        ("SMS rejected by the service", 0, "0.0000"),
        ("Wrong service's SMS", 0, "0.0000"),
        ("Long-term rental issue", 0, "0.0000"),
    ]
    assert (context["refunds"]["count"], context["refunds"]["amount"]) == (3, "4.5000")
    assert context["escrow"]["difference"] == "+0.1000"
    assert not context["escrow"]["agrees"]
    assert not context["audit"]["passed"]
    assert context["sweep"] is None
    assert listed(client, "orders_order", overdue="yes") == {overdue.pk}


@pytest.mark.parametrize(
    ("deadline", "looked_at", "overdue"),
    [
        (-30, None, 0),  # not looked at yet: an SMS may be waiting upstream
        (-30, -60, 0),  # looked at before the deadline only
        (-30, -10, 1),
        (-119, -600, 0),  # within the grace of an upstream that cannot be reached
        (-125, -600, 1),
        (-125, None, 1),
        (30, 0, 0),
    ],
)
def test_an_order_is_overdue_when_its_upstream_was_looked_at_or_its_grace_is_over(
    deadline: int, looked_at: int | None, overdue: int
) -> None:
    now = timezone.now()
    upstream = world.upstream()
    upstream.looked_at = None if looked_at is None else now + timedelta(seconds=looked_at)
    upstream.failing_since, upstream.failed_at = now - timedelta(seconds=500), now
    upstream.save()
    order = world.place(world.customer())
    world.await_sms(order, deadline=now + timedelta(seconds=deadline))

    assert order_queries.overdue_orders().count == overdue


@pytest.mark.parametrize("role", ["", "Support agent", "Senior agent", "Finance"])
def test_the_front_page_of_an_empty_shop(role: str) -> None:
    response = signed_in(role).get("/admin/")
    page = response.content.decode()

    assert response.context["overdue"]["count"] == 0
    assert "Every order in time" in page
    assert "No sweep has run" in page
    assert ("Last audit" in page) == (role != "Support agent")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/admin/nothing/", 404, "There is nothing here"),
        ("/admin/wallet/wallet/999999/change/", 404, "There is nothing here"),
        ("/admin/orders/order/?colour=red", 400, "This address cannot be answered"),
        ("/admin/wallet/seal/", 403, "Your role may not do this"),
    ],
)
def test_an_address_that_leads_nowhere_says_so_and_leads_back(
    path: str, status: int, said: str
) -> None:
    answer = signed_in("Support agent").get(path)

    assert answer.status_code == status
    assert said in answer.content.decode()
    assert "Back to the front page" in answer.content.decode()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (172_799, "47 h 59 min"),
        (172_800, "2 d"),
    ],
)
def test_a_length_of_time_goes_on_in_the_next_unit(seconds: int, said: str) -> None:
    assert duration(timedelta(seconds=seconds)) == said


def test_an_empty_list_says_whether_filters_emptied_it() -> None:
    client = signed_in("Senior agent")

    bare = text_of(client, "/admin/wallet/correction/")
    narrowed = text_of(client, "/admin/wallet/correction/?state__exact=requested")

    assert "There are no corrections yet." in bare
    assert "No corrections match what is asked for." in narrowed
    assert "Create a new item" not in bare + narrowed


def test_every_list_of_an_empty_shop_opens() -> None:
    client = signed_in()
    for page in [*LISTS, "wallet_auditrun", "refunds_sweep", "orders_offer", "orders_upstream"]:
        assert listed(client, page) == set()
        assert listed(client, page, q="1") == set()


def test_a_form_that_is_sent_twice_issues_one_key() -> None:
    client = signed_in("")
    form = {"storefront": world.storefront().pk, "name": "Shop server"}

    assert "sf_" in client.post("/admin/wallet/apikey/add/", form).content.decode()
    again = client.post("/admin/wallet/apikey/add/", form).content.decode()

    assert "has a live key named" in again
    assert ApiKey.objects.filter(name="Shop server").count() == 1


# --- refund requests ----------------------------------------------------------------------------


def test_a_refund_request_s_page_says_what_was_asked_decided_and_resolved() -> None:
    client = signed_in("Senior agent", name="sonia")
    ann, abe, sam = (
        world.person(role, name=name)
        for role, name in (
            ("Support agent", "ann"),
            ("Support agent", "abe"),
            ("Senior agent", "sam"),
        )
    )
    order = world.await_sms(world.place(world.customer("tg-ann")))
    world.deliver(order)
    asked = world.requested(order, ann, reason="Screenshot of the refusal")
    decisions.deny(abe, asked.pk, reason="Of another number")
    disputes.dispute(asked.pk, actor=world.ACTOR)
    disputes.overturn(sam, asked.pk, reason="The number fits after all")

    page = text_of(client, reverse("admin:refunds_refundrequest_change", args=[asked.pk]))
    words = unescape(strip_tags(page))

    for said in (
        *("Screenshot of the refusal", "Of another number", "The number fits after all"),
        *("SMS rejected by the service", "A person decides", "2026-05-07"),
        *("claimed by ann: the service rejected it", "Denial overturned and credited"),
        *("An SMS arrived in time", "What was claimed", "What was known"),
        *("Requested: Screenshot of the refusal", "Denied: Of another number"),
        *("Disputed by reply", "Overturned: The number fits after all"),
    ):
        assert said in words, said
    for who in ("ann", "abe", "sam"):
        assert who in words
    refund = Refund.objects.get(request=asked)
    assert reverse("admin:refunds_refund_change", args=[refund.pk]) in page
    of_refund = text_of(client, reverse("admin:refunds_refund_change", args=[refund.pk]))
    of_order = text_of(client, reverse("admin:orders_order_change", args=[order.pk]))
    link = reverse("admin:refunds_refundrequest_change", args=[asked.pk])
    assert link in of_refund
    assert link in of_order


def test_goodwill_for_what_is_not_refundable_is_linked_both_ways() -> None:
    client = signed_in("Senior agent", name="sonia")
    order = world.await_sms(world.place(world.customer()))
    world.deliver(order)
    asked = world.requested(order, clause=Clause.ORDERED_WRONG)
    done = decisions.approve(world.person("Senior agent", name="sam"), asked.pk, reason="Kind")

    link = reverse("admin:refunds_refundrequest_change", args=[asked.pk])
    correction = reverse("admin:wallet_correction_change", args=[done.goodwill_id])

    assert correction in text_of(client, link)
    assert link in text_of(client, correction)
    assert "Decided against it" in text_of(
        client, reverse("admin:refunds_refundrequest_changelist")
    )


def test_refund_requests_are_found_by_state_clause_verdict_time_and_search() -> None:
    client = signed_in("Support agent", name="finder")
    orders = []
    for name in ("tg-ann", "tg-bob", "tg-cid"):
        order = world.await_sms(world.place(world.customer(name)))
        world.deliver(order)
        orders.append(order)
    first = world.requested(orders[0])
    second = world.requested(orders[1], clause=Clause.ORDERED_WRONG)
    third = world.requested(orders[2], clause=Clause.WRONG_SERVICE)
    sam = world.person("Senior agent", name="sam")
    decisions.approve(sam, second.pk, reason="Kind")
    decisions.deny(sam, third.pk, reason="No evidence")
    page = "refunds_refundrequest"
    today = f"{first.requested_at:%Y-%m-%d}"
    later = f"{third.requested_at + timedelta(days=1):%Y-%m-%d}"

    assert listed(client, page) == {first.pk, second.pk, third.pk}
    assert listed(client, page, state__exact="requested") == {first.pk}
    assert listed(client, page, clause__exact="ticket.wrong_service") == {third.pk}
    assert listed(client, page, against_verdict__exact="1") == {second.pk}
    assert len(listed(client, page, requested_at_from_0=today)) == 3
    assert listed(client, page, requested_at_from_0=later) == set()
    assert listed(client, page, q="tg-bob") == {second.pk}
    assert listed(client, page, customer=str(orders[2].customer_id)) == {third.pk}
    assert listed(client, page, q=str(orders[0].pk)) >= {first.pk}


def test_the_front_page_shows_the_refund_requests_that_wait() -> None:
    client = signed_in("Senior agent", name="sonia")
    sam = world.person("Senior agent", name="sam")
    for clause in (Clause.SERVICE_REJECTED, Clause.ORDERED_WRONG, Clause.WRONG_SERVICE):
        order = world.await_sms(world.place(world.customer()))
        world.deliver(order)
        asked = world.requested(order, clause=clause)
    decisions.deny(sam, asked.pk, reason="No evidence")
    disputes.dispute(asked.pk, actor=world.ACTOR)

    response = client.get(reverse("admin:index"))

    waiting = {item["label"]: item for item in response.context["waiting"]}
    for label, state in (
        ("refund requests", "requested"),
        ("refund requests for a senior", "escalated"),
        ("disputes", "disputed"),
    ):
        assert waiting[label]["count"] == 1, label
        assert waiting[label]["url"].endswith(f"refundrequest/?state__exact={state}")
        assert client.get(waiting[label]["url"]).context["cl"].result_count == 1
