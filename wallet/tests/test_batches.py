"""Batches of payouts through the verbs: gathered, exported, taken, submitted, voided."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from uuid import uuid4

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test.utils import CaptureQueriesContext

from wallet import batches, payouts, settlement, standing
from wallet.batches import (
    BatchElsewhere,
    BatchHeld,
    BatchUnknown,
    FileUnknown,
    NothingToGather,
    OwnExport,
    OwnVoid,
    TooMany,
)
from wallet.deciding import ReasonMissing, RequestConflict
from wallet.models import BatchLine, FileDownload, Payout, PayoutBatch, PayoutFile, Wallet
from wallet.payouts import PayoutElsewhere
from wallet.profiles import CoinsPaid, ProfileUnknown
from wallet.settlement import BatchNotHandedOver
from wallet.tests import paying, world
from wallet.tests.paying import HASH, Crew, taken_to, tron

pytestmark = pytest.mark.django_db

COINS = {"method": "USDC-TRON"}


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture(autouse=True)
def committed():
    """What a test leaves behind would have been committed."""
    yield
    if not connection.needs_rollback:
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def ready(people: Crew, count: int = 1, amount: str = "50", **terms: object) -> list[Payout]:
    """Approved payouts of customers of their own."""
    return [
        taken_to(
            "approved",
            people,
            world.customer("1000"),
            amount,
            **({"address": tron(number)} | terms),
        )
        for number in range(1, count + 1)
    ]


def gathered(people: Crew, found: list[Payout] | None = None, profile: str = "canonical"):
    ids = None if found is None else [payout.pk for payout in found]
    return batches.gather(people.finance, profile=profile, payout_ids=ids, key=uuid4())


def states(*found: Payout) -> list[str]:
    by_pk = Payout.objects.in_bulk([payout.pk for payout in found])
    return [by_pk[payout.pk].state for payout in found]


def history_of(batch: PayoutBatch) -> list[tuple[str, str, str]]:
    return list(
        PayoutBatch.history.filter(id=batch.pk)
        .order_by("history_id")
        .values_list("state", "history_actor", "history_change_reason")
    )


# --- gathering ---


def test_approved_payouts_are_frozen_in_their_order(people):
    one, two = ready(people, 2)
    batch = gathered(people, [two, one], "coinspaid")

    batch = PayoutBatch.objects.get(pk=batch.pk)
    assert (batch.state, batch.profile, batch.count, batch.total, batch.made_by) == (
        *("gathered", "coinspaid", 2, Decimal(100), people.finance),
    )
    assert batch.reference == f"PB-{batch.pk:06d}"
    assert list(
        batch.lines.order_by("position").values_list(
            *("position", "reference", "address", "memo", "currency", "network", "code"),
            *("amount", "note", "attempt", "live"),
        )
    ) == [
        (
            *(position, payout.reference, payout.address, "", "USDT", "TRON", "USDTT"),
            *(Decimal(50), payout.reference, 1, True),
        )
        for position, payout in enumerate((one, two), 1)
    ]
    assert states(one, two) == ["approved", "approved"]
    assert history_of(batch) == [("gathered", people.finance.username, "Gathered")]


def test_what_waits_is_gathered_and_the_rest_is_left_out_with_its_reason(people):
    fine, rejected, frozen, forfeited, elsewhere, coin = (
        *ready(people, 5),
        *ready(people, 1, **COINS),
    )
    payouts.reject(people.senior, rejected.pk, reason="No")
    first = gathered(people, [elsewhere])
    standing.freeze(people.senior, frozen.customer_id, reason="Odd")
    forfeit(forfeited.customer_id)
    asked = taken_to("requested", people, world.customer("100"))

    wanted = [fine, rejected, frozen, forfeited, elsewhere, coin, asked]
    batch = batches.gather(
        people.finance,
        profile="coinspaid",
        payout_ids=[*(payout.pk for payout in wanted), 10**9],
        key=uuid4(),
    )

    assert [line.payout for line in batch.lines.all()] == [fine]
    assert [tuple(one) for one in PayoutBatch.objects.get(pk=batch.pk).left_out] == [
        (rejected.reference, "it is “Rejected” by now"),
        (frozen.reference, "the wallet is frozen"),
        (forfeited.reference, "the wallet is forfeited"),
        (elsewhere.reference, f"it is in {first}"),
        (coin.reference, "CoinsPaid has no code for USDC on TRON"),
        (asked.reference, "it is “Waiting for approval” by now"),
        (f"Payout {10**9}", "there is no such payout"),
    ]


def forfeit(customer_id: int) -> None:
    wallet = Wallet.objects.get(pk=customer_id)
    world.post(world.spent(wallet.customer, str(wallet.balance)))
    wallet = Wallet.objects.get(pk=customer_id)
    wallet.freeze()
    standing.save(wallet, world.TESTER, "Frozen")
    wallet.forfeit()
    standing.save(wallet, world.TESTER, "Forfeited")


def test_all_that_wait_are_those_that_are_approved_and_in_no_batch(people):
    one, two = ready(people, 2)
    gathered(people, [one])
    taken_to("requested", people, world.customer("100"))

    preview = batches.preview("canonical")
    batch = gathered(people)

    assert [payout.pk for payout in preview.payouts] == [two.pk]
    assert (preview.left_out, preview.more, preview.total) == ([], False, Decimal(50))
    assert preview.totals == [("USDT on TRON", 1, Decimal(50))]
    assert [line.payout for line in batch.lines.all()] == [two]


def test_a_form_that_is_sent_twice_is_one_batch(people):
    ready(people, 1)
    key = uuid4()
    batch = batches.gather(people.finance, profile="inqud", payout_ids=None, key=key)

    assert batches.gather(people.finance, profile="inqud", payout_ids=None, key=key) == batch
    with pytest.raises(RequestConflict):
        batches.gather(people.finance, profile="canonical", payout_ids=None, key=key)
    with pytest.raises(RequestConflict):
        batches.gather(people.other, profile="inqud", payout_ids=None, key=key)
    [later] = ready(people, 1)
    with pytest.raises(RequestConflict, match=f"made {batch} of other payouts"):
        batches.gather(people.finance, profile="inqud", payout_ids=[later.pk], key=key)
    assert PayoutBatch.objects.count() == 1


def test_an_empty_batch_is_refused_with_what_was_left_out(people):
    with pytest.raises(NothingToGather, match="No approved payout waits"):
        gathered(people)
    [payout] = ready(people)
    first = gathered(people)
    with pytest.raises(NothingToGather, match=f"{payout.reference}: it is in {first}"):
        gathered(people, [payout])
    with pytest.raises(NothingToGather):
        gathered(people, [])
    assert PayoutBatch.objects.count() == 1


def test_what_cannot_be_gathered_at_all_is_refused(people):
    with pytest.raises(ProfileUnknown):
        batches.gather(people.finance, profile="excel", payout_ids=None, key=uuid4())
    with pytest.raises(TooMany, match="A batch takes 5000 payouts, and these are 5001"):
        batches.gather(people.finance, profile="inqud", payout_ids=range(5001), key=uuid4())


def test_more_than_a_batch_takes_waits_for_the_next(people, monkeypatch):
    found = ready(people, 3)
    monkeypatch.setattr(batches, "MOST", 2)

    assert batches.preview("canonical").more
    batch = gathered(people)

    assert [line.payout for line in batch.lines.order_by("position")] == found[:2]
    assert [line.payout for line in gathered(people).lines.all()] == found[2:]


@pytest.mark.parametrize("role", ["Support agent", "Senior agent", "Auditor"])
def test_only_finance_does_any_of_it(people, role):
    [payout] = ready(people)
    batch = batches.export(people.finance, gathered(people).pk)
    by = world.person(role)

    for call in (
        lambda: batches.gather(by, profile="canonical", payout_ids=None, key=uuid4()),
        lambda: batches.export(by, batch.pk),
        lambda: batches.download(by, batch.files.first().pk),
        lambda: batches.submit(by, batch.pk),
        lambda: batches.void(by, batch.pk, reason="No"),
    ):
        with pytest.raises(PermissionDenied):
            call()
    assert states(payout) == ["exported"]
    assert FileDownload.objects.count() == 0


# --- exporting ---


def test_exporting_makes_the_files_once_and_moves_no_money(people):
    found = ready(people, 3)
    batch = batches.export(people.other, gathered(people, profile="inqud").pk)

    assert states(*found) == ["exported"] * 3
    assert (batch.state, batch.exported_by) == ("exported", people.other)
    csv, xlsx = batch.files.order_by("format")
    rows = "".join(
        f"{payout.address},TRON_USDT,50.00,{payout.reference},{payout.reference}\r\n"
        for payout in found
    )
    head = "cryptoAddress,cryptoCurrency,amount,clientOrderId,comment\r\n"
    assert bytes(csv.content).decode() == head + rows
    assert [(file.name, file.rows, file.total) for file in (csv, xlsx)] == [
        (f"{batch.reference}-inqud-1.{kind}", 3, Decimal(150)) for kind in ("csv", "xlsx")
    ]
    for file in (csv, xlsx):
        assert file.sha256 == hashlib.sha256(bytes(file.content)).hexdigest()
        assert file.size == len(bytes(file.content))
    assert (paying.pending(), paying.paid()) == (Decimal(150), 0)
    assert Payout.history.filter(id=found[0].pk).latest("history_id").history_change_reason == (
        f"Exported ({batch})"
    )
    with pytest.raises(BatchElsewhere, match=r"is exported by now, so it is not exported\."):
        batches.export(people.finance, batch.pk)
    assert batch.files.count() == 2


def test_taking_a_file_again_gives_the_same_bytes_and_each_taking_is_written_down(people):
    ready(people, 2)
    batch = batches.export(people.finance, gathered(people).pk)
    file = batch.files.get(format="xlsx")

    taken = [
        bytes(batches.download(by, file.pk).content)
        for by in (people.finance, people.other, people.finance)
    ]

    assert taken[0] == taken[1] == taken[2]
    assert hashlib.sha256(taken[0]).hexdigest() == file.sha256
    assert [one.person for one in file.downloads.order_by("pk")] == [
        *(people.finance, people.other, people.finance)
    ]
    with pytest.raises(FileUnknown):
        batches.download(people.finance, 10**9)


def test_a_batch_above_the_limit_of_a_file_has_several(people, monkeypatch):
    ready(people, 5)
    monkeypatch.setattr(CoinsPaid, "most_rows", 2)
    batch = batches.export(people.finance, gathered(people, profile="coinspaid").pk)

    assert list(
        batch.files.order_by("format", "number").values_list("format", "number", "rows", "total")
    ) == [
        (kind, number, rows, Decimal(50 * rows))
        for kind in ("csv", "xlsx")
        for number, rows in ((1, 2), (2, 2), (3, 1))
    ]


def test_a_wallet_that_was_frozen_since_keeps_the_batch_from_being_exported(people):
    fine, frozen = ready(people, 2)
    batch = gathered(people)
    standing.freeze(people.senior, frozen.customer_id, reason="Odd")

    with pytest.raises(BatchHeld, match=f"^{frozen.reference}: the wallet is frozen or forfeited"):
        batches.export(people.finance, batch.pk)
    assert states(fine, frozen) == ["approved", "approved"]
    assert PayoutFile.objects.count() == 0

    batches.void(people.finance, batch.pk, reason="A wallet was frozen")
    assert [line.payout for line in gathered(people).lines.all()] == [fine]


# --- handing over ---


def test_a_batch_is_submitted_with_all_that_have_no_result_yet(people):
    paid, failed, open_ = ready(people, 3)
    batch = batches.export(people.finance, gathered(people).pk)
    settlement.mark_paid(people.finance, paid.pk, transaction_hash=HASH)
    settlement.mark_failed(people.finance, failed.pk, problem="Bounced")

    batch = batches.submit(people.finance, batch.pk, reason="By the portal")

    assert states(paid, failed, open_) == ["paid", "failed", "submitted"]
    assert (batch.state, batch.submitted_by) == ("submitted", people.finance)
    assert history_of(batch)[-1] == (
        *("submitted", people.finance.username, "Submitted: By the portal"),
    )
    for call in (batches.submit, batches.export):
        with pytest.raises(BatchElsewhere):
            call(people.finance, batch.pk)
    with pytest.raises(BatchElsewhere):
        batches.void(people.other, batch.pk, reason="Too late")


def test_only_an_exported_batch_is_submitted(people):
    ready(people)
    batch = gathered(people)
    with pytest.raises(BatchElsewhere, match="is gathered by now, so it is not submitted"):
        batches.submit(people.finance, batch.pk)
    for call in (batches.export, batches.submit):
        with pytest.raises(BatchUnknown):
            call(people.finance, 10**9)
    with pytest.raises(BatchUnknown):
        batches.void(people.finance, 10**9, reason="No")


# --- giving up ---


def test_a_gathered_batch_is_voided_by_who_made_it(people):
    [payout] = ready(people)
    batch = batches.void(people.finance, gathered(people).pk, reason=" Wrong profile ")

    assert (batch.state, batch.voided_by, batch.void_reason) == (
        *("voided", people.finance, "Wrong profile"),
    )
    assert states(payout) == ["approved"]
    assert not BatchLine.objects.filter(live=True).exists()
    assert gathered(people).lines.get().payout == payout


def test_an_exported_batch_is_voided_by_another_and_its_payouts_are_approved_again(people):
    [payout] = ready(people)
    batch = batches.export(people.finance, gathered(people).pk)
    file = batch.files.first()

    with pytest.raises(OwnExport):
        batches.void(people.finance, batch.pk, reason="Mine")
    with pytest.raises(ReasonMissing):
        batches.void(people.other, batch.pk, reason=" ")
    batches.void(people.other, batch.pk, reason="Wrong coin")

    assert states(payout) == ["approved"]
    with pytest.raises(BatchElsewhere, match="was voided, so its files are not to be sent"):
        batches.download(people.finance, file.pk)
    assert FileDownload.objects.count() == 0
    with pytest.raises(BatchElsewhere):
        batches.void(people.other, batch.pk, reason="Again")
    # It goes into another batch, or is not sent at all.
    again = gathered(people)
    assert again.lines.get().payout == payout
    batches.void(people.finance, again.pk, reason="No")
    payouts.reject(people.senior, payout.pk, reason="No")


def test_whoever_voided_an_exported_batch_has_no_files_of_its_payouts_from_another(people):
    payout, beside = ready(people, 2)
    first = batches.export(people.finance, gathered(people, [payout]).pk)
    batches.void(people.other, first.pk, reason="Not sent")
    again = batches.gather(
        people.other, profile="canonical", payout_ids=[payout.pk, beside.pk], key=uuid4()
    )
    words = (
        f"You voided {first}, which had {payout.reference} too, so somebody else makes and takes "
        f"the files of {again}."
    )

    with pytest.raises(OwnVoid) as refused:
        batches.export(people.other, again.pk)
    assert (str(refused.value), refused.value.status) == (words, 403)
    assert batches.why_no_files(people.finance, again) == ""
    batches.export(people.finance, again.pk)
    with pytest.raises(OwnVoid, match="so somebody else makes and takes"):
        batches.download(people.other, again.files.first().pk)
    assert not FileDownload.objects.exists()

    # Sent again, it is approved anew, by others: it is another payment.
    batches.submit(people.other, again.pk)
    settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    settlement.send_again(people.finance, payout.pk, reason="Once more")
    paying.approved(Crew(people.agent, people.senior, people.other, people.finance), payout)
    assert batches.export(people.other, gathered(people).pk).count == 1


def test_whoever_voided_a_batch_without_files_makes_those_of_the_next(people):
    ready(people)
    batches.void(people.finance, gathered(people).pk, reason="Wrong profile")
    batch = batches.export(people.finance, gathered(people).pk)
    assert batches.download(people.finance, batch.files.first().pk).rows == 1


def test_two_payouts_to_one_address_do_not_go_in_one_batch(people):
    buyer = world.customer("1000")
    one, two = (taken_to("approved", people, buyer, "50", address=tron(1)) for _ in range(2))
    third = taken_to("approved", people, world.customer("1000"), address=tron(2))

    batch = gathered(people)

    assert [line.payout_id for line in batch.lines.order_by("position")] == [one.pk, third.pk]
    why = f"{one.reference} goes to the same address: gather it by itself, afterwards"
    assert batch.left_out == [(two.reference, why)]
    assert gathered(people).lines.get().payout_id == two.pk


def test_whoever_has_taken_a_file_of_a_batch_does_not_void_it(people):
    [payout] = ready(people)
    batch = batches.export(people.finance, gathered(people).pk)
    batches.download(people.other, batch.files.get(format="xlsx").pk)

    for person, words in (
        (people.finance, "You exported this batch, so somebody else voids it."),
        (people.other, "You have taken a file of this batch, so somebody else voids it."),
    ):
        with pytest.raises(OwnExport) as refused:
            batches.void(person, batch.pk, reason="Mine")
        assert (str(refused.value), refused.value.status) == (words, 403)
        assert batches.why_not_void(person, batch) == words
    assert states(payout) == ["exported"]

    third = world.person("Finance")
    assert batches.why_not_void(third, batch) == ""
    batches.void(third, batch.pk, reason="Not sent")
    assert states(payout) == ["approved"]


def test_the_files_of_a_batch_are_not_taken_once_a_payout_of_theirs_has_failed(people):
    _, second = ready(people, 2)
    batch = batches.export(people.finance, gathered(people).pk)
    file = batch.files.first()
    batches.download(people.finance, file.pk)
    settlement.mark_failed(people.finance, second.pk, problem="Refused")

    def refusal() -> str:
        with pytest.raises(BatchElsewhere) as refused:
            batches.download(people.finance, file.pk)
        return str(refused.value)

    failed = f"{second.reference} failed, so the files are not taken any more. "
    assert refusal() == f"{failed}Submit {batch} if its files were handed over, or void it."
    batches.submit(people.finance, batch.pk)
    assert refusal() == f"{failed}Send it again, or give it back."
    settlement.send_again(people.finance, second.pk, reason="It was not sent")
    assert refusal() == (
        f"{second.reference} failed and was sent again or given back since: the files of {batch} "
        "would pay it twice."
    )
    assert FileDownload.objects.count() == 1


@pytest.mark.parametrize("then", ["send_again", "give_back"])
@pytest.mark.parametrize("next_step", ["submit", "void"])
def test_a_failure_in_a_batch_that_is_only_exported_decides_nothing_yet(people, then, next_step):
    failed, other = ready(people, 2)
    batch = batches.export(people.finance, gathered(people).pk)
    settlement.mark_failed(people.finance, failed.pk, problem="Refused")

    decide = getattr(settlement, then)
    with pytest.raises(BatchNotHandedOver) as refused:
        decide(people.other, failed.pk, reason="So")
    assert str(refused.value) == (
        f"{batch} is exported, and its files may yet be sent: submit it if it was handed over, or "
        f"void it. Then decide about {failed}."
    )
    assert states(failed, other) == ["failed", "exported"]
    assert batch.lines.filter(live=True).count() == 2

    if next_step == "submit":
        batches.submit(people.finance, batch.pk)
        assert states(failed, other) == ["failed", "submitted"]
    else:
        batches.void(people.other, batch.pk, reason="Not sent")
        assert states(failed, other) == ["failed", "approved"]
        assert not batch.lines.filter(live=True).exists()
        assert Payout.objects.get(pk=failed.pk).problem == "Refused"
    decide(people.other, failed.pk, reason="So")
    assert states(failed) == ["requested" if then == "send_again" else "returned"]


def test_what_had_failed_when_its_batch_was_voided_can_be_found_paid(people):
    [payout] = ready(people)
    batch = batches.export(people.finance, gathered(people).pk)
    settlement.mark_failed(people.finance, payout.pk, problem="Refused")
    batches.void(people.other, batch.pk, reason="Not sent")
    with connection.cursor() as cursor:
        # That was committed.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")

    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)

    assert states(payout) == ["paid"]
    assert (paying.pending(), paying.paid()) == (0, Decimal(50))


@pytest.mark.parametrize("result", ["paid", "came back"])
def test_a_batch_of_which_a_payout_was_paid_is_not_voided(people, result):
    payout, other = ready(people, 2)
    batch = batches.export(people.finance, gathered(people).pk)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)
    if result == "came back":
        paying.came_back(people.finance, payout, "Bounced")

    with pytest.raises(BatchHeld, match=f"^{payout.reference}: a result is known"):
        batches.void(people.other, batch.pk, reason="No")

    assert states(other) == ["exported"]
    assert batches.submit(people.finance, batch.pk).state == "submitted"


# --- with the rest ---


def test_a_gathered_payout_is_neither_rejected_nor_ended_with_its_account(people):
    payout, free = ready(people, 2)
    batch = gathered(people, [payout])

    with pytest.raises(PayoutElsewhere, match=f"is gathered in {batch}: void that first"):
        payouts.reject(people.senior, payout.pk, reason="No")
    assert payouts.rejectable(payout.customer_id, locked=True) == []
    assert payouts.rejectable(free.customer_id, locked=True) == [free]
    assert states(payout) == ["approved"]


@pytest.mark.parametrize("then", ["send_again", "give_back"])
def test_a_failed_payout_keeps_its_line_until_it_is_decided(people, then):
    [payout] = ready(people)
    batch = batches.submit(people.finance, batches.export(people.finance, gathered(people).pk).pk)
    settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    line = batch.lines.get()
    assert line.live

    by = people.other if then == "give_back" else people.finance
    getattr(settlement, then)(by, payout.pk, reason="So")

    line.refresh_from_db()
    assert not line.live
    if then == "send_again":
        payouts.approve(people.other, payout.pk)
        again = batches.export(people.finance, gathered(people).pk)
        assert list(again.lines.values_list("reference", "attempt", "live")) == [
            (payout.reference, 2, True)
        ]


def test_a_batch_costs_the_same_statements_whatever_its_size(people):
    def costs(count: int) -> list[int]:
        found = ready(people, count)
        with CaptureQueriesContext(connection) as gathering:
            batch = gathered(people, found, "coinspaid")
        with CaptureQueriesContext(connection) as exporting:
            batches.export(people.finance, batch.pk)
        with CaptureQueriesContext(connection) as submitting:
            batches.submit(people.finance, batch.pk)
        return [len(captured) for captured in (gathering, exporting, submitting)]

    assert costs(1) == costs(12)
