"""The rules of payouts, attacked in raw SQL: each is refused by the database itself."""

from __future__ import annotations

import pytest
from django.db import connection

from wallet import payouts, settlement, standing
from wallet.models import Payout, PayoutMethod, PayoutOutcome
from wallet.tests import paying, world
from wallet.tests.attack import CHECK, FOREIGN_KEY, NOT_NULL, RESTRICT, UNIQUE, assert_refused, run
from wallet.tests.paying import HASH, Crew, taken_to

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

State = Payout.State
OPEN = ("requested", "first_approved", "approved", "exported", "submitted", "failed")
# Each step that there is.
STEPS = {
    "requested": {"first_approved", "approved", "rejected", "withdrawn"},
    "first_approved": {"approved", "rejected", "withdrawn"},
    "approved": {"exported", "rejected", "forfeited"},
    "exported": {"approved", "submitted", "paid", "failed"},
    "submitted": {"paid", "failed"},
    "paid": {"failed"},
    "failed": {"paid", "requested", "returned", "forfeited"},
    "returned": set(),
    "rejected": set(),
    "withdrawn": set(),
}


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture
def buyer():
    return world.customer("2000")


def update(payout: Payout, what: str) -> str:
    return f"UPDATE wallet_payout SET {what} WHERE id = {payout.pk}"


def approval(by: object, column: str = "approved") -> str:
    return f"{column}_by_id = {getattr(by, 'pk', by)}, {column}_at = now()"


def ending(by: object) -> str:
    return f"decided_by_id = {getattr(by, 'pk', by)}, decided_at = now(), decision_reason = 'So'"


def let_go(payout: Payout) -> str:
    """Take a payout out of its batch, as its end and another attempt do."""
    return f"UPDATE wallet_batchline SET live = false WHERE payout_id = {payout.pk}"


def transfer(
    kind: str,
    debit: int,
    credit: int,
    key: str,
    amount: object = 50,
    *,
    wallet: int | None = None,
) -> str:
    """A transfer as SQL, with its place in the wallet's chain if it has a wallet."""
    chain = "NULL, NULL, NULL"
    if wallet:
        sign = "+" if credit == wallet else "-"
        chain = (
            f"{wallet}, (SELECT version + 1 FROM wallet_wallet WHERE customer_id = {wallet}),"
            f" (SELECT balance {sign} {amount} FROM wallet_wallet WHERE customer_id = {wallet})"
        )
    return (
        "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,"
        " wallet_id, wallet_version, balance_after) VALUES"
        f" ('{kind}', {debit}, {credit}, {amount}, '{key}', statement_timestamp(), {chain})"
    )


def moved(payout: Payout | int) -> str:
    """Give the last transfer to a payout."""
    number = payout.pk if isinstance(payout, Payout) else payout
    return (
        "INSERT INTO wallet_payoutmove (payout_id, transfer_id)"
        f" SELECT {number}, max(id) FROM wallet_transfer"
    )


def inserted(people: Crew, customer, **columns: str) -> str:
    """A payout as SQL; unless told otherwise a right one, but for its money."""
    method = PayoutMethod.objects.get(code="USDT-TRON")
    row = {
        "customer_id": customer.pk,
        "method_id": method.pk,
        "address": f"'{paying.TRON}'",
        "memo": "''",
        "amount": 50,
        "policy_version": "'2026-05-07'",
        "minimum": 20,
        "second_from": 500,
        "reason": "'Leaves'",
        "requested_by_id": people.agent.pk,
        "requested_at": "now()",
        "request_key": "gen_random_uuid()",
        "state": "'requested'",
        "attempt": 1,
        "decision_reason": "''",
        "transaction_hash": "''",
        "fee_currency": "''",
        "problem": "''",
    } | columns
    names, values = ", ".join(row), ", ".join(map(str, row.values()))
    return f"INSERT INTO wallet_payout ({names}) VALUES ({values})"


def with_its_money(customer, amount: object = 50) -> tuple[str, str]:
    """What the last payout needs beside its row: the transfer, and whose it is."""
    key = "' || (SELECT max(id) FROM wallet_payout) || '"
    return (
        transfer("payout", customer.pk, 10, f"payout:{key}:request", amount, wallet=customer.pk),
        "INSERT INTO wallet_payoutmove (payout_id, transfer_id)"
        " SELECT (SELECT max(id) FROM wallet_payout), max(id) FROM wallet_transfer",
    )


