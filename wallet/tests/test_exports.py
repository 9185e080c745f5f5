"""Exports: asked for, written in one piece however it goes, taken by those who may, and logged."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.utils import timezone

from smsactivator.common import exports as datasets
from smsactivator.common.periods import Period, PeriodRefused
from wallet import deposits, exports
from wallet.deciding import RequestConflict
from wallet.models import Export, ExportDownload, ExportPart
from wallet.tests import world
from wallet.tests.attack import CHECK, RESTRICT, UNIQUE, assert_refused
from wallet.tests.exported import (
    NOVEMBER,
    NUMBERS,
    asked,
    at,
    days,
    file_of,
    fresh,
    read,
    rows_of,
    written,
)
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db

State = Export.State


@pytest.fixture(autouse=True)
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(datasets._datasets, "numbers", NUMBERS)


@pytest.fixture
def fiona() -> Any:
    return world.person("Finance")


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exports whose task was queued."""
    sent: list[int] = []
    monkeypatch.setattr(
        "wallet.tasks.write_export.apply_async", lambda args, **options: sent.extend(args)
    )
    return sent


def steps_of(export: Export) -> list[tuple[str, str, str]]:
    """Its history, the oldest first: who, into which state, why."""
    rows = export.history.order_by("history_id")
    return list(rows.values_list("history_actor", "state", "history_change_reason"))


# --- asking ---------------------------------------------------------------------------------------


