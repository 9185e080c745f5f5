"""The application's role: exactly what it needs, and the tests run as it."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from smsactivator.management.commands import grant_app_role
from wallet.tests.attack import APPLICATION, DENIED, _refusal, as_owner

pytestmark = [pytest.mark.django_db, pytest.mark.servers]


def granted() -> dict[str, set[str]]:
    """What the role may do with each whole table."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
            " WHERE grantee = %s",
            [APPLICATION],
        )
        found: dict[str, set[str]] = {}
        for table, privilege in cursor.fetchall():
            found.setdefault(table, set()).add(privilege)
        return found


def tables() -> list[str]:
    with connection.cursor() as cursor:
        return [
            table
            for table in connection.introspection.table_names(cursor)
            if table != "django_migrations"
        ]


def test_the_tests_run_as_the_role():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == (APPLICATION,)


def test_every_table_is_classified():
    assert all(grant_app_role.privileges(table)[0] == "SELECT" for table in tables())


def test_an_unknown_table_is_refused():
    with pytest.raises(LookupError, match="does not know what may be done with payout"):
        grant_app_role.privileges("payout")


def test_what_is_written_once_is_never_changed():
    found = granted()
    for table in tables():
        if grant_app_role.is_written_once(table):
            assert found[table] == {"SELECT", "INSERT"}, table
    assert found["wallet_wallet"] == found["orders_order"] == {"SELECT", "INSERT"}


def test_nothing_is_deleted_but_what_the_pages_delete():
    may_delete = {table for table, may in granted().items() if "DELETE" in may}
    assert may_delete == grant_app_role.DELETED
    assert not any(may & {"TRUNCATE", "TRIGGER", "REFERENCES"} for may in granted().values())


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE wallet_wallet SET balance = 1000",
        "UPDATE wallet_wallet SET version = 0",
        "UPDATE wallet_wallet SET currency = 'USD'",
        "UPDATE wallet_transfer SET amount = 1",
        "UPDATE wallet_auditrun SET passed = true",
        "UPDATE wallet_correction SET amount = 1",
        "UPDATE orders_order SET price = 1",
        "DELETE FROM wallet_transfer",
        "TRUNCATE wallet_transfer CASCADE",
        "ALTER TABLE wallet_transfer DISABLE TRIGGER USER",
        "DROP TRIGGER transfer_is_append_only ON wallet_transfer",
        "CREATE TABLE loot (id int)",
        "SET session_replication_role = replica",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('x', 'y', now())",
    ],
)
def test_the_role_is_denied(attack):
    assert _refusal(attack).sqlstate == DENIED


def test_granting_again_changes_nothing():
    before = granted()
    with as_owner():
        call_command("grant_app_role", APPLICATION, stdout=StringIO())
    assert granted() == before


@pytest.mark.parametrize("role", ["nobody_at_all", "postgres"])
def test_a_role_that_is_not_there_or_cannot_be_limited_is_refused(role):
    with as_owner(), pytest.raises(CommandError, match="CREATE ROLE"):
        call_command("grant_app_role", role, stdout=StringIO())


@pytest.mark.parametrize(
    "made_powerful",
    [
        "ALTER TABLE orders_offer OWNER TO powerful",
        "CREATE ROLE owning; ALTER TABLE orders_offer OWNER TO owning; GRANT owning TO powerful",
        "ALTER ROLE powerful CREATEROLE",
    ],
)
def test_a_role_that_owns_a_table_or_may_become_its_owner_is_refused(made_powerful):
    with as_owner(), connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE powerful; {made_powerful}")
        with pytest.raises(CommandError, match="not a role that can be limited"):
            call_command("grant_app_role", "powerful", stdout=StringIO())
