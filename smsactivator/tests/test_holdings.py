"""What finance says it holds, and checks of it against what customers are owed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection

from smsactivator.common.errors import Invalid
from smsactivator.tests import world
from smsactivator.tests.closing import a_shop, at, close_all, on
from wallet import holdings
from wallet.deciding import RequestConflict
from wallet.models import Holding, LiabilityCheck
from wallet.tests.attack import CHECK, RESTRICT, assert_refused
from wallet.tests.together import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books]

NOON = at(3, month=11)


@pytest.fixture
def finance() -> Any:
    return world.person("Finance")


def held(
    person: Any, name: str, amount: str, as_of: Any = NOON, key: UUID | None = None
) -> Holding:
    return holdings.record(
        person,
        name=name,
        amount=Decimal(amount),
        as_of=as_of,
        source="Statement 14",
        key=key or uuid4(),
    )


def checked(person: Any, moment: Any = NOON, key: UUID | None = None) -> LiabilityCheck:
    return holdings.check(person, at=moment, note="", key=key or uuid4())


def test_a_check_sets_what_is_owed_beside_the_newest_entry_of_each_place(finance: Any) -> None:
    a_shop()
    close_all(at(2, month=11))
    with on(at(3, 13, month=11)):
        held(finance, "CoinsPaid USDT", "1", as_of=at(2, month=11))
        coins = held(finance, "CoinsPaid USDT", "60.0004")
        held(finance, "Later", "1000", as_of=at(3, 12, month=11).replace(minute=1))
        cold = held(finance, "Cold  wallet ", "30")
        made = checked(finance)

    assert (made.wallets, made.escrow, made.payouts) == (
        Decimal("80.0005"),
        Decimal("10.0000"),
        Decimal("0.0000"),
    )
    assert sorted(made.holdings) == [coins.pk, cold.pk]
    assert (made.held, made.owed, made.difference) == (
        Decimal("90.0004"),
        Decimal("90.0005"),
        Decimal("-0.0001"),
    )
    assert (made.checked_by, made.at) == (finance, NOON)
    assert cold.name == "Cold wallet"


def test_a_place_is_the_same_whatever_the_case_and_an_error_is_entered_again(finance: Any) -> None:
    a_shop()
    with on(at(3, 13, month=11)):
        held(finance, "CoinsPaid USDT", "1")
        again = held(finance, "coinspaid usdt", "0")
        assert [one.pk for one in holdings.held_at(NOON)] == [again.pk]
        assert checked(finance).held == Decimal(0)


def test_only_finance_enters_and_checks(finance: Any) -> None:
    for role in ("Support agent", "Senior agent", "Auditor"):
        with pytest.raises(PermissionDenied):
            held(world.person(role), "Cold wallet", "1", as_of=at(1))
        with pytest.raises(PermissionDenied):
            checked(world.person(role, name=f"{role} 2"), at(1))
    assert not Holding.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "  "},
        {"source": " "},
        {"amount": Decimal("-0.0001")},
        {"amount": Decimal("0.00001")},
        {"amount": Decimal("NaN")},
        {"as_of": at(4, month=11)},
    ],
)
def test_what_cannot_be_held_is_refused(finance: Any, wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "name": "Cold wallet",
        "amount": Decimal(1),
        "as_of": NOON,
        "source": "Statement",
        "key": uuid4(),
    }
    with on(at(3, 13, month=11)), pytest.raises(Invalid):
        holdings.record(finance, **given | wrong)
    assert not Holding.objects.exists()


def test_a_moment_that_is_not_settled_is_not_checked(finance: Any) -> None:
    with on(NOON):
        held(finance, "Cold wallet", "1")
        with pytest.raises(holdings.StillMoving):
            checked(finance, NOON)
        with pytest.raises(Invalid):
            checked(finance, at(4, month=11))
        with pytest.raises(Invalid, match="Nothing was entered"):
            checked(finance, at(2, month=11))
    assert not LiabilityCheck.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_form_that_is_sent_twice_at_once_is_one_entry_and_one_check() -> None:
    finance = world.person("Finance")
    key = uuid4()
    made = at_once(*[lambda: held(finance, "Cold wallet", "5", as_of=at(1), key=key).pk] * 4)
    assert len(set(made)) == Holding.objects.count() == 1
    checks = at_once(*[lambda: checked(finance, at(2), key=key).pk] * 4)
    assert len(set(checks)) == LiabilityCheck.objects.count() == 1


def test_a_form_that_was_sent_with_something_else_is_refused(finance: Any) -> None:
    one, two = uuid4(), uuid4()
    with on(at(3, 13, month=11)):
        made = held(finance, "Cold wallet", "5", key=one)
        assert held(finance, " Cold  wallet", "5.0000", key=one) == made
        done = checked(finance, key=two)
        assert checked(finance, key=two) == done
        for wrong in (
            lambda: held(finance, "Cold wallet", "6", key=one),
            lambda: held(finance, "Cold wallet", "5", as_of=at(2, month=11), key=one),
            lambda: held(world.person("Finance", name="other"), "Cold wallet", "5", key=one),
            lambda: checked(finance, NOON + timedelta(minutes=1), key=two),
        ):
            with pytest.raises(RequestConflict):
                wrong()
    assert (Holding.objects.count(), LiabilityCheck.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_people_who_enter_and_check_at_once_do_not_meet() -> None:
    first, second = world.person("Finance"), world.person("Finance", name="other")
    held(first, "Cold wallet", "5", as_of=at(1))
    at_once(
        *[lambda n=n: held(first, f"Place {n}", "1", as_of=at(1)) for n in range(3)],
        *[lambda: checked(second, at(2))] * 3,
    )
    for check in LiabilityCheck.objects.all():
        assert check.held == sum(h.amount for h in Holding.objects.filter(pk__in=check.holdings))
    assert (Holding.objects.count(), LiabilityCheck.objects.count()) == (4, 3)


@pytest.mark.parametrize("table", ["wallet_holding", "wallet_liabilitycheck"])
def test_entries_and_checks_are_never_changed(finance: Any, table: str) -> None:
    with on(at(3, 13, month=11)):
        held(finance, "Cold wallet", "1")
        checked(finance)
    column = "source = 'x'" if table == "wallet_holding" else "held = 99"
    for statement in (f"UPDATE {table} SET {column}", f"DELETE FROM {table}", f"TRUNCATE {table}"):
        assert_refused(RESTRICT, "append-only", statement)


def entry(**changes: str) -> str:
    columns = {
        "name": "'Cold'",
        "amount": "1",
        "as_of": "now()",
        "source": "'S'",
        "entered_at": "now()",
        "request_key": "gen_random_uuid()",
        "entered_by_id": "(SELECT min(id) FROM auth_user)",
        **changes,
    }
    return (
        f"INSERT INTO wallet_holding ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"amount": "-1"}, "holding_not_negative"),
        ({"amount": "'NaN'"}, "wallet_holding_amount_check"),
        ({"name": "''"}, "holding_says_where_and_whence"),
        ({"source": "''"}, "holding_says_where_and_whence"),
        ({"as_of": "now() + interval '1 hour'"}, "holding_not_of_the_future"),
        (dict.fromkeys(("as_of", "entered_at"), "now() + interval '1 hour'"), "a moment to come"),
    ],
)
def test_the_database_takes_no_entry_that_cannot_be(
    finance: Any, changes: dict[str, str], rule: str
) -> None:
    assert_refused(CHECK, rule, entry(**changes))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"held": "2"}, "does not sum what is held"),
        ({"holdings": "'{}'"}, "does not sum what is held"),
        ({"holdings": "'{999999999}'"}, "does not sum what is held"),
        ({"at": "'2000-01-01'"}, "does not sum what is held"),
        ({"oldest": "now() - interval '1 hour'"}, "does not sum what is held"),
        ({"wallets": "1"}, "does not sum what is owed"),
        ({"escrow": "-1"}, "does not sum what is owed"),
        ({"payouts": "0.0001"}, "does not sum what is owed"),
        ({"at": "now() + interval '1 hour'"}, "check_not_of_the_future"),
        (dict.fromkeys(("at", "checked_at"), "now() + interval '1 hour'"), "a moment to come"),
    ],
)
def test_the_database_takes_no_check_that_leaves_anything_out(
    finance: Any, changes: dict[str, str], rule: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(entry())
        cursor.execute(entry(name="'Hot'", amount="3"))
    columns = {
        "at": "now()",
        "wallets": "0",
        "escrow": "0",
        "payouts": "0",
        "held": "4",
        "holdings": "(SELECT array_agg(id) FROM wallet_holding)",
        "oldest": "now()",
        "note": "''",
        "checked_by_id": "(SELECT min(id) FROM auth_user)",
        "checked_at": "now()",
        "request_key": "gen_random_uuid()",
        **changes,
    }
    assert_refused(
        CHECK,
        rule,
        f"INSERT INTO wallet_liabilitycheck ({', '.join(columns)})"
        f" VALUES ({', '.join(columns.values())})",
    )
