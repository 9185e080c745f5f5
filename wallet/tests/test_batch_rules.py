"""The rules of batches and result files, attacked in raw SQL: the database itself refuses."""

from __future__ import annotations

from uuid import uuid4

import pytest

from wallet import batches, payouts, results, settlement, standing
from wallet.models import Payout, PayoutBatch
from wallet.tests import paying, world
from wallet.tests.attack import CHECK, FOREIGN_KEY, NOT_NULL, RESTRICT, UNIQUE, assert_refused, run
from wallet.tests.paying import HASH, Crew, taken_to, tron
from wallet.tests.test_payout_rules import ending, let_go, moved, transfer
from wallet.tests.test_resultsheets import HEADER, as_csv

pytestmark = [pytest.mark.django_db, pytest.mark.servers]


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture
def payout(people) -> Payout:
    return taken_to("approved", people, world.customer("1000"), address=tron(1))


@pytest.fixture
def other(people) -> Payout:
    return taken_to("approved", people, world.customer("1000"), address=tron(2))


def gathered(people: Crew, *found: Payout) -> PayoutBatch:
    return batches.gather(
        people.finance, profile="canonical", payout_ids=[one.pk for one in found], key=uuid4()
    )


def exported(people: Crew, *found: Payout) -> PayoutBatch:
    return batches.export(people.finance, gathered(people, *found).pk)


def update(table: str, pk: int, what: str) -> str:
    return f"UPDATE wallet_{table} SET {what} WHERE id = {pk}"


def inserted(people: Crew, **columns: object) -> str:
    row = {
        "profile": "'canonical'",
        "state": "'gathered'",
        "count": 1,
        "total": 50,
        "left_out": "'[]'",
        "made_by_id": people.finance.pk,
        "made_at": "now()",
        "request_key": "gen_random_uuid()",
        "void_reason": "''",
    } | columns
    return (
        f"INSERT INTO wallet_payoutbatch ({', '.join(row)})"
        f" VALUES ({', '.join(map(str, row.values()))})"
    )


def line(payout: Payout, **columns: object) -> str:
    """A line of the last batch as SQL; unless told otherwise a right one."""
    row = {
        "batch_id": "(SELECT max(id) FROM wallet_payoutbatch)",
        "payout_id": payout.pk,
        "position": 1,
        "attempt": payout.attempt,
        "reference": f"'{payout.reference}'",
        "address": f"'{payout.address}'",
        "memo": f"'{payout.memo}'",
        "currency": "'USDT'",
        "network": "'TRON'",
        "code": "'USDT-TRON'",
        "amount": payout.amount,
        "note": f"'{payout.reference}'",
        "live": "true",
    } | columns
    return (
        f"INSERT INTO wallet_batchline ({', '.join(row)})"
        f" VALUES ({', '.join(map(str, row.values()))})"
    )


def step(people: Crew, batch: PayoutBatch, state: str, by: object = None) -> str:
    person = getattr(by or people.finance, "pk", None)
    reason = ", void_reason = 'So'" if state == "voided" else ""
    return update(
        "payoutbatch",
        batch.pk,
        f"state = '{state}', {state}_by_id = {person}, {state}_at = now(){reason}",
    )


def file(batch: PayoutBatch, **columns: object) -> str:
    row = {
        "batch_id": batch.pk,
        "number": 1,
        "format": "'csv'",
        "name": "'x.csv'",
        "content": "'\\x61'",
        "size": 1,
        "rows": batch.count,
        "total": batch.total,
        "sha256": "encode(sha256('\\x61'), 'hex')",
    } | columns
    return (
        f"INSERT INTO wallet_payoutfile ({', '.join(row)})"
        f" VALUES ({', '.join(map(str, row.values()))})"
    )


