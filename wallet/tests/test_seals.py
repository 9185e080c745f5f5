"""Daily seals: each day once, when nothing can be added to it; what is changed later shows."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg
import pytest
import time_machine
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from wallet import deposits, evidence, seals
from wallet.models import Seal, SealedRows, Transfer
from wallet.tests import world
from wallet.tests.attack import CHECK, RESTRICT, assert_refused, run, triggers_aside
from wallet.tests.together import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]

FIRST = date(2025, 11, 20)


def at(day: int, hour: int = 12, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2025, 11, day, hour, minute, second, tzinfo=UTC)


# When all of three_days are sealed and no later day must be.
SEALED_AT = at(23, 1)


def paid(moment: datetime, amount: str = "1") -> Transfer:
    with time_machine.travel(moment, tick=False):
        customer = world.customer()
        deposit, _ = deposits.deposit(
            customer, amount=Decimal(amount), reference=f"tx-{customer.pk}"
        )
        return deposit.transfer


def sealed(moment: datetime) -> list[date]:
    with time_machine.travel(moment, tick=False):
        return [seal.day for seal in seals.seal_days()]


@pytest.fixture
def three_days() -> list[Transfer]:
    """Two transfers on the 20th, none on the 21st, one on the 22nd; all three days are sealed."""
    transfers = [paid(at(20)), paid(at(20, 23, 59, 59)), paid(at(22))]
    assert sealed(at(23, 1)) == [date(2025, 11, day) for day in (20, 21, 22)]
    return transfers


def sealed_rows(day: date) -> list[SealedRows]:
    return list(SealedRows.objects.filter(day=day).order_by("name", "after"))


def tamper(statement: str) -> None:
    with triggers_aside() as cursor:
        cursor.execute(statement)


def problems(moment: datetime = SEALED_AT) -> dict[date, str]:
    with time_machine.travel(moment, tick=False):
        return {verdict.day: verdict.problem for verdict in seals.verify()}


def command(*options: str, moment: datetime = SEALED_AT) -> tuple[int, list[str]]:
    output = StringIO()
    try:
        with time_machine.travel(moment, tick=False):
            call_command("verify_seals", *options, stdout=output)
    except SystemExit as end:
        return int(end.code or 0), output.getvalue().splitlines()
    return 0, output.getvalue().splitlines()


def test_a_seal_is_a_hash_over_the_day_s_lines_and_the_seal_before(three_days):
    first, second, _third = Seal.objects.order_by("day")
    lines = "".join(
        f'{t.pk}|"deposit"|1|{t.credit_account}|1.0000|"USD"|{t.posted_at:%Y-%m-%dT%H:%M:%S.%f}|'
        f'{t.wallet_id}|1|1.0000|-|"{t.key}"\n'
        for t in three_days[:2]
    )
    rows = "".join(f"{evidence.line(chunk)}\n" for chunk in sealed_rows(FIRST))

    assert first.digest == hashlib.sha256(f"|2025-11-20\n{lines}{rows}".encode()).hexdigest()
    assert second.digest == hashlib.sha256(f"{first.digest}|2025-11-21\n".encode()).hexdigest()
    assert [(s.transfers, s.previous) for s in Seal.objects.order_by("day")] == [
        (2, ""),
        (0, first.digest),
        (1, second.digest),
    ]
    assert problems() == {}


def test_a_day_is_sealed_ten_minutes_after_its_end_and_not_before():
    paid(at(20))

    assert sealed(at(21, 0, 9, 59)) == []
    assert sealed(at(21, 0, 10)) == [FIRST]
    assert sealed(at(21, 0, 11)) == []


def test_a_transfer_at_midnight_is_of_the_day_that_begins():
    paid(at(20))
    paid(at(21, 0))
    sealed(at(22, 1))

    assert [s.transfers for s in Seal.objects.order_by("day")] == [1, 1]


def test_a_ledger_without_transfers_has_no_days():
    assert sealed(at(23)) == []
    assert command() == (0, ["no day is sealed yet"])


@pytest.mark.parametrize(
    ("statement", "day", "problem"),
    [
        (
            "UPDATE wallet_transfer SET amount = 2, balance_after = 2 WHERE id = {0}",
            20,
            "is not as it was sealed: a transfer or the seal was changed",
        ),
        ("UPDATE wallet_transfer SET key = 'other' WHERE id = {2}", 22, "is not as it was sealed"),
        ("DELETE FROM wallet_transfer WHERE id = {1}", 20, "has 1 transfers, 2 were sealed"),
        (
            "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key,"
            " posted_at) VALUES ('delivery', 2, 3, 1, 'added', '2025-11-21 10:00+00')",
            21,
            "has 1 transfers, 0 were sealed",
        ),
        (
            "UPDATE wallet_transfer SET posted_at = '2025-11-21 10:00+00' WHERE id = {2}",
            21,
            "has 1 transfers, 0 were sealed",
        ),
        ("UPDATE wallet_seal SET digest = repeat('0', 64) WHERE day = '2025-11-21'", 21, "is not"),
        ("DELETE FROM wallet_seal WHERE day = '2025-11-21'", 21, "has no seal"),
        ("DELETE FROM wallet_seal WHERE day = '2025-11-20'", 20, "has no seal"),
    ],
)
def test_what_was_changed_shows_on_its_day(three_days, statement, day, problem):
    tamper(statement.format(*(t.pk for t in three_days)))

    found = problems()
    code, lines = command()

    assert problem in found[date(2025, 11, day)]
    assert code == 1
    assert any(line.startswith(f"2025-11-{day}") and "FAILED" in line for line in lines)
    untouched = date(2025, 11, {20: 22, 21: 20, 22: 20}[day])
    assert untouched not in found


def test_a_day_and_seal_that_were_made_again_break_the_chain_after_them(three_days):
    tamper(f"DELETE FROM wallet_transfer WHERE id = {three_days[0].pk}")
    [of_transfers] = [rows for rows in sealed_rows(FIRST) if rows.name == "wallet_transfer"]
    tamper(
        "UPDATE wallet_sealedrows SET rows = 1, hashes = substring(hashes FROM 41)"
        f" WHERE id = {of_transfers.pk}"
    )
    digest, transfers = seals._digest(FIRST, "", seals._chunks(FIRST))
    tamper(
        f"UPDATE wallet_seal SET digest = '{digest}', transfers = {transfers}"
        " WHERE day = '2025-11-20'"
    )

    assert problems() == {date(2025, 11, 21): "does not continue the seal of the day before"}


def test_two_transfers_are_not_one_whose_key_says_what_the_other_was(three_days):
    first, second, _third = three_days
    _line, words = seals._lines(FIRST)
    # The second row is gone, and its words are in the key of the first.
    tamper(f"DELETE FROM wallet_transfer WHERE id = {second.pk}")
    tamper(f"UPDATE wallet_transfer SET key = key || chr(10) || '{words}' WHERE id = {first.pk}")
    tamper("UPDATE wallet_seal SET transfers = 1 WHERE day = '2025-11-20'")

    assert "is not as it was sealed" in problems()[FIRST]


@pytest.mark.parametrize("gone", ["day = '2025-11-22'", "day >= '2025-11-21'", "true"])
def test_the_end_of_the_chain_cannot_be_taken_away(three_days, gone):
    tamper(f"DELETE FROM wallet_seal WHERE {gone}")

    # The sealed rows of the day say that there was one.
    assert problems(at(23, 2, 9, 59))[date(2025, 11, 22)] == "has no seal"
    tamper(f"DELETE FROM wallet_sealedrows WHERE {gone}")
    assert problems(at(23, 2, 9, 59)).get(date(2025, 11, 22)) is None
    assert problems(at(23, 2, 10))[date(2025, 11, 22)] == "has no seal"
    assert command(moment=at(23, 2, 10))[0] == 1


def seal(day: str, previous: str) -> str:
    return (
        "INSERT INTO wallet_seal (day, transfers, digest, previous, sealed_at)"
        f" VALUES ({day}, 0, repeat('a', 64), '{previous}', now())"
    )


def test_a_seal_is_of_a_day_that_is_over_and_continues_the_one_before(three_days):
    last = seals.newest()
    assert last is not None
    continues = "does not continue the seal before it"
    assert_refused(CHECK, continues, seal("'2025-11-24'", last.digest))
    assert_refused(CHECK, continues, seal("'2025-11-19'", last.digest))
    assert_refused(CHECK, continues, seal("'2025-11-23'", "0" * 64))
    assert_refused(CHECK, continues, seal("'2025-11-23'", ""))
    today = "(clock_timestamp() AT TIME ZONE 'UTC')::date"
    assert_refused(CHECK, "is not over: it is not sealed", seal(today, last.digest))
    assert_refused(CHECK, "is not over: it is not sealed", seal("'2999-01-01'", last.digest))
    run(seal("'2025-11-23'", last.digest))


def test_the_command_says_the_last_digest_and_compares_it_with_one_that_was_kept(three_days):
    last = seals.newest()

    code, lines = command()

    assert (code, lines[0]) == (0, "2025-11-20           2 transfers  ok")
    assert lines[-2:] == [
        f"Seal of 2025-11-22: {last.digest}",
        "all days are as they were sealed",
    ]
    assert command("--expect", last.digest)[0] == 0
    assert command("--expect", "0" * 64)[0] == 1
    assert command("--from", "2025-11-21", "--to", "2025-11-21")[1][0].startswith("2025-11-21")


def test_a_day_before_the_books_began_is_not_missing(three_days):
    code, lines = command("--from", "2025-11-01")

    assert code == 0
    assert lines[0].startswith("2025-11-20")


@pytest.mark.parametrize(
    "days",
    [("--from", "2025-11-22", "--to", "2025-11-20"), ("--from", "2027-01-01")],
)
def test_a_range_without_a_day_proves_nothing(three_days, days):
    assert command(*days) == (
        1,
        ["no day of the books is between these days: nothing was verified"],
    )


def test_no_transfer_is_added_to_a_sealed_day(three_days):
    with (
        pytest.raises(IntegrityError, match="sealed to the end of 2025-11-22"),
        transaction.atomic(),
    ):
        paid(at(22, 23, 59, 59))
    assert paid(at(23, 0)).posted_at == at(23, 0)


@pytest.mark.django_db(transaction=True)
def test_sealing_at_once_seals_each_day_once():
    paid(at(20))
    with time_machine.travel(at(23), tick=False):
        done = at_once(*[seals.seal_days] * 4)

    assert sum(len(one) for one in done) == Seal.objects.count() == 3
    assert problems() == {}


@pytest.mark.django_db(transaction=True)
def test_a_day_is_not_sealed_while_somebody_may_write_to_it(monkeypatch):
    monkeypatch.setattr(seals, "PATIENCE", 0.1)
    transfer = paid(at(20))
    names = {"dbname", "user", "password", "host", "port"}
    given: Any = connection.get_connection_params().items()
    with psycopg.connect(**{name: value for name, value in given if name in names}) as another:
        another.execute(
            "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key,"
            " posted_at) VALUES ('delivery', 2, 3, 1, 'slow', %s)",
            [at(20, 23, 59, 59)],
        )
        assert sealed(at(21)) == []
        another.commit()

    assert sealed(at(21)) == [FIRST]
    assert Seal.objects.get().transfers == 2
    assert transfer.posted_at.date() == FIRST


def test_days_are_read_in_constant_memory_by_a_cursor_of_the_server(three_days, monkeypatch):
    monkeypatch.setattr(seals, "CHUNK", 1)

    assert problems() == {}


# --- rows of other tables ---

NOBODY = "INSERT INTO wallet_sealedrows (day, name, columns, after, through, rows, hashes) VALUES"


def seals_of(name: str) -> list[tuple[date, int]]:
    """In which seal, with how many rows, a table's rows are."""
    found = SealedRows.objects.filter(name=name).order_by("after")
    return list(found.values_list("day", "rows"))


