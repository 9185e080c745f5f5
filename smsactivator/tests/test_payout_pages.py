"""Payouts in the admin: their list, their pages and actions, the board, and the methods."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags

from orders import termination
from smsactivator.common.links import admin_url
from smsactivator.common.timeline import timeline
from smsactivator.tests import world
from smsactivator.tests.payouts import HASH, OTHER_HASH, asked, fresh, sent
from wallet import batches, methods, payouts, results, settlement, standing
from wallet.models import (
    Customer,
    Payout,
    PayoutMethod,
    PayoutMove,
    PayoutOutcome,
    Transfer,
    Wallet,
)
from wallet.tests import paying
from wallet.tests.forms import carried
from wallet.tests.test_resultsheets import HEADER, as_csv

pytestmark = pytest.mark.django_db

AGENT, SENIOR, FINANCE, AUDITOR = "Support agent", "Senior agent", "Finance", "Auditor"
State = Payout.State
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)


@dataclass
class People:
    """Who works with payouts, by name."""

    anna: User
    sonia: User
    sam: User
    fiona: User
    frank: User
    audrey: User


@pytest.fixture
def people() -> People:
    roles = {"anna": AGENT, "sonia": SENIOR, "sam": SENIOR, "fiona": FINANCE, "frank": FINANCE}
    return People(
        **{name: world.person(role, name=name) for name, role in roles.items()},
        audrey=world.person(AUDITOR, name="audrey"),
    )


def client_of(person: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(person)
    return client


def page(person: User, payout: Payout) -> Any:
    return client_of(person).get(admin_url("wallet_payout_change", payout.pk))


def facts(response: Any, title: str) -> dict[str, str]:
    """A group of a page's facts, in plain text."""
    group = next(group for group in response.context["facts"] if group.title == title)
    return {label: plain(value) for label, value in group.rows}


def plain(html: Any) -> str:
    return " ".join(unescape(strip_tags(str(html))).split())


def table(response: Any, title: str) -> list[list[str]]:
    found = next(one for one in response.context["tables"] if one.title.startswith(title))
    return [[plain(cell) for cell in row] for row in found.rows]


def offered(person: User, payout: Payout) -> list[str]:
    return [action.name for action, _ in page(person, payout).context["actions"]]


def do(person: User, payout: Payout, action: str, **typed: str) -> Any:
    """Send an action's form."""
    url = admin_url("wallet_payout_do", payout.pk, action)
    return client_of(person).post(url, {**carried(payout, action), **typed})


def listed(person: User, **query: str) -> list[int]:
    response = client_of(person).get(admin_url("wallet_payout_changelist"), query)
    assert response.status_code == 200, response.headers
    return sorted(row.pk for row in response.context["cl"].result_list)


def everything() -> list[Any]:
    models = (Payout, PayoutMove, PayoutOutcome, Transfer, Wallet, PayoutMethod, Customer)
    histories = [model.history.model for model in (Payout, PayoutMethod, Wallet)]
    return [list(model.objects.order_by("pk").values()) for model in (*models, *histories)]


def balance(payout: Payout) -> Decimal:
    return Wallet.objects.get(pk=payout.customer_id).balance


# --- the list -------------------------------------------------------------------------------------


def test_the_list_tells_who_waits_for_what_and_what_to_look_at(people: People) -> None:
    with time_machine.travel(NOON - timedelta(days=2), tick=False):
        buyer = world.customer("casey", funds="2000")
        first = sent(people.anna, people.fiona, "120", buyer=buyer)
        settlement.mark_paid(people.fiona, first.pk, transaction_hash=HASH)
    with time_machine.travel(NOON - timedelta(hours=5), tick=False):
        shared = asked(people.sonia, "75.5", world.customer("drew"), address=first.address)
        changed = asked(people.anna, "650", buyer)
    with time_machine.travel(NOON, tick=False):
        html = client_of(people.fiona).get(admin_url("wallet_payout_changelist")).content.decode()
    rows = [plain(row) for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL)[1:]]
    seen = [row for row in rows if "PO-" in row]

    assert len(seen) == 3
    assert seen[0].endswith(
        f"{changed.reference} Waiting for approval casey 650.0000 USDT-TRON 2026-06-15 07:00:00 "
        "open for 5 h 0 min anna Changed address: waits until 2026-06-16 07:00 Two approvals"
    )
    assert seen[1].endswith(
        f"{shared.reference} Waiting for approval drew 75.5000 USDT-TRON 2026-06-15 07:00:00 "
        "open for 5 h 0 min sonia Another customer's address"
    )
    assert seen[2].endswith(
        f"{first.reference} Paid casey 120.0000 USDT-TRON 2026-06-13 12:00:00 anna "
        "Another customer's address"
    )


def test_the_list_shows_every_flag_of_an_open_payout_also_of_one_that_was_sent_again(
    people: People,
) -> None:
    buyer = world.customer("casey", funds="2000")
    with time_machine.travel(NOON - timedelta(days=9), tick=False):
        first = asked(people.anna, "20", buyer)
    with time_machine.travel(NOON - timedelta(days=7), tick=False):
        asked(people.anna, "20", first.customer)
        other = asked(people.sonia, "30")
        moved = asked(people.anna, "600", buyer, address=other.address)
    with time_machine.travel(NOON - timedelta(days=1), tick=False):
        payouts.approve(people.sam, other.pk)
        settlement.mark_failed(people.frank, paying.submitted(other).pk, problem="Refused")
        settlement.send_again(people.fiona, other.pk, reason="Again")
    with time_machine.travel(NOON, tick=False):
        client = client_of(people.fiona)
        html = client.get(admin_url("wallet_payout_changelist")).content.decode()
    rows = [plain(row) for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL)[1:]]
    flagged = {one.pk: row for row in rows for one in (first, moved, other) if one.reference in row}

    assert flagged[first.pk].endswith("open for 9 d anna —")
    assert flagged[moved.pk].endswith(
        "anna Another customer's address Changed address Two approvals"
    )
    assert flagged[other.pk].endswith("sonia Another customer's address Attempt 1 failed")


def test_payouts_are_found_by_reference_customer_address_and_hash_and_never_by_a_part(
    people: People,
) -> None:
    one = sent(people.anna, people.fiona, buyer=world.customer("casey", email="c@a.test"))
    settlement.mark_paid(people.fiona, one.pk, transaction_hash=HASH)
    other = asked(people.anna)

    for term in (
        *(one.reference, one.reference.lower(), f"#{one.pk}", "casey", "c@a.test"),
        *(str(one.customer_id), one.address, HASH, HASH.upper(), f"0x{HASH}"),
    ):
        assert listed(people.anna, q=term) == [one.pk], term
    for term in (one.address[:-1], HASH[:-1], "case", "PO-", "0x", "PO-999999", other.address[1:]):
        assert listed(people.anna, q=term) == [], term
    assert listed(people.anna, q=other.address) == [other.pk]