def test_a_right_batch_in_raw_sql_stands_and_is_exported(people, payout):
    run(inserted(people), line(payout))
    batch = PayoutBatch.objects.get()
    run(
        file(batch),
        file(batch, format="'xlsx'"),
        step(people, batch, "exported"),
        update("payout", payout.pk, "state = 'exported'"),
    )
    run(
        step(people, batch, "submitted"),
        update("payout", payout.pk, "state = 'submitted'"),
    )


# --- the batch ---


@pytest.mark.parametrize(
    ("columns", "sqlstate", "rule"),
    [
        ({"count": 0}, CHECK, "payout_batch_not_empty"),
        ({"total": 0}, CHECK, "payout_batch_not_empty"),
        ({"total": "'NaN'"}, CHECK, ""),
        ({"made_by_id": "NULL"}, NOT_NULL, ""),
        ({"made_by_id": 10**6}, FOREIGN_KEY, ""),
        ({"state": "'exported'"}, RESTRICT, "it begins by being gathered"),
        ({"state": "'sent'"}, RESTRICT, "it begins by being gathered"),
        ({"exported_by_id": 1, "exported_at": "now()"}, CHECK, "payout_batch_state_is_somebodys"),
        ({"void_reason": "'So'"}, CHECK, "payout_batch_voided_with_a_reason"),
        ({"exported_at": "now()"}, CHECK, "payout_batch_exported_at"),
        ({"submitted_at": "now()"}, CHECK, "payout_batch_submitted_at"),
        ({"count": 2}, CHECK, "it counts 2 payouts of 50.0000 USD, and has 1 of 50.0000"),
        ({"total": 49}, CHECK, "it counts 1 payouts of 49.0000 USD, and has 1 of 50.0000"),
    ],
)
def test_a_batch_is_what_it_counts(people, payout, columns, sqlstate, rule):
    assert_refused(sqlstate, rule, inserted(people, **columns), line(payout))


def test_a_batch_of_no_lines_is_refused(people):
    assert_refused(CHECK, "it counts 1 payouts", inserted(people))


def test_a_form_makes_one_batch(people, payout, other):
    key = gathered(people, payout).request_key
    assert_refused(UNIQUE, "", inserted(people, request_key=f"'{key}'"), line(other))


def test_what_is_in_a_batch_is_fixed_and_its_steps_have_an_order(people, payout, other):
    batch = gathered(people, payout)
    for what in ("total = 51", "count = 2", "made_at = now()", "profile = 'inqud'", "id = 10000"):
        assert_refused(RESTRICT, "", update("payoutbatch", batch.pk, what))
    assert_refused(RESTRICT, "does not go to submitted", step(people, batch, "submitted"))
    assert_refused(
        RESTRICT, "are fixed", step(people, batch, "voided").replace("SET", "SET total = 9,")
    )
    for table in ("payoutbatch", "batchline", "historicalpayoutbatch", "payoutfile"):
        assert_refused(RESTRICT, "append-only", f"DELETE FROM wallet_{table}")
        assert_refused(RESTRICT, "append-only", f"TRUNCATE wallet_{table} CASCADE")
    assert_refused(
        RESTRICT, "append-only", "UPDATE wallet_historicalpayoutbatch SET state = 'voided'"
    )
    batches.void(people.finance, batch.pk, reason="No")
    for state in ("gathered", "exported", "voided"):
        assert_refused(RESTRICT, "", update("payoutbatch", batch.pk, f"state = '{state}'"))


def test_whoever_exported_it_does_not_void_it_and_a_void_says_why(people, payout):
    batch = exported(people, payout)
    release = (
        f"UPDATE wallet_batchline SET live = false WHERE batch_id = {batch.pk}",
        update("payout", payout.pk, "state = 'approved'"),
    )
    assert_refused(CHECK, "payout_batch_voided_by_another", step(people, batch, "voided"), *release)
    assert_refused(
        CHECK,
        "payout_batch_voided_with_a_reason",
        step(people, batch, "voided", people.other).replace("'So'", "''"),
        *release,
    )
    run(step(people, batch, "voided", people.other), *release)


