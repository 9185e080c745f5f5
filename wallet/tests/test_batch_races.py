"""Batches and result files by several people at once: one outcome, and exact money."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from uuid import uuid4

import pytest

from smsactivator.common.errors import Refused
from wallet import batches, payouts, results, settlement
from wallet.models import BatchLine, Payout, PayoutBatch, PayoutFile, ResultFile, ResultLine
from wallet.tests import paying, world
from wallet.tests.paying import Crew, taken_to, tron
from wallet.tests.test_results import HEADER, hash_of, said
from wallet.tests.test_resultsheets import as_csv
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 4


@pytest.fixture
def people() -> Crew:
    return paying.crew()


def ready(people: Crew, count: int = 1) -> list[Payout]:
    return [
        taken_to("approved", people, world.customer("100"), address=tron(number))
        for number in range(1, count + 1)
    ]


def gather(by: object, ids: list[int] | None = None) -> PayoutBatch:
    return batches.gather(by, profile="canonical", payout_ids=ids, key=uuid4())


def states() -> list[str]:
    return list(Payout.objects.order_by("pk").values_list("state", flat=True))


def refusals(answers: list[object]) -> int:
    return sum(isinstance(answer, Refused) for answer in answers)


def test_two_people_who_gather_at_once_never_hold_the_same_payout(people):
    for _ in range(ROUNDS):
        found = ready(people, 3)
        ids = [payout.pk for payout in found]

        answers = at_once(
            partial(gather, people.finance, ids[:2]), partial(gather, people.other, ids[1:])
        )

        assert refusals(answers) == 0
        live = BatchLine.objects.filter(payout__in=ids, live=True)
        assert sorted(live.values_list("payout", flat=True)) == ids
        assert sorted(batch.count for batch in answers) == [1, 2]
        answers = at_once(partial(gather, people.finance), partial(gather, people.other))
        assert refusals(answers) == 2


def test_all_that_wait_are_gathered_by_one_of_two(people):
    ready(people, 3)
    answers = at_once(partial(gather, people.finance), partial(gather, people.other))
    assert refusals(answers) == 1
    assert BatchLine.objects.filter(live=True).count() == 3


def test_a_form_that_is_sent_twice_at_once_is_one_batch(people):
    ready(people, 2)
    key = uuid4()
    call = partial(batches.gather, people.finance, profile="canonical", payout_ids=None, key=key)
    one, two = at_once(call, call)
    assert one == two
    assert PayoutBatch.objects.count() == 1


def test_a_batch_that_two_export_at_once_is_exported_once(people):
    for _ in range(ROUNDS):
        ready(people, 2)
        batch = gather(people.finance)
        answers = at_once(
            partial(batches.export, people.finance, batch.pk),
            partial(batches.export, people.other, batch.pk),
        )
        assert refusals(answers) == 1
        assert PayoutFile.objects.filter(batch=batch).count() == 2


def test_export_against_void_leaves_the_batch_and_its_payouts_in_one_state(people):
    for _ in range(ROUNDS):
        ready(people, 2)
        batch = gather(people.finance)
        at_once(
            partial(batches.export, people.finance, batch.pk),
            partial(batches.void, people.other, batch.pk, reason="No"),
        )
        # Whoever came first: what was exported can still be voided by another.
        assert PayoutBatch.objects.get(pk=batch.pk).state == "voided"
        assert set(states()) == {"approved"}
        assert not BatchLine.objects.filter(live=True).exists()


def test_submit_against_void_is_one_of_them(people):
    for _ in range(ROUNDS):
        found = ready(people, 2)
        batch = batches.export(people.finance, gather(people.finance).pk)
        answers = at_once(
            partial(batches.submit, people.finance, batch.pk),
            partial(batches.void, people.other, batch.pk, reason="No"),
        )
        assert refusals(answers) == 1
        state = PayoutBatch.objects.get(pk=batch.pk).state
        expected = {"submitted": "submitted", "voided": "approved"}[state]
        for payout in found:
            payout = Payout.objects.get(pk=payout.pk)
            assert payout.state == expected
            if expected == "approved":
                payouts.reject(people.senior, payout.pk, reason="Tidy")


def test_reject_against_gather_is_one_of_them(people):
    for _ in range(ROUNDS):
        [payout] = ready(people)
        answers = at_once(
            partial(gather, people.finance, [payout.pk]),
            partial(payouts.reject, people.senior, payout.pk, reason="No"),
        )
        assert refusals(answers) == 1
        live = payout.lines.filter(live=True).count()
        assert (Payout.objects.get(pk=payout.pk).state, live) in {
            ("approved", 1),
            ("rejected", 0),
        }


def test_a_result_against_void_is_one_of_them(people):
    for _ in range(ROUNDS):
        [payout] = ready(people)
        batch = batches.export(people.finance, gather(people.finance).pk)
        answers = at_once(
            partial(
                settlement.mark_paid,
                people.finance,
                payout.pk,
                transaction_hash=hash_of(payout),
            ),
            partial(batches.void, people.other, batch.pk, reason="No"),
        )
        assert refusals(answers) == 1
        state = Payout.objects.get(pk=payout.pk).state
        assert state in {"paid", "approved"}
        if state == "approved":
            payouts.reject(people.senior, payout.pk, reason="Tidy")


def test_a_result_file_that_two_apply_at_once_pays_each_row_once(people):
    found = ready(people, 6)
    batches.submit(people.finance, batches.export(people.finance, gather(people.finance).pk).pk)
    rows = [said(payout, "failed" if n % 3 == 2 else "paid")[:6] for n, payout in enumerate(found)]
    content = as_csv(HEADER, *rows)
    uploads = at_once(
        *(
            partial(results.upload, by, name="r.csv", content=content, key=uuid4())
            for by in (people.finance, people.other)
        )
    )
    assert uploads[0] == uploads[1]
    assert ResultFile.objects.count() == 1

    answers = at_once(
        *(
            partial(results.apply, by, uploads[0].pk)
            for by in (people.finance, people.other, people.finance)
        )
    )

    assert refusals(answers) == 0
    assert states() == ["paid", "paid", "failed"] * 2
    assert sorted(ResultLine.objects.values_list("row", flat=True)) == [2, 3, 4, 5, 6, 7]
    assert (paying.paid(), paying.pending()) == (Decimal(200), Decimal(100))


def test_whoever_takes_a_file_while_they_void_does_only_one_of_the_two(people):
    for _ in range(ROUNDS):
        [payout] = ready(people)
        batch = batches.export(people.finance, gather(people.finance, [payout.pk]).pk)
        file = batch.files.first()

        answers = at_once(
            partial(batches.download, people.other, file.pk),
            partial(batches.void, people.other, batch.pk, reason="Not sent"),
        )

        assert refusals(answers) == 1
        taken = file.downloads.filter(person=people.other).count()
        assert (taken, PayoutBatch.objects.get(pk=batch.pk).state) in {
            (1, "exported"),
            (0, "voided"),
        }


def test_a_failed_payout_is_decided_only_after_its_batch(people):
    for _ in range(ROUNDS):
        [payout] = ready(people)
        batch = batches.export(people.finance, gather(people.finance, [payout.pk]).pk)
        settlement.mark_failed(people.finance, payout.pk, problem="Refused")

        answers = at_once(
            partial(settlement.give_back, people.other, payout.pk, reason="Never"),
            partial(batches.void, people.other, batch.pk, reason="Not sent"),
        )

        assert PayoutBatch.objects.get(pk=batch.pk).state == "voided"
        assert refusals(answers) == (Payout.objects.get(pk=payout.pk).state == "failed")
