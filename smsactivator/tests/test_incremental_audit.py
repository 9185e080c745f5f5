"""An audit from a checkpoint: what it looks at, how far it advances, and whom it tells."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import time_machine
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext

from refunds.tests import world
from smsactivator.auditing import audit_ledger
from wallet import deposits, horizon
from wallet.models import AuditRun, Transfer
from wallet.tests import world as wallets
from wallet.tests.attack import triggers_aside

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]

ADMINS = [("Books", "books@example.com")]


def failed(run: AuditRun) -> dict[str, list[str]]:
    return {check["name"]: check["differences"] for check in run.checks if check["count"]}


def tamper(*statements: str) -> None:
    with triggers_aside() as cursor:
        for statement in statements:
            cursor.execute(statement)


def last_transfer() -> int:
    return Transfer.objects.latest("pk").pk


def test_an_audit_begins_where_the_last_passed_one_ended():
    world.place()
    first = audit_ledger()
    world.place()
    second = audit_ledger()
    full = audit_ledger(full=True)

    assert (first.after_id, first.full, first.passed) == (0, True, True)
    assert (second.after_id, second.full, second.passed) == (first.through_id, False, True)
    assert second.through_id == last_transfer()
    assert (full.after_id, full.passed) == (0, True)
    assert full.totals == second.totals
    assert full.totals["2"] == "1.0000"
    escrow = next(check for check in second.checks if "escrow" in check["figures"])
    assert escrow["figures"] == {"escrow": "1.0000", "open_orders": "1.0000"}


def test_what_is_new_and_wrong_is_found_from_the_checkpoint_on_until_it_is_mended():
    old = world.place()
    audit_ledger()
    new = world.place()
    tamper(f"UPDATE orders_order SET price = 0.25 WHERE id = {new.pk}")

    first, second = audit_ledger(), audit_ledger()

    assert set(failed(first)) == {
        "escrow equals the prices of open orders",
        "each order was paid for by its own purchase",
    }
    assert failed(first)["each order was paid for by its own purchase"][0].startswith(
        f"order {new.pk}: price 0.2500 of customer {new.customer_id}"
    )
    # A failed run is no checkpoint.
    assert (second.after_id, failed(second)) == (first.after_id, failed(first))
    tamper(f"UPDATE orders_order SET price = 0.5 WHERE id = {new.pk}")
    assert audit_ledger().passed
    assert old.pk != new.pk


def test_what_is_old_and_tampered_with_is_found_in_full():
    order = world.place()
    audit_ledger()
    tamper(f"UPDATE wallet_transfer SET amount = 0.4 WHERE id = {order.purchase_id}")

    assert audit_ledger().passed
    assert f"transfer {order.purchase_id}" in str(failed(audit_ledger(full=True)))


def test_what_a_full_audit_found_is_not_forgotten_by_the_next_run():
    order = world.place()
    audit_ledger()
    tamper(f"UPDATE wallet_transfer SET amount = 0.4 WHERE id = {order.purchase_id}")
    full = audit_ledger(full=True)

    world.place()
    following = audit_ledger()

    assert (full.passed, following.passed, following.full) == (False, False, True)
    assert failed(following).keys() == failed(full).keys()
    tamper(f"UPDATE wallet_transfer SET amount = 0.5 WHERE id = {order.purchase_id}")
    mended, after_it = audit_ledger(), audit_ledger()
    assert (mended.passed, mended.full) == (True, True)
    assert (after_it.passed, after_it.after_id) == (True, mended.through_id)


def test_a_wallet_that_is_touched_again_is_compared_as_a_whole():
    ada = world.customer("10")
    audit_ledger()
    deposits.deposit(ada, amount=Decimal(1), reference="more")
    tamper(f"UPDATE wallet_wallet SET balance = 12 WHERE customer_id = {ada.pk}")

    found = failed(audit_ledger())

    assert found["each wallet's balance is the sum of its transfers"] == [
        f"wallet {ada.pk}: holds 12.0000, its transfers come to 11.0000"
    ]
    assert found["the shop's accounts and all wallets sum to zero"] == [
        "all accounts: the shop gave 1.0000 since the last audit, the wallets got 2.0000"
    ]


def test_a_ledger_that_was_restored_to_an_earlier_moment_is_audited_in_full():
    world.place()
    run = audit_ledger()
    tamper(f"UPDATE wallet_auditrun SET through_id = {last_transfer() + 1} WHERE id = {run.pk}")

    assert audit_ledger().after_id == 0


def test_an_incremental_audit_has_as_many_statements_however_much_is_new():
    counts = []
    for new in (1, 20):
        audit_ledger()
        for _ in range(new):
            world.place()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            audit_ledger()
        counts.append(len(queries))
    assert counts[0] == counts[1]


def connect() -> psycopg.Connection[Any]:
    names = {"dbname", "user", "password", "host", "port"}
    given = connection.get_connection_params().items()
    return psycopg.connect(**{name: value for name, value in given if name in names})


@pytest.mark.django_db(transaction=True)
def test_the_checkpoint_does_not_pass_a_transfer_that_is_still_being_written(monkeypatch):
    monkeypatch.setattr("wallet.audit.PATIENCE", 0.1)
    slow, quick = wallets.customer(), wallets.customer()
    with connect() as another:
        [number] = another.execute(
            "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key,"
            " posted_at, wallet_id, wallet_version, balance_after)"
            " VALUES ('deposit', 1, %(to)s, 5, 'slow', now(), %(to)s, 1, 5) RETURNING id",
            {"to": slow.pk},
        ).fetchone()
        deposits.deposit(quick, amount=Decimal(1), reference="quick")
        assert last_transfer() > number

        early = audit_ledger()

        assert (early.passed, early.through_id) == (True, 0)
        another.commit()
    late = audit_ledger()
    # It is a deposit without a payment: seen although later ones were audited before.
    assert failed(late) == {
        "each deposit is one payment, for a customer of its own storefront": [
            f"transfer {number}: deposit of 5.0000 to wallet {slow.pk}, payment "
        ]
    }


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_begins_later_is_not_waited_for():
    ada = wallets.customer("1")

    assert horizon.settled_through(0) == Transfer.objects.get(wallet=ada.pk).pk
    with connect() as another:
        another.execute("LOCK TABLE wallet_transfer IN ROW EXCLUSIVE MODE")
        assert horizon.settled_through(0) is None
    assert horizon.settled_through(0) is not None


# --- the alarm ---


def break_the_books() -> None:
    order = world.place()
    tamper(f"UPDATE orders_order SET price = 0.25 WHERE id = {order.pk}")


def test_a_failed_audit_is_mailed_once_a_day_and_again_when_other_checks_fail(settings):
    settings.ADMINS = ADMINS
    start = datetime(2026, 11, 24, 8, tzinfo=UTC)
    with time_machine.travel(start, tick=False) as clock:
        break_the_books()
        audit_ledger()
        clock.shift(timedelta(minutes=5))
        audit_ledger()

        assert len(mail.outbox) == 1
        [message] = mail.outbox
        assert message.to == ["books@example.com"]
        assert "The audit of the ledger failed" in message.subject
        assert "escrow: holds 0.5000, open orders come to 0.2500" in message.body

        tamper("UPDATE wallet_wallet SET version = 9")
        audit_ledger(full=True)
        assert len(mail.outbox) == 2
        clock.shift(timedelta(days=1))
        audit_ledger(full=True)
        assert len(mail.outbox) == 3


def test_a_passed_audit_mails_nobody(settings):
    settings.ADMINS = ADMINS
    world.place()

    audit_ledger()

    assert mail.outbox == []


def test_a_mail_server_that_is_down_does_not_lose_the_result(settings, caplog):
    settings.ADMINS = ADMINS
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    break_the_books()

    with caplog.at_level(logging.ERROR):
        run = audit_ledger()

    assert (run.passed, AuditRun.objects.count()) == (False, 1)
    assert "the mail about the failed audit was not sent" in caplog.text


def test_a_mail_that_was_not_taken_goes_out_with_the_next_run(settings):
    settings.ADMINS = ADMINS
    taken = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    break_the_books()
    audit_ledger()
    settings.EMAIL_BACKEND = taken

    audit_ledger()
    audit_ledger()

    assert len(mail.outbox) == 1
    assert list(AuditRun.objects.order_by("pk").values_list("mailed", flat=True)) == [
        False,
        True,
        False,
    ]


def test_a_failure_that_was_mended_and_comes_back_is_mailed_again(settings):
    settings.ADMINS = ADMINS
    break_the_books()
    audit_ledger()
    tamper("UPDATE orders_order SET price = 0.5")
    assert audit_ledger().passed
    tamper("UPDATE orders_order SET price = 0.25")
    audit_ledger(full=True)

    assert len(mail.outbox) == 2
