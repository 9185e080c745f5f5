"""The database of the tests: what a flush keeps, and what the models and migrations agree on."""

from __future__ import annotations

from io import StringIO

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command

from wallet.models import Storefront
from wallet.tests.attack import RESTRICT, assert_refused


@pytest.mark.django_db
@pytest.mark.servers
def test_migrations_say_what_the_models_say():
    output = StringIO()
    call_command("makemigrations", "--check", "--dry-run", stdout=output)
    assert output.getvalue() == "No changes detected\n"


def rows_of_migrations() -> tuple[list[object], ...]:
    return tuple(
        list(model.objects.order_by("pk").values_list())
        for model in (ContentType, Permission, Group, Group.permissions.through)
    )


def flush() -> None:
    # As after a transactional test: sequences go on, so the rows of migrations keep their numbers.
    call_command("flush", interactive=False, verbosity=0, reset_sequences=False)


@pytest.mark.django_db(transaction=True)
def test_a_flush_leaves_what_migrations_made_and_nothing_else():
    # given what migrations made, and a row of a test
    made = rows_of_migrations()
    assert made[0]
    Storefront.objects.create(name="A test's own")
    # when the database is flushed as after each transactional test
    flush()
    # then
    assert rows_of_migrations() == made
    assert not Storefront.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("table", ["wallet_transfer", "wallet_deposit", "refunds_refund"])
def test_after_a_flush_the_ledger_refuses_truncate_again(table):
    flush()
    assert_refused(RESTRICT, "append-only", f"TRUNCATE {table} CASCADE")