def test_payouts_are_filtered_by_what_they_wait_for_state_method_time_and_customer(
    people: People,
) -> None:
    with time_machine.travel(NOON - timedelta(days=5), tick=False):
        old = sent(people.anna, people.fiona)
    with time_machine.travel(NOON, tick=False):
        new = sent(people.anna, people.fiona, method="USDC-TRON")
        waiting = asked(people.anna, "30")
        first = asked(people.anna, "600")
        payouts.approve(people.fiona, first.pk)
        approved = asked(people.anna)
        payouts.approve(people.fiona, approved.pk)
        rejected = asked(people.anna)
        payouts.reject(people.sam, rejected.pk, reason="Not yet")
        way = PayoutMethod.objects.get(code="USDC-TRON")
        for query, found in (
            ({"waits": "approval"}, [waiting, first]),
            ({"waits": "way"}, [old, new]),
            ({"waits": "late"}, [old]),
            ({"waits": "ended"}, [rejected]),
            ({"waits": "open"}, [old, new, waiting, first, approved]),
            ({"state__exact": "approved"}, [approved]),
            ({"method__id__exact": str(way.pk)}, [new]),
            ({"customer": str(waiting.customer_id)}, [waiting]),
            ({"requested_at_to_0": "2026-06-14"}, [old]),
            ({"requested_at_from_0": "2026-06-15", "waits": "way"}, [new]),
        ):
            assert listed(people.fiona, **query) == [payout.pk for payout in found], query
    refused = client_of(people.fiona).get(
        admin_url("wallet_payout_changelist"), {"address__startswith": "T"}
    )
    assert refused.status_code == 400


def test_a_second_approval_counts_as_the_beginning_of_the_way(people: People) -> None:
    with time_machine.travel(NOON - timedelta(days=4), tick=False):
        big = asked(people.anna, "600")
        payouts.approve(people.fiona, big.pk)
    with time_machine.travel(NOON - timedelta(days=1), tick=False):
        payouts.approve(people.frank, big.pk)
        paying.exported(big)
    with time_machine.travel(NOON, tick=False):
        assert listed(people.fiona, waits="late") == []
    with time_machine.travel(NOON + timedelta(days=3), tick=False):
        assert listed(people.fiona, waits="late") == [big.pk]


def counted(person: User, *urls: str) -> list[int]:
    client = client_of(person)
    counts = []
    for url in urls:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        counts.append(len(captured))
    return counts


def test_pages_take_as_many_queries_for_many_payouts_as_for_few(people: People) -> None:
    buyer = world.customer("casey", funds="100000")
    first = asked(people.anna, "20", buyer)
    urls = [
        admin_url("wallet_payout_changelist"),
        admin_url("wallet_payout_changelist", q="casey", waits="open"),
        admin_url("wallet_payout_board"),
        admin_url("wallet_payout_board_csv"),
        admin_url("wallet_customer_change", buyer.pk),
        admin_url("wallet_wallet_change", buyer.pk),
        admin_url("index"),
    ]

    def shared_with_others(times: int) -> None:
        for _ in range(times):
            asked(people.anna, "20", buyer, address=first.address)
            asked(people.anna, "20", address=first.address)
            settled = sent(people.anna, people.fiona, "20", buyer=buyer, address=first.address)
            settlement.mark_paid(people.fiona, settled.pk, transaction_hash=f"{settled.pk:064x}")

    shared_with_others(2)
    one = admin_url("wallet_payout_change", first.pk)
    form = admin_url("wallet_payout_do", first.pk, "approve")
    few = counted(people.fiona, *urls, one, form)
    shared_with_others(10)

    assert counted(people.fiona, *urls, one, form) == few
    assert max(few) <= 30


# --- a payout's page ------------------------------------------------------------------------------


def test_a_payout_s_page_tells_all_of_it(people: People) -> None:
    with time_machine.travel(NOON, tick=False):
        buyer = world.customer("casey", funds="2000")
        first = sent(people.anna, people.fiona, "120", buyer=buyer)
        settlement.mark_paid(
            people.fiona,
            first.pk,
            transaction_hash=HASH,
            fee=Decimal("1.350000000000000001"),
            fee_currency="trx",
        )
        asked(people.sonia, "75.5", world.customer("drew"), address=first.address)
        second = asked(people.anna, "650", buyer)
    paid, waiting = page(people.fiona, first), page(people.fiona, second)

    assert facts(paid, "Payout") == {
        "Reference": first.reference,
        "State": "Paid",
        "Amount, USD": "120.0000",
        "Customer": "casey",
        "Asked for by": "anna",
        "Asked for (UTC)": "2026-06-15 12:00:00",
        "Reason": "Leaves us",
        "Attempt": "1",
    }
    assert facts(paid, "Where it goes") == {
        "Coin": "USDT (1 is 1 USD)",
        "Network": "TRON",
        "Address": first.address,
        "Memo (tag)": "—",
        "Other customers": "Gave this address too drew",
    }
    assert facts(paid, "What came of it") == {
        "Transaction hash": HASH,
        "Fee": "1.350000000000000001 TRX",
        "Result known (UTC)": "2026-06-15 12:00:00",
    }
    assert facts(paid, "The customer's wallet") == {
        "State": "Active",
        "Balance, USD": "1,230.0000",
        "Open payouts": "1",
        "Their sum, USD": "650.0000",
    }
    request, settled = PayoutMove.objects.filter(payout=first).order_by("transfer")
    assert table(paid, "Money") == [
        [
            "2026-06-15 12:00:00",
            "Payout",
            f"Wallet {buyer.pk}",
            "Payouts pending",
            "120.0000",
            f"Transfer {request.transfer_id}",
        ],
        [
            "2026-06-15 12:00:00",
            "Payout paid",
            "Payouts pending",
            "Payouts paid",
            "120.0000",
            f"Transfer {settled.transfer_id}",
        ],
    ]
    assert table(paid, "What the customer is told") == [
        ["2026-06-15 12:00:00", "Requested", "—", "Not yet"],
        ["2026-06-15 12:00:00", "Paid", HASH, "Not yet"],
    ]
    assert table(paid, "Other payouts") == [
        [
            f"Payout {second.reference}",
            "Waiting for approval",
            "650.0000",
            "USDT on TRON",
            "Another",
            "2026-06-15 12:00:00",
        ]
    ]
    assert facts(waiting, "Where it goes")["Changed"] == (
        f"Payout {first.reference} named another address"
    )
    assert facts(waiting, "Approval") == {
        "By policy": "2026-05-07, at least 20.0000 USD",
        # What the customer was sent on the same day is taken off.
        "Needs two people": "Yes: more than 380.00 USD",
        "Changed address": "Waited until 2026-06-16 12:00:00 UTC",
        "Approved by": "—",
        "Approved (UTC)": "—",
        "Second approval by": "—",
        "Second approval (UTC)": "—",
    }
    # What is copied is the address itself: nothing stands between its groups.
    shown = re.search(r'<span class="mono address">(.*?)</span></dd>', paid.content.decode())
    assert shown is not None
    assert strip_tags(shown.group(1)) == first.address


