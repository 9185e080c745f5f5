"""Attacks on the database in raw SQL: what it says when it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.db import Error, connection, transaction

CHECK = "23514"
NOT_NULL = "23502"
UNIQUE = "23505"
FOREIGN_KEY = "23503"
RESTRICT = "23001"
OUT_OF_RANGE = "22003"


def run(*statements: str, parameters: Sequence[Any] | None = None) -> None:
    """Run statements as one transaction would, up to and with its commit."""
    with transaction.atomic(), connection.cursor() as cursor:
        # What came before is committed to these statements.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for statement in statements:
            cursor.execute(statement, parameters)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def assert_refused(sqlstate: str, rule: str, *statements: str) -> None:
    """The database refuses the transaction with this SQLSTATE, naming the rule or saying so."""
    with pytest.raises(Error) as caught:
        run(*statements)
    refusal = caught.value.__cause__.diag
    assert (refusal.sqlstate, rule in (refusal.constraint_name or refusal.message_primary)) == (
        sqlstate,
        True,
    ), f"{refusal.sqlstate} {refusal.constraint_name}: {refusal.message_primary}"