def test_a_right_payout_in_raw_sql_stands(people, buyer):
    run(inserted(people, buyer), *with_its_money(buyer))

    assert paying.pending() == 50
    assert world.figures(buyer)[0] == 1950


# --- its terms ---


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        ("payout_has_a_reason", {"reason": "''"}),
        ("payout_not_below_the_minimum", {"amount": "19.99"}),
        ("payout_not_below_the_minimum", {"minimum": "0"}),
        ("payout_not_below_the_minimum", {"amount": "-50", "minimum": "-60"}),
        ("payout_in_whole_cents", {"amount": "50.001"}),
        ("payout_address_plain", {"address": "'short'"}),
        ("payout_address_plain", {"address": "'=TJRabPrwbZy45sbavfcjinPJC18kjpRT'"}),
        ("payout_address_plain", {"address": "'-TJRabPrwbZy45sbavfcjinPJC18kjpRT'"}),
        ("payout_address_plain", {"address": "E'TJRabPrwbZy45sbavfcjinPJC18kjpRTv8\\n'"}),
        ("payout_memo_plain", {"memo": "'@SUM(A1)'"}),
        ("payout_memo_plain", {"memo": "'+1'"}),
        ("payout_memo_plain", {"memo": "E'a\\tb'"}),
        ("payout_memo_plain", {"memo": "E'7\\n'"}),
        ("payout_state", {"state": "'sent'"}),
    ],
)
def test_a_payout_with_wrong_terms_is_refused(people, buyer, rule, columns):
    statement = inserted(people, buyer, **columns)
    if rule == "payout_state":
        # The trigger is first; whoever sets it aside meets the CHECK.
        assert_refused(RESTRICT, "begins by being requested", statement)
        return
    assert_refused(CHECK, rule, statement)


@pytest.mark.parametrize("column", ["amount", "minimum", "second_from"])
def test_an_amount_is_a_number(people, buyer, column):
    assert_refused(CHECK, column, inserted(people, buyer, **{column: "'NaN'"}))
    assert_refused(NOT_NULL, "null value", inserted(people, buyer, **{column: "NULL"}))


@pytest.mark.parametrize(
    "columns",
    [
        {"state": "'approved'"},
        {"state": "'paid'"},
        {"attempt": "2"},
        {"transaction_hash": "'ab'"},
        {"problem": "'Odd'"},
        {"settled_at": "now()"},
        {"fee": "1", "fee_currency": "'TRX'"},
        {"failed_by_id": "(SELECT max(id) FROM auth_user)"},
    ],
)
def test_a_payout_begins_by_being_requested(people, buyer, columns):
    assert_refused(RESTRICT, "begins by being requested", inserted(people, buyer, **columns))


@pytest.mark.parametrize(
    ("rule", "columns"),
    [
        (
            "payout_approved_as_its_amount_asks",
            {"approved_by_id": "{finance}", "approved_at": "now()"},
        ),
        (
            "payout_ended_by_somebody_with_a_reason",
            {"decided_by_id": "{finance}", "decided_at": "now()"},
        ),
        ("payout_ended_by_somebody_with_a_reason", {"decision_reason": "'So'"}),
        ("payout_sent_again_by_somebody", {"sent_again_by_id": "{finance}"}),
    ],
)
def test_a_payout_does_not_begin_decided(people, buyer, rule, columns):
    row = {name: value.format(finance=people.finance.pk) for name, value in columns.items()}
    assert_refused(CHECK, rule, inserted(people, buyer, **row))


def test_a_form_is_one_payout_and_a_customer_and_method_are_real(people, buyer):
    payout = paying.asked(people.agent, buyer)
    again = inserted(people, buyer, request_key=f"'{payout.request_key}'")
    assert_refused(UNIQUE, "wallet_payout_request_key_key", again)
    money = with_its_money(buyer)
    assert_refused(FOREIGN_KEY, "method_id", inserted(people, buyer, method_id="99999"), *money)


@pytest.mark.parametrize(
    "what",
    [
        "amount = 20",
        "address = 'TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t'",
        "memo = '7'",
        "customer_id = {other}",
        "method_id = (SELECT max(id) FROM wallet_payoutmethod)",
        "requested_by_id = {finance}",
        "requested_at = now() - interval '1 day'",
        "not_before = NULL",
        "second_from = 1000000",
        "minimum = 1",
        "policy_version = '2020-01-01'",
        "reason = 'Another'",
        "request_key = gen_random_uuid()",
        "id = 999999",
    ],
)
def test_terms_stay_what_they_were_beside_a_right_step(people, buyer, what):
    paying.asked(people.agent, buyer, "20", address=paying.tron(9))
    payout = paying.asked(people.agent, buyer)
    assert payout.not_before is not None
    names = {"other": world.customer("1").pk, "finance": people.senior.pk}
    # A right step but for the waiting time, which comes after the trigger.
    step = f"state = 'approved', {approval(people.finance)}, {what.format(**names)}"
    assert_refused(RESTRICT, "its terms and what was decided are fixed", update(payout, step))


