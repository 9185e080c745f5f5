"""History for people: whole lives told in words, exactly, at a constant cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders import placing, reading, termination
from orders.allocation import ALLOCATION, hand_out
from orders.delivery import Arrival, record_sms
from orders.models import Order, Sms, SmsReading
from orders.upstreams.base import Message, Number
from refunds import automatic, decisions, disputes
from refunds.models import Refund, RefundRequest
from refunds.tests import world
from smsactivator.common import history
from smsactivator.common import timeline as timelines
from smsactivator.common.history import Actor
from smsactivator.common.links import admin_url
from smsactivator.common.timeline import Entry, Origin, timeline
from smsactivator.tests import world as shop
from wallet import claims, corrections, standing
from wallet.models import Claim, Customer, Deposit, Transfer

pytestmark = pytest.mark.django_db

SUPPORT, SENIOR, FINANCE = "Support agent", "Senior agent", "Finance"
KEY = Actor.api_key("Shop", "sf_12345678")


def placed(buyer: Customer, price: str = "1") -> Order:
    order, _ = placing.place(
        buyer, offer_id=world.offer(price).pk, idempotency_key=str(uuid4()), actor=KEY
    )
    return order


def with_number(order: Order) -> Order:
    with transaction.atomic():
        order.start_buying(at=timezone.now())
        history.save(
            [order],
            ["upstream_side", "allocation_started_at"],
            actor=ALLOCATION,
            reason="Buying a number",
        )
    with transaction.atomic():
        number = Number("ref-1", "+79001234567", Decimal("0.2"))
        hand_out(order, number, actor=ALLOCATION, reason="The upstream sold a number")
    return Order.objects.get(pk=order.pk)


def with_sms(order: Order) -> Order:
    record_sms({order.pk: [Arrival(Message("482915", "Your code is 482915"))]})
    return Order.objects.get(pk=order.pk)


def life() -> tuple[Order, RefundRequest]:
    """Placed, a number, an SMS, read in full, a refund asked for, denied, disputed, overturned."""
    anna, sonia, sam = (
        shop.person(role, name=name)
        for role, name in ((SUPPORT, "anna"), (SENIOR, "sonia"), (SENIOR, "sam"))
    )
    order = with_sms(with_number(placed(world.customer("10"))))
    reading.read(sonia, order.pk, reason="Is it the right service?")
    asked = decisions.request(
        anna,
        order.pk,
        amount=Decimal("0.5"),
        clause="ticket.service_rejected",
        reason="The service said no",
        key=uuid4(),
    )
    decisions.deny(sonia, asked.pk, reason="It was another service")
    disputes.dispute(asked.pk, actor=KEY)
    disputes.overturn(sam, asked.pk, reason="The screenshot shows it")
    return Order.objects.get(pk=order.pk), RefundRequest.objects.get(pk=asked.pk)


def told(of: Any, role: str = SENIOR) -> list[tuple[Any, ...]]:
    """What a reader in this role is told, the oldest first."""
    entries, more = timeline(of, shop.person(role, name=f"reader of {of}"))
    assert not more
    return [
        (
            entry.origin and str(entry.origin),
            entry.who,
            entry.what,
            entry.why,
            entry.about and entry.about.text,
            {change.label: (change.old, change.new) for change in entry.changes},
        )
        for entry in reversed(entries)
    ]


PLACED = "API key sf_12345678… of Shop"


def steps_of_the_order(order: Order, asked: RefundRequest) -> list[tuple[Any, ...]]:
    """What ``life`` is told as, on the order's page."""
    purchase, delivery = order.purchase_id, order.settlement_id
    cost = Transfer.objects.get(kind="upstream_cost").pk
    request = f"Refund request {asked.pk}: 0.5000 USD, SMS rejected by the service"
    return [
        (
            "Storefront",
            PLACED,
            f"Purchase: 1.0000 USD from wallet {order.customer_id} to order escrow",
            "",
            f"Transfer {purchase}",
            {},
        ),
        ("Storefront", PLACED, "Placed by the customer", "", None, {}),
        (
            "Automatic",
            "allocation",
            "Buying a number",
            "",
            None,
            {"Upstream side": ("Nothing bought", "Being bought")},
        ),
        (
            "Automatic",
            "allocation",
            "The upstream sold a number",
            "",
            None,
            {
                "State": ("Placed", "Awaiting SMS"),
                "Phone": ("—", "+79001234567"),
                "Deadline": ("—", f"{order.deadline:%Y-%m-%d %H:%M:%S}"),
                "Upstream side": ("Being bought", "Number held"),
                "Upstream reference": ("—", "ref-1"),
                "Upstream cost": ("—", "0.2000 USD"),
            },
        ),
        ("Automatic", "upstream sim", "SMS arrived", "", f"SMS {Sms.objects.get().pk}", {}),
        (
            "Automatic",
            "polling",
            "Delivery: 1.0000 USD from order escrow to sales",
            "",
            f"Transfer {delivery}",
            {},
        ),
        (
            "Automatic",
            "upstream costs",
            "Upstream cost: 0.2000 USD from upstream cost to upstream prepaid",
            "",
            f"Transfer {cost}",
            {},
        ),
        (
            "Automatic",
            "polling",
            "An SMS arrived in time",
            "",
            None,
            {
                "State": ("Awaiting SMS", "SMS received"),
                "Settlement": ("—", f"Transfer {delivery}"),
            },
        ),
        (
            "Person",
            "sonia",
            "SMS read in full",
            "Is it the right service?",
            f"SMS reading {SmsReading.objects.get().pk}",
            {},
        ),
        ("Person", "anna", "Requested: The service said no", "", request, {}),
        (
            "Person",
            "sonia",
            "Denied: It was another service",
            "",
            request,
            {"State": ("Waiting for approval", "Denied")},
        ),
        (
            "Storefront",
            PLACED,
            "Disputed by reply",
            "",
            request,
            {"State": ("Denied", "Disputed")},
        ),
        (
            "Person",
            "sam",
            "Overturned: The screenshot shows it",
            "",
            request,
            {"State": ("Disputed", "Denial overturned and credited")},
        ),
        (
            "Person",
            "sam",
            "Refunded to the wallet: 0.5000 USD",
            "",
            f"Refund {Refund.objects.get().pk}: SMS rejected by the service",
            {},
        ),
    ]