def test_money_leads_to_its_payout_and_a_customer_to_what_is_open(people: People) -> None:
    buyer = world.customer("casey", funds="2000")
    payout = asked(people.anna, "120.25", buyer)
    client = client_of(people.fiona)
    transfer = PayoutMove.objects.get(payout=payout).transfer

    line = client.get(admin_url("wallet_transfer_change", transfer.pk))
    statement = client.get(admin_url("wallet_wallet_change", buyer.pk)).context["lines"][0]
    csv_line = b"".join(client.get(admin_url("wallet_wallet_csv", buyer.pk))).decode()
    customer = client.get(admin_url("wallet_customer_change", buyer.pk))

    assert facts(line, "Transfer") | {"Posted (UTC)": ""} == {
        "What": "Payout",
        "Posted (UTC)": "",
        "Debit": f"Wallet {buyer.pk}",
        "Credit": "Payouts pending",
        "Amount, USD": "120.2500",
        "Idempotency key": f"payout:{payout.pk}:request",
    }
    assert [(link.text, link.url) for link in line.context["links"]] == [
        (str(payout), admin_url("wallet_payout_change", payout.pk))
    ]
    assert (statement["kind"], plain(statement["causes"])) == ("Payout", str(payout))
    assert (statement["debit"], statement["credit"]) == ("120.2500", "")
    assert f",Payout,{payout},120.2500,," in csv_line
    assert facts(customer, "Payouts") | {"Oldest asked for (UTC)": ""} == {
        "Not paid out yet": "1 open",
        "Their sum, USD": "120.2500",
        "Oldest asked for (UTC)": "",
    }
    assert admin_url("wallet_payout_changelist", customer=buyer.pk) in [
        link.url for link in customer.context["links"]
    ]
    payouts.reject(people.sam, payout.pk, reason="Not yet")
    customer = client.get(admin_url("wallet_customer_change", buyer.pk))
    assert facts(customer, "Payouts") == {
        "Not paid out yet": "None open",
        "Their sum, USD": "0.0000",
        "Oldest asked for (UTC)": "—",
    }


def test_the_life_of_a_payout_is_told_on_its_page_and_on_the_customer_s(people: People) -> None:
    with time_machine.travel(NOON) as clock:
        payout = asked(people.anna, "120", world.customer("casey", funds="2000"))
        for verb, by, typed in (
            (payouts.approve, people.sam, {"reason": "Called back"}),
            (paying.submitted, None, {}),
            (
                settlement.mark_paid,
                people.fiona,
                {"transaction_hash": HASH, "fee": Decimal("1.5"), "fee_currency": "TRX"},
            ),
            (
                settlement.mark_came_back,
                people.fiona,
                {"transaction_hash": HASH, "problem": "Sent back"},
            ),
            (settlement.give_back, people.frank, {"reason": "Ask for another address"}),
        ):
            clock.shift(60)
            if by is None:
                verb(payout)  # type: ignore[operator]
            else:
                verb(by, payout.pk, **typed)  # type: ignore[operator]
        clock.shift(60)
        PayoutOutcome.objects.filter(payout=payout, what="paid").update(told_at=timezone.now())
    steps = [
        (
            entry.what,
            entry.who,
            [(c.label, c.old, c.new) for c in entry.changes if c.label == "Fee"],
        )
        for entry in timeline(payout, people.fiona)[0]
    ]
    batch = payout.lines.get().batch
    expected = [
        ("Told to the customer: paid", "", []),
        ("Returned to the wallet: Ask for another address", "frank", []),
        (f"Transaction {HASH} came back: Sent back", "fiona", []),
        (f"Paid by transaction {HASH}", "fiona", [("Fee", "—", "1.5")]),
        (f"Submitted ({batch})", str(batch.submitted_by), []),
        (f"Exported ({batch})", str(batch.exported_by), []),
        ("Approved: Called back", "sam", []),
        ("Requested: Leaves us", "anna", []),
    ]
    assert steps == expected
    customer = timeline(payout.customer, people.fiona)[0]
    told = [
        entry.what
        for entry in customer
        if entry.about and entry.about.text == f"{payout} of 120.0000 USD"
    ]
    assert told == [what for what, _, _ in expected]
    stranger = User.objects.create_user("stranger", is_staff=True)
    assert all(
        "PO-" not in entry.about.text
        for entry in timeline(payout.customer, stranger)[0]
        if entry.about
    )


# --- who is offered what --------------------------------------------------------------------------


def test_each_person_is_offered_what_the_state_lets_them_do(people: People) -> None:
    small, big = asked(people.sonia), asked(people.sonia, "600")
    payouts.approve(people.fiona, big.pk)
    approved = asked(people.anna)
    payouts.approve(people.fiona, approved.pk)
    way = sent(people.anna, people.fiona)
    paid = sent(people.anna, people.fiona)
    settlement.mark_paid(people.fiona, paid.pk, transaction_hash=HASH)
    failed = sent(people.anna, people.fiona)
    settlement.mark_failed(people.fiona, failed.pk, problem="Refused")
    again = sent(people.anna, people.sam)
    settlement.mark_failed(people.frank, again.pk, problem="Refused")
    settlement.send_again(people.fiona, again.pk, reason="Again")
    ended = asked(people.anna)
    payouts.withdraw(people.anna, ended.pk)

    for payout, by_person in (
        (small, {"sonia": ["reject", "withdraw"], "sam": ["approve", "reject"], "anna": []}),
        (
            big,
            {"fiona": ["reject"], "frank": ["approve", "reject"], "sonia": ["reject", "withdraw"]},
        ),
        (approved, {"anna": [], "sam": ["reject"], "fiona": ["reject"]}),
        (way, {"anna": [], "sam": [], "fiona": ["paid", "failed"]}),
        (paid, {"anna": [], "sam": [], "fiona": ["came-back"]}),
        # Who says that it failed does not give it back, who sends it again neither approves nor
        # rejects it, and who asked for it at first takes it back no more.
        (
            failed,
            {
                "anna": [],
                "sam": [],
                "fiona": ["paid", "again"],
                "frank": ["paid", "again", "return"],
            },
        ),
        (again, {"anna": [], "fiona": [], "frank": ["approve", "reject"]}),
        (ended, {"anna": [], "sam": [], "fiona": []}),
    ):
        for name, names in (by_person | {"audrey": []}).items():
            assert offered(getattr(people, name), payout) == names, (str(payout), name)