def test_an_export_is_queued_when_it_is_committed(
    fiona: Any, queued: list[int], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        export = exports.ask(fiona, "transfers", NOVEMBER, key=uuid4())
        assert queued == []

    assert queued == [export.pk]
    assert (export.state, export.requested_by, export.period) == ("queued", fiona, NOVEMBER)
    assert steps_of(export) == [(fiona.username, "queued", "Asked for")]


def test_a_form_that_is_sent_twice_is_one_export(fiona: Any) -> None:
    key = uuid4()
    first = exports.ask(fiona, "transfers", NOVEMBER, key=key)

    assert exports.ask(fiona, "transfers", NOVEMBER, key=key) == first
    for dataset, period in (("statements", NOVEMBER), ("transfers", days(2))):
        with pytest.raises(RequestConflict):
            exports.ask(fiona, dataset, period, key=key)
    assert Export.objects.count() == 1


def test_what_is_not_there_is_refused(fiona: Any) -> None:
    with pytest.raises(datasets.DatasetUnknown):
        asked(fiona, "passwords")
    with pytest.raises(PeriodRefused):
        asked(fiona, "transfers", Period(at(2).date(), at(1).date()))
    for verb in (exports.cancel, exports.take):
        with pytest.raises(exports.ExportUnknown):
            verb(fiona, 1)


def test_a_person_has_a_few_exports_at_a_time(fiona: Any) -> None:
    first, *_ = [asked(fiona, "numbers", days(1)) for _ in range(exports.MOST_OPEN)]
    with pytest.raises(exports.TooManyExports):
        asked(fiona, "numbers", days(1))
    asked(world.person("Finance"), "numbers", days(1))

    exports.write(first.pk)

    asked(fiona, "numbers", days(1))


@pytest.mark.parametrize(
    ("role", "offered"),
    [
        ("Support agent", False),
        ("Senior agent", False),
        ("Auditor", False),  # views, and changes nothing
        ("Finance", True),
    ],
)
def test_finance_exports_everything_and_nobody_else_anything(role: str, offered: bool) -> None:
    person = world.person(role)
    done = written(world.person("Finance"), "transfers")
    names = [dataset.name for dataset in datasets.datasets()]
    assert set(names) == {
        *("transfers", "statements", "payouts", "orders", "refunds", "refund_requests"),
        NUMBERS.name,
    }

    assert [dataset.name for dataset in exports.offered_to(person)] == (names if offered else [])
    for name in names:
        if offered:
            exports.cancel(person, asked(person, name).pk)
        else:
            with pytest.raises(PermissionDenied):
                asked(person, name)
    if offered:
        exports.take(person, done.pk)
    else:
        for verb in (exports.cancel, exports.take):
            with pytest.raises(PermissionDenied):
                verb(person, done.pk)
    assert ExportDownload.objects.count() == int(offered)


def test_the_right_to_export_goes_no_further_than_the_right_to_look() -> None:
    narrow = User.objects.create_user("narrow", is_staff=True)
    names = ("export_data", "view_transfer")
    narrow.user_permissions.set(
        Permission.objects.filter(codename__in=names, content_type__app_label="wallet")
    )
    statements = written(world.person("Finance"), "statements")

    assert {dataset.name for dataset in exports.offered_to(narrow)} == {"transfers", "numbers"}
    assert asked(narrow, "transfers").state == State.QUEUED
    with pytest.raises(PermissionDenied):
        asked(narrow, "statements")
    for verb in (exports.cancel, exports.take):
        with pytest.raises(PermissionDenied):
            verb(narrow, statements.pk)


# --- what is in the files -------------------------------------------------------------------------


def test_transfers_are_written_to_the_last_digit(fiona: Any) -> None:
    with time_machine.travel(at(3, 12), tick=False):
        customer = world.customer()
        deposits.deposit(customer, amount=world.Decimal("234567.8"), reference="tx-1")
        [spent] = world.post(world.spent(customer, "0.0001", "p:1"))
        [earned] = world.post(world.earned("0.0001", "d:1"))

    first, second, third = rows_of(fiona, "transfers")

    assert first == {
        "transfer": first["transfer"],
        "posted_at": "2026-11-03T12:00:00Z",
        "kind": "deposit",
        "debit_account": "1",
        "debit": "Crypto deposits",
        "credit_account": str(customer.pk),
        "credit": f"Wallet {customer.pk}",
        "amount": "234567.8000",
        "currency": "USD",
        "storefront": "Shop",
        "customer": customer.external_id,
        "line": "1",
        "balance_after": "234567.8000",
        "reverses": "",
        "key": first["key"],
    }
    assert first["key"].endswith("tx-1")
    assert (second["transfer"], second["amount"]) == (str(spent), "0.0001")
    assert (second["balance_after"], second["line"]) == ("234567.7999", "2")
    assert (third["transfer"], third["customer"], third["line"]) == (str(earned), "", "")
    assert (third["debit"], third["credit"]) == ("Order escrow", "Sales")


def test_a_period_takes_its_first_and_last_microsecond_and_nothing_beside(fiona: Any) -> None:
    customer = world.customer()
    for day, rest in ((3, (23, 59, 59, 999999)), (4, ()), (5, (23, 59, 59, 999999)), (6, ())):
        with time_machine.travel(at(day, *rest), tick=False):
            world.post(world.paid_in(customer, "1", f"on {day}"))

    kept = rows_of(fiona, "transfers", Period(at(4).date(), at(5).date()))

    assert [row["key"] for row in kept] == ["on 4", "on 5"]
    assert [row["posted_at"] for row in kept] == [
        "2026-11-04T00:00:00Z",
        "2026-11-05T23:59:59.999999Z",
    ]


def test_text_that_would_be_a_formula_stays_text(fiona: Any) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", '=HYPERLINK("http://x","y")', 'a "b", c\nd']
    with time_machine.travel(at(3), tick=False):
        for name in names:
            customer, _ = world.customers.create_or_update(
                world.storefront("=Shop").pk, name, actor=world.TESTER
            )
            world.post(world.paid_in(customer, "1"))

    for dataset in ("transfers", "statements"):
        rows = rows_of(fiona, dataset)
        told = [row["customer"] for row in rows if row["line"]]
        assert told == [f"'{name}" for name in names[:-1]] + names[-1:]
        assert {row["storefront"] for row in rows} == {"'=Shop"}


def test_every_statement_leads_from_its_opening_to_its_closing_balance(fiona: Any) -> None:
    quiet, busy, new, spent, later, _empty = (world.customer() for _ in range(6))

    def post(day: int, *postings: Any) -> None:
        with time_machine.travel(at(day, 12), tick=False):
            world.post(*postings)

    post(1, world.paid_in(quiet, "7.7"), world.paid_in(busy, "5"), world.paid_in(spent, "3"))
    post(2, world.spent(spent, "3"))
    post(10, world.paid_in(busy, "0.0001"), world.spent(busy, "2.5"), world.paid_in(new, "4"))
    post(20, world.paid_in(busy, "1"), world.paid_in(later, "1"), world.paid_in(quiet, "1"))

    rows = rows_of(fiona, "statements", Period(at(5).date(), at(19).date()))

    told: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        line = (row["line"], row["what"], row["debit"], row["credit"], row["balance"])
        told.setdefault(row["customer"], []).append(line)
    # A wallet without money and without lines has no statement of these days.
    assert told == {
        quiet.external_id: [
            ("", "opening", "", "", "7.7000"),
            ("", "closing", "", "", "7.7000"),
        ],
        busy.external_id: [
            ("", "opening", "", "", "5.0000"),
            ("2", "deposit", "", "0.0001", "5.0001"),
            ("3", "purchase", "2.5000", "", "2.5001"),
            ("", "closing", "", "", "2.5001"),
        ],
        new.external_id: [
            ("", "opening", "", "", "0.0000"),
            ("1", "deposit", "", "4.0000", "4.0000"),
            ("", "closing", "", "", "4.0000"),
        ],
    }
    assert {row["posted_at"] for row in rows if row["what"] == "opening"} == {
        "2026-11-05T00:00:00Z"
    }
    assert {row["posted_at"] for row in rows if row["what"] == "closing"} == {
        "2026-11-20T00:00:00Z"
    }
    assert [row["wallet"] for row in rows] == sorted((row["wallet"] for row in rows), key=int)


def test_an_export_without_rows_is_its_heading(fiona: Any) -> None:
    export = written(fiona, "transfers")

    assert list(read(file_of(export))) == []
    assert file_of(export).decode() == ",".join(datasets.dataset("transfers").columns) + "\r\n"
    assert (export.state, export.rows_done, export.parts.count()) == (State.DONE, 0, 1)


def test_no_dataset_names_an_address_or_the_text_of_an_sms() -> None:
    for dataset in datasets.datasets():
        for word in ("email", "text", "code", "phone"):
            assert word not in {column for column in dataset.columns if dataset != NUMBERS}
        assert "email" not in dataset.sql
        assert "orders_sms" not in dataset.sql


# --- one snapshot, one whole file -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "rows", "rows_after"), [("transfers", 5, 8), ("statements", 7, 12)]
)
def test_what_is_posted_meanwhile_is_not_half_there(
    dataset: str, rows: int, rows_after: int, fiona: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "PART", 2)
    with time_machine.travel(at(3), tick=False):
        customer = world.customer()
        world.post(*(world.paid_in(customer, "1", f"before {n}") for n in range(5)))
    export = exports.claim(asked(fiona, dataset).pk)
    assert export
    writing = exports.steps(export)
    assert next(writing) == 2
    with time_machine.travel(at(4), tick=False):
        world.post(world.paid_in(customer, "1"), world.spent(customer, "2"))
        world.post(world.paid_in(world.customer(), "1"))

    assert list(writing)[-1] == rows

    told = list(read(file_of(export)))
    assert {row["customer"] for row in told} == {customer.external_id}
    assert fresh(export).rows_expected == len(told) == rows
    assert len(rows_of(fiona, dataset)) == rows_after


