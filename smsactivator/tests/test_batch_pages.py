"""The pages of batches and result files: what they show, who does what on them, what they cost."""

from __future__ import annotations

import hashlib
import re
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from smsactivator.common.links import admin_url
from smsactivator.tests import world as people_world
from wallet import admin_batches, batches, payouts, results, settlement, standing
from wallet.models import FileDownload, Payout, PayoutBatch, ResultFile, ResultLine
from wallet.tests import paying, world
from wallet.tests.forms import carried
from wallet.tests.paying import Crew, taken_to, tron
from wallet.tests.test_results import HEADER, hash_of, said
from wallet.tests.test_resultsheets import as_csv

pytestmark = pytest.mark.django_db

LIST = "/admin/wallet/payoutbatch/"
GATHER = "/admin/wallet/payoutbatch/gather/"
RESULTS = "/admin/wallet/resultfile/"
UPLOAD = "/admin/wallet/resultfile/upload/"


@pytest.fixture
def people() -> Crew:
    return paying.crew()


def client_of(person: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(person)
    return client


def words(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def ready(people: Crew, count: int = 1, **terms: Any) -> list[Payout]:
    return [
        taken_to("approved", people, world.customer("100"), **({"address": tron(number)} | terms))
        for number in range(1, count + 1)
    ]


def gathered(people: Crew, profile: str = "canonical") -> PayoutBatch:
    return batches.gather(people.finance, profile=profile, payout_ids=None, key=uuid4())


def page_of(batch: PayoutBatch) -> str:
    return admin_url("wallet_payoutbatch_change", batch.pk)


def sent(people: Crew, *rows: tuple[str, ...]) -> ResultFile:
    content = as_csv(HEADER, *(row[:6] for row in rows))
    return results.upload(people.finance, name="r.csv", content=content, key=uuid4())


def queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


# --- gathering ---


def test_the_page_shows_what_would_be_frozen_and_what_not_and_changes_nothing(people):
    fine, frozen = ready(people, 2)
    [coin] = ready(people, 1, method="USDC-TRON")
    standing.freeze(people.senior, frozen.customer_id, reason="Odd")
    client = client_of(people.finance)

    page = client.get(GATHER, {"profile": "coinspaid"})
    said_ = words(page)

    assert "1 payout, 50.0000 USD in all; 2 left out" in said_
    assert "USDT on TRON 1 50.0000" in said_
    assert f"{frozen.reference} the wallet is frozen" in said_
    assert f"{coin.reference} CoinsPaid has no code for USDC on TRON" in said_
    assert page.context["form"]["ids"].value() == str(fine.pk)
    assert PayoutBatch.objects.count() == 0
    assert "2 payouts, 100.0000 USD" in words(client.get(GATHER))


def test_what_would_be_frozen_is_shown_with_its_customer_and_what_to_look_at(people):
    plain, again = ready(people, 2)
    ready(people, 1, address=again.address)
    settlement.mark_failed(people.finance, paying.submitted(again).pk, problem="Refused")
    settlement.send_again(people.finance, again.pk, reason="Again")
    payouts.approve(people.other, again.pk)

    [listed] = [
        table
        for table in client_of(people.finance).get(GATHER).context["tables"]
        if table.title == "Payouts"
    ]
    rows = [[re.sub(r"<[^>]+>", "", str(cell)) for cell in row] for row in listed.rows]

    other = "Another customer&#x27;s address"
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        (str(plain), plain.customer.external_id, "—"),
        (str(again), again.customer.external_id, f"{other} Attempt 1 failed"),
    ]


def test_what_was_shown_is_what_is_frozen_and_a_form_sent_twice_is_one_batch(people):
    one, two = ready(people, 2)
    client = client_of(people.finance)
    shown = client.get(GATHER, {"ids": f"{one.pk}"}).context["form"]
    typed = {name: shown[name].value() for name in ("profile", "ids", "seen", "key")}
    typed["key"] = str(uuid4())

    first, again = client.post(GATHER, typed), client.post(GATHER, typed)

    batch = PayoutBatch.objects.get()
    assert first.url == again.url == page_of(batch)
    assert [line.payout for line in batch.lines.all()] == [one]
    assert two.state == "approved"


def test_a_payout_leads_to_its_batches_and_names_those_that_were_voided(people):
    [payout] = ready(people)
    first = gathered(people)
    batches.void(people.other, first.pk, reason="Too early")
    second = gathered(people)

    page = client_of(people.finance).get(admin_url("wallet_payout_change", payout.pk))

    assert [link.text for link in page.context["links"] if "PB-" in link.text] == [
        str(second),
        f"{first} (voided)",
    ]


def test_what_cannot_be_gathered_is_said_on_the_page(people):
    client = client_of(people.finance)
    named = {"profile": "canonical", "ids": "7", "seen": "0", "key": str(uuid4())}
    nothing = client.post(GATHER, named)
    assert nothing.status_code == 409
    assert "Payout 7: there is no such payout" in words(nothing)
    assert "No approved payout waits to be gathered." in words(client.get(GATHER))
    for broken in ({"profile": "excel"}, {"ids": "1;2"}, {"ids": "x"}):
        assert client.get(GATHER, broken).status_code == 422
    assert client.post(GATHER, {"profile": "canonical"}).status_code == 422
    assert client.get(GATHER, {"ids": ",".join(map(str, range(5001)))}).status_code == 422
    assert PayoutBatch.objects.count() == 0


# --- a batch ---


def test_a_batch_goes_from_step_to_step_and_its_files_are_taken(people):
    [payout] = ready(people)
    batch = gathered(people, "inqud")
    client = client_of(people.finance)

    def act(name: str, by: Client = client, **typed: str) -> Any:
        url = admin_url("wallet_payoutbatch_do", batch.pk, name)
        return by.post(url, {**carried(batch, name), **typed})

    assert "None are made before it is exported." in words(client.get(page_of(batch)))
    assert act("export").status_code == 302
    page = client.get(page_of(batch))
    for file in batch.files.all():
        assert file.sha256 in page.content.decode()
    assert "Nobody has taken a file yet." in words(page)
    # Whoever exported it is not offered to void it, and is refused.
    assert "Void…" not in words(page)
    others = (
        "Can be voided by Somebody in finance who neither exported it nor has taken a file of it"
    )
    assert others in words(page)
    assert act("void", reason="Mine").status_code == 403

    file = batch.files.get(format="csv")
    url = admin_url("wallet_payoutbatch_file", file.pk)
    taken = [client.post(url) for _ in range(2)]
    assert taken[0].content == taken[1].content == bytes(file.content)
    assert hashlib.sha256(taken[0].content).hexdigest() == file.sha256
    assert taken[0]["Content-Disposition"] == f'attachment; filename="{file.name}"'
    assert taken[0]["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in taken[0]["Cache-Control"]
    assert f"{people.finance} {file.name}" in words(client.get(page_of(batch)))
    assert FileDownload.objects.filter(file=file).count() == 2

    # Nor is whoever has taken a file of it.
    mate = client_of(people.other)
    assert "Void…" in words(mate.get(page_of(batch)))
    assert others not in words(mate.get(page_of(batch)))
    mate.post(url)
    assert "Void…" not in words(mate.get(page_of(batch)))
    assert others in words(mate.get(page_of(batch)))
    refused = act("void", mate, reason="Mine")
    assert refused.status_code == 403
    assert "You have taken a file of this batch, so somebody else voids it." in words(refused)

    assert act("submit", reason="By the portal").status_code == 302
    page = client.get(page_of(batch))
    assert "What became of it Upload a result file" in words(page)
    assert f'href="{UPLOAD}"' in page.content.decode()
    assert Payout.objects.get(pk=payout.pk).state == "submitted"
    assert act("void", client_of(people.other), reason="Late").status_code == 409


def test_whoever_is_kept_from_a_step_of_a_batch_or_a_file_is_told_why(people):
    [payout] = ready(people)
    first = batches.export(people.finance, gathered(people).pk)
    void = admin_url("wallet_payoutbatch_do", first.pk, "void")

    def told(by: Any, url: str) -> str:
        return words(client_of(by).get(url, follow=True))

    assert (
        "“Void” is not open to you here: You exported this batch, so somebody else voids it."
    ) in told(people.finance, void)
    batches.download(people.other, first.files.first().pk)
    assert (
        "“Void” is not open to you here: You have taken a file of this batch, so somebody else "
        "voids it."
    ) in told(people.other, void)

    third = people_world.person("Finance", name="third")
    batches.void(third, first.pk, reason="Not sent")
    second = gathered(people)
    assert (
        f"“Export” is not open to you here: You voided {first}, which had {payout.reference} too, "
        f"so somebody else makes and takes the files of {second}."
    ) in told(third, admin_url("wallet_payoutbatch_do", second.pk, "export"))

    file = sent(people, said(paying.submitted(*ready(people, 1, address=tron(9)))))
    results.apply(people.finance, file.pk)
    assert "“Apply” is not open to you here: No row is left that it would change." in told(
        people.finance, admin_url("wallet_resultfile_do", file.pk, "apply")
    )


def test_a_file_is_taken_by_a_post_and_not_of_a_voided_batch(people):
    ready(people)
    batch = batches.export(people.finance, gathered(people).pk)
    url = admin_url("wallet_payoutbatch_file", batch.files.first().pk)

    assert client_of(people.finance).get(url).status_code == 405
    assert client_of(people.finance, enforce_csrf_checks=True).post(url).status_code == 403
    assert client_of(people.finance).post(url.replace("/file/", "/file/9")).status_code == 404
    batches.void(people.other, batch.pk, reason="No")
    refused = client_of(people.finance).post(url)
    assert (refused.status_code, "was voided" in refused.content.decode()) == (409, True)
    page = client_of(people.finance).get(page_of(batch))
    assert "its files are not to be sent" in words(page)
    assert b"Download PB-" not in page.content
    assert FileDownload.objects.count() == 0


def test_a_batch_says_what_was_left_out_and_what_was_let_go(people):
    fine, other = ready(people, 2)
    payouts.reject(people.senior, other.pk, reason="No")
    batch = batches.gather(
        people.finance, profile="canonical", payout_ids=[fine.pk, other.pk], key=uuid4()
    )
    batches.submit(people.finance, batches.export(people.finance, batch.pk).pk)
    settlement.mark_failed(people.finance, fine.pk, problem="Bounced")
    settlement.give_back(people.other, fine.pk, reason="Never arrives")

    said_ = words(client_of(people.finance).get(page_of(batch)))

    assert f"{other.reference} it is “Rejected” by now" in said_
    assert "Let go; returned to the wallet" in said_


# --- results ---


def test_a_file_is_uploaded_looked_at_applied_and_reported(people):
    one, two = ready(people, 2)
    batches.submit(people.finance, batches.export(people.finance, gathered(people).pk).pk)
    client = client_of(people.finance)
    content = as_csv((*HEADER, "memo"), (*said(one)[:6], ""), (*said(two, amount="1")[:6], ""))

    def upload() -> Any:
        file = SimpleUploadedFile("r.csv", content)
        return client.post(UPLOAD, {"key": str(uuid4()), "file": file})

    answer = upload()
    file = ResultFile.objects.get()
    assert answer.url == admin_url("wallet_resultfile_change", file.pk) == upload().url
    page = words(client.get(answer.url))
    assert "Refused 1 row, 50.0000 USD" in page
    assert "Will be paid 1 row, 50.0000 USD" in page
    assert "Columns not read memo" in page
    assert page.index(two.reference) < page.index(one.reference)
    assert "its amount is 50.00, and the file says “1”" in page
    assert hashlib.sha256(content).hexdigest() in page
    assert set(Payout.objects.values_list("state", flat=True)) == {"submitted"}

    do = admin_url("wallet_resultfile_do", file.pk, "apply")
    assert client.get(do).status_code == 200
    assert ResultLine.objects.count() == 0
    assert client_of(people.finance, enforce_csrf_checks=True).post(do).status_code == 403
    assert client.post(do, carried(file, "apply")).status_code == 302

    assert Payout.objects.get(pk=one.pk).transaction_hash == hash_of(one)
    page = words(client.get(answer.url))
    assert "Applied 1 row, 50.0000 USD" in page
    assert f"Paid: {hash_of(one)} {people.finance}" in page
    assert "Apply…" not in page
    assert client.post(do, carried(file, "apply")).status_code == 302
    assert (ResultLine.objects.count(), paying.paid()) == (1, Decimal(50))


def test_a_file_that_was_uploaded_before_says_when_and_by_whom(people):
    [payout] = ready(people)
    content = as_csv(HEADER, said(payout)[:6])

    def upload(by: Any, key: str) -> str:
        file = SimpleUploadedFile("other.csv", content)
        return words(client_of(by).post(UPLOAD, {"key": key, "file": file}, follow=True))

    key = str(uuid4())
    first, twice = upload(people.finance, key), upload(people.finance, key)
    again, theirs = upload(people.finance, str(uuid4())), upload(people.other, str(uuid4()))

    file = ResultFile.objects.get()
    before = (
        f"This file was uploaded before, at {file.uploaded_at:%Y-%m-%d %H:%M:%S} UTC by "
        f"{people.finance}: it is {file} , and below is how it stands."
    )
    assert [before in page for page in (first, twice, again, theirs)] == [False, False, True, True]


def test_a_transaction_of_other_customers_is_remarked_on_before_the_file_is_applied(people):
    elsewhere, payout = ready(people, 2)
    batches.submit(people.finance, batches.export(people.finance, gathered(people).pk).pk)
    settlement.mark_paid(people.finance, elsewhere.pk, transaction_hash=hash_of(payout))
    file = sent(people, said(payout))
    client = client_of(people.finance)
    look = (
        "The transaction of 1 row is on payouts of other customers too, outside this file. Make "
        "sure that it paid them all."
    )

    page = words(client.get(admin_url("wallet_resultfile_change", file.pk)))
    form = words(client.get(admin_url("wallet_resultfile_do", file.pk, "apply")))

    assert f"Look closely {look}" in page
    assert (
        f"{hash_of(payout)} Look closely the same transaction hash is on payouts of other "
        f"customers, outside this file: {elsewhere.reference}"
    ) in page
    assert f"Look closely: {look}" in form


def test_a_payout_that_was_sent_again_is_remarked_on_before_a_file_pays_it(people):
    [payout] = ready(people)
    paying.submitted(payout)
    settlement.mark_failed(people.finance, payout.pk, problem="They called")
    settlement.send_again(people.finance, payout.pk, reason="Again")
    payouts.approve(people.other, payout.pk)
    paying.submitted(payout)
    file = sent(people, said(payout))
    client = client_of(people.finance)
    look = (
        "A payout that was sent again is paid by 1 row. Make sure that the report is not of an "
        "earlier attempt: then two transactions pay it."
    )

    page = words(client.get(admin_url("wallet_resultfile_change", file.pk)))
    form = words(client.get(admin_url("wallet_resultfile_do", file.pk, "apply")))

    assert f"Look closely {look}" in page
    assert (
        f"{hash_of(payout)} Look closely this is attempt 2: if the report is of attempt 1, two "
        "transactions pay it"
    ) in page
    assert f"Look closely: {look}" in form


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\r\n1,2\r\n", "these are missing: reference, status"),
        (b"PK\x03\x04rubbish", "The XLSX file is broken"),
        (b"x" * 2_000_001, "more than 2000000 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_on_the_page(people, content, says):
    client = client_of(people.finance)
    file = SimpleUploadedFile("r.csv", content)
    answer = client.post(UPLOAD, {"key": str(uuid4()), "file": file})
    assert answer.status_code == 422
    assert says in words(answer)
    empty = client.post(UPLOAD, {"key": str(uuid4()), "file": SimpleUploadedFile("r.csv", b"")})
    assert (empty.status_code, "empty" in words(empty)) == (422, True)
    assert client.post(UPLOAD, {"key": str(uuid4())}).status_code == 422
    assert ResultFile.objects.count() == 0


# --- who, and what it costs ---


@pytest.mark.parametrize("role", ["Support agent", "Senior agent", "Finance", "Auditor", ""])
def test_who_sees_and_who_does(people, role):
    [payout] = ready(people)
    batch = batches.export(people.finance, gathered(people).pk)
    file = sent(people, said(payout))
    ready(people, 2)
    client = client_of(people_world.person(role, name="somebody"))
    sees = role != "Support agent"
    does = role in {"Finance", ""}

    for url in (LIST, page_of(batch), RESULTS, admin_url("wallet_resultfile_change", file.pk)):
        page = client.get(url)
        assert page.status_code == (200 if sees else 403), url
        if sees:
            text = page.content.decode()
            for button in ("Download PB-", "Gather a batch", "Upload a result file", "Submit…"):
                assert (button not in text) or does
    before = PayoutBatch.objects.count(), ResultFile.objects.count()
    for url in (GATHER, UPLOAD):
        assert client.get(url).status_code == (200 if does else 403)
        if not does:
            assert client.post(url, {"key": str(uuid4())}).status_code == 403
    taking = admin_url("wallet_payoutbatch_file", batch.files.first().pk)
    assert client.post(taking).status_code == (200 if does else 403)
    assert (PayoutBatch.objects.count(), ResultFile.objects.count()) == before
    assert FileDownload.objects.count() == int(does)


def test_pages_cost_the_same_whatever_they_show(people):
    client = client_of(people.finance)

    def costs(count: int) -> list[int]:
        found = ready(people, count)
        gathering = queries(client, GATHER)
        batch = batches.export(people.finance, gathered(people).pk)
        for file in batch.files.all():
            batches.download(people.finance, file.pk)
        upload = sent(people, *(said(payout) for payout in found))
        report = admin_url("wallet_resultfile_change", upload.pk)
        planned = queries(client, report)
        results.apply(people.finance, upload.pk)
        return [
            gathering,
            planned,
            queries(client, page_of(batch)),
            queries(client, report),
            queries(client, LIST),
            queries(client, RESULTS),
        ]

    assert costs(1) == costs(9)


def test_long_lists_are_bounded(people, monkeypatch):
    monkeypatch.setattr(admin_batches, "SHOWN", 2)
    ready(people, 4)
    client = client_of(people.finance)
    assert "Payouts, the first 2 of 4" in words(client.get(GATHER))
    batch = gathered(people)
    assert "Payouts, the first 2 of 4" in words(client.get(page_of(batch)))
    batches.export(people.finance, batch.pk)
    file = sent(people, *(said(payout) for payout in Payout.objects.all()))
    page = client.get(admin_url("wallet_resultfile_change", file.pk))
    assert "Rows, 2 of 4" in words(page)
