"""Attacks on the database in raw SQL: what it says when it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import Error, connection, transaction
from django.db.backends.utils import CursorWrapper

CHECK = "23514"
NOT_NULL = "23502"
UNIQUE = "23505"
FOREIGN_KEY = "23503"
RESTRICT = "23001"
OUT_OF_RANGE = "22003"
DENIED = "42501"  # the application's role lacks the privilege

APPLICATION = "smsactivator_test"  # the role that the tests run as


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
    """The database refuses the transaction with this SQLSTATE, naming the rule or saying so.

    It refuses the owner of the tables, and the application's role, which may lack the privilege.
    """
    with as_owner():
        refusal = _refusal(*statements)
        assert (refusal.sqlstate, _names(rule, refusal)) == (sqlstate, True), _words(refusal)
    refusal = _refusal(*statements)
    assert refusal.sqlstate == DENIED or (
        (refusal.sqlstate, _names(rule, refusal)) == (sqlstate, True)
    ), _words(refusal)


def _refusal(*statements: str) -> Any:
    with pytest.raises(Error) as caught:
        run(*statements)
    return caught.value.__cause__.diag


def _names(rule: str, refusal: Any) -> bool:
    return rule in (refusal.constraint_name or refusal.message_primary)


def _words(refusal: Any) -> str:
    return f"{refusal.sqlstate} {refusal.constraint_name}: {refusal.message_primary}"


@contextmanager
def as_owner() -> Iterator[None]:
    """Work as the owner of the tables for a while; the tests run as the application's role."""
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE NONE")
        yield
        cursor.execute(f"SET ROLE {APPLICATION}")


@contextmanager
def triggers_aside() -> Iterator[CursorWrapper]:
    """A cursor of a superuser for whom no trigger fires: nobody else can write such rows.

    What the test wrote before is committed to, as its deferred triggers would look at it now.
    """
    with as_owner(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield cursor
        cursor.execute("SET LOCAL session_replication_role = origin")
