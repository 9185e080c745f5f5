"""Each tampering of docs/operations.md, by the database's superuser, is named as it says there."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from orders import termination
from orders.models import Order, Sms
from refunds.models import Refund, RefundRequest
from refunds.tests import world as orders
from smsactivator import proving
from smsactivator.common.files import Upload
from smsactivator.management.commands.grant_app_role import is_written_once
from smsactivator.tests.closing import close_all, on
from support import attachments
from support.models import Attachment, Message
from support.tests import world as tickets
from wallet import claims, corrections, evidence, settlement
from wallet.models import (
    Claim,
    Close,
    Correction,
    Deposit,
    Payout,
    Seal,
    SealedRows,
    Termination,
    Transfer,
)
from wallet.tests import paying
from wallet.tests.attack import triggers_aside
from wallet.tests.world import person

pytestmark = [pytest.mark.django_db, pytest.mark.broken_books]

DAY = date(2025, 10, 31)  # of almost everything that happened
LAST_DAY = date(2025, 11, 1)
NOON = datetime(2025, 10, 31, 12, tzinfo=UTC)
# The first day and its month are closed here, after which there is one more payment.
NEXT_NOON = datetime(2025, 11, 1, 12, tzinfo=UTC)
# The last day is sealed and closed here, and proved when it must have been.
SEALED = datetime(2025, 11, 2, 1, tzinfo=UTC)
PROVED = datetime(2025, 11, 2, 4, tzinfo=UTC)
HEADING = "### What tampering is found, and by what"


def two_days() -> None:
    """One of each thing that a decision rests on on one day, a payment on the next; all closed."""
    with on(NOON):
        senior, other, finance = person("Senior agent"), person("Senior agent"), person("Finance")
        first = tickets.ask(orders.customer("100"), files=[Upload("shot.txt", b"It says no")])
        agent = tickets.agent()
        orders.refunded(agent, other, orders.delivered(of=first.customer))
        tickets.denied(agent, first)
        orders.place(orders.customer("5"))
        attachments.read(senior, Attachment.objects.get().pk)
        correction = corrections.request_goodwill(
            agent, first.customer_id, amount=Decimal(1), reason="Sorry for it", key=uuid4()
        )
        corrections.confirm(senior, correction.pk)
        people = paying.crew()
        payout = paying.submitted(
            paying.approved(people, paying.asked(people.agent, first.customer))
        )
        settlement.mark_paid(finance, payout.pk, transaction_hash="cd" * 32)
        gone = orders.customer("30")
        claimed = claims.record(
            senior,
            Deposit.objects.get(transfer__wallet=gone.pk).pk,
            reference="cb-1",
            evidence="Filed on Monday",
        )
        asked = termination.request(
            senior, gone.pk, reason="Charged back", key=uuid4(), claim_id=claimed.pk
        )
        termination.confirm(other, asked.pk)
    close_all(NEXT_NOON)
    with on(NEXT_NOON):
        orders.customer("7")
    close_all(SEALED)


def pk(of: Any, **which: Any) -> int:
    return int(of.objects.filter(**which).order_by("pk").first().pk)


def last_history(of: Any) -> int:
    return int(of.history.order_by("-history_id").first().history_id)


def a_history(of: Any) -> int:
    """A history row that others follow: the last one is not compared with the row alone."""
    return int(of.history.order_by("history_id").first().history_id)


# For each row of the table: the row that is named, and what the superuser runs ({0} is its key).
# What says "last" in the table is of the last day.
TAMPERINGS: dict[str, tuple[Any, str]] = {
    "a transfer's amount": (
        lambda: pk(Transfer, kind="purchase"),
        "UPDATE wallet_transfer SET amount = amount + 1 WHERE id = {0}",
    ),
    "a transfer, deleted": (
        lambda: pk(Transfer, kind="purchase"),
        "DELETE FROM wallet_transfer WHERE id = {0}",
    ),
    "a refund's facts": (
        lambda: pk(Refund),
        "UPDATE refunds_refund SET facts = '{{}}' WHERE id = {0}",
    ),
    "a refund request's reason": (
        lambda: pk(RefundRequest),
        "UPDATE refunds_refundrequest SET reason = 'Other' WHERE id = {0}",
    ),
    "an order's history": (
        lambda: a_history(Order),
        "UPDATE orders_historicalorder SET history_actor = 'nobody' WHERE history_id = {0}",
    ),
    "an order's history, deleted": (
        lambda: a_history(Order),
        "DELETE FROM orders_historicalorder WHERE history_id = {0}",
    ),
    "an order's upstream cost": (
        lambda: pk(Order, upstream_cost__isnull=False),
        "UPDATE orders_order SET upstream_cost = 9 WHERE id = {0}",
    ),
    "an order's upstream cost, and its history": (
        lambda: last_history(Order.objects.filter(upstream_cost__isnull=False).first()),
        "UPDATE orders_order SET upstream_cost = 9 WHERE upstream_cost IS NOT NULL;"
        " UPDATE orders_historicalorder SET upstream_cost = 9 WHERE upstream_cost IS NOT NULL",
    ),
    "an order's history, added to a sealed day": (
        lambda: -1,
        "CREATE TEMP TABLE added AS SELECT * FROM orders_historicalorder LIMIT 1;"
        " UPDATE added SET history_id = {0};"
        " INSERT INTO orders_historicalorder SELECT * FROM added",
    ),
    "a deposit's reference": (
        lambda: pk(Deposit),
        "UPDATE wallet_deposit SET reference = 'tx-other' WHERE id = {0}",
    ),
    "an SMS's text": (lambda: pk(Sms), "UPDATE orders_sms SET text = 'Other' WHERE id = {0}"),
    "a claim's evidence": (
        lambda: pk(Claim),
        "UPDATE wallet_claim SET evidence = 'Other' WHERE id = {0}",
    ),
    "a termination's reason": (
        lambda: pk(Termination),
        "UPDATE wallet_termination SET reason = 'Other' WHERE id = {0}",
    ),
    "a correction's reason": (
        lambda: pk(Correction),
        "UPDATE wallet_correction SET reason = 'Other' WHERE id = {0}",
    ),
    "a message's text": (
        lambda: pk(Message),
        "UPDATE support_message SET body = 'Other' WHERE id = {0}",
    ),
    "a message, deleted": (
        lambda: pk(Message, attachments__isnull=True),
        "DELETE FROM support_message WHERE id = {0}",
    ),
    "an attachment's name": (
        lambda: pk(Attachment),
        "UPDATE support_attachment SET name = 'other.txt' WHERE id = {0}",
    ),
    "an attachment's bytes": (
        lambda: pk(Attachment),
        "ALTER TABLE support_blob DROP CONSTRAINT blob_hash_is_its_content;"
        " UPDATE support_blob SET content = 'It says yes'::bytea",
    ),
    "a payout's hash": (
        lambda: pk(Payout),
        "UPDATE wallet_payout SET transaction_hash = repeat('ef', 32) WHERE id = {0}",
    ),
    "a close's figure": (
        lambda: pk(Close),
        "UPDATE wallet_closefigure SET amount = amount + 1 WHERE figure = 'deposits'"
        " AND close_id = {0}",
    ),
    "the last close, deleted": (
        lambda: pk(Close, last=LAST_DAY),
        "DELETE FROM wallet_closefigure WHERE close_id = {0};"
        " DELETE FROM wallet_close WHERE id = {0}",
    ),
    "all closes, deleted": (
        lambda: 0,
        "DELETE FROM wallet_closefigure; DELETE FROM wallet_close",
    ),
    "a seal's digest": (
        lambda: pk(Seal, day=DAY),
        "UPDATE wallet_seal SET digest = repeat('0', 64) WHERE id = {0}",
    ),
    "the last seal, deleted": (
        lambda: pk(Seal, day=LAST_DAY),
        "DELETE FROM wallet_seal WHERE id = {0}",
    ),
    "all seals, deleted": (lambda: 0, "DELETE FROM wallet_seal"),
    "the last seal, its hashes of rows and its close, deleted": (
        lambda: pk(Close, last=LAST_DAY),
        "DELETE FROM wallet_closefigure WHERE close_id = {0};"
        " DELETE FROM wallet_close WHERE id = {0};"
        " DELETE FROM wallet_sealedrows WHERE day = '2025-11-01';"
        " DELETE FROM wallet_seal WHERE day = '2025-11-01'",
    ),
    "a seal's hashes of rows": (
        lambda: pk(SealedRows, name="refunds_refund"),
        "UPDATE wallet_sealedrows SET hashes = repeat('0', 40)::bytea WHERE id = {0}",
    ),
}


def documented() -> dict[str, tuple[set[str], str]]:
    """The rows of the table: which parts find it, and what is said."""
    text = (Path(settings.BASE_DIR) / "docs" / "operations.md").read_text()
    section = text.split(HEADING)[1].split("\n### ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([a-z, ]+) \| `([^`]+)` \|$", section, re.MULTILINE)
    return {what: (set(found.split(", ")), said) for what, found, said in rows}


def found_after(statement: str) -> list[proving.Difference]:
    with triggers_aside() as cursor:
        cursor.execute(statement)
    return proving.verify_books()


def test_each_tampering_is_named_by_what_the_table_says_with_its_row_and_day() -> None:
    table = documented()
    assert set(table) == set(TAMPERINGS)
    two_days()
    wrong = {}
    with on(PROVED):
        assert proving.verify_books() == []
        for what, (tampered, statement) in TAMPERINGS.items():
            row = tampered()
            with transaction.atomic():
                found = found_after(statement.format(row))
                transaction.set_rollback(True)
            parts, said = table[what]
            day = LAST_DAY if "last" in what else DAY
            words = re.sub(r"\bN\b", str(row), said.replace("DAY", f"{day:%Y-%m-%d}"))
            # M is whose history it is.
            pattern = re.sub(r"\\ M\\ ", r" \\d+ ", re.escape(words))
            named = any(re.fullmatch(pattern, one.what) for one in found)
            if {one.part for one in found} != parts or not named:
                wrong[what] = [words, *(f"{one.part}: {one.what}" for one in found)]
        assert proving.verify_books() == []
    assert wrong == {}


# Tables of rows that are written once and that no seal covers, and why.
NOT_SEALED = {
    "wallet_seal": "the seals are a chain of their own",
    "wallet_sealedrows": "they are in the seals",
    "support_blob": "a file's bytes are sealed with each attachment",
    "axes_accessfailurelog": "no decision rests on a log-in that failed",
    "django_admin_log": "a second record of what the histories say",
}


def test_every_table_of_rows_that_are_written_once_is_sealed() -> None:
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    once = {table for table in tables if is_written_once(table)}
    assert once - set(evidence.everything()) == set(NOT_SEALED)


def test_the_page_of_a_seal_says_what_it_covers(client: Any) -> None:
    a_payment()
    client.force_login(person("Auditor"))

    page = client.get(f"/admin/wallet/seal/{Seal.objects.get().pk}/change/").content.decode()

    cells = re.findall(r"<td[^>]*>\s*(.*?)\s*</td>", page, re.DOTALL)
    words = [re.sub(r"<[^>]+>", "", cell).strip() for cell in cells]
    assert ("deposits", "1") in list(pairwise(words))
    assert ("history of customers", "1") in list(pairwise(words))


# --- the commands ---


def command(name: str, *options: str, moment: datetime = PROVED) -> tuple[int, list[str]]:
    output = StringIO()
    try:
        with on(moment):
            call_command(name, *options, stdout=output)
    except SystemExit as end:
        return int(end.code or 0), output.getvalue().splitlines()
    return 0, output.getvalue().splitlines()


def a_payment() -> tuple[str, str]:
    """One payment, sealed and closed; the digests of both."""
    with on(NOON):
        orders.customer("7")
    close_all(NEXT_NOON)
    return Seal.objects.get().digest, Close.objects.get(kind="day").digest


def test_a_command_seals_and_closes_and_prints_the_digests_to_keep() -> None:
    with on(NOON):
        orders.customer("7")

    code, lines = command("seal_books", moment=NEXT_NOON)

    month = Close.objects.get(kind="month")
    assert (code, lines) == (
        0,
        [
            "3 seals and closes were made",
            f"Seal of 2025-10-31: {Seal.objects.get().digest}",
            f"Close of 2025-10-31: {Close.objects.get(kind='day').digest}",
            f"Close of 2025-10: {month.digest}",
        ],
    )
    again = command("seal_books", moment=NEXT_NOON)
    assert again == (0, ["0 seals and closes were made", *lines[1:]])


def test_one_command_proves_all_and_compares_digests_that_were_kept() -> None:
    seal, close = a_payment()

    code, lines = command("verify_books", "--expect", seal, "--expect", close, moment=NEXT_NOON)

    assert code == 0
    assert lines[:5] == [
        "Seals: ok",
        "Rows and their histories: ok",
        "Closes: ok",
        "Audit: ok",
        "Digests that were kept elsewhere: ok",
    ]
    assert lines[5:7] == [f"Seal of 2025-10-31: {seal}", f"Close of 2025-10-31: {close}"]
    code, lines = command("verify_books", "--expect", "0" * 64, moment=NEXT_NOON)
    assert code == 1
    assert lines[4:6] == [
        "Digests that were kept elsewhere: 1 difference",
        f"    no seal and no close has the digest {'0' * 64}",
    ]


def test_a_past_that_was_written_anew_agrees_with_itself_and_not_with_the_digest_kept() -> None:
    seal, close = a_payment()
    with triggers_aside() as cursor:
        cursor.execute("UPDATE wallet_deposit SET reference = 'tx-other'")
        for table in ("closefigure", "close", "sealedrows", "seal"):
            cursor.execute(f"DELETE FROM wallet_{table}")
        # A close is looked at when it is whole, as in a transaction of its own.
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    close_all(NEXT_NOON)

    assert command("verify_books", moment=NEXT_NOON)[0] == 0
    code, lines = command("verify_books", "--expect", seal, "--expect", close, moment=NEXT_NOON)
    assert code == 1
    assert f"    no seal and no close has the digest {seal}" in lines
    assert f"    no seal and no close has the digest {close}" in lines


def test_what_differs_is_printed_and_ends_the_command_with_1() -> None:
    a_payment()
    with triggers_aside() as cursor:
        cursor.execute("UPDATE wallet_deposit SET reference = 'tx-other' RETURNING id")
        [deposit] = cursor.fetchone()

    code, lines = command("verify_books", moment=NEXT_NOON)

    assert code == 1
    assert lines[:3] == [
        "Seals: 2 differences",
        "    Seal of 2025-10-31: it is not as it was sealed: 1 row",
        f"    Seal of 2025-10-31: deposit {deposit} was changed",
    ]