def about(steps: list[tuple[Any, ...]], was: str | None, now: str | None) -> list[tuple[Any, ...]]:
    """The same steps on another page, where what has no name there, and here, is swapped."""
    return [(*step[:4], now if step[4] == was else step[4], step[5]) for step in steps]


def test_the_life_of_an_order_is_told_from_its_placing_to_the_overturned_denial() -> None:
    order, asked = life()
    assert told(order) == steps_of_the_order(order, asked)


def test_a_refund_and_its_request_tell_the_same_life_each_step_once() -> None:
    order, asked = life()
    on_the_order = steps_of_the_order(order, asked)
    on_the_refund = about(on_the_order, None, f"Order {order.pk}")
    request = f"Refund request {asked.pk}: 0.5000 USD, SMS rejected by the service"

    assert told(Refund.objects.get()) == on_the_refund
    assert told(asked) == about(on_the_refund, request, None)


def test_an_sms_tells_its_arrival_and_its_reading_and_never_its_text() -> None:
    life()
    sms = Sms.objects.get()
    steps = told(sms)
    assert [step[:3] for step in steps] == [
        ("Automatic", "upstream sim", "SMS arrived"),
        ("Person", "sonia", "SMS read in full"),
    ]
    for of in (sms, sms.order, sms.order.customer):
        assert "482915" not in str(timeline(of, shop.person("", name=f"boss of {of}")))


def test_the_end_of_a_cancelled_order_names_its_refund() -> None:
    order = with_number(placed(world.customer("10")))
    automatic.cancel(order.pk, actor=KEY)
    order = Order.objects.get(pk=order.pk)
    refund = Refund.objects.get()

    assert [step[:3] + step[4:] for step in told(order)[-3:]] == [
        (
            "Automatic",
            "policy",
            "Refunded to the wallet: 1.0000 USD",
            f"Refund {refund.pk}: Cancelled before any SMS",
            {},
        ),
        (
            "Storefront",
            PLACED,
            f"Automatic refund: 1.0000 USD from order escrow to wallet {order.customer_id}",
            f"Transfer {order.settlement_id}",
            {},
        ),
        (
            "Storefront",
            PLACED,
            "Cancelled by the customer before any SMS",
            None,
            {
                "State": ("Awaiting SMS", "Cancelled"),
                "Settlement": ("—", f"Transfer {order.settlement_id}"),
                "Upstream side": ("Number held", "Being given back"),
            },
        ),
    ]