def test_whoever_is_kept_from_an_action_is_told_why_when_they_ask_for_its_form(
    people: People,
) -> None:
    with time_machine.travel(NOON, tick=False):
        buyer = world.customer(funds="1000")
        own = asked(people.sonia, "20", buyer)
        changed = asked(people.anna, "30", buyer)
        gathered = asked(people.anna)
        payouts.approve(people.sam, gathered.pk)
        batch = batches.gather(
            people.fiona, profile="canonical", payout_ids=[gathered.pk], key=uuid4()
        )
        failed, undecided = sent(people.anna, people.sam), asked(people.anna)
        payouts.approve(people.sam, undecided.pk)
        alone = paying.exported(undecided).lines.get().batch
        for one in (failed, undecided):
            settlement.mark_failed(people.fiona, one.pk, problem="Refused")
        ended = asked(people.anna)
        payouts.withdraw(people.anna, ended.pk)
        mine = "You requested, sent again or approved this yourself, so somebody else approves it."
        waits = (
            f"The customer's address has changed: {changed} can be approved from 2026-06-16 12:00 "
            "UTC. Make sure that the customer asked for it."
        )
        exported = (
            f"{alone} is exported, and its files may yet be sent: submit it if it was handed "
            f"over, or void it. Then decide about {undecided}."
        )
        for person, payout, name, label, why in (
            (people.sonia, own, "approve", "Approve", mine),
            (people.fiona, changed, "approve", "Approve", waits),
            (
                *(people.sonia, changed, "withdraw", "Withdraw"),
                "Only the one who requested this can withdraw it. You can reject it.",
            ),
            (
                *(people.sam, gathered, "reject", "Reject"),
                f"{gathered} is gathered in {batch}: void that first, or let it be sent.",
            ),
            (
                *(people.fiona, failed, "return", "Give back"),
                "You said yourself that this failed, so somebody else gives its money back.",
            ),
            (people.frank, undecided, "again", "Send again", exported),
            (people.frank, ended, "approve", "Approve", "see below how things stand."),
        ):
            url = admin_url("wallet_payout_do", payout.pk, name)
            told = plain(client_of(person).get(url, follow=True).content.decode())
            assert f"“{label}” is not open to you here: {why}" in told, (str(payout), name)


def test_closing_a_wallet_is_offered_only_when_nothing_is_in_it_or_comes_back(
    people: People,
) -> None:
    empty, rich = world.customer(funds="0.0099"), world.customer(funds="29.5")
    leaving = world.customer(funds="50.005")
    payout = asked(people.anna, "50", leaving)
    ordering = world.customer(funds="1.5")
    world.place(ordering)

    def told(buyer: Customer) -> tuple[bool, str]:
        client = client_of(people.fiona)
        shown = client.get(admin_url("wallet_customer_change", buyer.pk)).context["actions"]
        form = client.get(admin_url("wallet_customer_do", buyer.pk, "close"), follow=True)
        said = plain(form.content.decode()).partition(
            "“Close the wallet” is not open to you here: "
        )
        return "close" in [action.name for action, _ in shown], said[2]

    assert told(empty) == (True, "")
    for buyer, why in (
        (rich, "The wallet holds 29.5000 USD: it is paid out or spent before it closes."),
        (leaving, "A payout of the customer is open: it must end before the wallet closes."),
        (ordering, "The customer has open orders: they must end before the wallet closes."),
    ):
        is_offered, said = told(buyer)
        assert not is_offered
        assert said.startswith(why)
    payouts.approve(people.fiona, payout.pk)
    settlement.mark_paid(people.fiona, paying.submitted(payout).pk, transaction_hash=HASH)
    assert told(leaving) == (True, "")


def test_whoever_marks_a_payout_as_failed_is_told_that_another_gives_it_back(
    people: People,
) -> None:
    payout = sent(people.anna, people.sam)
    url = admin_url("wallet_payout_do", payout.pk, "failed")
    typed = carried(payout, "failed") | {"problem": "Refused"}

    done = client_of(people.fiona).post(url, typed, follow=True)

    assert (
        f"{payout} has failed. You can send it again, or another person in finance gives its money "
        "back."
    ) in plain(done.content.decode())
    for person in (people.fiona, people.frank, people.anna):
        shown = facts(page(person, payout), "What came of it")
        assert shown["Gives it back"] == "Somebody in finance other than fiona"
    settlement.give_back(people.frank, payout.pk, reason="Ask again")
    assert "Gives it back" not in facts(page(people.fiona, payout), "What came of it")


def test_a_changed_address_is_not_offered_for_approval_until_it_has_waited(people: People) -> None:
    buyer = world.customer(funds="1000")
    with time_machine.travel(NOON, tick=False):
        asked(people.anna, "20", buyer)
        changed = asked(people.anna, "30", buyer)
        assert offered(people.fiona, changed) == ["reject"]
        early = do(people.fiona, changed, "approve")
    assert early.status_code == 409
    assert (
        f"The customer's address has changed: {changed} can be approved from 2026-06-16 12:00 UTC."
    ) in plain(early.content.decode())
    assert fresh(changed).state == State.REQUESTED
    with time_machine.travel(NOON + timedelta(days=1), tick=False):
        assert offered(people.fiona, changed) == ["approve", "reject"]
        assert do(people.fiona, changed, "approve").status_code == 302
    assert fresh(changed).state == State.APPROVED


def test_an_approval_above_one_s_limit_is_not_offered_and_the_page_says_why(people: People) -> None:
    payout, small = asked(people.anna, "200.01"), asked(people.anna, "20")
    boss = world.person(name="boss")

    def told(person: User, payout: Payout) -> tuple[list[str], str | None]:
        approval = facts(page(person, payout), "Approval")
        return offered(person, payout), approval.get("Not by you now")

    assert told(people.sam, payout) == (
        ["reject"],
        "Your limit for one payout is 200.0000 USD, and this is 200.0100 USD: ask somebody with a "
        "higher limit.",
    )
    assert told(boss, small) == (
        ["reject"],
        "Your limit for one payout is 0 USD, and this is 20.0000 USD: ask somebody with a higher "
        "limit.",
    )
    for person, one in ((people.sam, small), (people.fiona, payout)):
        assert told(person, one) == (["approve", "reject"], None)
    # Who may approve none is told of no limit.
    assert told(people.anna, payout) == (["withdraw"], None)


def test_the_form_says_what_whoever_approves_should_look_at(people: People) -> None:
    buyer = world.customer("casey", funds="2000")
    first = asked(people.anna, "20", buyer)
    asked(people.anna, "20", world.customer("drew"), address=first.address)
    changed = asked(people.anna, "600", buyer)

    def warned(payout: Payout, action: str) -> list[str]:
        with time_machine.travel(timezone.now() + timedelta(days=2)):
            form = client_of(people.fiona).get(admin_url("wallet_payout_do", payout.pk, action))
        html = re.findall(r'<p class="warning".*?</p>', form.content.decode(), re.DOTALL)
        assert payout.address not in "".join(html)
        return [plain(one) for one in html]

    assert warned(first, "approve") == [
        "Look closely: Another customer gave the same address: drew. Make sure that whoever asks "
        "is who the wallet belongs to."
    ]
    assert warned(changed, "approve") == [
        f"Look closely: The address has changed: {first.reference} of this customer named "
        "another one. Make sure that the customer asked for it.",
        "Look closely: This is more than 480.00 USD, so another person approves it after you.",
    ]
    assert warned(changed, "reject") == []
    rejecting = client_of(people.fiona).get(admin_url("wallet_payout_do", first.pk, "reject"))
    assert "Told to the customer, word for word" in rejecting.content.decode()


