"""django-hordak, set up as its documentation says, in a process and a database of its own."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from typing import Any


def set_up(database_url: str) -> None:
    """Configure Django for django-hordak alone, on this database."""
    import django
    from django.conf import settings
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(database_url)
    settings.configure(
        SECRET_KEY="bench",  # noqa: S106 - signs nothing
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "mptt",
            "djmoney",
            "hordak",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts["dbname"],
                "USER": parts.get("user", ""),
                "PASSWORD": parts.get("password", ""),
                "HOST": parts.get("host", ""),
                "PORT": parts.get("port", ""),
                # As ours has.
                "OPTIONS": {"options": "-c jit=off -c random_page_cost=1.1"},
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        DEFAULT_CURRENCY="USD",
        CURRENCIES=["USD"],
        HORDAK_INTERNAL_CURRENCY="USD",
        HORDAK_DECIMAL_PLACES=4,
        USE_TZ=True,
    )
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    django.setup()


def open_accounts(wallets: int) -> None:
    """Make the tables, a shop's account, and as many wallets."""
    from django.core.management import call_command
    from hordak.models import Account

    call_command("migrate", verbosity=0)
    Account.objects.create(name="Shop", code=None, type="AS", currencies=["USD"])
    for number in range(wallets):
        Account.objects.create(name=str(number), code=None, type="LI", currencies=["USD"])


class Ledger:
    """Posts between the shop and its wallets, both ways."""

    def __init__(self, wallets: int) -> None:
        from hordak.models import Account

        accounts = list(Account.objects.order_by("id")[: wallets + 1])
        self.shop, self.wallets = accounts[0], accounts[1:]

    def _pair(self) -> tuple[Any, Any]:
        wallet = random.choice(self.wallets)  # noqa: S311 - a benchmark
        return (self.shop, wallet) if random.random() < 0.5 else (wallet, self.shop)  # noqa: S311

    def single(self) -> int:
        """One ``transfer_to``, in a transaction as its documentation advises."""
        from django.db import transaction
        from moneyed import Money

        one, other = self._pair()
        with transaction.atomic():
            one.transfer_to(other, Money(Decimal("0.01"), "USD"))
        return 1

    def batch(self, size: int) -> int:
        """``size`` transfers by bulk_create of their transactions and legs."""
        from django.db import transaction
        from hordak.models import Leg, Transaction
        from moneyed import Money

        amount = Money(Decimal("0.01"), "USD")
        with transaction.atomic():
            transactions = Transaction.objects.bulk_create([Transaction() for _ in range(size)])
            legs = []
            for made in transactions:
                one, other = self._pair()
                legs += [
                    Leg(transaction=made, account=one, credit=amount),
                    Leg(transaction=made, account=other, debit=amount),
                ]
            Leg.objects.bulk_create(legs)
        return size

    def audit(self) -> None:
        """Credits and debits are equal in all, or no figure counts."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT sum(credit), sum(debit) FROM hordak_leg")
            credit, debit = cursor.fetchone()
        if credit != debit:
            raise SystemExit(f"The rival's books do not balance: {credit} against {debit}")