def test_progress_is_seen_while_it_is_written(fiona: Any) -> None:
    export = exports.claim(asked(fiona, "numbers", days(3)).pk)
    assert export
    seen = []
    for _ in exports.steps(export):
        now = fresh(export)
        seen.append((now.state, now.rows_done, now.rows_expected))

    assert seen == [("running", done, 6000) for done in (2000, 4000, 6000)]
    now = fresh(export)
    assert (now.state, now.rows_done, now.heartbeat_at) == (State.DONE, 6000, None)
    assert [row["number"] for row in read(file_of(now))] == [str(n) for n in range(1, 6001)]
    assert [who for who, _, _ in steps_of(now)[1:]] == ["automatic: exports"] * 2
    assert [state for _, state, _ in steps_of(now)] == ["queued", "running", "done"]


def test_the_file_of_a_worker_that_died_begins_again_from_nothing(
    fiona: Any, queued: list[int]
) -> None:
    whole = file_of(written(fiona, "numbers", days(3)))
    with time_machine.travel(at(3), tick=False) as clock:
        export = exports.claim(asked(fiona, "numbers", days(3)).pk)
        assert export
        writing = exports.steps(export)
        next(writing), next(writing)
        writing.close()  # it dies with two of three parts kept
        clock.shift(exports.LEASE - timedelta(seconds=1))
        exports.tend()
        assert (fresh(export).state, export.parts.count()) == (State.RUNNING, 2)
        assert not exports.write(export.pk)

        clock.shift(timedelta(seconds=1))
        exports.tend()

        now = fresh(export)
        assert (now.state, now.rows_done, now.parts.count()) == (State.QUEUED, 0, 0)
        assert now.problem == exports.DIED
        assert queued == [export.pk]
        assert exports.write(export.pk)
    now = fresh(export)
    assert file_of(now) == whole
    assert (now.state, now.attempt, now.problem) == (State.DONE, 2, "")
    assert not exports.write(export.pk)


