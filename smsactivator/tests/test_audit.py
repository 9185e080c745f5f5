"""The audit: green when all is well, and each check names what breaks its truth."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import Offer, Order, State
from orders.upstreams.base import Message
from refunds import automatic
from refunds.tests import world
from smsactivator.auditing import CHECKS
from smsactivator.tasks import AUDIT_LOCK
from smsactivator.tasks import audit as audit_task
from wallet.audit import Check, audit
from wallet.models import AuditRun
from wallet.tests import world as wallets
from wallet.tests.together import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books]

PAST = timedelta(seconds=1)
SHOWS, SUMS, GAPLESS, ZERO, ESCROW, PAID, ENDED, OWNED, AGREES, WITHIN, HAS = (
    check.name for check in CHECKS
)


def rental() -> Order:
    return world.allocated(world.place(what=world.offer("2.0000", kind=Offer.Kind.RENTAL)))


def orders_of_every_state() -> dict[str, Order]:
    """One order in each state that there is, each at a price of its own."""
    for _ in range(2):
        record_sms({world.allocated().pk: [Arrival(Message("1"))]})
    completed = Order.objects.filter(state=State.SMS_RECEIVED).earliest("pk")
    ended, broken, refused = rental(), world.allocated(), world.place()
    Order.objects.filter(pk=completed.pk).update(deadline=timezone.now() - PAST)
    Order.objects.filter(pk=ended.pk).update(rental_ends_at=timezone.now() - PAST)
    Order.objects.filter(pk=broken.pk).update(broken_at=timezone.now())
    Order.objects.filter(pk=refused.pk).update(refused_at=timezone.now())
    world.overdue_orders(1)
    assert (finish_delivered(), automatic.sweep()) == (2, 3)
    cancelled = world.allocated()
    automatic.cancel(cancelled.pk, actor=world.TESTER)
    record_sms({cancelled.pk: [Arrival(Message("late"))]})
    world.place()
    world.allocated()
    rental()
    found = {order.state: order for order in Order.objects.all()}
    assert set(found) == set(State.values)
    assert Order.objects.count() == len(found)
    return found


def audit_ledger(*options: str) -> tuple[int, str]:
    """The command's exit code and output."""
    output = StringIO()
    try:
        call_command("audit_ledger", *options, stdout=output)
    except SystemExit as end:
        return int(end.code or 0), output.getvalue()
    return 0, output.getvalue()


def test_the_audit_passes_on_orders_of_every_state():
    orders_of_every_state()

    code, output = audit_ledger()

    assert code == 0
    lines = output.splitlines()
    assert [line.split("  ")[-2] for line in lines if line.startswith(" " * 10 + "ok")] == [
        check.name for check in CHECKS
    ]
    assert f"{'':14}escrow: 3.0000 USD" in lines
    assert f"{'':14}open orders: 3.0000 USD" in lines
    assert lines[-1] == "all 11 checks passed"


def test_the_audit_passes_on_nothing_at_all():
    assert audit_ledger()[0] == 0


def test_the_json_of_the_audit_says_all_of_it():
    orders_of_every_state()

    code, output = audit_ledger("--json")

    content = json.loads(output)
    run = AuditRun.objects.get()
    assert code == 0
    assert list(content) == ["passed", "started_at", "finished_at", "checks"]
    assert content["passed"] is run.passed is True
    assert content["started_at"] == run.started_at.isoformat()
    assert content["finished_at"] == run.finished_at.isoformat()
    assert content["checks"] == run.checks
    assert [check["name"] for check in content["checks"]] == [check.name for check in CHECKS]
    for check in content["checks"]:
        assert set(check) == {"name", "seconds", "count", "differences", "figures"}
        assert (check["count"], check["differences"]) == (0, [])
        assert check["seconds"] >= 0
    assert content["checks"][4]["figures"] == {"escrow": "3.0000", "open_orders": "3.0000"}