def test_whoever_has_taken_a_file_of_it_does_not_void_it(people, payout):
    batch = exported(people, payout)
    batches.download(people.other, batch.files.first().pk)
    release = (
        f"UPDATE wallet_batchline SET live = false WHERE batch_id = {batch.pk}",
        update("payout", payout.pk, "state = 'approved'"),
    )
    assert_refused(
        RESTRICT,
        "whoever has taken a file of it does not void it",
        *release,
        step(people, batch, "voided", people.other),
    )
    run(*release, step(people, batch, "voided", world.person("Finance")))


# --- lines ---


@pytest.mark.parametrize(
    "columns",
    [
        {"address": f"'{tron(9)}'"},
        {"memo": "'12'"},
        {"amount": 49},
        {"currency": "'USDC'"},
        {"network": "'ETHEREUM'"},
        {"reference": "'PO-000999'"},
        {"attempt": 2},
        {"position": 2},
        {"position": 0},
        {"live": "false"},
        {"code": "'BTC'"},
        {"code": "'USDC-TRON'"},
        {"note": "'PO-000999'"},
    ],
)
def test_a_line_says_what_its_payout_says(people, payout, columns):
    assert_refused(
        CHECK,
        "it does not agree with its payout and its batch",
        inserted(people, **({"total": 49} if "amount" in columns else {})),
        line(payout, **columns),
    )


@pytest.mark.parametrize("text", ["=1+1", "@x", "-x", "+x", "a\tb", "", " x", "a\nb", 'a"b', "a,b"])
def test_notes_and_codes_are_plain(people, payout, text):
    quoted = "'" + text + "'"
    for column in ("note", "code"):
        rule = f"batch_line_{column}_plain"
        assert_refused(CHECK, rule, inserted(people), line(payout, **{column: quoted}))


def test_only_an_approved_payout_is_gathered(people):
    for state in ("requested", "rejected", "returned"):
        payout = taken_to(state, people, world.customer("1000"), address=tron(3))
        assert_refused(CHECK, "does not agree", inserted(people), line(payout))


def test_a_payout_is_in_one_live_batch(people, payout):
    gathered(people, payout)
    assert_refused(UNIQUE, "payout_in_one_live_batch", inserted(people), line(payout))


def test_a_place_and_a_payout_are_in_a_batch_once(people, payout, other):
    two = inserted(people, count=2, total=100)
    assert_refused(UNIQUE, "batch_line_in_its_place", two, line(payout), line(other))
    batch = gathered(people, payout)
    assert_refused(UNIQUE, "batch_line_in_its_place", line(other, batch_id=batch.pk))
    assert_refused(CHECK, "does not agree", line(other, batch_id=batch.pk, position=2))


def test_a_line_is_frozen_and_let_go_once(people, payout):
    batch = gathered(people, payout)
    pk = batch.lines.get().pk
    for what in (
        *("amount = 1", f"address = '{tron(9)}'", "position = 2", "note = 'x'", "live = true"),
        *("code = 'X'", "live = false, amount = 1"),
    ):
        assert_refused(RESTRICT, "it is frozen", update("batchline", pk, what))
    batches.void(people.finance, batch.pk, reason="No")
    assert_refused(RESTRICT, "it is frozen", update("batchline", pk, "live = true"))
    assert_refused(RESTRICT, "it is frozen", update("batchline", pk, "live = false"))


@pytest.mark.parametrize("state", ["gathered", "exported", "submitted"])
def test_a_line_is_not_let_go_from_a_batch_that_goes_on(people, payout, other, state):
    batch = gathered(people, payout, other)
    if state != "gathered":
        batches.export(people.finance, batch.pk)
    if state == "submitted":
        batches.submit(people.finance, batch.pk)
    over = "neither its batch nor its attempt is over"
    assert_refused(CHECK, over, let_go(payout))
    if state == "gathered":
        # It would be free for another batch, and be exported by both.
        assert_refused(CHECK, over, let_go(payout), inserted(people), line(payout))
        return
    settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    assert_refused(CHECK, over, let_go(payout))
    again = sent_again(people, payout)
    if state == "exported":
        assert_refused(CHECK, over, let_go(payout), again)
    else:
        run(let_go(payout), again)