def test_a_late_sms_is_told_as_such() -> None:
    order = with_number(placed(world.customer("10")))
    automatic.cancel(order.pk, actor=KEY)
    with_sms(order)
    assert "SMS arrived after the order's end: never shown to the customer" in {
        step[2] for step in told(Order.objects.get(pk=order.pk))
    }


def test_the_life_of_a_customer_is_told_with_what_people_decided() -> None:
    anna, sonia, sam = (
        shop.person(role, name=name)
        for role, name in ((SUPPORT, "anna"), (SENIOR, "sonia"), (SENIOR, "sam"))
    )
    buyer = world.customer("10")
    done = with_sms(with_number(placed(buyer)))
    cancelled = placed(buyer)
    automatic.cancel(cancelled.pk, actor=KEY)
    given = corrections.request_goodwill(
        anna, buyer.pk, amount=Decimal("2"), reason="Waited long", key=uuid4()
    )
    corrections.confirm(sonia, given.pk, reason="Right")
    standing.freeze(sonia, buyer.pk, reason="Odd orders")
    standing.unfreeze(sonia, buyer.pk, reason="All is well")
    deposit = Deposit.objects.get(transfer__wallet=buyer.pk)
    claim = claims.record(anna, deposit.pk, reference="cb-1", evidence="Filed on Monday")
    ended = termination.request(
        sonia, buyer.pk, reason="It is fraud", key=uuid4(), claim_id=claim.pk
    )
    termination.confirm(sam, ended.pk)
    upheld = Claim.objects.get(pk=claim.pk)
    back = termination.request_reinstatement(
        sonia, ended.pk, give_back=True, reason="A mix-up", key=uuid4()
    )
    termination.confirm_reinstatement(sam, back.pk)
    goodwill = Transfer.objects.get(kind="goodwill").pk
    taken, given_back = (
        Transfer.objects.get(kind=kind) for kind in ("forfeiture", "reinstatement")
    )
    back_to_the_wallet = f"Refund {Refund.objects.get().pk}: Cancelled before any SMS"
    sold = "{0}: {1.service} / {1.country} for 1.0000 USD"
    words, wallet = "Goodwill of 2.0000 USD", f"Wallet {buyer.pk}"
    waiting, active = "Waiting for a second person", "Active"
    frozen = "Frozen (no spending; refunds still arrive)"
    forfeited = "Forfeited (the account is terminated)"

    steps = told(buyer)

    assert [(step[1], step[2], step[4], step[5]) for step in steps] == [
        ("tester", "Created by the storefront", None, {}),
        ("tester", "Created by the storefront", wallet, {}),
        ("polling", sold.format("SMS received", done), f"Order {done.pk}", {}),
        (PLACED, sold.format("Cancelled", cancelled), f"Order {cancelled.pk}", {}),
        ("policy", "Refunded to the wallet: 1.0000 USD", back_to_the_wallet, {}),
        ("anna", "Requested: Waited long", words, {}),
        (
            "sonia",
            "Confirmed: Right",
            words,
            {"State": (waiting, "Confirmed"), "Transfer": ("—", f"Transfer {goodwill}")},
        ),
        ("sonia", "Frozen: Odd orders", wallet, {"State": (active, frozen)}),
        ("sonia", "Unfrozen: All is well", wallet, {"State": (frozen, active)}),
        ("anna", "Frozen: chargeback claim cb-1", wallet, {"State": (active, frozen)}),
        ("anna", "Recorded", "Chargeback claim cb-1", {}),
        (
            "sonia",
            "It is fraud",
            "Chargeback claim cb-1",
            {"State": ("Open", "Termination requested")},
        ),
        ("sonia", "Requested: It is fraud", str(ended), {}),
        (
            "sam",
            f"Account terminated by {ended}",
            "Chargeback claim cb-1",
            {"State": ("Termination requested", "Account terminated")},
        ),
        (
            "sam",
            f"Forfeited by {ended}: It is fraud",
            wallet,
            {"State": (frozen, forfeited)},
        ),
        (
            "sam",
            "Confirmed",
            str(ended),
            {
                "State": (waiting, "Confirmed"),
                "Transfer": ("—", f"Transfer {taken.pk}"),
                "Wallet amount": ("0.0000 USD", "11.0000 USD"),
            },
        ),
        ("sonia", "Requested: A mix-up", str(back), {}),
        (
            "sam",
            f"{back}: to be decided again",
            "Chargeback claim cb-1",
            {
                "State": ("Account terminated", "Open"),
                "Decided by": ("sonia", "—"),
                "Decided at": (f"{upheld.decided_at:%Y-%m-%d %H:%M:%S}", "—"),
                "Decision reason": ("It is fraud", "—"),
            },
        ),
        ("sam", "Reinstated: A mix-up", wallet, {"State": (forfeited, active)}),
        ("sam", "Frozen: Claim cb-1 is to be decided", wallet, {"State": (active, frozen)}),
        (
            "sam",
            "Confirmed",
            str(back),
            {"State": (waiting, "Confirmed"), "Transfer": ("—", f"Transfer {given_back.pk}")},
        ),
        ("sam", f"By {back}", str(ended), {"Reinstated": ("No", "Yes")}),
    ]