# The check that each is meant for, first; then those that must see it as well. {name} is an order's
# state, with its row's columns behind a dot.
MUTANTS = {
    "a version that no transfer has": (
        [SHOWS],
        ["UPDATE wallet_wallet SET version = 9 WHERE customer_id = {placed.customer_id}"],
        "wallet {placed.customer_id}: shows 9.5000 at version 9, its last transfer says 9.5000 at",
    ),
    "money from nowhere, written down": (
        [SUMS, GAPLESS, ZERO],
        [
            "UPDATE wallet_wallet SET balance = 10 WHERE customer_id = {placed.customer_id}",
            "UPDATE wallet_transfer SET balance_after = 10 WHERE id = {placed.purchase_id}",
        ],
        "wallet {placed.customer_id}: holds 10.0000, its transfers come to 9.5000",
    ),
    "a gap in the versions": (
        [GAPLESS],
        [
            "UPDATE wallet_wallet SET version = 3 WHERE customer_id = {placed.customer_id}",
            "UPDATE wallet_transfer SET wallet_version = 3 WHERE id = {placed.purchase_id}",
        ],
        "transfer {placed.purchase_id}: version 3 after 1, balance 9.5000 after 10.0000",
    ),
    "money that no account lost": (
        [ZERO, SHOWS, SUMS],
        ["UPDATE wallet_wallet SET balance = 99 WHERE customer_id = {placed.customer_id}"],
        "all accounts: the shop owes 94.0000, the wallets hold 183.5000",
    ),
    "an open order at another price": (
        [ESCROW, PAID],
        ["UPDATE orders_order SET price = 0.25 WHERE id = {placed.pk}"],
        "escrow: holds 3.0000, open orders come to 2.7500",
    ),
    "an order that somebody else paid": (
        [PAID],
        ["UPDATE orders_order SET customer_id = {active.customer_id} WHERE id = {placed.pk}"],
        "{placed.purchase_id} is purchase of 0.5000 from account {placed.customer_id}",
    ),
    "a delivery that gave its money back": (
        [ENDED, HAS],
        [
            "UPDATE orders_order SET first_sms_at = now() WHERE id = {expired.pk}",
            "UPDATE orders_order SET state = 'completed' WHERE id = {expired.pk}",
        ],
        "order {expired.pk}: is completed, price 0.5000, settled by transfer ",
    ),
    "an order that is gone": (
        [OWNED],
        [
            "DELETE FROM orders_sms WHERE order_id = {completed.pk}",
            "DELETE FROM orders_order WHERE id = {completed.pk}",
        ],
        "transfer {completed.settlement_id}: delivery belongs to no order",
    ),
    "a refund of less than was moved": (
        [AGREES],
        ["UPDATE refunds_refund SET amount = 0.4 WHERE order_id = {expired.pk}"],
        "for order {expired.pk} at price 0.5000, transfer {expired.settlement_id} of 0.5000",
    ),
    "a refund of more than the price": (
        [WITHIN, AGREES],
        ["UPDATE refunds_refund SET amount = 0.5001 WHERE order_id = {expired.pk}"],
        "order {expired.pk}: price 0.5000, refunded 0.5001",
    ),
    "a refund that is gone": (
        [HAS],
        ["DELETE FROM refunds_refund WHERE order_id = {cancelled.pk}"],
        "order {cancelled.pk}: is cancelled, refund ",
    ),
}


def test_there_is_a_mutant_for_each_check():
    assert {names[0] for names, _, _ in MUTANTS.values()} == {check.name for check in CHECKS}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_audit_names_what_breaks_a_truth(mutant, caplog):
    names, statements, difference = MUTANTS[mutant]
    orders = orders_of_every_state()
    with connection.cursor() as cursor:
        # A superuser who sets the triggers aside; nobody else can write these.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement.format(**orders))

    with caplog.at_level(logging.ERROR):
        code, output = audit_ledger("--json")
        _, text = audit_ledger()

    checks = json.loads(output)["checks"]
    failed = {check["name"]: check for check in checks if check["count"]}
    difference = difference.format(**orders)
    assert code == 1
    assert set(failed) == set(names)
    named = failed[names[0]]
    assert any(difference in found for found in named["differences"]), named["differences"]
    assert f"FAILED ({named['count']})  {names[0]}" in text
    assert difference in text
    assert text.endswith(f"{len(names)} of 11 checks failed\n")
    assert [run.passed for run in AuditRun.objects.all()] == [False, False]
    alarms = [record for record in caplog.records if record.name == "smsactivator.auditing"]
    assert {record.levelname for record in alarms} == {"ERROR"}
    assert any(f"audit failed: {names[0]}:" in record.getMessage() for record in alarms)


def test_many_differences_are_counted_and_the_first_are_named():
    customers = [wallets.customer("1") for _ in range(30)]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE wallet_wallet SET version = 7")

    run = audit(CHECKS)

    assert run.checks[0]["count"] == len(customers)
    assert len(run.checks[0]["differences"]) == 20


@pytest.mark.django_db(transaction=True)
def test_the_task_keeps_its_run_in_a_transaction_of_its_own():
    wallets.customer("1")

    assert audit_task() is True

    run = AuditRun.objects.get()
    assert run.passed
    assert run.started_at <= run.finished_at <= timezone.now()


@pytest.mark.django_db(transaction=True)
def test_all_checks_see_the_same_moment_while_money_moves():
    owner = wallets.customer("1")
    balance = Check("balance", "SELECT 1, 1 WHERE false", "SELECT sum(balance) FROM wallet_wallet")

    def checks():
        yield balance
        at_once(lambda: wallets.post(wallets.paid_in(owner, "5")))
        yield balance

    run = audit(checks())

    assert [check["figures"] for check in run.checks] == [{"sum": "1.0000"}, {"sum": "1.0000"}]
    assert wallets.figures(owner)[0] == 6


@pytest.mark.django_db(transaction=True)
def test_one_audit_at_a_time():
    with psycopg.connect(
        **{
            name: value
            for name, value in connection.get_connection_params().items()
            if name in {"dbname", "user", "password", "host", "port"}
        }
    ) as another:
        another.execute("SELECT pg_advisory_lock(%s)", [AUDIT_LOCK])
        assert audit_task() is None
        assert not AuditRun.objects.exists()
        another.execute("SELECT pg_advisory_unlock(%s)", [AUDIT_LOCK])

    assert audit_task() is True
    assert AuditRun.objects.count() == 1