def test_whoever_approves_a_second_attempt_is_told_what_failed_before(people: People) -> None:
    with time_machine.travel(NOON, tick=False):
        came_back, refused = (sent(people.anna, people.sam) for _ in range(2))
        settlement.mark_paid(people.fiona, came_back.pk, transaction_hash=HASH)
        paying.came_back(people.fiona, came_back, "The exchange sent it back")
        settlement.mark_failed(people.frank, refused.pk, problem="Refused")
        for one in (came_back, refused):
            assert "Attempt 1" not in facts(page(people.sam, one), "Approval")
            settlement.send_again(people.fiona, one.pk, reason="Again")

    def told(payout: Payout) -> tuple[dict[str, str], list[str]]:
        shown = facts(page(people.frank, payout), "Approval")
        form = client_of(people.frank).get(admin_url("wallet_payout_do", payout.pk, "approve"))
        names = ("Attempt 1", "What went wrong then", "Transaction hash then")
        return {name: shown[name] for name in names}, list(form.context["warnings"])

    assert told(came_back) == (
        {
            "Attempt 1": "Failed at 2026-06-15 12:00:00 UTC, said fiona",
            "What went wrong then": "The exchange sent it back",
            "Transaction hash then": HASH,
        },
        [
            "Attempt 1 failed at 2026-06-15 12:00:00 UTC: “The exchange sent it back”. It was sent "
            f"by transaction {HASH}. Make sure that it did not arrive: the money is paid twice "
            "otherwise."
        ],
    )
    assert told(refused) == (
        {
            "Attempt 1": "Failed at 2026-06-15 12:00:00 UTC, said frank",
            "What went wrong then": "Refused",
            "Transaction hash then": "—",
        },
        [
            "Attempt 1 failed at 2026-06-15 12:00:00 UTC: “Refused”. Make sure that it did not "
            "arrive: the money is paid twice otherwise."
        ],
    )


def test_whoever_marks_a_second_attempt_as_paid_is_told_that_the_first_may_have_arrived(
    people: People,
) -> None:
    payout = sent(people.anna, people.sam)

    def warned() -> list[str]:
        form = client_of(people.fiona).get(admin_url("wallet_payout_do", payout.pk, "paid"))
        return list(form.context["warnings"])

    assert warned() == []
    for attempt, earlier in ((2, "attempt 1"), (3, "an earlier one")):
        settlement.mark_failed(people.fiona, payout.pk, problem="They called")
        settlement.send_again(people.fiona, payout.pk, reason="Again")
        payouts.approve(people.sam, payout.pk)
        paying.submitted(payout)
        assert warned() == [
            f"This is attempt {attempt}: if the transaction is of {earlier}, two transactions pay "
            "it. Look up both on the network."
        ]


def test_a_hash_of_another_payout_is_taken_only_when_it_is_said_that_it_paid_both(
    people: People,
) -> None:
    theirs = sent(people.anna, people.fiona, buyer=world.customer("casey", funds="100"))
    other, payout = (sent(people.anna, people.fiona) for _ in range(2))
    settlement.mark_paid(people.fiona, theirs.pk, transaction_hash=HASH)
    settlement.mark_paid(people.fiona, other.pk, transaction_hash=OTHER_HASH)
    before = everything()
    box = f'type="checkbox" name="shared" value="{HASH}"'

    first = do(people.fiona, payout, "paid", transaction_hash=HASH)
    again = do(people.fiona, payout, "paid", transaction_hash=HASH, shared="")
    # Said of one hash, it is not said of the next.
    changed = do(people.fiona, payout, "paid", transaction_hash=HASH, shared=OTHER_HASH)

    for refused in (first, again, changed):
        html = refused.content.decode()
        assert refused.status_code == 422
        assert (
            f"Transaction {HASH} is on other payouts already: {theirs.reference} of casey. Look at "
            "it on the network, and say so if it paid these too."
        ) in plain(html)
        assert "It paid these too" in plain(html)
        assert box in html
        assert not re.search(r"\schecked(\s|$)", html.split(box)[1].split(">")[0])
    assert everything() == before

    told = do(people.fiona, payout, "paid", transaction_hash=HASH, shared=HASH)
    assert told.status_code == 302
    assert (fresh(payout).state, fresh(payout).transaction_hash) == (State.PAID, HASH)


def test_a_transaction_of_several_payouts_is_remarked_on(people: People) -> None:
    one, two, three, other = (sent(people.anna, people.fiona) for _ in range(4))
    settlement.mark_paid(people.fiona, one.pk, transaction_hash=HASH)
    settlement.mark_paid(people.fiona, other.pk, transaction_hash=OTHER_HASH)
    assert "One transaction" not in facts(page(people.fiona, one), "What came of it")

    def remark() -> str:
        return facts(page(people.fiona, one), "What came of it")["One transaction"]

    settlement.mark_paid(people.fiona, two.pk, transaction_hash=HASH, shared=True)
    assert remark() == "The same transaction hash is on 1 other payout List"
    few = counted(people.fiona, admin_url("wallet_payout_change", one.pk))
    settlement.mark_paid(people.fiona, three.pk, transaction_hash=HASH, shared=True)
    assert remark() == "The same transaction hash is on 2 other payouts List"
    assert counted(people.fiona, admin_url("wallet_payout_change", one.pk)) == few
    listing = admin_url("wallet_payout_changelist", q=HASH)
    assert f'href="{listing}"' in unescape(page(people.fiona, one).content.decode())
    assert listed(people.fiona, q=HASH) == [one.pk, two.pk, three.pk]
    assert "One transaction" not in facts(page(people.fiona, other), "What came of it")


def test_what_failed_in_a_batch_that_was_not_handed_over_is_not_offered_to_be_decided(
    people: People,
) -> None:
    payout = asked(people.anna)
    payouts.approve(people.sam, payout.pk)
    batch = paying.exported(payout).lines.get(live=True).batch
    settlement.mark_failed(people.fiona, payout.pk, problem="Refused")

    assert offered(people.fiona, payout) == ["paid"]
    assert offered(people.frank, payout) == ["paid"]
    assert facts(page(people.frank, payout), "What came of it")["Cannot be decided yet"] == (
        f"{batch} is exported, and its files may yet be sent: submit it if it was handed over, or "
        f"void it. Then decide about {payout}."
    )
    batches.submit(people.fiona, batch.pk)
    assert offered(people.fiona, payout) == ["paid", "again"]
    assert offered(people.frank, payout) == ["paid", "again", "return"]
    assert "Cannot be decided yet" not in facts(page(people.frank, payout), "What came of it")


def test_giving_back_is_not_offered_to_who_uploaded_the_file_by_which_it_failed(
    people: People,
) -> None:
    payout = sent(people.anna, people.sam)
    row = (payout.reference, "failed", "", f"{payout.amount:.2f}", "USDT", payout.address)
    file = results.upload(people.fiona, name="r.csv", content=as_csv(HEADER, row), key=uuid4())
    results.apply(people.frank, file.pk)

    assert offered(people.fiona, payout) == ["paid", "again"]
    assert offered(people.frank, payout) == ["paid", "again"]
    refused = do(people.fiona, payout, "return", reason="Give another")
    assert refused.status_code == 403
    assert f"You uploaded result file {file.pk}, by which this failed" in plain(
        refused.content.decode()
    )
    assert offered(world.person(FINANCE), payout) == ["paid", "again", "return"]