def sent_again(people: Crew, payout: Payout) -> str:
    return update(
        "payout",
        payout.pk,
        f"state = 'requested', attempt = attempt + 1, sent_again_by_id = {people.finance.pk},"
        " approved_by_id = NULL, approved_at = NULL, problem = '', settled_at = NULL,"
        " failed_by_id = NULL",
    )


# --- the states of payouts and of their batch ---


def test_nothing_is_on_its_way_outside_a_batch(people, payout):
    assert_refused(
        CHECK, "its live line is in no batch", update("payout", payout.pk, "state = 'exported'")
    )


def test_a_gathered_payout_is_neither_rejected_nor_exported_alone(people, payout):
    gathered(people, payout)
    ending = f"decided_by_id = {people.senior.pk}, decided_at = now(), decision_reason = 'So'"
    assert_refused(CHECK, "", update("payout", payout.pk, f"state = 'rejected', {ending}"))
    assert_refused(CHECK, "which is gathered", update("payout", payout.pk, "state = 'exported'"))


def test_a_batch_goes_on_with_all_its_payouts(people, payout, other):
    batch = gathered(people, payout, other)
    files = (file(batch), file(batch, format="'xlsx'"))
    assert_refused(
        CHECK,
        f"its payout {other.pk} is approved",
        *files,
        step(people, batch, "exported"),
        update("payout", payout.pk, "state = 'exported'"),
    )
    batch = batches.export(people.finance, batch.pk)
    assert_refused(CHECK, "is exported", step(people, batch, "submitted"))
    assert_refused(CHECK, "which is exported", update("payout", payout.pk, "state = 'submitted'"))
    assert_refused(
        CHECK,
        "is voided",
        step(people, batch, "voided", people.other),
    )
    assert_refused(
        CHECK,
        "its live line is in no batch",
        step(people, batch, "voided", people.other),
        f"UPDATE wallet_batchline SET live = false WHERE batch_id = {batch.pk}",
        update("payout", payout.pk, "state = 'approved'"),
    )
    assert_refused(CHECK, "which is exported", update("payout", payout.pk, "state = 'approved'"))


@pytest.mark.parametrize("result", ["exported", "paid", "failed"])
def test_what_is_on_its_way_or_settled_keeps_its_line(people, payout, result):
    batch = exported(people, payout)
    if result == "paid":
        settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)
    if result == "failed":
        settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    assert_refused(
        CHECK,
        "neither its batch nor its attempt is over",
        f"UPDATE wallet_batchline SET live = false WHERE batch_id = {batch.pk}",
    )


def test_nothing_fails_that_was_in_no_batch(people, payout):
    assert_refused(
        CHECK,
        f"payout {payout.pk} is failed, and its live line is in no batch",
        update("payout", payout.pk, "state = 'exported'"),
        update(
            "payout",
            payout.pk,
            "state = 'failed', problem = 'No', settled_at = now(),"
            f" failed_by_id = {people.finance.pk}",
        ),
    )


@pytest.mark.parametrize("result", ["paid", "came back"])
def test_a_batch_of_which_a_payout_was_paid_is_not_voided(people, payout, result):
    batch = exported(people, payout)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)
    if result == "came back":
        paying.came_back(people.finance, payout, "Bounced")
    assert_refused(
        CHECK,
        f"batch {batch.pk} is voided, and its payout {payout.pk} was paid",
        let_go(payout),
        step(people, batch, "voided", people.other),
    )


