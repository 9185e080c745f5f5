"""Result files: planned, applied once, and refused where they do not agree with what we sent."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext

from wallet import batches, payouts, results, settlement
from wallet.deciding import OwnRequest, RequestConflict
from wallet.models import Payout, ResultFile, ResultLine, Transfer
from wallet.results import ResultFileRefused, ResultFileUnknown, Verdict
from wallet.resultsheets import SheetRefused
from wallet.tests import paying, world
from wallet.tests.paying import Crew, taken_to, tron
from wallet.tests.test_resultsheets import as_csv, as_xlsx

pytestmark = pytest.mark.django_db

HEADER = ("reference", "status", "transaction_hash", "amount", "currency", "address")
MORE = ("fee", "fee_currency", "reason")
CAME_BACK = "it was paid by this transaction and came back since: settle it by hand"
NOT_OF_THE_SECOND = (
    "this is attempt 2, and the file may mean an earlier one: if this one failed, settle it by hand"
)
ETHEREUM = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture(autouse=True)
def committed():
    """What a test leaves behind would have been committed."""
    yield
    if not connection.needs_rollback:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def on_its_way(people: Crew, number: int = 1, state: str = "submitted", **terms: Any) -> Payout:
    return taken_to(state, people, world.customer("1000"), **({"address": tron(number)} | terms))


def hash_of(payout: Payout) -> str:
    return f"{payout.pk + 7:064x}"


def said(payout: Payout, status: str = "paid", **cells: str) -> tuple[str, ...]:
    """A row that is right, but for what is named."""
    row = {
        "reference": payout.reference,
        "status": status,
        "transaction_hash": hash_of(payout) if status == "paid" else "",
        "amount": f"{payout.amount:.2f}",
        "currency": payout.method.currency,
        "address": payout.address,
        "fee": "",
        "fee_currency": "",
        "reason": "",
    }
    return tuple((row | cells).values())


def sent(people: Crew, *rows: tuple[str, ...], name: str = "results.csv") -> ResultFile:
    content = as_csv(HEADER + MORE, *rows)
    return results.upload(people.finance, name=name, content=content, key=uuid4())


def planned(file: ResultFile) -> dict[int, tuple[Verdict, str]]:
    return {row.number: (row.verdict, row.why) for row in results.plan(file).rows}


def sent_again(people: Crew, payout: Payout) -> None:
    """Its next attempt is on its way."""
    settlement.send_again(people.finance, payout.pk, reason="Again")
    payouts.approve(people.other, payout.pk)
    paying.submitted(payout)


def states(*found: Payout) -> list[str]:
    return [Payout.objects.get(pk=payout.pk).state for payout in found]


# --- uploading ---


def test_the_same_bytes_are_the_same_file_whoever_sends_them(people):
    payout = on_its_way(people)
    content = as_csv(HEADER, said(payout)[:6])
    key = uuid4()

    first = results.upload(people.finance, name="../a\u202eb.csv", content=content, key=key)
    again = results.upload(people.finance, name="a.csv", content=content, key=key)
    theirs = results.upload(people.other, name="c.csv", content=content, key=uuid4())

    assert first == again == theirs
    assert (first.name, first.size, bytes(first.content)) == ("ab.csv", len(content), content)
    assert ResultFile.objects.count() == 1
    with pytest.raises(RequestConflict):
        results.upload(people.finance, name="a.csv", content=content + b"\r\n", key=key)
    assert states(payout) == ["submitted"]


def test_what_is_no_result_file_is_not_kept(people):
    for content, error in (
        (b"", ResultFileRefused),
        (b"x" * 2_000_001, ResultFileRefused),
        (b"a,b\r\n1,2\r\n", SheetRefused),
    ):
        with pytest.raises(error):
            results.upload(people.finance, name="x", content=content, key=uuid4())
    for role in ("Support agent", "Senior agent", "Auditor"):
        with pytest.raises(PermissionDenied):
            results.upload(world.person(role), name="x", content=b"x", key=uuid4())
        with pytest.raises(PermissionDenied):
            results.apply(world.person(role), 1)
    with pytest.raises(ResultFileUnknown):
        results.apply(people.finance, 10**9)
    assert ResultFile.objects.count() == 0


# --- applying ---


def test_a_plan_changes_nothing_and_applying_does_what_it_says(people):
    paid, failed, waits = (on_its_way(people, n) for n in (1, 2, 3))
    file = sent(
        people,
        said(paid, fee="1.25", fee_currency="trx"),
        said(failed, "FAILED", reason="No such account"),
        said(waits, "Processing"),
    )

    assert planned(file) == {
        2: (Verdict.PAY, ""),
        3: (Verdict.FAIL, "No such account"),
        4: (Verdict.PENDING, "the file says “processing”"),
    }
    assert states(paid, failed, waits) == ["submitted"] * 3

    results.apply(people.finance, file.pk)

    assert states(paid, failed, waits) == ["paid", "failed", "submitted"]
    paid = Payout.objects.get(pk=paid.pk)
    assert (paid.transaction_hash, paid.fee, paid.fee_currency) == (
        *(hash_of(paid), Decimal("1.25"), "TRX"),
    )
    assert Payout.objects.get(pk=failed.pk).problem == "No such account"
    assert (paying.pending(), paying.paid()) == (Decimal(100), Decimal(50))
    assert paying.outcomes(paid)[-1] == ("paid", hash_of(paid))
    assert Payout.history.filter(id=paid.pk).latest("history_id").history_change_reason == (
        f"Paid by transaction {hash_of(paid)}: Result file {file.pk}: results.csv, row 2"
    )
    assert list(file.lines.order_by("row").values_list("row", "outcome", "detail", "attempt")) == [
        (2, "paid", hash_of(paid), 1),
        (3, "failed", "No such account", 1),
    ]
    assert planned(file) == {
        2: (Verdict.DONE, "Paid"),
        3: (Verdict.DONE, "Failed"),
        4: (Verdict.PENDING, "the file says “processing”"),
    }


def test_a_transaction_of_other_customers_outside_the_file_is_remarked_on_and_not_refused(people):
    elsewhere, own_before, one, two, own = (on_its_way(people, n) for n in range(1, 6))
    mine = paying.asked(people.agent, own_before.customer, address=tron(9))
    with time_machine.travel(mine.not_before + timedelta(seconds=1)):
        mine = paying.submitted(paying.approved(people, mine))
    shared, together, alone = (digits * 64 for digits in "abc")
    settlement.mark_paid(people.finance, elsewhere.pk, transaction_hash=shared)
    settlement.mark_paid(people.finance, own_before.pk, transaction_hash=alone)
    file = sent(
        people,
        said(one, transaction_hash=together),
        said(two, transaction_hash=together),
        # The customer's own payout to another address.
        said(mine, transaction_hash=alone),
        said(own, transaction_hash=shared),
    )

    plan = results.plan(file)

    # It comes first of those that will be paid.
    assert [(row.number, row.verdict, row.remark) for row in plan.rows] == [
        (
            5,
            Verdict.PAY,
            "the same transaction hash is on payouts of other customers, outside this file: "
            f"{elsewhere.reference}",
        ),
        *((number, Verdict.PAY, "") for number in (2, 3, 4)),
    ]
    assert (plan.shared, plan.again) == (1, 0)
    results.apply(people.finance, file.pk)
    assert states(one, two, mine, own) == ["paid"] * 4
    assert results.plan(file).shared == 0


def test_a_remark_names_five_payouts_and_counts_the_others(people):
    paid = [on_its_way(people, number) for number in range(1, 8)]
    for payout in paid:
        settlement.mark_paid(people.finance, payout.pk, transaction_hash="a" * 64, shared=True)
    file = sent(people, said(on_its_way(people, 8), transaction_hash="a" * 64))

    [row] = results.plan(file).rows

    assert row.remark.endswith(f": {', '.join(payout.reference for payout in paid[:5])} and 2 more")


def test_what_was_sent_again_is_remarked_on_before_a_file_pays_it(people):
    once, twice, thrice = (on_its_way(people, number) for number in (1, 2, 3))
    elsewhere = on_its_way(people, 4)
    for payout in (twice, thrice, thrice):
        settlement.mark_failed(people.finance, payout.pk, problem="They called")
        sent_again(people, payout)
    settlement.mark_paid(people.finance, elsewhere.pk, transaction_hash="a" * 64)
    settlement.mark_failed(people.finance, thrice.pk, problem="They called")
    file = sent(people, said(once), said(twice), said(thrice, transaction_hash="a" * 64))

    plan = results.plan(file)

    assert [(row.number, row.verdict, row.remark) for row in plan.rows] == [
        (
            3,
            Verdict.PAY,
            "this is attempt 2: if the report is of attempt 1, two transactions pay it",
        ),
        (
            4,
            Verdict.PAY,
            "this is attempt 3: if the report is of an earlier one, two transactions pay it; the "
            "same transaction hash is on payouts of other customers, outside this file: "
            f"{elsewhere.reference}",
        ),
        (2, Verdict.PAY, ""),
    ]
    assert (plan.shared, plan.again) == (1, 2)
    results.apply(people.finance, file.pk)
    assert states(once, twice, thrice) == ["paid"] * 3
    assert results.plan(file).again == 0


def test_only_what_pays_is_remarked_on_as_sent_again(people):
    paid, waits, refused = (on_its_way(people, number) for number in (1, 2, 3))
    for payout in (paid, waits, refused):
        settlement.mark_failed(people.finance, payout.pk, problem="They called")
        sent_again(people, payout)
    settlement.mark_paid(people.finance, paid.pk, transaction_hash=hash_of(paid))
    file = sent(people, said(paid), said(waits, "pending"), said(refused, "failed"))

    assert [row.remark for row in results.plan(file).rows] == [""] * 3


def test_applied_again_it_changes_nothing(people):
    paid, failed = on_its_way(people, 1), on_its_way(people, 2)
    file = sent(people, said(paid), said(failed, "failed"))
    results.apply(people.finance, file.pk)
    before = (Transfer.objects.count(), Payout.history.count(), ResultLine.objects.count())

    results.apply(people.finance, file.pk)
    results.apply(people.other, file.pk)

    assert (Transfer.objects.count(), Payout.history.count(), ResultLine.objects.count()) == before
    assert {line.applied_by for line in file.lines.all()} == {people.finance}


def test_after_half_of_it_the_other_half_is_applied(people, monkeypatch):
    one, two = on_its_way(people, 1), on_its_way(people, 2)
    file = sent(people, said(one), said(two))
    pay = settlement.mark_paid

    def dies(person: Any, pk: int, **result: Any) -> Payout:
        if pk == two.pk:
            raise SystemExit
        return pay(person, pk, **result)

    with monkeypatch.context() as patch:
        patch.setattr(settlement, "mark_paid", dies)
        with pytest.raises(SystemExit):
            results.apply(people.finance, file.pk)
    assert states(one, two) == ["paid", "submitted"]

    results.apply(people.finance, file.pk)

    assert states(one, two) == ["paid", "paid"]
    assert paying.paid() == Decimal(100)
    assert file.lines.count() == 2


def test_rows_that_waited_can_be_applied_when_they_can(people):
    payout = on_its_way(people, state="approved")
    file = sent(people, said(payout))
    assert planned(file) == {2: (Verdict.REFUSED, "it is not on its way: it is “Approved”")}
    results.apply(people.finance, file.pk)
    assert (states(payout), file.lines.count()) == (["approved"], 0)

    paying.submitted(payout)
    results.apply(people.finance, file.pk)

    assert states(payout) == ["paid"]


def test_a_workbook_says_the_same(people):
    payout = on_its_way(people)
    row = list(said(payout))
    row[3] = 50.0
    content = as_xlsx(HEADER + MORE, tuple(row))
    file = results.upload(people.finance, name="r.xlsx", content=content, key=uuid4())
    results.apply(people.finance, file.pk)
    assert states(payout) == ["paid"]


@pytest.mark.parametrize("state", ["exported", "submitted", "failed"])
def test_what_is_on_its_way_or_had_failed_is_found_paid(people, state):
    payout = on_its_way(people, state=state)
    file = sent(people, said(payout))
    why = "it had failed before" if state == "failed" else ""
    assert planned(file) == {2: (Verdict.PAY, why)}
    results.apply(people.finance, file.pk)
    assert states(payout) == ["paid"]


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("Paid", Verdict.PAY),
        ("COMPLETED", Verdict.PAY),
        (" success ", Verdict.PAY),
        ("Confirmed", Verdict.PAY),
        ("failed", Verdict.FAIL),
        ("Cancelled", Verdict.FAIL),
        ("REJECTED", Verdict.FAIL),
        ("pending", Verdict.PENDING),
        ("In_Progress", Verdict.PENDING),
        ("sent", Verdict.PENDING),
        ("", Verdict.PENDING),
        ("paid?", Verdict.PENDING),
        ("not paid", Verdict.PENDING),
    ],
)
def test_each_word_for_a_status(people, word, verdict):
    payout = on_its_way(people)
    file = sent(people, said(payout, word, transaction_hash=hash_of(payout)))
    [row] = results.plan(file).rows
    assert row.verdict is verdict
    if word == "not paid":
        assert row.why == "“not paid” is no status that we know"


# --- who uploaded it ---


def test_who_uploaded_a_file_does_not_give_back_what_failed_by_it(people):
    payout = on_its_way(people)
    results.apply(people.other, sent(people, said(payout, "failed")).pk)
    file = ResultFile.objects.get()

    for person, why in (
        (
            people.finance,
            f"You uploaded result file {file.pk}, by which this failed, so somebody else gives its "
            "money back.",
        ),
        (
            people.other,
            "You said yourself that this failed, so somebody else gives its money back.",
        ),
    ):
        with pytest.raises(OwnRequest) as refused:
            settlement.give_back(person, payout.pk, reason="Never")
        assert refused.value.message == why
    assert states(payout) == ["failed"]
    settlement.give_back(world.person("Finance"), payout.pk, reason="Never")
    assert states(payout) == ["returned"]


def test_who_uploaded_a_file_gives_back_what_another_said_or_a_later_attempt(people):
    payout, known = on_its_way(people, 1), on_its_way(people, 2)
    settlement.mark_failed(people.other, known.pk, problem="They called")
    file = sent(people, said(payout, "failed"), said(known, "failed"))
    results.apply(people.other, file.pk)
    assert list(file.lines.order_by("row").values_list("outcome", flat=True)) == [
        *("failed", "already"),
    ]
    sent_again(people, payout)
    settlement.mark_failed(people.other, payout.pk, problem="They called again")

    for one in (payout, known):
        settlement.give_back(people.finance, one.pk, reason="Never")

    assert states(payout, known) == ["returned", "returned"]


# --- what is refused ---


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"reference": "Salary"}, "it names no payout of ours, as PO-000123"),
        ({"reference": "PO-000001 PO-000002"}, "it names no payout of ours, as PO-000123"),
        ({"reference": "PO-999999"}, "there is no such payout"),
        ({"amount": "49.99"}, "its amount is 50.00, and the file says “49.99”"),
        ({"amount": ""}, "its amount is 50.00, and the file says “”"),
        ({"amount": "50,00"}, ""),
        ({"amount": "5e1"}, "its amount is 50.00, and the file says “5e1”"),
        ({"amount": "NaN"}, "its amount is 50.00, and the file says “NaN”"),
        ({"currency": "USDC"}, "it is in USDT on TRON, and the file says “USDC”"),
        ({"currency": ""}, "it is in USDT on TRON, and the file says “”"),
        ({"address": tron(9)}, "its address is another one than the file says"),
        ({"address": tron(1).lower()}, "its address is another one than the file says"),
        ({"transaction_hash": ""}, "A transaction on TRON is named by 64 hexadecimal digits."),
        ({"transaction_hash": "zz" * 32}, "A transaction on TRON is named by 64"),
        ({"fee": "1"}, "A fee names its currency, as TRX."),
        ({"fee": "much", "fee_currency": "TRX"}, "its fee is no amount: “much”"),
    ],
)
def test_what_differs_from_what_was_sent_is_refused(people, cells, why):
    payout = on_its_way(people)
    row = said(payout, **cells)
    if cells.get("amount") == "50,00":
        row = tuple('"50,00"' if cell == "50,00" else cell for cell in row)
        why = "its amount is 50.00, and the file says “50,00”"
    file = sent(people, row)
    [(verdict, words)] = planned(file).values()
    assert verdict is Verdict.REFUSED
    assert words.startswith(why)
    results.apply(people.finance, file.pk)
    assert states(payout) == ["submitted"]


def test_names_of_the_coin_and_ways_to_write_what_is_the_same_are_taken(people):
    for number, cells in enumerate(
        (
            {"currency": "TRON_USDT"},
            {"currency": "usdt-tron"},
            {"currency": "USDTT", "amount": "50"},
            {"reference": "Payout po-{:06d}, thank you"},
        ),
        1,
    ):
        payout = on_its_way(people, number)
        cells = {name: cell.format(payout.pk) for name, cell in cells.items()}
        row = tuple(f'"{cell}"' for cell in said(payout, **cells))
        assert planned(sent(people, row)) == {2: (Verdict.PAY, "")}
    payout = on_its_way(people, method="USDC-ETHEREUM", address=ETHEREUM)
    file = sent(people, said(payout, address=ETHEREUM.lower()))
    assert planned(file) == {2: (Verdict.PAY, "")}


def test_a_payout_that_a_file_names_twice_is_left_as_it_is(people):
    one, two = on_its_way(people, 1), on_its_way(people, 2)
    file = sent(people, said(one), said(two), said(one, "failed"))
    why = "the file names this payout more than once: also in row"
    assert planned(file) == {
        2: (Verdict.REFUSED, f"{why} 4"),
        3: (Verdict.PAY, ""),
        4: (Verdict.REFUSED, f"{why} 2"),
    }
    results.apply(people.finance, file.pk)
    assert states(one, two) == ["submitted", "paid"]


def test_what_another_file_said_before_is_so_already_or_a_conflict(people):
    paid, failed = on_its_way(people, 1), on_its_way(people, 2)
    first = sent(people, said(paid), said(failed, "failed"))
    results.apply(people.finance, first.pk)
    same = sent(people, said(failed, "failed"), said(paid))
    other = sent(people, said(paid, transaction_hash="ff" * 32))
    undone = sent(people, said(paid, "failed"))

    assert planned(same) == {
        2: (Verdict.ALREADY, "it has failed"),
        3: (Verdict.ALREADY, "it is paid by this transaction"),
    }
    assert planned(other) == {
        2: (
            Verdict.REFUSED,
            f"it was paid by another transaction, {hash_of(paid)}: ask the provider",
        )
    }
    assert planned(undone) == {
        2: (
            Verdict.REFUSED,
            f"it was paid by transaction {hash_of(paid)}: if it came back, settle it by hand",
        )
    }
    for file in (same, other, undone):
        results.apply(people.finance, file.pk)
    assert states(paid, failed) == ["paid", "failed"]
    assert list(same.lines.order_by("row").values_list("row", "outcome")) == [
        (2, "already"),
        (3, "already"),
    ]


def test_an_old_report_does_not_fail_the_next_attempt(people):
    payout = on_its_way(people)
    results.apply(people.finance, sent(people, said(payout, "failed", reason="Down")).pk)
    sent_again(people, payout)

    old = sent(people, said(payout, "failed", reason="Down"), ("",), name="all so far.csv")
    [(verdict, why)] = planned(old).values()
    assert verdict is Verdict.REFUSED
    assert why.startswith("a file said exactly this of an earlier attempt, and this is attempt 2")
    results.apply(people.finance, old.pk)
    assert states(payout) == ["submitted"]
    other = sent(people, said(payout, "failed", reason="Down once more"))
    assert planned(other) == {2: (Verdict.REFUSED, NOT_OF_THE_SECOND)}
    results.apply(people.finance, other.pk)
    assert states(payout) == ["submitted"]

    results.apply(people.finance, sent(people, said(payout)).pk)
    assert states(payout) == ["paid"]


def test_an_old_failure_that_a_person_settled_does_not_fail_the_next_attempt(people):
    payout = on_its_way(people)
    settlement.mark_failed(people.finance, payout.pk, problem="They called")
    sent_again(people, payout)

    report = sent(people, said(payout, "failed", reason="Down"))
    assert planned(report) == {2: (Verdict.REFUSED, NOT_OF_THE_SECOND)}
    results.apply(people.finance, report.pk)

    assert states(payout) == ["submitted"]
    assert report.lines.count() == 0
    settlement.mark_failed(people.finance, payout.pk, problem="They called again")
    assert planned(report) == {2: (Verdict.ALREADY, "it has failed")}


@pytest.mark.parametrize("by_a_file", [True, False])
def test_a_report_of_a_payment_that_came_back_does_not_pay_it_again(people, by_a_file):
    payout = on_its_way(people)
    if by_a_file:
        results.apply(people.finance, sent(people, said(payout)).pk)
    else:
        settlement.mark_paid(people.finance, payout.pk, transaction_hash=hash_of(payout))
    paying.came_back(people.finance, payout, "It bounced")

    report = sent(people, said(payout, "completed", transaction_hash=hash_of(payout)))
    assert planned(report) == {2: (Verdict.REFUSED, CAME_BACK)}
    results.apply(people.finance, report.pk)
    assert states(payout) == ["failed"]
    assert (paying.pending(), paying.paid()) == (Decimal(50), 0)

    sent_again(people, payout)
    assert planned(report) == {2: (Verdict.REFUSED, CAME_BACK)}
    results.apply(people.finance, report.pk)
    assert states(payout) == ["submitted"]

    results.apply(people.finance, sent(people, said(payout, transaction_hash="ee" * 32)).pk)
    assert states(payout) == ["paid"]
    assert Payout.objects.get(pk=payout.pk).transaction_hash == "ee" * 32


def test_a_failure_waits_until_the_batch_was_handed_over(people):
    payout = on_its_way(people, state="exported")
    report = sent(people, said(payout, "failed"))
    assert planned(report) == {
        2: (
            Verdict.REFUSED,
            "its batch was not handed over: note that it was (“Submit”), and apply this again",
        )
    }
    results.apply(people.finance, report.pk)
    assert states(payout) == ["exported"]

    batches.submit(people.finance, payout.lines.get().batch_id)
    results.apply(people.finance, report.pk)

    assert states(payout) == ["failed"]


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("", ""),
        ("tron", ""),
        ("TRX", ""),
        ("TRC20", ""),
        ("trc-20", ""),
        ("TRC 20", ""),
        ("ETH", "it is in USDT on TRON, and the file says the network “ETH”"),
        ("ERC-20", "it is in USDT on TRON, and the file says the network “ERC-20”"),
        ("TRC10", "it is in USDT on TRON, and the file says the network “TRC10”"),
        ("-", "it is in USDT on TRON, and the file says the network “-”"),
        ("ETHEREUM", "it is in USDT on TRON, and the file says the network “ETHEREUM”"),
    ],
)
def test_a_network_that_a_file_names_is_the_payouts(people, network, why):
    payout = on_its_way(people)
    content = as_csv((*HEADER, "Network"), (*said(payout)[:6], network))
    file = results.upload(people.finance, name="n.csv", content=content, key=uuid4())
    assert planned(file) == {2: (Verdict.REFUSED if why else Verdict.PAY, why)}


@pytest.mark.parametrize("cell", ["amount", "reference", "fee"])
def test_figures_are_of_the_digits_from_0_to_9(people, cell):
    payout = on_its_way(people)
    there = {"amount": "50.00", "reference": payout.reference, "fee": "1"}[cell]
    arabic = there.translate({ord("0") + digit: 0x660 + digit for digit in range(10)})
    row = said(payout, **({"fee_currency": "TRX"} | {cell: arabic}))
    [(verdict, _)] = planned(sent(people, row)).values()
    assert verdict is Verdict.REFUSED


def test_one_transaction_pays_an_address_once(people):
    one, two, three = (on_its_way(people, 1) for _ in range(3))
    file = sent(people, said(one), said(two, transaction_hash=hash_of(one)))
    assert planned(file)[3] == (
        *(Verdict.REFUSED, f"{one.reference} to the same address has this transaction"),
    )
    results.apply(people.finance, file.pk)
    later = sent(people, said(three, transaction_hash=hash_of(one)))
    assert planned(later)[2][0] is Verdict.REFUSED
    results.apply(people.finance, later.pk)
    assert states(one, two, three) == ["paid", "submitted", "submitted"]


def test_a_batch_is_settled_by_the_file_that_comes_back_with_its_own_columns(people):
    payout = on_its_way(people, state="approved")
    batch = batches.gather(people.finance, profile="inqud", payout_ids=None, key=uuid4())
    batches.export(people.finance, batch.pk)
    text = bytes(batch.files.get(format="csv").content).decode()
    head, row = text.strip().split("\r\n")
    back = f"{head},status,txid\r\n{row},completed,{hash_of(payout)}\r\n"
    file = results.upload(people.finance, name="b.csv", content=back.encode(), key=uuid4())

    assert results.plan(file).ignored == ("comment",)
    results.apply(people.finance, file.pk)

    assert states(payout) == ["paid"]


def test_a_plan_costs_the_same_queries_whatever_the_file(people):
    found = [on_its_way(people, number) for number in range(1, 9)]
    counts = []
    for file in (sent(people, said(found[0])), sent(people, *(said(one) for one in found))):
        with CaptureQueriesContext(connection) as captured:
            results.plan(file)
        counts.append(len(captured))
    assert counts == [5, 5]


def test_totals_and_refused_rows_come_first(people):
    one, two = on_its_way(people, 1), on_its_way(people, 2)
    plan = results.plan(sent(people, said(one), said(two, amount="1")))
    assert [row.number for row in plan.rows] == [3, 2]
    assert plan.totals[:2] == [
        (Verdict.REFUSED, 1, Decimal(50)),
        (Verdict.PAY, 1, Decimal(50)),
    ]
    assert [row.number for row in plan.to_apply] == [2]