def test_a_worker_that_comes_back_too_late_adds_nothing(fiona: Any, queued: list[int]) -> None:
    with time_machine.travel(at(3), tick=False) as clock:
        asleep = exports.claim(asked(fiona, "numbers", days(3)).pk)
        assert asleep
        sleeping = exports.steps(asleep)
        next(sleeping)
        clock.shift(exports.LEASE)
        exports.tend()
        awake = exports.claim(asleep.pk)
        assert awake
        writing = exports.steps(awake)
        next(writing)

        with pytest.raises(exports.Overtaken):
            next(sleeping)

        assert list(writing) == [4000, 6000]
        assert len(list(read(file_of(awake)))) == 6000


def test_an_export_whose_workers_die_again_and_again_fails(fiona: Any, queued: list[int]) -> None:
    with time_machine.travel(at(3), tick=False) as clock:
        export = asked(fiona, "numbers", days(3))
        for _ in range(exports.MOST_ATTEMPTS):
            claimed = exports.claim(export.pk)
            assert claimed
            next(exports.steps(claimed))
            clock.shift(exports.LEASE)
            exports.tend()

    now = fresh(export)
    assert (now.state, now.problem, now.parts.count()) == (State.FAILED, exports.DIED, 0)
    assert now.finished_at is not None
    with pytest.raises(exports.NoFile):
        exports.take(fiona, export.pk)


@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_is_tried_again_and_then_fails(
    fiona: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exports, "READING", timedelta(milliseconds=20))
    monkeypatch.setitem(
        datasets._datasets,
        "slow",
        datasets.Dataset(
            "slow", "Slow", "", NUMBERS.permission, ("a",), "SELECT pg_sleep(9)::text"
        ),
    )
    export = asked(fiona, "slow")
    for state in ("queued", "queued", "failed"):
        assert not exports.write(export.pk)
        assert fresh(export).state == state
    assert "QueryCanceled" in caplog.text
    assert fresh(export).problem == "The database did not let it be read or kept to its end."
    # Its connection goes on.
    assert written(fiona, "numbers", days(1)).state == State.DONE