# --- who is told what ---------------------------------------------------------------------------


def test_history_is_for_those_who_may_see_it() -> None:
    order, _ = life()
    refund = Refund.objects.get()
    pages = {
        admin_url("orders_order_change", order.pk): "Placed by the customer",
        admin_url("refunds_refund_change", refund.pk): "Placed by the customer",
        admin_url("orders_sms_change", Sms.objects.get().pk): "SMS read in full",
        admin_url("wallet_customer_change", order.customer_id): "Created by the storefront",
    }
    for role, sees in ((SUPPORT, True), (SENIOR, True), (FINANCE, False), ("", True)):
        client = Client()
        client.force_login(shop.person(role, name=f"visitor {role}"))
        for page, words in pages.items():
            answer = client.get(page)
            assert answer.status_code == 200
            assert (words in answer.content.decode()) == sees, (role, page)


def test_an_entry_that_asks_for_a_permission_is_told_to_those_who_have_it() -> None:
    order, _ = life()
    nobody = shop.person(FINANCE, name="fiona")
    nobody.groups.clear()
    for reader in (None, nobody):
        entries, _ = timeline(order, reader)
        assert {entry.what for entry in entries if entry.permission} == set()
        assert {entry.url for entry in entries} == {""}
        assert not any(
            "SMS arrived from" in entry.what or "Denied" in entry.what for entry in entries
        )
    assert {entry.permission for entry in timeline(order, shop.person(SENIOR))[0]} == {
        "",
        "orders.view_sms",
        "refunds.view_historicalrefundrequest",
        "refunds.view_refund",
    }


def test_an_entry_leads_where_its_reader_may_follow() -> None:
    order, _ = life()
    page = admin_url("orders_order_change", order.pk)
    read = admin_url("orders_smsreading_change", SmsReading.objects.get().pk)
    transfer = admin_url("wallet_transfer_change", order.purchase_id)

    def linked(role: str) -> str:
        client = Client()
        client.force_login(shop.person(role))
        return client.get(page).content.decode().partition('class="timeline"')[2]

    senior, agent = linked(SENIOR), linked(SUPPORT)
    assert read in senior
    assert read not in agent
    assert "SMS reading" in agent
    assert transfer in senior
    assert transfer in agent


@pytest.mark.parametrize(
    ("label", "user", "origin", "who"),
    [
        ("automatic: polling", None, Origin.AUTOMATIC, "polling"),
        ("automatic: refund sweep", None, Origin.AUTOMATIC, "refund sweep"),
        (PLACED, None, Origin.STOREFRONT, PLACED),
        ("sonia", 7, Origin.PERSON, "sonia"),
        ("API key of mine", 7, Origin.PERSON, "API key of mine"),
        ("automatic: me", 7, Origin.PERSON, "automatic: me"),
        ("", None, None, ""),
    ],
)
def test_from_where_is_read_off_the_actor(
    label: str, user: int | None, origin: Origin | None, who: str
) -> None:
    assert timelines.origin_of(label, user) == (origin, who)