@pytest.mark.parametrize(
    "what",
    [
        "state = 'rejected', {ending}, approved_by_id = NULL, approved_at = NULL",
        "state = 'rejected', {ending}, approved_by_id = {other}",
        "state = 'rejected', {ending}, transaction_hash = 'ab'",
        "state = 'exported', approved_by_id = {other}",
        "state = 'exported', approved_at = now() - interval '1 day'",
        "state = 'exported', transaction_hash = 'ab', settled_at = now()",
        "state = 'exported', attempt = 2",
        "state = 'exported', failed_by_id = {other}",
        "state = 'rejected', {ending}, failed_by_id = {other}",
        "state = 'exported', fee = 1, fee_currency = 'TRX'",
    ],
)
def test_what_was_decided_stays_beside_a_right_step(people, buyer, what):
    payout = taken_to(State.APPROVED, people, buyer)
    words = what.format(ending=ending(people.finance), other=people.other.pk)
    assert_refused(RESTRICT, "its terms and what was decided are fixed", update(payout, words))


# --- its steps ---


@pytest.mark.parametrize("state", STEPS)
def test_a_step_out_of_order_is_refused(people, buyer, state):
    payout = taken_to(state, people, buyer, "600")
    assert Payout.objects.get(pk=payout.pk).state == state
    for other in sorted(set(State.values) - STEPS[state]):
        assert_refused(
            RESTRICT,
            f"from {state} it does not go to {other}",
            update(payout, f"state = '{other}'"),
        )


def test_a_payout_is_kept_with_its_history_its_moves_and_outcomes(people, buyer):
    taken_to(State.PAID, people, buyer)
    for table in (
        "wallet_payout",
        "wallet_payoutmethod",
        "wallet_payoutmove",
        "wallet_payoutoutcome",
        "wallet_historicalpayout",
        "wallet_historicalpayoutmethod",
    ):
        assert_refused(RESTRICT, table, f"DELETE FROM {table}")
        assert_refused(RESTRICT, table, f"DELETE FROM {table} WHERE false")
        assert_refused(RESTRICT, table, f"TRUNCATE {table} CASCADE")
    for table in (
        "wallet_payoutmove",
        "wallet_historicalpayout",
        "wallet_historicalpayoutmethod",
    ):
        assert_refused(RESTRICT, table, f"UPDATE {table} SET id = id")


# --- approvals ---


def test_nobody_approves_their_own(people, buyer):
    payout = paying.asked(people.senior, buyer)
    assert_refused(
        CHECK,
        "payout_approved_by_another",
        update(payout, f"state = 'approved', {approval(people.senior)}"),
    )
    large = paying.asked(people.senior, buyer, "600")
    assert_refused(
        CHECK,
        "payout_approved_by_another",
        update(large, f"state = 'first_approved', {approval(people.senior)}"),
    )


def test_an_approval_has_somebody_and_a_time(people, buyer):
    payout = paying.asked(people.agent, buyer)
    for what, rule in {
        "": "payout_approved_as_its_amount_asks",
        f", approved_by_id = {people.finance.pk}": "payout_approved_by_another",
        ", approved_at = now()": "payout_approved_as_its_amount_asks",
    }.items():
        assert_refused(CHECK, rule, update(payout, f"state = 'approved'{what}"))


def test_above_the_amount_one_approval_is_not_enough(people, buyer):
    payout = paying.asked(people.agent, buyer, "500.01")
    assert_refused(
        CHECK,
        "payout_approved_as_its_amount_asks",
        update(payout, f"state = 'approved', {approval(people.finance)}"),
    )


def test_below_the_amount_there_is_no_first_of_two(people, buyer):
    payout = paying.asked(people.agent, buyer, "500")
    assert_refused(
        CHECK,
        "payout_approved_as_its_amount_asks",
        update(payout, f"state = 'first_approved', {approval(people.finance)}"),
    )