def test_days_that_are_sealed_late_have_the_rows_of_their_day(three_days):
    assert seals_of("wallet_deposit") == [(date(2025, 11, 20), 2), (date(2025, 11, 22), 1)]
    assert seals_of("wallet_historicalcustomer") == seals_of("wallet_deposit")


def test_a_row_of_a_moment_to_come_ends_no_day_and_is_sealed():
    paid(at(20))
    with triggers_aside() as cursor:
        cursor.execute("UPDATE wallet_historicalcustomer SET history_date = '2999-01-01'")
    paid(at(20, 13))
    sealed(at(21, 1))

    assert seals_of("wallet_historicalcustomer") == [(FIRST, 2)]
    assert problems(at(21, 1)) == {}


def test_rows_are_sealed_in_chunks_that_follow_each_other(monkeypatch):
    monkeypatch.setattr(evidence, "CHUNK", 2)
    deposits = [paid(at(20)).deposit for _ in range(5)]
    sealed(at(21, 1))

    assert seals_of("wallet_deposit") == [(FIRST, 2), (FIRST, 2), (FIRST, 1)]
    assert problems(at(21, 1)) == {}
    tamper(f"UPDATE wallet_deposit SET reference = 'other' WHERE id = {deposits[3].pk}")
    with time_machine.travel(at(21, 1), tick=False):
        [wrong] = seals.verify()
    assert (wrong.problem, wrong.rows) == (
        "is not as it was sealed: 1 row",
        [f"deposit {deposits[3].pk} was changed"],
    )