def test_a_dataset_that_is_gone_fails_with_its_name(
    fiona: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = asked(fiona, "numbers", days(1))
    monkeypatch.delitem(datasets._datasets, "numbers")
    for state in ("queued", "queued", "failed"):
        assert not exports.write(export.pk)
        assert fresh(export).state == state

    assert fresh(export).problem == "There is no dataset numbers."
    assert fresh(export).label == "numbers"
    with pytest.raises(datasets.DatasetUnknown):
        exports.take(fiona, export.pk)


def test_what_was_never_queued_is_found(fiona: Any, queued: list[int]) -> None:
    with time_machine.travel(at(3), tick=False) as clock:
        export = asked(fiona, "numbers", days(1))
        exports.tend()
        assert queued == []

        clock.shift(exports.PATIENCE)
        exports.tend()

    assert queued == [export.pk]


def test_memory_does_not_grow_with_the_rows(fiona: Any) -> None:
    def peak(period: Period) -> tuple[int, int]:
        """Bytes of writing, and of taking, an export of 2,000 rows a day."""
        export = asked(fiona, "numbers", period)
        peaks = []
        for work in (
            lambda: exports.write(export.pk),
            lambda: sum(len(part) for part in exports.take(fiona, export.pk)[1]),
        ):
            tracemalloc.start()
            assert work()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert fresh(export).rows_done == period.days * 2000
        return peaks[0], peaks[1]

    peak(days(2))  # what is imported and cached by the first is nobody's
    few, many = peak(days(2)), peak(days(20))

    assert many[0] - few[0] < 100_000
    assert many[1] - few[1] < 100_000
    # A file in memory would be larger than that by far, and its rows more so.
    assert Export.objects.get(rows_done=40_000).size > 1_600_000


# --- the end of it --------------------------------------------------------------------------------


def test_a_queued_and_a_running_export_are_cancelled_and_nothing_else_is(fiona: Any) -> None:
    waiting = asked(fiona, "numbers", days(3))
    colleague = world.person("Finance")
    exports.cancel(colleague, waiting.pk)
    assert not exports.write(waiting.pk)
    running = exports.claim(asked(fiona, "numbers", days(3)).pk)
    assert running
    writing = exports.steps(running)
    next(writing)

    exports.cancel(fiona, running.pk)

    with pytest.raises(exports.Overtaken):
        next(writing)
    for export in (waiting, running):
        now = fresh(export)
        assert (now.state, now.parts.count(), now.sha256) == (State.CANCELLED, 0, "")
        with pytest.raises(exports.ExportOver):
            exports.cancel(fiona, export.pk)
    assert steps_of(waiting)[-1] == (colleague.username, "cancelled", "Cancelled")
    done = written(fiona, "numbers", days(1))
    with pytest.raises(exports.ExportOver):
        exports.cancel(fiona, done.pk)


def test_each_download_is_written_down_and_brings_the_same_bytes(fiona: Any) -> None:
    export = written(fiona, "numbers", days(2))
    colleague = world.person("Finance")
    with time_machine.travel(at(3), tick=False):
        _, first = exports.take(fiona, export.pk)
    with time_machine.travel(at(4), tick=False):
        _, second = exports.take(colleague, export.pk)

    assert b"".join(first) == b"".join(second) == file_of(export)
    assert list(export.downloads.order_by("pk").values_list("person", "at")) == [
        (fiona.pk, at(3)),
        (colleague.pk, at(4)),
    ]


def test_only_a_whole_file_is_taken(fiona: Any) -> None:
    export = asked(fiona, "numbers", days(2))
    with pytest.raises(exports.NoFile):
        exports.take(fiona, export.pk)
    claimed = exports.claim(export.pk)
    assert claimed
    next(exports.steps(claimed))
    with pytest.raises(exports.NoFile):
        exports.take(fiona, export.pk)
    assert not ExportDownload.objects.exists()


def test_a_file_goes_when_it_expires_and_its_hash_stays(
    fiona: Any, settings: Any, queued: list[int]
) -> None:
    settings.EXPORT_KEPT = timedelta(days=3)
    with time_machine.travel(at(3), tick=False) as clock:
        export = written(fiona, "numbers", days(2))
        exports.take(fiona, export.pk)
        assert export.expires_at == at(6)
        clock.shift(timedelta(days=3, seconds=-1))
        exports.tend()
        assert fresh(export).state == State.DONE
        clock.shift(timedelta(seconds=1))

        exports.tend()

    now = fresh(export)
    assert (now.state, now.sha256, now.size) == (State.EXPIRED, export.sha256, export.size)
    assert (now.parts.count(), now.downloads.count()) == (0, 1)
    with pytest.raises(exports.NoFile):
        exports.take(fiona, export.pk)
    exports.tend()
    assert len(steps_of(now)) == 4


# --- at the same time -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_writes(fiona: Any) -> None:
    for _ in range(5):
        export = asked(fiona, "numbers", days(2))

        wrote = at_once(*[partial(exports.write, export.pk)] * 3)

        assert sorted(wrote) == [False, False, True]
        assert (fresh(export).attempt, len(list(read(file_of(export))))) == (1, 4000)


@pytest.mark.django_db(transaction=True)
def test_one_form_sent_at_once_is_one_export(fiona: Any, queued: list[int]) -> None:
    key = uuid4()

    made = at_once(*[partial(exports.ask, fiona, "numbers", days(1), key=key)] * 4)

    assert {export.pk for export in made} == {Export.objects.get().pk}
    assert queued == [made[0].pk]


@pytest.mark.django_db(transaction=True)
def test_a_cancel_meets_its_worker(fiona: Any) -> None:
    for _ in range(8):
        export = asked(fiona, "numbers", days(2))

        wrote, cancelled = at_once(
            partial(exports.write, export.pk), partial(exports.cancel, fiona, export.pk)
        )

        now = fresh(export)
        if isinstance(cancelled, exports.ExportOver):
            assert (wrote, now.state) == (True, State.DONE)
            assert len(list(read(file_of(now)))) == 4000
        else:
            assert (wrote, now.state, now.parts.count()) == (False, State.CANCELLED, 0)


@pytest.mark.django_db(transaction=True)
def test_the_beat_and_a_worker_that_wakes_up_leave_one_whole_file(
    fiona: Any, queued: list[int]
) -> None:
    for _ in range(5):
        export = asked(fiona, "numbers", days(3))
        claimed = exports.claim(export.pk)
        Export.objects.filter(pk=export.pk).update(heartbeat_at=timezone.now() - exports.LEASE)

        def wake(claimed: Any = claimed) -> Any:
            try:
                return list(exports.steps(claimed))
            except exports.Overtaken:
                return None

        woken, _ = at_once(wake, exports.tend)

        if woken is None:
            assert exports.write(export.pk)
        assert len(list(read(file_of(export)))) == 6000


# --- attacks in raw SQL ---------------------------------------------------------------------------


def test_a_done_export_cannot_change(fiona: Any) -> None:
    done = written(fiona, "numbers", days(2))
    first = f"WHERE export_id = {done.pk} AND number = 0"
    for change in (
        "sha256 = repeat('0', 64)",
        "size = 1",
        "rows_done = 1, rows_expected = 1",
        "finished_at = now()",
        "expires_at = now() + interval '1 year'",
        "read_at = now()",
        "problem = 'none'",
        "state = 'expired', sha256 = repeat('0', 64)",
    ):
        assert_refused(
            RESTRICT,
            "it does not change",
            f"UPDATE wallet_export SET {change} WHERE id = {done.pk}",
        )
    for state in ("queued", "running", "failed", "cancelled"):
        assert_refused(
            RESTRICT,
            f"{state} does not follow done",
            f"UPDATE wallet_export SET state = '{state}' WHERE id = {done.pk}",
        )
    assert_refused(RESTRICT, "append-only", f"UPDATE wallet_exportpart SET data = 'x' {first}")
    assert_refused(RESTRICT, "its parts are kept", f"DELETE FROM wallet_exportpart {first}")
    assert_refused(RESTRICT, "append-only", "TRUNCATE wallet_exportpart")
    assert_refused(
        RESTRICT,
        "takes no part",
        "INSERT INTO wallet_exportpart (export_id, number, rows, data) "
        f"VALUES ({done.pk}, 2, 1, '')",
    )
    assert_refused(RESTRICT, "append-only", f"DELETE FROM wallet_export WHERE id = {done.pk}")
    assert_refused(RESTRICT, "append-only", "TRUNCATE wallet_export CASCADE")
    assert_refused(RESTRICT, "append-only", "DELETE FROM wallet_historicalexport")


def test_what_was_asked_for_is_fixed(fiona: Any) -> None:
    export = asked(fiona, "numbers", days(2))
    other = world.person("Finance")
    for change in (
        "dataset = 'transfers'",
        "since = '2020-01-01'",
        "until = '2026-12-31'",
        f"requested_by_id = {other.pk}",
        "requested_at = now() - interval '1 year'",
        "request_key = gen_random_uuid()",
    ):
        assert_refused(
            RESTRICT,
            "what was asked for is fixed",
            f"UPDATE wallet_export SET {change} WHERE id = {export.pk}",
        )


def test_no_export_is_done_without_its_parts(fiona: Any) -> None:
    claimed = exports.claim(asked(fiona, "numbers", days(3)).pk)
    assert claimed
    writing = exports.steps(claimed)
    next(writing), next(writing)
    writing.close()
    done = f"""
        UPDATE wallet_export SET state = 'done', rows_done = %s, rows_expected = %s, size = 1,
            heartbeat_at = NULL, sha256 = repeat('a', 64), finished_at = now(),
            expires_at = now() WHERE id = {claimed.pk}
    """
    assert_refused(CHECK, "is not whole", done.replace("%s", "6000"))
    assert_refused(
        CHECK,
        "is not whole",
        f"DELETE FROM wallet_exportpart WHERE export_id = {claimed.pk} AND number = 0",
        done.replace("%s", "2000"),
    )
    assert_refused(
        CHECK,
        "export_fits_its_state",
        done.replace("rows_expected = %s", "rows_expected = 9").replace("%s", "4000"),
    )
    assert_refused(
        UNIQUE,
        "export_part_once",
        "INSERT INTO wallet_exportpart (export_id, number, rows, data) "
        f"VALUES ({claimed.pk}, 0, 1, '')",
    )
    assert_refused(
        CHECK,
        "has parts",
        f"""UPDATE wallet_export SET state = 'queued', heartbeat_at = NULL, rows_done = 0,
            rows_expected = NULL WHERE id = {claimed.pk}""",
        f"""UPDATE wallet_export SET state = 'running', heartbeat_at = now(),
            attempt = attempt + 1 WHERE id = {claimed.pk}""",
    )
    assert_refused(
        RESTRICT,
        "counted when it begins",
        f"UPDATE wallet_export SET attempt = 9 WHERE id = {claimed.pk}",
    )
    columns = "state, dataset, since, until, requested_by_id, requested_at, request_key, attempt"
    assert_refused(
        CHECK,
        "begins queued",
        f"""INSERT INTO wallet_export ({columns}, read_at, rows_expected, rows_done, size, sha256,
            finished_at, expires_at, problem) VALUES ('done', 'numbers', '2026-11-01', '2026-11-01',
            {fiona.pk}, now(), gen_random_uuid(), 1, now(), 0, 0, 1, repeat('a', 64), now(), now(),
            '')""",
    )
    assert_refused(
        CHECK,
        "export_days_in_order",
        f"""INSERT INTO wallet_export ({columns}, rows_done, size, sha256, problem) VALUES
            ('queued', 'numbers', '2026-11-02', '2026-11-01', {fiona.pk}, now(),
            gen_random_uuid(), 0, 0, 0, '', '')""",
    )


def test_downloads_are_append_only_and_of_whole_files(fiona: Any) -> None:
    done = written(fiona, "numbers", days(1))
    exports.take(fiona, done.pk)
    for attack in (
        "UPDATE wallet_exportdownload SET at = now()",
        f"UPDATE wallet_exportdownload SET person_id = {world.person('Auditor').pk}",
        "DELETE FROM wallet_exportdownload",
        "TRUNCATE wallet_exportdownload",
    ):
        assert_refused(RESTRICT, "append-only", attack)
    waiting = asked(fiona, "numbers", days(1))
    assert_refused(
        CHECK,
        "has no file",
        "INSERT INTO wallet_exportdownload (export_id, person_id, at) "
        f"VALUES ({waiting.pk}, {fiona.pk}, now())",
    )
    assert ExportPart.objects.filter(export=done).count() == 1
    assert connection.is_usable()
