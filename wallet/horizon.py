"""How far the ledger is settled: up to which transfer none with a lower number can still appear.

Numbers are drawn before a transaction commits, so a lower number may become visible after a higher
one. Whoever says "all transfers up to here" must know that the transactions that were at work when
the number was read have ended. They are seen by the lock that every INSERT holds on the table until
its end; nobody is blocked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import connection

LOOK_AGAIN = 0.05  # seconds
TRANSFERS = ("wallet_transfer",)


def settled_through(patience: float) -> int | None:
    """The highest number up to which every transfer is there to be seen, or None.

    Waits at most ``patience`` seconds for the transactions that write transfers at this moment. A
    snapshot that is taken after this returns sees all transfers up to the number, and no later one
    gets such a number. The caller's own transaction, if any, is not waited for.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM wallet_transfer_id_seq"
        )
        through = int(cursor.fetchone()[0])
    return through if writers_have_ended(patience) else None


def writers_have_ended(patience: float, tables: Sequence[str] = TRANSFERS) -> bool:
    """Whether all transactions that write to the tables at this moment end in ``patience`` s."""
    until = time.monotonic() + patience
    before = _writers(tables)
    while before:
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_AGAIN)
        before &= _writers(tables)
    return True


def _writers(tables: Sequence[str]) -> set[str]:
    """The transactions of other sessions that have written to the tables, or are about to."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT virtualtransaction FROM pg_locks
            WHERE locktype = 'relation' AND relation = ANY (%s::regclass[])
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
            """,
            [list(tables)],
        )
        return {row[0] for row in cursor.fetchall()}