# --- actions --------------------------------------------------------------------------------------


def test_two_people_approve_what_is_above_the_amount(people: People) -> None:
    big = asked(people.anna, "600")

    done = do(people.fiona, big, "approve", reason="Called back")
    again = do(people.fiona, big, "approve")
    second = do(people.frank, big, "approve")

    assert (done.status_code, again.status_code, second.status_code) == (302, 403, 302)
    assert (
        "You requested, sent again or approved this yourself, so somebody else approves it."
        in plain(again.content.decode())
    )
    now = fresh(big)
    assert (now.state, now.approved_by, now.second_by) == (
        State.APPROVED,
        people.fiona,
        people.frank,
    )


def test_who_requested_it_never_approves_it(people: People) -> None:
    own = asked(people.sonia)
    before = everything()

    form = client_of(people.sonia).get(admin_url("wallet_payout_do", own.pk, "approve"))
    forged = do(people.sonia, own, "approve")

    assert form.status_code == 302
    assert forged.status_code == 403
    assert "somebody else approves it" in plain(forged.content.decode())
    assert everything() == before


def test_a_rejected_payout_s_money_returns_and_the_customer_is_told_why(people: People) -> None:
    payout = asked(people.anna, "50", world.customer(funds="100"))
    assert balance(payout) == Decimal("50.0000")

    empty = do(people.sam, payout, "reject", reason=" ")
    done = do(people.sam, payout, "reject", reason="Verify your email first")

    assert (empty.status_code, done.status_code) == (422, 302)
    assert (fresh(payout).state, balance(payout)) == (State.REJECTED, Decimal("100.0000"))
    assert PayoutOutcome.objects.get(what="rejected").detail == "Verify your email first"


def test_only_who_requested_it_withdraws_it(people: People) -> None:
    payout = asked(people.anna, "50", world.customer(funds="100"))

    other = do(people.sam, payout, "withdraw")
    own = do(people.anna, payout, "withdraw")

    assert (other.status_code, own.status_code) == (403, 302)
    assert (fresh(payout).state, balance(payout)) == (State.WITHDRAWN, Decimal("100.0000"))


def test_rejecting_says_where_the_money_of_a_terminated_customer_is(people: People) -> None:
    payout = asked(people.anna, "50", world.customer(funds="100"))
    payouts.approve(people.sam, payout.pk)
    paying.exported(payout)
    ended = termination.request(people.sonia, payout.customer_id, reason="Resold", key=uuid4())
    termination.confirm(people.fiona, ended.pk)
    paying.voided(payout)
    person = client_of(people.frank)

    done = person.post(
        admin_url("wallet_payout_do", payout.pk, "reject"),
        carried(payout, "reject") | {"reason": "The account has ended"},
        follow=True,
    )

    assert [str(message) for message in done.context["messages"]] == [
        f"{payout} is forfeited: the customer was terminated meanwhile."
    ]
    assert fresh(payout).state == State.FORFEITED


def test_finance_says_what_became_of_a_payout_and_what_follows(people: People) -> None:
    payout = sent(people.anna, people.sam, "50", buyer=world.customer(funds="100"))

    wrong = do(people.fiona, payout, "paid", transaction_hash="not one")
    fee = do(people.fiona, payout, "paid", transaction_hash=HASH, fee="1.5")
    paid = do(people.fiona, payout, "paid", transaction_hash=HASH, fee="1.5", fee_currency="TRX")
    same = do(people.fiona, payout, "paid", transaction_hash=HASH)
    other = do(people.fiona, payout, "paid", transaction_hash=OTHER_HASH)

    assert [one.status_code for one in (wrong, fee, paid, same, other)] == [
        *(422, 422, 302, 302, 409),
    ]
    assert "named by 64 hexadecimal digits" in plain(wrong.content.decode())
    assert "A fee names its currency, as TRX." in plain(fee.content.decode())
    assert f"was paid by transaction {HASH}, not by" in plain(other.content.decode())
    now = fresh(payout)
    assert (now.state, now.transaction_hash, now.fee, now.fee_currency) == (
        State.PAID,
        HASH,
        Decimal("1.5"),
        "TRX",
    )

    assert do(people.fiona, payout, "failed", problem="Came back").status_code == 409
    assert do(people.fiona, payout, "came-back", problem="Came back").status_code == 302
    assert do(people.fiona, payout, "again", reason="It was down").status_code == 302
    assert (fresh(payout).state, fresh(payout).attempt) == (State.REQUESTED, 2)
    assert do(people.frank, payout, "approve").status_code == 302
    paying.submitted(payout)
    assert do(people.fiona, payout, "failed", problem="Refused").status_code == 302
    own = do(people.fiona, payout, "return", reason="Give another")
    assert own.status_code == 403
    assert "You said yourself that this failed, so somebody else gives its money back." in plain(
        own.content.decode()
    )
    assert do(people.frank, payout, "return", reason="Give another").status_code == 302
    assert (fresh(payout).state, balance(payout)) == (State.RETURNED, Decimal("100.0000"))


def test_a_stale_tab_and_a_form_sent_twice_decide_once(people: People) -> None:
    payout = asked(people.anna, "50", world.customer(funds="100"))
    url = {name: admin_url("wallet_payout_do", payout.pk, name) for name in ("approve", "reject")}
    first, stale = client_of(people.sam), client_of(people.fiona)
    typed = {name: carried(payout, name) | {"reason": "Looked at it"} for name in url}
    assert first.get(url["approve"]).status_code == 200
    assert stale.get(url["reject"]).status_code == 200

    answers = [
        first.post(url["approve"], typed["approve"]).status_code,
        first.post(url["approve"], typed["approve"]).status_code,
    ]
    paying.exported(payout)
    late = stale.post(url["reject"], typed["reject"])

    assert answers == [302, 409]
    assert late.status_code == 409
    said = plain(late.content.decode())
    assert f"{payout} has changed since you looked at it, so nothing was done." in said
    assert "Meanwhile: sam: Approved: Looked at it (" in said
    # Of what the row is now there is nothing to reject.
    assert b'type="submit" class="button">Reject' not in late.content
    assert f"{payout} is “Exported” by now: look at it again." in plain(
        do(people.fiona, payout, "reject", reason="Looked at it").content.decode()
    )
    now = fresh(payout)
    assert (now.state, now.approved_by, balance(payout)) == (
        State.EXPORTED,
        people.sam,
        Decimal("50.0000"),
    )
    assert Payout.history.filter(id=payout.pk, approved_by=people.sam).count() == 2


def test_what_a_wallet_s_state_refuses_is_said_above_the_form(people: People) -> None:
    payout = asked(people.anna)
    standing.freeze(people.fiona, payout.customer_id, reason="Asked by the bank")

    refused = do(people.fiona, payout, "approve")

    assert refused.status_code == 403
    assert f"Wallet {payout.customer_id} is frozen, so nothing is paid out of it" in plain(
        refused.content.decode()
    )
    assert fresh(payout).state == State.REQUESTED


