"""The audit: green when all is well, and each check names what breaks its truth."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from orders import termination
from orders.delivery import Arrival, finish_delivered, record_sms
from orders.models import Offer, Order, State
from orders.upstreams.base import Message
from refunds import automatic, decisions, disputes
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.auditing import CHECKS
from smsactivator.tasks import AUDIT_LOCK
from smsactivator.tasks import audit as audit_task
from wallet import corrections
from wallet.audit import Check, audit
from wallet.models import AuditRun, Payout
from wallet.tests import paying
from wallet.tests import world as wallets
from wallet.tests.attack import triggers_aside
from wallet.tests.together import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]

PAST = timedelta(seconds=1)
NAMES = [check.name for check in CHECKS]
SHOWS, SUMS, GAPLESS, ZERO, EMPTY, REVERSED, DECIDED, UNDECIDED = NAMES[:8]
LEFT, OUT, MOVED, APPROVED, BATCHED, PAYMENT = NAMES[8:14]
ESCROW, PAID, ENDED, OWNED, GONE, STANDING, AGREES, WITHIN, HAS, LOOSE, GRANTED, ASKED = NAMES[14:]


def rental() -> Order:
    return world.allocated(world.place(what=world.offer("2.0000", kind=Offer.Kind.RENTAL)))


def two_payouts() -> dict[str, Payout]:
    """A payout that was paid, and one that two people approved: all that their customers held."""
    people = paying.crew()
    return {
        "paid_out": paying.taken_to("paid", people, wallets.customer("50"), "50"),
        "large": paying.taken_to("approved", people, wallets.customer("600"), "600"),
    }


def orders_of_every_state() -> dict[str, Any]:
    """One order in each state that there is, each at a price of its own; and two payouts."""
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
    forfeited = world.place()
    senior, other, finance = (
        wallets.person(role) for role in ("Senior agent", "Senior agent", "Finance")
    )
    asked = termination.request(senior, forfeited.customer_id, reason="Resold", key=uuid4())
    ended_account = termination.confirm(other, asked.pk)
    back = termination.request_reinstatement(
        senior, ended_account.pk, give_back=True, reason="Mix-up", key=uuid4()
    )
    termination.confirm_reinstatement(other, back.pk)
    agent = wallets.person("Support agent")
    world.refunded(agent, senior, completed, "0.1", clause=Clause.WRONG_SERVICE)
    kind = world.requested(agent, completed, "0.05", clause=Clause.ORDERED_WRONG)
    decisions.approve(senior, kind.pk, reason="Kind")
    denied = world.requested(agent, completed, "0.2")
    decisions.deny(senior, denied.pk, reason="No evidence")
    disputes.dispute(denied.pk, actor=world.TESTER)
    disputes.overturn(other, denied.pk, reason="Evidence")
    still = world.requested(agent, ended, "0.3", clause=Clause.RENTAL_ISSUE)
    decisions.deny(senior, still.pk, reason="It worked")
    goodwill = corrections.request_goodwill(
        senior, cancelled.customer_id, amount=Decimal(2), reason="Waited", key=uuid4()
    )
    goodwill = corrections.confirm(other, goodwill.pk)
    wrong = corrections.request_reversal(
        finance, goodwill.transfer_id, reason="Wrong person", key=uuid4()
    )
    corrections.confirm(senior, wrong.pk)
    found = {order.state: order for order in Order.objects.all()}
    assert set(found) == set(State.values)
    assert Order.objects.count() == len(found)
    return found | two_payouts()


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
    assert f"{'':14}open payouts: 600.0000 USD" in lines
    assert f"{'':14}paid payouts: 50.0000 USD" in lines
    assert lines[-1] == f"all {len(CHECKS)} checks passed"


def test_the_audit_passes_on_nothing_at_all():
    assert audit_ledger()[0] == 0


def test_the_json_of_the_audit_says_all_of_it():
    orders_of_every_state()

    code, output = audit_ledger("--json")

    content = json.loads(output)
    run = AuditRun.objects.get()
    assert code == 0
    assert list(content) == [
        "passed",
        "started_at",
        "finished_at",
        "after_id",
        "through_id",
        "checks",
    ]
    assert content["passed"] is run.passed is True
    assert content["started_at"] == run.started_at.isoformat()
    assert content["finished_at"] == run.finished_at.isoformat()
    assert content["checks"] == run.checks
    assert [check["name"] for check in content["checks"]] == [check.name for check in CHECKS]
    for check in content["checks"]:
        assert set(check) == {"name", "seconds", "count", "differences", "figures"}
        assert (check["count"], check["differences"]) == (0, [])
        assert check["seconds"] >= 0
    figures = {check["name"]: check["figures"] for check in content["checks"]}
    assert figures[ESCROW] == {"escrow": "3.0000", "open_orders": "3.0000"}
    assert figures[OUT] == {
        "payouts_pending": "600.0000",
        "open_payouts": "600.0000",
        "payouts_paid": "50.0000",
        "paid_payouts": "50.0000",
    }


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
    "a transfer of a wallet that is not there": (
        [SUMS, ZERO, UNDECIDED],
        [
            "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key,"
            " posted_at, wallet_id, wallet_version, balance_after)"
            " VALUES ('goodwill', 7, 777777, 3, 'orphan', now(), 777777, 1, 3)",
        ],
        "wallet 777777: holds , its transfers come to 3.0000",
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
        "all accounts: the shop owes 104.3500, the wallets hold 193.8500",
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
        [OWNED, LOOSE],
        [
            "DELETE FROM refunds_refund WHERE order_id = {completed.pk}",
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
    "a decided refund that is gone": (
        [LOOSE, GRANTED],
        ["DELETE FROM refunds_refund WHERE order_id = {completed.pk} AND part = 1"],
        "decided refund of 0.1000 belongs to no refund",
    ),
    "a decided refund of more than the price": (
        [WITHIN, AGREES, ASKED, GRANTED],
        ["UPDATE refunds_refund SET amount = 0.5001 WHERE order_id = {completed.pk} AND part = 1"],
        "order {completed.pk}: price 0.5000, refunded 0.7001",
    ),
    "a forfeited wallet that holds money": (
        [EMPTY],
        [
            "ALTER TABLE wallet_wallet DROP CONSTRAINT wallet_ends_empty",
            "UPDATE wallet_wallet SET state = 'closed' WHERE customer_id = {placed.customer_id}",
        ],
        "wallet {placed.customer_id}: is closed and holds 9.5000",
    ),
    "a reversal of another transfer": (
        [REVERSED, DECIDED],
        ["UPDATE wallet_transfer SET reverses_id = {placed.purchase_id} WHERE kind = 'reversal'"],
        "reverses transfer {placed.purchase_id}, 0.5000 from {placed.customer_id} to 2",
    ),
    "goodwill of another amount than was decided": (
        [DECIDED],
        ["UPDATE wallet_correction SET amount = 3 WHERE amount = 2"],
        "goodwill of 3.0000 for customer {cancelled.customer_id}",
    ),
    "a correction that its requester confirmed": (
        [DECIDED],
        [
            "ALTER TABLE wallet_correction DROP CONSTRAINT correction_decided_by_a_second_person",
            "UPDATE wallet_correction SET decided_by_id = requested_by_id WHERE amount = 2",
        ],
        "goodwill of 2.0000 for customer {cancelled.customer_id}",
    ),
    "a termination of less than was forfeited": (
        [DECIDED],
        ["UPDATE wallet_termination SET wallet_amount = 9"],
        "9.0000 from wallet {forfeited.customer_id}",
    ),
    "goodwill that nobody decided": (
        [UNDECIDED],
        ["DELETE FROM wallet_correction WHERE amount = 2 AND kind = 'goodwill'"],
        "goodwill of 2.0000 belongs to no decision",
    ),
    "a reinstatement that nobody decided": (
        [UNDECIDED],
        ["DELETE FROM wallet_reinstatement"],
        "reinstatement of 10.0000 belongs to no decision",
    ),
    "a termination that nobody decided": (
        [UNDECIDED, GONE],
        ["DELETE FROM wallet_reinstatement", "DELETE FROM wallet_termination"],
        "forfeiture of 9.5000 belongs to no decision",
    ),
    "a termination of more orders than there were": (
        [GONE, DECIDED],
        ["UPDATE wallet_termination SET orders_amount = 500"],
        "customer {forfeited.customer_id}: terminations name 1 orders of 500.0000, forfeited are 1"
        " of 0.5000",
    ),
    "a wallet that was let in by nobody": (
        [STANDING],
        ["UPDATE wallet_termination SET reinstated = false"],
        "wallet {forfeited.customer_id}: is active, termination ",
    ),
    "a wallet that nobody terminated": (
        [STANDING],
        [
            "INSERT INTO wallet_customer (storefront_id, external_id, email, status, created_at)"
            " SELECT min(id), 'empty', '', 'active', now() FROM wallet_storefront",
            "INSERT INTO wallet_wallet (customer_id, state, balance, version)"
            " SELECT id, 'forfeited', 0, 0 FROM wallet_customer WHERE external_id = 'empty'",
        ],
        "is forfeited without a termination",
    ),
    "a payout that is on its way and was paid": (
        [LEFT, OUT],
        ["UPDATE wallet_payout SET state = 'submitted' WHERE id = {paid_out.pk}"],
        "payout {paid_out.pk}: 50.0000 is submitted, its transfers leave 0.0000 pending, 50.0000",
    ),
    "a payout that is to be sent and whose money was returned": (
        [LEFT, OUT, SHOWS, SUMS, ZERO],
        [
            "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key,"
            " posted_at, wallet_id, wallet_version, balance_after)"
            " VALUES ('payout_return', 10, {large.customer_id}, 600, 'payout:{large.pk}:return',"
            " now(), {large.customer_id}, 3, 600)",
            "INSERT INTO wallet_payoutmove (payout_id, transfer_id)"
            " SELECT {large.pk}, max(id) FROM wallet_transfer",
        ],
        "payout {large.pk}: 600.0000 is approved, its transfers leave 0.0000 pending, 0 paid, 0",
    ),
    "a payout of more than was taken": (
        [OUT, LEFT, MOVED],
        ["UPDATE wallet_payout SET amount = 700 WHERE id = {large.pk}"],
        "payouts pending: holds 600.0000, open payouts come to 700.0000",
    ),
    "a paid payout of less than was paid": (
        [OUT, LEFT, MOVED, BATCHED],
        ["UPDATE wallet_payout SET amount = 49 WHERE id = {paid_out.pk}"],
        "payouts paid: holds 50.0000, paid payouts come to 49.0000",
    ),
    "money paid out for nobody's payout": (
        [MOVED, LEFT],
        [
            "DELETE FROM wallet_payoutmove USING wallet_transfer AS line"
            " WHERE line.id = transfer_id AND line.kind = 'payout_paid'",
        ],
        "payout_paid of 50.0000 under payout:{paid_out.pk}:paid:1, payout  of ",
    ),
    "a payout's transfer under another key": (
        [MOVED],
        ["UPDATE wallet_transfer SET key = 'payout:{large.pk}:paid:1' WHERE kind = 'payout_paid'"],
        "payout_paid of 50.0000 under payout:{large.pk}:paid:1, payout {paid_out.pk} of 50.0000",
    ),
    "a payout's transfer of another wallet": (
        [MOVED, LEFT],
        [
            "UPDATE wallet_payoutmove SET payout_id = {large.pk} WHERE payout_id = {paid_out.pk}",
            "UPDATE wallet_payoutmove AS move SET payout_id = {paid_out.pk} FROM wallet_transfer"
            " AS line WHERE line.id = transfer_id AND line.wallet_id = {large.customer_id}",
            "UPDATE wallet_payoutmove AS move SET payout_id = {paid_out.pk} FROM wallet_transfer"
            " AS line WHERE line.id = transfer_id AND line.kind = 'payout_paid'",
        ],
        "payout of 600.0000 under payout:{large.pk}:request, payout {paid_out.pk} of 50.0000",
    ),
    "a payout that its requester approved": (
        [APPROVED],
        [
            "ALTER TABLE wallet_payout DROP CONSTRAINT payout_approved_by_another",
            "UPDATE wallet_payout SET requested_by_id = approved_by_id WHERE id = {paid_out.pk}",
        ],
        "payout {paid_out.pk}: 50.0000 is paid, requested by {paid_out.approved_by_id}, sent again",
    ),
    "a payout that was approved by whoever sent it again": (
        [APPROVED],
        [
            "ALTER TABLE wallet_payout DROP CONSTRAINT payout_second_approval_by_a_third",
            "UPDATE wallet_payout SET attempt = 2, sent_again_by_id = second_by_id"
            " WHERE id = {large.pk}",
        ],
        "sent again by {large.second_by_id}, approved by {large.approved_by_id} and ",
    ),
    "a payout whose money came back by who said that it failed": (
        [APPROVED],
        [
            "ALTER TABLE wallet_payout DROP CONSTRAINT payout_given_back_by_another,"
            " DROP CONSTRAINT payout_failed_by_somebody,"
            " DROP CONSTRAINT payout_ended_by_somebody_with_a_reason",
            "UPDATE wallet_payout SET failed_by_id = approved_by_id, decided_by_id = approved_by_id"
            " WHERE id = {paid_out.pk}",
        ],
        "failed by {paid_out.approved_by_id}, ended by {paid_out.approved_by_id}",
    ),
    "a payout whose money came back by who uploaded that it failed": (
        [APPROVED],
        [
            "ALTER TABLE wallet_payout DROP CONSTRAINT payout_failed_by_somebody,"
            " DROP CONSTRAINT payout_ended_by_somebody_with_a_reason",
            "ALTER TABLE wallet_resultfile DROP CONSTRAINT result_file_hash_is_its_content",
            "INSERT INTO wallet_resultfile"
            " (name, content, size, sha256, uploaded_by_id, uploaded_at, request_key)"
            " VALUES ('r', 'x', 1, 'x', {paid_out.approved_by_id}, now(), gen_random_uuid())",
            "INSERT INTO wallet_resultline (file_id, row, payout_id, attempt, digest, outcome,"
            " detail, applied_by_id, applied_at) SELECT id, 2, {paid_out.pk}, 1, 'd', 'failed', '',"
            " {paid_out.requested_by_id}, now() FROM wallet_resultfile",
            "UPDATE wallet_payout SET failed_by_id = requested_by_id,"
            " decided_by_id = approved_by_id WHERE id = {paid_out.pk}",
        ],
        "failed by {paid_out.requested_by_id}, ended by {paid_out.approved_by_id}",
    ),
    "a large payout that one person approved": (
        [APPROVED],
        [
            "ALTER TABLE wallet_payout DROP CONSTRAINT payout_approved_as_its_amount_asks",
            "UPDATE wallet_payout SET second_by_id = NULL, second_at = NULL WHERE id = {large.pk}",
        ],
        "payout {large.pk}: 600.0000 is approved, requested by {large.requested_by_id}, sent again",
    ),
    "a payout to a changed address that did not wait": (
        [APPROVED],
        [
            "ALTER TABLE wallet_payout DROP CONSTRAINT payout_changed_address_waited",
            "UPDATE wallet_payout SET not_before = approved_at + interval '1 hour'"
            " WHERE id = {large.pk}",
        ],
        "payout {large.pk}: 600.0000 is approved, requested by {large.requested_by_id}",
    ),
    "a line of a batch of another amount": (
        [BATCHED],
        [
            "UPDATE wallet_batchline SET amount = 51 WHERE payout_id = {paid_out.pk}",
            "UPDATE wallet_payoutbatch SET total = 51",
            "UPDATE wallet_payoutfile SET total = 51",
        ],
        "payout {paid_out.pk}: 50.0000 is paid at attempt 1, its live line says 51.0000 at attempt",
    ),
    "a line of a batch of another address": (
        [BATCHED],
        ["UPDATE wallet_batchline SET address = repeat('T', 34) WHERE payout_id = {paid_out.pk}"],
        "payout {paid_out.pk}: 50.0000 is paid at attempt 1, its live line says 50.0000 at attempt",
    ),
    "a paid payout whose batch was given up": (
        [BATCHED],
        [
            "UPDATE wallet_payoutbatch SET state = 'voided', submitted_by_id = NULL,"
            " submitted_at = NULL, voided_by_id = made_by_id + 1, voided_at = now(),"
            " void_reason = 'So'"
        ],
        ", which is voided",
    ),
    "a paid payout that was in no batch": (
        [BATCHED],
        ["UPDATE wallet_batchline SET live = false WHERE payout_id = {paid_out.pk}"],
        "payout {paid_out.pk}: 50.0000 is paid at attempt 1, its live line says  at attempt , in",
    ),
    "a batch without its files": (
        [BATCHED],
        ["DELETE FROM wallet_payoutfile WHERE format = 'csv'"],
        "is 1 of 50.0000 USD, its lines are 1 of 50.0000, its csv files 0 of 0",
    ),
    "a batch of more than its lines": (
        [BATCHED],
        [
            "UPDATE wallet_payoutbatch SET count = 2, total = 100",
            "UPDATE wallet_payoutfile SET rows = 2, total = 100",
        ],
        "is 2 of 100.0000 USD, its lines are 1 of 50.0000, its xlsx files 2 of 100.0000",
    ),
    "a file of other bytes than were made": (
        [BATCHED],
        [
            "ALTER TABLE wallet_payoutfile DROP CONSTRAINT payout_file_hash_is_its_content",
            "UPDATE wallet_payoutfile SET content = 'x' WHERE format = 'csv'",
        ],
        ": its hash is not its content's",
    ),
    "a deposit without a payment": (
        [PAYMENT],
        [
            "DELETE FROM wallet_deposit USING wallet_transfer AS line"
            " WHERE line.id = transfer_id AND wallet_id = {placed.customer_id}",
        ],
        "deposit of 10.0000 to wallet {placed.customer_id}, payment",
    ),
    "a request that is granted and was not paid": (
        [GRANTED],
        ["UPDATE refunds_refundrequest SET state = 'approved' WHERE state = 'denied'"],
        "0.3000 for order {ended.pk} is approved, refund , goodwill  of ",
    ),
    "a request that was denied and paid": (
        [GRANTED, ASKED],
        [
            "UPDATE refunds_refundrequest SET state = 'denied'"
            " WHERE state = 'approved' AND clause = 'ticket.wrong_service'"
        ],
        "0.1000 for order {completed.pk} is denied, refund ",
    ),
    "goodwill for a request of another amount": (
        [GRANTED],
        ["UPDATE refunds_refundrequest SET amount = 0.06 WHERE goodwill_id IS NOT NULL"],
        "0.0600 for order {completed.pk} is approved, refund , goodwill ",
    ),
    "goodwill that another senior gave": (
        [GRANTED],
        [
            "UPDATE refunds_refundrequest SET decided_by_id = (SELECT max(id) FROM auth_user"
            " WHERE id NOT IN (requested_by_id, decided_by_id)) WHERE goodwill_id IS NOT NULL"
        ],
        "0.0500 for order {completed.pk} is approved, refund , goodwill ",
    ),
    "goodwill for a request that is gone": (
        [UNDECIDED, GRANTED],
        ["DELETE FROM wallet_correction WHERE amount = 0.05"],
        "goodwill of 0.0500 belongs to no decision",
    ),
    "goodwill and refunds of more than the price": (
        [GRANTED, ASKED, SUMS, GAPLESS, ZERO],
        [
            "UPDATE refunds_refundrequest SET amount = 0.3 WHERE goodwill_id IS NOT NULL",
            "UPDATE wallet_correction SET amount = 0.3 WHERE amount = 0.05",
            "UPDATE wallet_transfer SET amount = 0.3 WHERE amount = 0.05",
        ],
        "0.3000 for order {completed.pk} is approved, refund , goodwill ",
    ),
    "a refund under another clause than was granted": (
        [ASKED],
        [
            "UPDATE refunds_refund SET clause = 'ticket.rental_issue'"
            " WHERE order_id = {completed.pk} AND part = 1"
        ],
        "0.1000 for order {completed.pk} under ticket.rental_issue, request ",
    ),
    "a refund whose request is gone": (
        [ASKED],
        ["DELETE FROM refunds_refundrequest WHERE clause = 'ticket.wrong_service'"],
        "0.1000 for order {completed.pk} under ticket.wrong_service, request ",
    ),
    "a refund that its requester approved": (
        [ASKED],
        [
            "ALTER TABLE refunds_refundrequest DROP CONSTRAINT"
            " request_decided_by_another_when_approved",
            "UPDATE refunds_refundrequest SET requested_by_id = decided_by_id"
            " WHERE clause = 'ticket.wrong_service'",
        ],
        "0.1000 for order {completed.pk} under ticket.wrong_service, request ",
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
    with triggers_aside() as cursor:
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
    assert text.endswith(f"{len(names)} of {len(CHECKS)} checks failed\n")
    assert [run.passed for run in AuditRun.objects.all()] == [False, False]
    alarms = [record for record in caplog.records if record.name == "smsactivator.auditing"]
    assert {record.levelname for record in alarms} == {"ERROR"}
    assert any(f"audit failed: {names[0]}:" in record.getMessage() for record in alarms)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_an_audit_from_a_checkpoint_sees_what_a_full_one_sees_of_what_is_new(mutant):
    names, statements, _ = MUTANTS[mutant]
    wallets.customer("1", shop="Before")
    checkpoint = audit(CHECKS)
    orders = orders_of_every_state()
    with triggers_aside() as cursor:
        for statement in statements:
            cursor.execute(statement.format(**orders))

    run = audit(CHECKS)

    assert (checkpoint.passed, run.after_id) == (True, checkpoint.through_id)
    assert run.after_id > 0
    assert {check["name"] for check in run.checks if check["count"]} == set(names)


def test_what_people_granted_since_the_last_audit_is_found_wrong_from_the_checkpoint_on():
    orders_of_every_state()
    assert audit(CHECKS, full=True).passed
    agent, senior = wallets.person("Support agent"), wallets.person("Senior agent")
    new = world.delivered("1")
    world.refunded(agent, senior, new, "0.1")
    kind = world.requested(agent, new, "0.2", clause=Clause.ORDERED_WRONG)
    decisions.approve(senior, kind.pk, reason="Kind")
    with triggers_aside() as cursor:
        cursor.execute("UPDATE refunds_refundrequest SET amount = amount + 0.01")

    run = audit(CHECKS)

    assert run.after_id > 0
    found = {check["name"]: check["differences"] for check in run.checks if check["count"]}
    assert set(found) == {GRANTED, ASKED}
    # What was decided up to an hour before the checkpoint is looked at again.
    [granted] = [one for one in found[GRANTED] if f"order {new.pk} " in one]
    assert f"0.2100 for order {new.pk} is approved" in granted
    assert len(found[ASKED]) == 1
    assert f"0.1000 for order {new.pk} under ticket.service_rejected" in found[ASKED][0]


def test_many_differences_are_counted_and_the_first_are_named():
    customers = [wallets.customer("1") for _ in range(30)]
    with triggers_aside() as cursor:
        cursor.execute("UPDATE wallet_wallet SET version = 7")

    run = audit(CHECKS, full=True)

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
    balance = Check(
        "balance", "SELECT 1, 1 WHERE false", figures="SELECT sum(balance) FROM wallet_wallet"
    )

    def checks():
        yield balance
        at_once(lambda: wallets.post(wallets.paid_in(owner, "5")))
        yield balance

    run = audit(checks())

    assert [check["figures"] for check in run.checks] == [{"sum": "1.0000"}, {"sum": "1.0000"}]
    assert wallets.figures(owner)[0] == 6


def another_session() -> psycopg.Connection[Any]:
    names = {"dbname", "user", "password", "host", "port"}
    given = connection.get_connection_params().items()
    return psycopg.connect(**{name: value for name, value in given if name in names})


@pytest.mark.django_db(transaction=True)
def test_one_audit_at_a_time():
    with another_session() as another:
        another.execute("SELECT pg_advisory_lock(%s)", [AUDIT_LOCK])
        assert audit_task() is None
        assert not AuditRun.objects.exists()
        another.execute("SELECT pg_advisory_unlock(%s)", [AUDIT_LOCK])

    assert audit_task() is True
    assert AuditRun.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_full_audit_waits_for_the_end_of_another_one(monkeypatch):
    with another_session() as another:
        another.execute("SELECT pg_advisory_lock(%s)", [AUDIT_LOCK])
        monkeypatch.setattr(
            "smsactivator.tasks.time.sleep",
            lambda _seconds: another.execute("SELECT pg_advisory_unlock(%s)", [AUDIT_LOCK]),
        )

        assert audit_task(full=True) is True

    assert AuditRun.objects.get().full


@pytest.mark.django_db(transaction=True)
def test_a_full_audit_that_cannot_begin_says_so(monkeypatch, caplog):
    monkeypatch.setattr("smsactivator.tasks.PATIENCE", 0.01)
    with another_session() as another:
        another.execute("SELECT pg_advisory_lock(%s)", [AUDIT_LOCK])
        with caplog.at_level(logging.WARNING):
            assert audit_task(full=True) is None

    assert "the full audit did not begin" in caplog.text
    assert not AuditRun.objects.exists()