# --- what it costs ------------------------------------------------------------------------------


def busy(order: Order, times: int) -> None:
    """More of everything that an order's timeline tells."""
    sonia = shop.person(SENIOR, name=f"busy {times}")
    for number in range(times):
        sms = shop.sms(order, text=f"{times} {number}", code="")
        reading.read(sonia, order.pk, sms_id=sms.pk, reason="Looked again")
        order.upstream_due_at = timezone.now() + timedelta(hours=number)
        with transaction.atomic():
            history.save([order], ["upstream_due_at"], actor=KEY, reason=f"Step {number}")
        asked = decisions.request(
            sonia,
            order.pk,
            amount=Decimal("0.1"),
            clause="ticket.service_rejected",
            reason="Again",
            key=uuid4(),
            evidence=decisions.Evidence("Message 1", timezone.now()),
        )
        decisions.withdraw(sonia, asked.pk)
        standing.freeze(sonia, order.customer_id, reason="Odd")
        standing.unfreeze(sonia, order.customer_id, reason="Well")
        automatic.cancel(placed(order.customer, "0.0001").pk, actor=KEY)


def test_a_timeline_takes_as_many_queries_for_two_hundred_entries_as_for_a_few() -> None:
    order, asked = life()
    refund = Refund.objects.get()
    reader = shop.person("", name="reader")
    counts: list[dict[str, int]] = []
    for times in (1, 45):
        busy(order, times)
        counts.append({})
        for of in (order, asked, refund, order.customer, Sms.objects.earliest("pk")):
            with CaptureQueriesContext(connection) as captured:
                timeline(of, reader)
            counts[-1][type(of).__name__] = len(captured)

    assert counts[0] == counts[1]
    assert max(counts[0].values()) <= 25
    assert len(timeline(order, reader)[0]) == 200


def test_a_timeline_is_cut_at_its_newest_entries_and_says_so() -> None:
    order = with_sms(with_number(placed(world.customer("10"))))
    reader = shop.person(SENIOR, name="reader")
    before, _ = timeline(order, reader)
    for number in range(timelines.LONGEST - len(before)):
        shop.sms(order, text=str(number), code="")
    client = Client()
    client.force_login(reader)
    page = admin_url("orders_order_change", order.pk)

    entries, more = timeline(order, reader)
    assert (len(entries), more) == (200, False)
    assert entries[-1].what.startswith("Purchase: ")
    assert "The history is longer" not in client.get(page).content.decode()

    shop.sms(order, text="One more", code="")
    entries, more = timeline(order, reader)
    assert (len(entries), more) == (200, True)
    assert not any(entry.what.startswith("Purchase: ") for entry in entries)
    assert entries == sorted(entries, key=lambda entry: entry.at, reverse=True)
    shown = client.get(page).content.decode()
    assert "The history is longer; its newest 200 entries are shown." in shown


def test_a_long_history_is_cut_with_its_oldest_step_still_told_in_full() -> None:
    order = with_number(placed(world.customer("10")))
    for number in range(1, timelines.LONGEST + 10):
        order.refusal_code = f"code {number}"
        with transaction.atomic():
            history.save([order], ["refusal_code"], actor=KEY, reason=f"Step {number}")

    entries, more = timeline(order, shop.person(SENIOR))

    assert more
    assert [entry.what for entry in entries] == [f"Step {n}" for n in range(209, 9, -1)]
    assert entries[-1].changes == (timelines.Change("Refusal code", "code 9", "code 10"),)


def test_what_two_sources_tell_is_shown_once() -> None:
    now = timezone.now()

    @timelines.entries_for("wallet.Storefront")
    def twice(pks: Any) -> Any:
        entry = Entry(at=now, key="one", what="Something")
        return {pk: [entry, entry, Entry(at=now, key="two", what="Another")] for pk in pks}

    try:
        entries, more = timeline(world.storefront(), None)
    finally:
        timelines._sources["wallet.Storefront"].remove(twice)
    assert [entry.what for entry in entries] == ["Something", "Another"]
    assert not more
