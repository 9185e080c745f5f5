"""Storefronts, customers and postings for the tests of the wallet, through its own verbs."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction

from smsactivator.common.history import Actor
from wallet import customers, deposits, ledger
from wallet.audit import LEDGER, audit
from wallet.ledger import Posting
from wallet.models import Account, Customer, Storefront, Transfer, Wallet

TESTER = Actor("tester")
# Of all worlds of tests, so that no two of them give something one name by chance.
numbers = count(1)


def storefront(name: str = "Shop") -> Storefront:
    return Storefront.objects.get_or_create(name=name)[0]


def customer(balance: str = "0", *, shop: str = "Shop") -> Customer:
    name = f"customer-{next(numbers)}"
    made, _ = customers.create_or_update(storefront(shop).pk, name, actor=TESTER)
    if Decimal(balance):
        deposits.deposit(made, amount=Decimal(balance), reference=f"tx-{name}")
    return made


def person(role: str, *, name: str = "") -> Any:
    """One of our people in a role, with the role's permissions and limits."""
    user = User.objects.create_user(name or f"{role.lower()}-{next(numbers)}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def paid_in(to: Customer, amount: str, key: str = "") -> Posting:
    """A deposit's posting."""
    key = key or f"in:{next(numbers)}"
    return Posting("deposit", Account.CRYPTO_DEPOSITS, to.pk, Decimal(amount), key)


def spent(by: Customer, amount: str, key: str = "") -> Posting:
    """A purchase's posting."""
    key = key or f"out:{next(numbers)}"
    return Posting("purchase", by.pk, Account.ORDER_ESCROW, Decimal(amount), key)


def earned(amount: str, key: str = "") -> Posting:
    """A delivery's posting: it touches no wallet."""
    key = key or f"earned:{next(numbers)}"
    return Posting("delivery", Account.ORDER_ESCROW, Account.SALES, Decimal(amount), key)


def post(*postings: Posting) -> list[int]:
    """Post a batch in a transaction of its own."""
    with transaction.atomic():
        return ledger.post(postings)


def figures(of: Customer) -> tuple[Decimal, int]:
    """The wallet's balance and version."""
    wallet = Wallet.objects.get(pk=of.pk)
    return wallet.balance, wallet.version


def lines(of: Customer) -> list[tuple[int, Decimal, Decimal]]:
    """The wallet's statement, the oldest line first: version, signed amount, balance after it."""
    return [
        (line.wallet_version, line.change, line.balance_after)
        for line in Transfer.objects.filter(wallet=of.pk).order_by("wallet_version")
    ]


def assert_books_agree() -> None:
    run = audit(LEDGER, full=True)
    assert run.passed, [check for check in run.checks if check["count"]]
