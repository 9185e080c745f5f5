"""What the beat proves anew each day: the seals and closes of the last weeks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import mail

from smsactivator import tasks
from smsactivator.tests import closing as books
from smsactivator.tests.closing import at, on
from wallet.tests.attack import triggers_aside

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books, pytest.mark.servers]


@pytest.fixture(autouse=True)
def admins(settings: Any) -> None:
    settings.ADMINS = [("Ada", "ada@smsactivator.example")]


def tampered(statement: str) -> None:
    with triggers_aside() as cursor:
        cursor.execute(statement)


def closed() -> None:
    books.a_shop()
    books.close_all(at(2, month=11))


def test_books_that_are_as_they_were_made_are_said_nothing_of(caplog: Any) -> None:
    closed()
    with on(at(2, month=11)):
        assert tasks.prove_books() == 0
    assert mail.outbox == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_transfer_that_was_changed_shows_in_its_seal_and_close_and_is_mailed(caplog: Any) -> None:
    closed()
    tampered(
        "UPDATE wallet_transfer SET amount = amount + 1 WHERE kind = 'deposit'"
        " AND posted_at < '2025-10-31'"
    )
    with on(at(2, month=11)):
        found = tasks.prove_books()

    assert found >= 2
    seal = "Seal of 2025-10-30: it is not as it was sealed: a transfer or the seal was changed"
    assert f"the books are not as they were: {seal}" in caplog.text
    assert "the books are not as they were: Close of 2025-10-30: " in caplog.text
    [sent] = mail.outbox
    assert sent.to == ["ada@smsactivator.example"]
    assert seal in sent.body


def test_what_is_older_than_the_last_weeks_is_left_to_the_commands() -> None:
    closed()
    tampered("UPDATE wallet_transfer SET key = 'other:' || id WHERE kind = 'deposit'")
    winter = datetime(2026, 1, 15, 12, tzinfo=UTC)
    books.seal(winter)
    with on(winter):
        later = tasks.prove_books()
    with on(at(2, month=11)):
        assert tasks.prove_books() > 0
    assert later == 0