def test_neither_a_get_nor_a_forged_post_changes_a_payout(people: People) -> None:
    way, waiting = sent(people.anna, people.fiona), asked(people.anna)
    failed = sent(people.anna, people.fiona)
    settlement.mark_failed(people.fiona, failed.pk, problem="Refused")
    typed = {
        "key": str(uuid4()),
        "reason": "Forged",
        "problem": "Forged",
        "transaction_hash": HASH,
    }
    before = everything()

    for person, payout, names in (
        (people.frank, waiting, ("approve", "reject")),
        (people.anna, waiting, ("withdraw",)),
        (people.fiona, way, ("paid", "failed")),
        (people.frank, failed, ("paid", "again", "return")),
    ):
        strict = client_of(person, enforce_csrf_checks=True)
        for name in names:
            url = admin_url("wallet_payout_do", payout.pk, name)
            assert strict.get(url, typed).status_code == 200, name
            assert strict.post(url, typed).status_code == 403, name
    assert everything() == before


# --- the board ------------------------------------------------------------------------------------


def busy(people: People) -> dict[str, Payout]:
    """Payouts of several ages, states and methods, as of NOON."""
    found = {}
    with time_machine.travel(NOON - timedelta(days=40), tick=False):
        found["ancient"] = sent(people.anna, people.fiona, "41")
    with time_machine.travel(NOON - timedelta(days=8), tick=False):
        found["older"] = sent(people.anna, people.fiona, "100", method="USDC-TRON")
        paid = sent(people.anna, people.fiona, "70")
        settlement.mark_paid(people.fiona, paid.pk, transaction_hash=HASH)
    with time_machine.travel(NOON - timedelta(days=7), tick=False):
        found["week"] = asked(people.anna, "20.01")
    with time_machine.travel(NOON - timedelta(days=2), tick=False):
        found["two"] = asked(people.anna, "30")
        failed = sent(people.anna, people.fiona, "55")
        settlement.mark_failed(people.fiona, failed.pk, problem="Refused")
    with time_machine.travel(NOON.replace(hour=0), tick=False):
        found["today"] = asked(people.anna, "25", method="USDC-TRON")
        back = asked(people.anna, "33")
        payouts.reject(people.sam, back.pk, reason="No")
    return found


def test_the_board_adds_up_what_is_open_and_each_figure_opens_its_list(people: People) -> None:
    busy(people)
    with time_machine.travel(NOON, tick=False):
        response = client_of(people.fiona).get(admin_url("wallet_payout_board"))
        context = response.context

        def row(of: dict[str, Any]) -> tuple[str, str, str]:
            return of["count"], of["amount"], plain(of["oldest"])

        assert row(context["all"]) == ("6", "271.0100", "2026-05-06 12:00:00")
        assert {plain(one["badge"]): row(one) for one in context["states"]} == {
            "Waiting for approval": ("3", "75.0100", "2026-06-08 12:00:00"),
            "Waiting for a second approval": ("0", "0.0000", "—"),
            "Approved": ("0", "0.0000", "—"),
            "Exported": ("0", "0.0000", "—"),
            "Submitted": ("2", "141.0000", "2026-05-06 12:00:00"),
            "Failed, to be decided": ("1", "55.0000", "2026-06-13 12:00:00"),
        }
        assert [(one["label"], *row(one)[:2]) for one in context["ages"]] == [
            ("Today", "1", "25.0000"),
            ("1 to 2 days", "2", "85.0000"),
            ("3 to 7 days", "1", "20.0100"),
            ("Older", "2", "141.0000"),
        ]
        assert {one["label"]: row(one)[:2] for one in context["methods"]} == {
            "USDC on ETHEREUM": ("0", "0.0000"),
            "USDC on TRON": ("2", "125.0000"),
            "USDT on ETHEREUM": ("0", "0.0000"),
            "USDT on TRON": ("4", "146.0100"),
        }
        assert {plain(one["badge"]): row(one)[:2] for one in context["ended"]} == {
            "Paid": ("1", "70.0000"),
            "Returned to the wallet": ("0", "0.0000"),
            "Rejected": ("1", "33.0000"),
            "Withdrawn": ("0", "0.0000"),
            "Forfeited": ("0", "0.0000"),
        }
        assert row(context["still_open"])[:2] == ("5", "230.0100")
        assert row(context["asked"])[:2] == ("7", "333.0100")

        figures = [
            context["all"],
            context["still_open"],
            context["asked"],
            *context["ages"],
            *context["states"],
            *context["methods"],
            *context["ended"],
            *(cell for one in context["states"] for cell in one["ages"]),
            *(cell for one in context["methods"] for cell in one["columns"]),
        ]
        client = client_of(people.fiona)
        html = unescape(response.content.decode())
        for figure in figures:
            assert bool(figure["url"]) == (figure["count"] != "0")
            if figure["url"]:
                assert f'href="{figure["url"]}"' in html
                behind = client.get(figure["url"]).context["cl"].result_list
                assert f"{len(behind):,}" == figure["count"], figure["url"]
                assert f"{sum(one.amount for one in behind):,.4f}" == figure["amount"]


def test_the_board_s_csv_has_its_figures_in_their_finest_groups(people: People) -> None:
    busy(people)
    with time_machine.travel(NOON, tick=False):
        answer = client_of(people.audrey).get(
            admin_url("wallet_payout_board_csv", since="2026-06-01", until="2026-06-30")
        )
        rows = list(csv.reader(io.StringIO(b"".join(answer).decode())))

    assert answer["Content-Disposition"] == (
        'attachment; filename="payouts_board_2026-06-01_2026-06-30.csv"'
    )
    period = ["2026-06-01", "2026-06-30"]
    ended = "asked for in the period"
    assert rows == [
        [
            *("part", "state", "method", "days_open", "payouts", "usd", "oldest_asked_for"),
            *("asked_since", "asked_until"),
        ],
        ["open", "requested", "USDC-TRON", "today", "1", "25.0000", "2026-06-15T00:00:00Z", "", ""],
        ["open", "requested", "USDT-TRON", "1-2", "1", "30.0000", "2026-06-13T12:00:00Z", "", ""],
        ["open", "requested", "USDT-TRON", "3-7", "1", "20.0100", "2026-06-08T12:00:00Z", "", ""],
        [
            "open",
            "submitted",
            "USDC-TRON",
            "older",
            "1",
            "100.0000",
            "2026-06-07T12:00:00Z",
            "",
            "",
        ],
        ["open", "submitted", "USDT-TRON", "older", "1", "41.0000", "2026-05-06T12:00:00Z", "", ""],
        ["open", "failed", "USDT-TRON", "1-2", "1", "55.0000", "2026-06-13T12:00:00Z", "", ""],
        [ended, "requested", "", "", "3", "75.0100", "2026-06-08T12:00:00Z", *period],
        [ended, "submitted", "", "", "1", "100.0000", "2026-06-07T12:00:00Z", *period],
        [ended, "paid", "", "", "1", "70.0000", "2026-06-07T12:00:00Z", *period],
        [ended, "failed", "", "", "1", "55.0000", "2026-06-13T12:00:00Z", *period],
        [ended, "rejected", "", "", "1", "33.0000", "2026-06-15T00:00:00Z", *period],
    ]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"since": "2026-06-02", "until": "2026-06-01"}, "The first day is after the last."),
        ({"since": "2024-06-01", "until": "2026-06-01"}, "Choose at most 366 days."),
        ({"since": "yesterday"}, "Enter a valid date."),
        ({"until": "9999-01-01"}, "Choose a day between the years 2000 and 2999."),
    ],
)
def test_a_period_that_is_none_is_refused_in_words(
    query: dict[str, str], words: str, people: People
) -> None:
    client = client_of(people.fiona)
    shown = client.get(admin_url("wallet_payout_board"), query)
    assert shown.status_code == 400
    assert words in shown.content.decode()
    assert client.get(admin_url("wallet_payout_board_csv"), query).status_code == 400


