"""One client of the ledger bench: waits for a line, posts for some seconds, says how many."""

from __future__ import annotations

import json
import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol


class Client(Protocol):
    """A ledger that can be posted to."""

    def single(self) -> int: ...

    def batch(self, size: int) -> int: ...


class Product:
    """The product's own path: ``wallet.ledger.post`` in a transaction."""

    def __init__(self, wallets: int) -> None:
        from wallet.models import Wallet

        self.wallets = list(Wallet.objects.order_by("pk").values_list("pk", flat=True)[:wallets])

    def _posting(self) -> Any:
        from wallet.ledger import Posting
        from wallet.models import Account

        wallet = random.choice(self.wallets)  # noqa: S311 - a benchmark
        key = f"bench:{uuid.uuid4()}"
        if random.random() < 0.5:  # noqa: S311
            return Posting("deposit", Account.CRYPTO_DEPOSITS, wallet, Decimal("0.01"), key)
        return Posting("purchase", wallet, Account.ORDER_ESCROW, Decimal("0.01"), key)

    def single(self) -> int:
        return self.batch(1)

    def batch(self, size: int) -> int:
        from django.db import transaction

        from wallet import ledger

        with transaction.atomic():
            ledger.post([self._posting() for _ in range(size)])
        return size


def main() -> None:
    """Arguments as JSON: side, arm (single or batch), wallets, size, seconds."""
    given = json.loads(sys.argv[1])
    client: Client
    if given["side"] == "product":
        import django

        django.setup()
        client = Product(given["wallets"])
    else:
        from smsactivator.bench import rival

        rival.set_up(os.environ["DATABASE_URL"])
        client = rival.Ledger(given["wallets"])
    act: Callable[[], int] = (
        client.single if given["arm"] == "single" else lambda: client.batch(given["size"])
    )
    act()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begun, posted = time.perf_counter(), 0
    while (taken := time.perf_counter() - begun) < given["seconds"]:
        posted += act()
    sys.stdout.write(json.dumps({"posted": posted, "seconds": taken}) + "\n")


if __name__ == "__main__":
    main()
