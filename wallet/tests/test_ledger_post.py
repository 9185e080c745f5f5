"""The function of the database that posts: what it says, by itself, in raw SQL."""

from __future__ import annotations

import json
from functools import partial
from threading import Event
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from wallet import ledger
from wallet.models import Transfer, Wallet
from wallet.tests import world
from wallet.tests.attack import CHECK, UNIQUE, _refusal, as_owner
from wallet.tests.together import PATIENCE, at_once, somebody_waits_for_a_lock

pytestmark = [pytest.mark.django_db, pytest.mark.servers]


def post(*postings: list[Any]) -> tuple[Any, Any]:
    """What ``ledger_post`` answers: the ids, and the refusal."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ids, refusal FROM ledger_post(%s, NULL)", [json.dumps(postings)])
        ids, refusal = cursor.fetchone()
    return ids, refusal and json.loads(refusal)


def test_it_posts_and_answers_a_replay_with_the_first_ids():
    ada = world.customer("5")
    spent = ["purchase", ada.pk, 2, "1", "p:1", None]
    arrived = ["deposit", 1, ada.pk, "2", "d:1", None]

    [first], refusal = post(spent)
    assert refusal is None
    mixed, refusal = post(arrived, spent, ["delivery", 2, 3, "1", "s:1", None])
    assert refusal is None

    assert mixed[1] == first
    assert first < mixed[0] < mixed[2]
    assert post(spent) == ([first], None)
    assert world.figures(ada) == (6, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({3: "6"}, {"posting": 1, "balance": "4.0000"}),
        ({1: 999_999_999}, {"missing": 999_999_999}),
        ({4: "p:0"}, {"posting": 1, "first": ["purchase", "wallet", 2, "1.0000", None]}),
    ],
    ids=["funds", "missing", "conflict"],
)
def test_it_says_what_refuses_and_writes_nothing(change, said):
    ada = world.customer("6")
    post(["purchase", ada.pk, 2, "1", "p:0", None])
    before = Transfer.objects.count()
    posting: list[Any] = ["purchase", ada.pk, 2, "2", "p:2", None]
    for place, value in change.items():
        posting[place] = value

    ids, refusal = post(["purchase", ada.pk, 2, "1", "p:1", None], posting)

    if "first" in said:
        said = said | {"first": ["purchase", ada.pk, 2, "1.0000", None]}
    if "balance" in said:
        said = said | {"wallet": ada.pk}
    assert (ids, refusal) == (None, said)
    assert Transfer.objects.count() == before


@pytest.mark.parametrize(
    ("state", "kind", "refused"),
    [
        ("active", "purchase", False),
        ("frozen", "purchase", True),
        ("frozen", "rounding", True),
        ("frozen", "deposit", False),
        ("frozen", "adjustment", False),
        ("closed", "auto_refund", True),
        ("forfeited", "deposit", True),
    ],
)
def test_a_state_takes_the_same_through_the_function_and_through_an_insert(state, kind, refused):
    with connection.cursor() as cursor:
        cursor.execute("SELECT wallet_takes(%s, %s)", [state, [kind]])
        assert cursor.fetchone() == (not refused,)
    ada = world.customer("0" if state in ("closed", "forfeited") else "5")
    Wallet.objects.filter(pk=ada.pk).update(state=state)
    inwards = kind in ("auto_refund", "deposit")
    accounts = {"purchase": 2, "rounding": 8, "auto_refund": 2, "adjustment": 9, "deposit": 1}
    debit, credit = (accounts[kind], ada.pk) if inwards else (ada.pk, accounts[kind])

    with transaction.atomic():
        ids, refusal = post([kind, debit, credit, "0.001", "k", None])
        transaction.set_rollback(True)
    assert refusal == ({"posting": 0, "wallet": ada.pk, "state": state} if refused else None)
    assert (ids is None) == refused


def test_it_gives_nobody_a_right_that_an_insert_does_not_give():
    """It runs with the rights of its caller, and the triggers look at what it writes."""
    ada = world.customer("5")
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosecdef FROM pg_proc WHERE proname = 'ledger_post'")
        assert cursor.fetchall() == [(False,)]
    call = "SELECT * FROM ledger_post('[[%s]]', NULL)"

    wrong_side = f'"purchase", {ada.pk}, 3, "1", "k", null'
    assert _refusal(call % wrong_side).constraint_name == "transfer_kind_names_its_accounts"
    twice = f'"purchase", {ada.pk}, 2, "1", "k", null'
    assert _refusal(call % f"{twice}], [{twice}").sqlstate == UNIQUE
    too_much = f'"deposit", 1, {ada.pk}, "-1", "k", null'
    assert _refusal(call % too_much).constraint_name == "transfer_amount_positive"
    two_wallets = f'"deposit", {ada.pk}, {world.customer().pk}, "1", "k", null'
    assert _refusal(call % two_wallets).sqlstate == CHECK


@pytest.mark.django_db(transaction=True)
def test_the_database_s_clock_is_read_under_the_locks(monkeypatch):
    monkeypatch.setattr(ledger, "_clock", lambda: None)
    ada = world.customer("5")
    locked = Event()
    names = {"dbname", "user", "password", "host", "port"}
    given: Any = connection.get_connection_params().items()

    def hold() -> Any:
        with psycopg.connect(**{name: value for name, value in given if name in names}) as another:
            another.execute(
                "SELECT FROM wallet_wallet WHERE customer_id = %s FOR NO KEY UPDATE", [ada.pk]
            )
            locked.set()
            somebody_waits_for_a_lock()
            row = another.execute("SELECT clock_timestamp()").fetchone()
            return row and row[0]

    def spend() -> Any:
        assert locked.wait(PATIENCE)
        return Transfer.objects.get(pk__in=world.post(world.spent(ada, "1"))).posted_at

    released, posted_at = at_once(hold, spend)

    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        assert released <= posted_at <= cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_plan_that_was_made_for_empty_tables_looks_up_by_index():
    """A session keeps its plans: one that was made on the first day must not read all of today."""
    owners = [world.customer("100") for _ in range(3)]
    world.post(*[world.spent(owner, "0.0001") for owner in owners for _ in range(700)])
    with as_owner(), connection.cursor() as cursor:
        # What the last transaction read is counted when the next one begins.
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_reset_single_table_counters('wallet_transfer'::regclass)")
        cursor.execute("SELECT pg_stat_reset_single_table_counters('wallet_wallet'::regclass)")
    for size in (1, 50):
        world.post(*[world.spent(owners[0], "0.0001") for _ in range(size)])

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT relname, seq_scan FROM pg_stat_user_tables"
            " WHERE relname IN ('wallet_transfer', 'wallet_wallet') ORDER BY relname"
        )
        assert cursor.fetchall() == [("wallet_transfer", 0), ("wallet_wallet", 0)]


@pytest.mark.django_db(transaction=True)
def test_the_same_key_for_the_same_wallet_at_once_is_answered_by_its_first_transfer():
    ada = world.customer("100")
    for number in range(10):
        calls = [partial(world.post, world.spent(ada, "1", f"same:{number}"))] * 4

        told = at_once(*calls)

        assert len({ids[0] for ids in told}) == 1
    assert world.figures(ada) == (90, 11)