def test_the_first_rows_are_named_and_all_are_counted(three_days, monkeypatch):
    monkeypatch.setattr(seals, "NAMED", 1)
    tamper("UPDATE wallet_deposit SET reference = reference || 'x'")
    with time_machine.travel(SEALED_AT, tick=False):
        first, second = seals.verify()

    assert (first.day, first.problem) == (FIRST, "is not as it was sealed: 2 rows")
    assert first.rows == [f"deposit {three_days[0].deposit.pk} was changed", "and 1 more"]
    assert (second.day, len(second.rows)) == (date(2025, 11, 22), 1)


def test_a_seal_of_transfers_alone_stays_right_and_the_next_takes_in_all_rows():
    transfers = [paid(at(20)), paid(at(21))]
    digest, count = seals._digest(FIRST, "")
    with time_machine.travel(at(21, 1), tick=False):
        Seal.objects.create(
            day=FIRST, transfers=count, digest=digest, previous="", sealed_at=at(21, 1)
        )
    sealed(at(22, 1))

    assert [seal.version for seal in Seal.objects.order_by("day")] == [1, 2]
    assert seals_of("wallet_deposit") == [(date(2025, 11, 21), 2)]
    assert problems(at(22, 1)) == {}
    tamper(f"UPDATE wallet_deposit SET reference = 'other' WHERE transfer_id = {transfers[0].pk}")
    assert problems(at(22, 1)) == {date(2025, 11, 21): "is not as it was sealed: 1 row"}