def test_what_failed_stays_so_when_its_batch_is_voided(people, payout):
    batch = exported(people, payout)
    settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    run(let_go(payout), step(people, batch, "voided", people.other))
    assert Payout.objects.get(pk=payout.pk).state == "failed"


def test_what_is_sent_again_lets_its_line_go(people, payout):
    exported(people, payout)
    settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    assert_refused(
        CHECK,
        "which is exported",
        sent_again(people, payout),
    )


@pytest.mark.parametrize("attempt", ["the same", "another"])
def test_whoever_voided_an_exported_batch_neither_exports_nor_takes_the_next(
    people, payout, other, attempt
):
    first = exported(people, payout)
    batches.void(people.other, first.pk, reason="Not sent")
    if attempt == "another":
        batch = exported(people, payout)
        batches.submit(people.finance, batch.pk)
        settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
        settlement.send_again(people.finance, payout.pk, reason="Once more")
        payouts.approve(people.senior, payout.pk)
    again = gathered(people, payout, other)
    by_whoever_voided = step(people, again, "exported", people.other)
    if attempt == "another":
        # It was approved anew, so this is another payment: only its payouts are not taken along.
        assert_refused(CHECK, "is exported, and its payout", by_whoever_voided)
        return
    assert_refused(RESTRICT, "whoever voided the one before does not export it", by_whoever_voided)
    batches.export(people.finance, again.pk)
    taken = (
        "INSERT INTO wallet_filedownload (file_id, person_id, at)"
        f" VALUES ({again.files.first().pk}, {people.other.pk}, now())"
    )
    assert_refused(RESTRICT, "whoever voided the batch before does not take it", taken)


# --- files ---


@pytest.mark.parametrize(
    ("columns", "sqlstate", "rule"),
    [
        ({"sha256": f"'{'0' * 64}'"}, CHECK, "payout_file_hash_is_its_content"),
        ({"size": 2}, CHECK, "payout_file_hash_is_its_content"),
        ({"content": "'\\x62'"}, CHECK, "payout_file_hash_is_its_content"),
        ({"format": "'pdf'"}, CHECK, "payout_file_known"),
        ({"rows": 0}, CHECK, "payout_file_known"),
        ({"number": 0}, CHECK, "payout_file_known"),
        ({"number": 2}, CHECK, "its csv files are not those of all its payouts"),
        ({"rows": 2}, CHECK, "its csv files are not those of all its payouts"),
        ({"total": 49}, CHECK, "its csv files are not those of all its payouts"),
        ({"format": "'xlsx'"}, CHECK, "files are not those of all its payouts"),
    ],
)
def test_an_exported_batch_has_all_its_files(people, payout, columns, sqlstate, rule):
    batch = gathered(people, payout)
    second = file(batch, format="'xlsx'", **({"number": 2} if "format" in columns else {}))
    assert_refused(
        sqlstate,
        rule,
        file(batch, **columns),
        second,
        step(people, batch, "exported"),
        update("payout", payout.pk, "state = 'exported'"),
    )


def test_files_are_made_by_the_export_alone(people, payout):
    batch = gathered(people, payout)
    assert_refused(CHECK, "files are not those", file(batch))
    assert_refused(
        CHECK,
        "files are not those",
        step(people, batch, "exported"),
        update("payout", payout.pk, "state = 'exported'"),
    )
    batch = batches.export(people.finance, batch.pk)
    made = batch.files.get(format="csv")
    assert_refused(UNIQUE, "payout_file_made_once", file(batch))
    assert_refused(CHECK, "files are not those", file(batch, number=2))
    assert_refused(RESTRICT, "append-only", update("payoutfile", made.pk, "name = 'y'"))
    batches.download(people.finance, made.pk)
    for table in ("payoutfile", "filedownload"):
        assert_refused(RESTRICT, "append-only", f"DELETE FROM wallet_{table}")
    assert_refused(RESTRICT, "append-only", "UPDATE wallet_filedownload SET at = now()")


# --- results ---