def test_the_second_approval_is_a_third_person_s(people, buyer):
    payout = taken_to(State.FIRST_APPROVED, people, buyer, "600")
    for same in (people.finance, people.agent):
        assert_refused(
            CHECK,
            "payout_second_approval_by_a_third",
            update(payout, f"state = 'approved', {approval(same, 'second')}"),
        )
    assert_refused(
        CHECK, "payout_approved_as_its_amount_asks", update(payout, "state = 'approved'")
    )
    # And the first one stays who it was.
    assert_refused(
        RESTRICT,
        "its terms and what was decided are fixed",
        update(
            payout,
            f"state = 'approved', {approval(people.other)}, {approval(people.finance, 'second')}",
        ),
    )


def test_both_approvals_at_one_step_are_refused(people, buyer):
    payout = paying.asked(people.agent, buyer, "600")
    both = f"{approval(people.finance)}, {approval(people.other, 'second')}"
    assert_refused(
        RESTRICT,
        "its terms and what was decided are fixed",
        update(payout, f"state = 'approved', {both}"),
    )


def test_whoever_sends_a_payout_again_approves_it_neither_first_nor_second(people, buyer):
    payout = taken_to(State.FAILED, people, buyer, "600")
    again = (
        "state = 'requested', attempt = 2, approved_by_id = NULL, approved_at = NULL,"
        " second_by_id = NULL, second_at = NULL, problem = '', settled_at = NULL,"
        " failed_by_id = NULL"
    )
    assert_refused(CHECK, "payout_sent_again_by_somebody", update(payout, again))
    run(update(payout, f"{again}, sent_again_by_id = {people.other.pk}"), let_go(payout))

    first = f"state = 'first_approved', {approval(people.other)}"
    assert_refused(CHECK, "payout_approved_by_another", update(payout, first))
    run(update(payout, f"state = 'first_approved', {approval(people.finance)}"))
    second = f"state = 'approved', {approval(people.other, 'second')}"
    assert_refused(CHECK, "payout_second_approval_by_a_third", update(payout, second))
    # Who sent it again is not rewritten by whoever approves.
    hidden = f"{second}, sent_again_by_id = {people.senior.pk}"
    assert_refused(RESTRICT, "its terms and what was decided are fixed", update(payout, hidden))


@pytest.mark.parametrize(
    "kept",
    [
        {"attempt": "attempt = 1"},
        {"attempt": "attempt = 3"},
        {"problem": "problem = 'Bounced'"},
        {"settled_at": "settled_at = now()"},
        {"hash": "transaction_hash = 'ab'"},
        {"fee": "fee = 1, fee_currency = 'TRX'"},
        {"failed_by": "failed_by_id = failed_by_id"},
    ],
)
def test_what_is_sent_again_begins_anew(people, buyer, kept):
    payout = taken_to(State.FAILED, people, buyer)
    columns = {
        "state": "state = 'requested'",
        "attempt": "attempt = 2",
        "who": f"sent_again_by_id = {people.finance.pk}",
        "approval": "approved_by_id = NULL, approved_at = NULL",
        "problem": "problem = ''",
        "settled_at": "settled_at = NULL",
        "failed_by": "failed_by_id = NULL",
    } | kept
    assert_refused(
        RESTRICT,
        "its terms and what was decided are fixed",
        update(payout, ", ".join(columns.values())),
    )


def test_approvals_do_not_survive_being_sent_again(people, buyer):
    payout = taken_to(State.FAILED, people, buyer)
    again = (
        f"state = 'requested', attempt = 2, sent_again_by_id = {people.finance.pk}, problem = '',"
        " settled_at = NULL, failed_by_id = NULL"
    )
    assert_refused(CHECK, "payout_approved_as_its_amount_asks", update(payout, again))


def test_a_changed_address_waits(people, buyer):
    paying.asked(people.agent, buyer)
    payout = paying.asked(people.agent, buyer, address=paying.tron(2))
    assert_refused(
        CHECK,
        "payout_changed_address_waited",
        update(payout, f"state = 'approved', {approval(people.finance)}"),
    )


# --- ends and results ---


def test_an_end_has_somebody_a_time_and_a_reason(people, buyer):
    payout = paying.asked(people.agent, buyer)
    rule = "payout_ended_by_somebody_with_a_reason"
    who, when = f"decided_by_id = {people.finance.pk}", "decided_at = now()"
    for what in (
        "state = 'rejected'",
        f"state = 'rejected', {who}, {when}",
        f"state = 'rejected', {who}, decision_reason = 'So'",
        f"state = 'rejected', {when}, decision_reason = 'So'",
        # Only the one who requested it withdraws it.
        f"state = 'withdrawn', {who}, {when}",
    ):
        assert_refused(CHECK, rule, update(payout, what))