def test_a_later_seal_does_not_cover_less(three_days):
    last = Seal.objects.get(day=date(2025, 11, 22))
    digest, _ = seals._digest(last.day, last.previous)
    tamper(f"UPDATE wallet_seal SET version = 1, digest = '{digest}' WHERE id = {last.pk}")

    assert problems() == {last.day: "covers less than the seal of the day before"}


def test_a_column_that_is_added_later_leaves_the_seals_right(three_days):
    with triggers_aside() as cursor:
        cursor.execute("ALTER TABLE wallet_deposit ADD COLUMN note text NOT NULL DEFAULT 'new'")

    assert problems() == {}


def test_a_server_that_writes_dates_another_way_computes_the_same(three_days):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL datestyle = 'German'; SET LOCAL timezone = 'Asia/Tokyo'")

    assert problems() == {}


@pytest.mark.django_db(transaction=True)
def test_a_day_is_not_sealed_while_somebody_may_write_evidence_of_it(monkeypatch):
    monkeypatch.setattr(seals, "PATIENCE", 0.1)
    transfer = paid(at(20))
    names = {"dbname", "user", "password", "host", "port"}
    given: Any = connection.get_connection_params().items()
    with psycopg.connect(**{name: value for name, value in given if name in names}) as another:
        another.execute(
            "INSERT INTO wallet_historicalcustomer SELECT (jsonb_populate_record(row,"
            " jsonb_build_object('history_id', nextval("
            "'wallet_historicalcustomer_history_id_seq')))).*"
            " FROM wallet_historicalcustomer AS row WHERE id = %s",
            [transfer.credit_account],
        )
        paid(at(21, 0, 5))
        assert sealed(at(21, 1)) == []
        another.commit()

    assert sealed(at(21, 1)) == [FIRST]
    # The slow one, whose number was drawn before the last one's, is in it; the last is of the 21st.
    assert seals_of("wallet_historicalcustomer") == [(FIRST, 2)]


def test_sealed_rows_are_added_once_in_order_and_to_no_sealed_day(three_days):
    last = SealedRows.objects.filter(name="wallet_deposit").order_by("-after")[0]
    a_hash = "decode(repeat('00', 40), 'hex')"

    def added(day: str, after: int, rows: int = 1) -> str:
        keys = f"{after}, {after + 1}"
        return f"{NOBODY} ('{day}', 'wallet_deposit', '{{id}}', {keys}, {rows}, {a_hash})"

    for statement in (
        "UPDATE wallet_sealedrows SET rows = rows",
        "DELETE FROM wallet_sealedrows",
        "TRUNCATE wallet_sealedrows",
    ):
        assert_refused(RESTRICT, "append-only", statement)
    assert_refused(CHECK, "is sealed: no rows of", added("2025-11-22", last.through))
    follow = "do not follow those before"
    assert_refused(CHECK, follow, added("2025-11-23", last.through + 1))
    assert_refused(CHECK, follow, added("2025-11-23", last.after))
    assert_refused(CHECK, "have not a hash each", added("2025-11-23", last.through, 2))
    run(added("2025-11-23", last.through))