def test_the_board_of_a_shop_without_payouts_says_so(people: People) -> None:
    html = client_of(people.fiona).get(admin_url("wallet_payout_board")).content.decode()

    assert "No payout is open: nobody waits for money from us." in html
    assert "No payout was asked for in these days." in html
    assert "chart" not in html.split("content-main")[1].split("</form>")[0]


def test_the_board_takes_no_post(people: People) -> None:
    for name in ("wallet_payout_board", "wallet_payout_board_csv"):
        assert client_of(people.fiona).post(admin_url(name)).status_code == 405


# --- the front page -------------------------------------------------------------------------------


def front(person: User) -> dict[str, int] | None:
    shown = client_of(person).get(admin_url("index")).context["payouts"]
    return shown and {item["label"]: item["count"] for item in shown["items"]}


def test_the_front_page_tells_each_what_waits_for_them(people: People) -> None:
    with time_machine.travel(NOON - timedelta(days=4), tick=False):
        sent(people.anna, people.fiona)
    with time_machine.travel(NOON, tick=False):
        asked(people.anna)
        payouts.approve(people.fiona, asked(people.anna, "600").pk)
        payouts.approve(people.fiona, asked(people.anna).pk)
        failed = sent(people.anna, people.fiona)
        settlement.mark_failed(people.fiona, failed.pk, problem="Refused")

        assert front(people.sam) == {"Waiting for approval": 2}
        assert front(people.fiona) == {
            "Waiting for approval": 2,
            "Approved, not exported": 1,
            "On their way for over 3 days": 1,
            "Failed, to be decided": 1,
        }
        assert front(people.anna) is None
        assert front(people.audrey) is None
        for item in client_of(people.fiona).get(admin_url("index")).context["payouts"]["items"]:
            found = client_of(people.fiona).get(item["url"]).context["cl"].result_count
            assert found == item["count"], item["label"]


# --- the methods ----------------------------------------------------------------------------------

SOLANA = {
    "code": "USDC-SOLANA",
    "currency": "USDC",
    "network": "SOLANA",
    "address_format": "solana",
    "memo_rule": "optional",
    "coinspaid_code": "",
    "inqud_code": "SOLANA_USDC",
    "enabled": "on",
    "reason": "Customers ask for it",
}


def test_an_administrator_adds_a_method_with_its_history() -> None:
    client = client_of(world.person(name="boss"))

    assert client.post(admin_url("wallet_payoutmethod_add"), SOLANA).status_code == 302

    method = PayoutMethod.objects.get(code="USDC-SOLANA")
    step = method.history.get()
    assert (step.history_actor, step.history_change_reason) == ("boss", "Customers ask for it")
    assert (step.inqud_code, step.enabled) == ("SOLANA_USDC", True)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"code": "usdc solana"}, "Capital letters, digits, - and _, as USDT-TRON."),
        ({"currency": "=USDC"}, "Capital letters and digits, as USDT."),
        ({"network": "SOL ANA"}, "Capital letters, digits, - and _, as TRON."),
        ({"inqud_code": "+SOL"}, "Capital letters, digits, - and _, as TRON_USDT."),
        ({"code": "USDT-TRON"}, "Payout method with this Code already exists."),
        (
            {"currency": "USDT", "network": "TRON"},
            "There is a payout method of this currency on this network already.",
        ),
        ({"reason": ""}, "This field is required."),
    ],
)
def test_a_method_that_is_none_is_refused_in_words(wrong: dict[str, str], words: str) -> None:
    client = client_of(world.person(name="boss"))

    refused = client.post(admin_url("wallet_payoutmethod_add"), SOLANA | wrong)

    assert refused.status_code == 200
    assert words in unescape(refused.content.decode())
    assert "Constraint" not in unescape(refused.content.decode())
    assert PayoutMethod.objects.count() == 4


def test_a_method_s_coin_and_network_stay_and_the_rest_changes_with_a_reason() -> None:
    client = client_of(world.person(name="boss"))
    method = PayoutMethod.objects.get(code="USDC-TRON")
    url = admin_url("wallet_payoutmethod_change", method.pk)
    typed = SOLANA | {"coinspaid_code": "USDCT", "reason": "CoinsPaid has it now"}
    del typed["enabled"]

    assert client.post(url, typed | {"reason": ""}).status_code == 200
    assert client.post(url, typed).status_code == 302

    now = PayoutMethod.objects.get(pk=method.pk)
    assert (now.code, now.currency, now.network, now.address_format) == (
        *("USDC-TRON", "USDC", "TRON", "tron"),
    )
    assert (now.memo_rule, now.coinspaid_code, now.inqud_code, now.enabled) == (
        *("optional", "USDCT", "SOLANA_USDC", False),
    )
    last = now.history.order_by("-history_id").first()
    assert (last.history_actor, last.history_change_reason) == ("boss", "CoinsPaid has it now")
    assert now.history.count() == 3
    assert "CoinsPaid has it now" in client.get(url).content.decode()


def test_a_method_s_fixed_fields_are_refused_by_the_verb_too() -> None:
    method = PayoutMethod.objects.get(code="USDC-TRON")
    method.network = "ETHEREUM"
    with pytest.raises(methods.MethodFixed):
        methods.save(method, ["network"], person=world.person(), reason="Moved")
    assert PayoutMethod.objects.get(pk=method.pk).network == "TRON"


def test_whoever_sees_methods_and_may_not_change_them_is_asked_for_no_reason(
    people: People,
) -> None:
    method = PayoutMethod.objects.get(code="USDC-TRON")
    url = admin_url("wallet_payoutmethod_change", method.pk)
    for person in (people.anna, people.sonia, people.fiona, people.audrey):
        shown = client_of(person).get(url)
        assert shown.status_code == 200
        html = shown.content.decode()
        assert "USDC-TRON" in html
        assert "Reason for this change" not in html
        assert 'name="_save"' not in html
        assert client_of(person).post(url, SOLANA).status_code == 403
        assert client_of(person).post(admin_url("wallet_payoutmethod_add"), SOLANA).status_code == (
            403
        )
    assert PayoutMethod.objects.count() == 4