def test_paid_has_a_hash_and_failed_a_problem(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    for what in (
        "settled_at = now()",
        f"transaction_hash = '{HASH}'",
        f"transaction_hash = '{HASH}', settled_at = now(), problem = 'Odd'",
    ):
        assert_refused(
            CHECK, "payout_paid_with_its_hash", update(payout, f"state = 'paid', {what}")
        )
    failed_by = f"failed_by_id = {people.finance.pk}"
    for what in (f"settled_at = now(), {failed_by}", f"problem = 'Odd', {failed_by}"):
        assert_refused(
            CHECK, "payout_failed_with_its_problem", update(payout, f"state = 'failed', {what}")
        )


def test_a_failed_payout_was_called_so_by_somebody_and_a_paid_one_by_nobody(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    rule = "payout_failed_by_somebody"
    assert_refused(
        CHECK, rule, update(payout, "state = 'failed', problem = 'Odd', settled_at = now()")
    )
    paid = f"state = 'paid', transaction_hash = '{HASH}', settled_at = now(), problem = ''"
    assert_refused(CHECK, rule, update(payout, f"{paid}, failed_by_id = {people.finance.pk}"))
    failed = taken_to(State.FAILED, people, buyer)
    assert_refused(CHECK, rule, update(failed, paid))


def test_who_says_that_it_failed_does_not_give_it_back(people, buyer):
    payout = taken_to(State.FAILED, people, buyer)
    money = (
        transfer("payout_return", 10, buyer.pk, f"payout:{payout.pk}:return", wallet=buyer.pk),
        moved(payout),
        let_go(payout),
    )
    own = f"state = 'returned', {ending(people.finance)}"
    assert_refused(CHECK, "payout_given_back_by_another", *money, update(payout, own))
    # Nor by making it somebody else's word at the same step.
    for what in (f"failed_by_id = {people.other.pk}", "failed_by_id = NULL"):
        assert_refused(
            RESTRICT,
            "its terms and what was decided are fixed",
            *money,
            update(payout, f"{own}, {what}"),
        )
    run(*money, update(payout, f"state = 'returned', {ending(people.other)}"))
    assert world.figures(buyer)[0] == 2000


def test_nor_does_who_says_so_end_it_as_forfeited(people):
    buyer = world.customer("50")
    payout = taken_to(State.FAILED, people, buyer)
    wallet = standing.lock_wallet(buyer.pk)
    wallet.freeze()
    standing.save(wallet, world.TESTER, "Frozen")
    wallet.forfeit()
    standing.save(wallet, world.TESTER, "Forfeited")
    money = (
        transfer("forfeiture", 10, 6, f"payout:{payout.pk}:forfeited"),
        moved(payout),
        let_go(payout),
    )
    own = update(payout, f"state = 'forfeited', {ending(people.finance)}")
    assert_refused(CHECK, "payout_given_back_by_another", *money, own)
    run(*money, update(payout, f"state = 'forfeited', {ending(people.other)}"))


def test_what_was_sent_again_is_neither_withdrawn_nor_rejected_by_who_sent_it(people, buyer):
    payout = taken_to(State.FAILED, people, buyer, "600")
    settlement.send_again(people.finance, payout.pk, reason="Again")
    own = "state = 'withdrawn', decided_by_id = requested_by_id, decided_at = now()"

    def refused(state: str) -> None:
        assert_refused(RESTRICT, f"from {state} it does not go to withdrawn", update(payout, own))
        assert_refused(
            CHECK,
            "payout_rejected_by_another_than_sent_it_again",
            update(payout, f"state = 'rejected', {ending(people.finance)}"),
        )

    refused("requested")
    payouts.approve(people.other, payout.pk)
    refused("first_approved")


@pytest.mark.parametrize(
    "fee",
    [
        "fee = 1",
        "fee_currency = 'TRX'",
        "fee = -1, fee_currency = 'TRX'",
        "fee = 'NaN', fee_currency = 'TRX'",
        "fee = 1000000, fee_currency = 'TRX'",
    ],
)
def test_a_fee_is_an_amount_of_a_currency(people, buyer, fee):
    payout = taken_to(State.SUBMITTED, people, buyer)
    paid = f"state = 'paid', transaction_hash = '{HASH}', settled_at = now(), {fee}"
    assert_refused(CHECK, "payout_fee_names_its_currency", update(payout, paid))


@pytest.mark.parametrize("hash_", ["=1+1", "ab cd", "-1", "ab\n"])
def test_a_hash_is_plain(people, buyer, hash_):
    payout = taken_to(State.SUBMITTED, people, buyer)
    paid = f"state = 'paid', transaction_hash = '{hash_}', settled_at = now()"
    assert_refused(CHECK, "payout_transaction_hash_plain", update(payout, paid))


def test_one_transaction_pays_an_address_once(people, buyer):
    first = taken_to(State.PAID, people, buyer)
    second = taken_to(State.SUBMITTED, people, buyer)
    hash_ = Payout.objects.get(pk=first.pk).transaction_hash
    again = f"state = 'paid', transaction_hash = '{hash_}', settled_at = now()"
    assert_refused(UNIQUE, "payout_transaction_pays_an_address_once", update(second, again))
    # On Ethereum one transaction may send several coins.
    eth = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    usdt, usdc = (
        taken_to(
            State.SUBMITTED, people, world.customer("50"), method=f"{coin}-ETHEREUM", address=eth
        )
        for coin in ("USDT", "USDC")
    )
    paid = [
        settlement.mark_paid(
            people.finance, payout.pk, transaction_hash="0x" + "cd" * 32, shared=True
        )
        for payout in (usdt, usdc)
    ]
    assert [payout.transaction_hash for payout in paid] == ["0x" + "cd" * 32] * 2


def test_a_payout_is_forfeited_only_of_a_terminated_customer(people, buyer):
    for state in (State.APPROVED, State.FAILED):
        payout = taken_to(state, people, buyer)
        assert_refused(
            RESTRICT,
            "its customer was not terminated",
            transfer("forfeiture", 10, 6, f"payout:{payout.pk}:forfeited"),
            moved(payout),
            update(payout, f"state = 'forfeited', {ending(people.other)}"),
        )


# --- its money ---


def test_a_state_without_its_money_is_refused(people, buyer):
    assert_refused(CHECK, "money is not there", inserted(people, buyer))
    submitted, failed, paid = (
        taken_to(state, people, buyer) for state in (State.SUBMITTED, State.FAILED, State.PAID)
    )
    waiting = paying.asked(people.agent, buyer)
    hash_ = f"transaction_hash = '{HASH}', settled_at = now()"
    for payout, what in (
        (submitted, f"state = 'paid', {hash_}"),
        (failed, f"state = 'paid', {hash_}, problem = '', failed_by_id = NULL"),
        (waiting, f"state = 'rejected', {ending(people.finance)}"),
        (waiting, "state = 'withdrawn', decided_by_id = requested_by_id, decided_at = now()"),
        (paid, f"state = 'failed', problem = 'Odd', failed_by_id = {people.other.pk}"),
    ):
        assert_refused(CHECK, "money is not there", update(payout, what))
    back = update(failed, f"state = 'returned', {ending(people.other)}")
    assert_refused(CHECK, "money is not there", back, let_go(failed))


def test_money_without_its_state_is_refused(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    paid = taken_to(State.PAID, people, buyer)
    for of, kind, debit, credit, key in (
        (payout, "payout_paid", 10, 11, "paid:1"),
        (payout, "payout_return", 10, buyer.pk, "return"),
        (payout, "payout_unpaid", 11, 10, "unpaid:1"),
        (payout, "forfeiture", 10, 6, "forfeited"),
        (paid, "payout_unpaid", 11, 10, "unpaid:1"),
        (paid, "payout_paid", 10, 11, "paid:2"),
        (paid, "payout_return", 10, buyer.pk, "return"),
    ):
        wallet = buyer.pk if credit == buyer.pk else None
        assert_refused(
            CHECK,
            "money is not there",
            transfer(kind, debit, credit, f"payout:{of.pk}:{key}", wallet=wallet),
            moved(of),
        )


def test_a_payout_is_asked_for_once_and_returned_once(people, buyer):
    payout = paying.asked(people.agent, buyer)
    key = f"payout:{payout.pk}:request"
    statement = transfer("payout", buyer.pk, 10, key, wallet=buyer.pk)
    assert_refused(UNIQUE, "key", statement, moved(payout))
    back = transfer("payout_return", 10, buyer.pk, f"payout:{payout.pk}:return", wallet=buyer.pk)
    assert_refused(
        UNIQUE,
        "key",
        back,
        moved(payout),
        update(payout, f"state = 'rejected', {ending(people.finance)}"),
        back,
        moved(payout),
    )


@pytest.mark.parametrize(
    ("kind", "debit", "credit"),
    [
        ("payout", "wallet", 10),
        ("payout_return", 10, "wallet"),
        ("payout_paid", 10, 11),
        ("payout_unpaid", 11, 10),
        ("forfeiture", 10, 6),
    ],
)
def test_no_money_goes_to_or_from_payouts_without_a_payout(buyer, kind, debit, credit):
    sides = [buyer.pk if side == "wallet" else side for side in (debit, credit)]
    wallet = buyer.pk if buyer.pk in sides else None
    assert_refused(
        CHECK, "belongs to a payout", transfer(kind, *sides, "payout:1:paid:1", wallet=wallet)
    )


@pytest.mark.parametrize(
    ("kind", "debit", "credit"),
    [
        ("payout", 10, 11),
        ("payout", "wallet", 11),
        ("payout_return", 11, "wallet"),
        ("payout_paid", "wallet", 11),
        ("payout_unpaid", 10, 11),
        ("forfeiture", 11, 6),
        ("purchase", "wallet", 10),
        ("goodwill", 10, "wallet"),
        ("deposit", 10, "wallet"),
        ("rounding", 10, 8),
    ],
)
def test_each_kind_moves_between_its_own_accounts(buyer, kind, debit, credit):
    sides = [buyer.pk if side == "wallet" else side for side in (debit, credit)]
    wallet = buyer.pk if buyer.pk in sides else None
    assert_refused(
        CHECK,
        "transfer_kind_names_its_accounts",
        transfer(kind, *sides, "payout:1:paid:1", wallet=wallet),
    )


def test_a_payout_s_transfers_are_not_reversed(people, buyer):
    payout = taken_to(State.PAID, people, buyer)
    line = payout.moves.get(transfer__kind="payout_paid").transfer_id
    reversal = (
        "INSERT INTO wallet_transfer (kind, debit_account, credit_account, amount, key, posted_at,"
        f" reverses_id) VALUES ('reversal', 11, 10, 50, 'r', statement_timestamp(), {line})"
    )
    assert_refused(CHECK, "not the exact reversal of a transfer that can be", reversal)


def test_a_move_is_of_the_payout_s_own_transfer(people, buyer):
    other = world.customer("100")
    first = taken_to(State.SUBMITTED, people, buyer)
    second = taken_to(State.SUBMITTED, people, other)
    wrong = "does not move the money of payout"
    paid = f"transaction_hash = '{HASH}', settled_at = now()"
    own = f"payout:{first.pk}:paid:1"
    for statement in (
        # Named for another payout, of another amount, into another wallet, under another's key.
        transfer("payout_paid", 10, 11, f"payout:{second.pk}:paid:1"),
        transfer("payout_paid", 10, 11, own, 49),
        transfer("payout_return", 10, other.pk, f"payout:{first.pk}:return", wallet=other.pk),
        transfer("payout_return", 10, buyer.pk, own, wallet=buyer.pk),
        transfer("payout_paid", 10, 11, f"payout:{first.pk}:return"),
        transfer("payout_paid", 10, 11, f"payout:{first.pk}:paid:0"),
        transfer("payout_paid", 10, 11, f"payout:{first.pk}:paid:"),
        transfer("payout_paid", 10, 11, f"x{own}"),
        transfer("payout_unpaid", 11, 10, own),
        transfer("forfeiture", 10, 6, own),
        transfer("delivery", 2, 3, own),
    ):
        assert_refused(CHECK, wrong, statement, moved(first))
    # One transfer is one payout's: the other cannot be paid by it.
    assert_refused(
        UNIQUE,
        "wallet_payoutmove_transfer_id_key",
        transfer("payout_paid", 10, 11, own),
        moved(first),
        update(first, f"state = 'paid', {paid}"),
        moved(first),
    )
    taken = second.moves.get().transfer_id
    assert_refused(
        UNIQUE,
        "wallet_payoutmove_transfer_id_key",
        f"INSERT INTO wallet_payoutmove (payout_id, transfer_id) VALUES ({first.pk}, {taken})",
    )


def test_a_frozen_wallet_pays_nothing_out(people, buyer):
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE wallet_wallet SET state = 'frozen' WHERE customer_id = %s", [buyer.pk]
        )
    assert_refused(
        CHECK,
        f"wallet {buyer.pk} is frozen: it takes no payout",
        inserted(people, buyer),
        *with_its_money(buyer),
    )


def test_more_than_the_wallet_holds_is_not_paid_out(people):
    poor = world.customer("49.99")
    assert_refused(
        CHECK,
        "transfer_wallet_is_its_one_wallet_side",
        inserted(people, poor),
        *with_its_money(poor),
    )


# --- what customers are told ---


def outcome(payout: Payout, what: str, told: str = "NULL") -> str:
    return (
        "INSERT INTO wallet_payoutoutcome (payout_id, what, at, detail, told_at)"
        f" VALUES ({payout.pk}, '{what}', now(), '', {told})"
    )


def test_an_outcome_is_told_once_and_what_is_told_is_fixed(people, buyer):
    payout = taken_to(State.PAID, people, buyer)
    told = PayoutOutcome.objects.filter(payout=payout).latest("pk")
    change = "UPDATE wallet_payoutoutcome SET {} WHERE id = " + str(told.pk)
    fixed = "it is fixed, and told once"
    for what in (
        "what = 'failed'",
        "detail = 'Another hash'",
        "at = now() - interval '1 day'",
        "payout_id = payout_id + 1",
    ):
        assert_refused(RESTRICT, fixed, change.format(what))
    run(change.format("told_at = now()"))
    for what in ("told_at = NULL", "told_at = now() + interval '1 day'"):
        assert_refused(RESTRICT, fixed, change.format(what))


def test_nobody_is_told_what_is_not_so(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    for what in ("requested", "paid", "failed", "returned", "forfeited"):
        assert_refused(CHECK, f"payout {payout.pk} is not {what}", outcome(payout, what))
    # A state that no customer is told of.
    assert_refused(CHECK, "payout_outcome_known", outcome(payout, "submitted"))
    paid = taken_to(State.PAID, people, buyer)
    assert_refused(CHECK, "or nobody was told", outcome(paid, "paid", "now()"))


# --- methods ---


@pytest.mark.parametrize(
    "what",
    [
        "code = 'USDT-TRC20'",
        "currency = 'USDX'",
        "network = 'TRONIX'",
        "address_format = 'evm'",
    ],
)
def test_a_method_s_coin_and_network_are_fixed(what):
    assert_refused(
        RESTRICT,
        "its coin and network are fixed",
        f"UPDATE wallet_payoutmethod SET {what} WHERE code = 'USDT-TRON'",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "=USDT"),
        ("code", "usdt"),
        ("currency", "US-D"),
        ("network", ""),
        ("network", "A B"),
        ("coinspaid_code", "@SUM"),
        ("inqud_code", "-1"),
    ],
)
def test_a_method_s_names_are_plain(field, value):
    row = {
        "code": "DAI-TRON",
        "currency": "DAI",
        "network": "TRON",
        "address_format": "tron",
        "memo_rule": "none",
        "coinspaid_code": "",
        "inqud_code": "",
    } | {field: value}
    names, values = ", ".join(row), ", ".join(f"'{one}'" for one in row.values())
    assert_refused(
        CHECK,
        f"payout_method_{field}_plain",
        f"INSERT INTO wallet_payoutmethod ({names}, enabled) VALUES ({values}, true)",
    )


def test_a_coin_on_a_network_is_one_method():
    insert = (
        "INSERT INTO wallet_payoutmethod (code, currency, network, address_format, memo_rule,"
        " coinspaid_code, inqud_code, enabled) VALUES ('{}', '{}', 'TRON', 'tron', 'none', '', '',"
        " true)"
    )
    assert_refused(UNIQUE, "payout_method_once_per_network", insert.format("TETHER", "USDT"))
    assert_refused(UNIQUE, "wallet_payoutmethod_code_key", insert.format("USDT-TRON", "DAI"))


def test_the_methods_that_payouts_begin_with():
    assert list(
        PayoutMethod.objects.order_by("code").values_list(
            "code", "address_format", "coinspaid_code", "inqud_code"
        )
    ) == [
        ("USDC-ETHEREUM", "evm", "USDC", "ETHEREUM_USDC"),
        ("USDC-TRON", "tron", "", "TRON_USDC"),
        ("USDT-ETHEREUM", "evm", "USDTE", "ETHEREUM_USDT"),
        ("USDT-TRON", "tron", "USDTT", "TRON_USDT"),
    ]