def result_line(file_id: int, payout: Payout, people: Crew, **columns: object) -> str:
    row = {
        "file_id": file_id,
        "row": 2,
        "payout_id": payout.pk,
        "attempt": payout.attempt,
        "digest": "'d'",
        "outcome": "'paid'",
        "detail": f"'{HASH}'",
        "applied_by_id": people.finance.pk,
        "applied_at": "now()",
    } | columns
    return (
        f"INSERT INTO wallet_resultline ({', '.join(row)})"
        f" VALUES ({', '.join(map(str, row.values()))})"
    )


def test_a_result_that_was_applied_is_what_the_payout_says(people, payout, other):
    exported(people, payout, other)
    content = b"reference,status,transaction_hash,amount,currency,address\r\nx,,,,,\r\n"
    sent = results.upload(people.finance, name="r.csv", content=content, key=uuid4())
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)

    for target, columns in (
        (payout, {"detail": "'other'"}),
        (payout, {"outcome": "'failed'"}),
        (payout, {"attempt": 2}),
        (other, {}),
        (other, {"outcome": "'already'"}),
    ):
        assert_refused(CHECK, "does not say so", result_line(sent.pk, target, people, **columns))
    known = result_line(sent.pk, payout, people, outcome="'perhaps'")
    assert_refused(CHECK, "result_outcome_known", known)
    right = result_line(sent.pk, payout, people)
    run(right)
    assert_refused(UNIQUE, "result_row_applied_once", right)
    for table in ("resultline", "resultfile"):
        assert_refused(RESTRICT, "append-only", f"DELETE FROM wallet_{table}")
    assert_refused(RESTRICT, "append-only", "UPDATE wallet_resultline SET row = 3")
    assert_refused(RESTRICT, "append-only", "UPDATE wallet_resultfile SET name = 'x'")


@pytest.mark.parametrize("end", ["returned", "forfeited"])
def test_who_uploaded_the_file_by_which_it_failed_does_not_give_it_back(people, end):
    payout = taken_to("approved", people, world.customer("50"))
    batches.submit(people.finance, exported(people, payout).pk)
    row = (payout.reference, "failed", "", "50.00", "USDT", payout.address)
    file = results.upload(people.other, name="r.csv", content=as_csv(HEADER, row), key=uuid4())
    results.apply(people.finance, file.pk)
    if end == "forfeited":
        owned = standing.lock_wallet(payout.customer_id)
        owned.freeze()
        standing.save(owned, world.TESTER, "Frozen")
        owned.forfeit()
        standing.save(owned, world.TESTER, "Forfeited")
    wallet = payout.customer_id
    money = (
        transfer("payout_return", 10, wallet, f"payout:{payout.pk}:return", wallet=wallet)
        if end == "returned"
        else transfer("forfeiture", 10, 6, f"payout:{payout.pk}:forfeited"),
        moved(payout),
        let_go(payout),
    )

    assert_refused(
        RESTRICT,
        "whoever uploaded the file by which it failed does not give it back",
        *money,
        update("payout", payout.pk, f"state = '{end}', {ending(people.other)}"),
    )
    third = world.person("Finance")
    run(*money, update("payout", payout.pk, f"state = '{end}', {ending(third)}"))
    assert paying.pending() == 0


@pytest.mark.parametrize(
    ("size", "sha256", "rule"),
    [
        (2, "encode(sha256('\\x61'), 'hex')", "result_file_hash_is_its_content"),
        (1, f"'{'0' * 64}'", "result_file_hash_is_its_content"),
    ],
)
def test_a_result_file_is_its_bytes(people, size, sha256, rule):
    assert_refused(
        CHECK,
        rule,
        "INSERT INTO wallet_resultfile"
        " (name, content, size, sha256, uploaded_by_id, uploaded_at, request_key)"
        f" VALUES ('x', '\\x61', {size}, {sha256}, {people.finance.pk}, now(),"
        " gen_random_uuid())",
    )
