"""The pages of claims and terminations: what they say, show and offer is what the verbs do."""

from __future__ import annotations

from decimal import Decimal
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils.html import strip_tags

from orders import closing, termination
from smsactivator.common.links import admin_url
from smsactivator.tests import payouts, world
from wallet import claims, deposits, settlement
from wallet.models import Claim, ClaimFileReading, Deposit
from wallet.tests.attack import CHECK, RESTRICT, assert_refused
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db

AGENT, SENIOR, FINANCE = "Support agent", "Senior agent", "Finance"


@pytest.fixture
def senior() -> Any:
    return world.person(SENIOR, name="sonia")


@pytest.fixture
def other() -> Any:
    return world.person(SENIOR, name="sam")


@pytest.fixture
def ada() -> Any:
    return world.customer("ada", funds="33.30")


def client_of(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


def deposit_of(customer: Any) -> Deposit:
    return Deposit.objects.filter(transfer__wallet=customer.pk).earliest("pk")


def requested(by: Any, customer: Any, **fields: Any) -> Any:
    return termination.request(by, customer.pk, reason="Sold on", key=uuid4(), **fields)


def claimed(by: Any, customer: Any) -> Claim:
    deposit = deposit_of(customer)
    return claims.record(by, deposit.pk, reference="cb-1", evidence="Filed on Monday")


def do(person: Any, page: str, pk: int, action: str, **typed: Any) -> Any:
    row = apps.get_model(*page.split("_"))._default_manager.get(pk=pk)
    return client_of(person).post(admin_url(f"{page}_do", pk, action), carried(row, action) | typed)


def said(answer: Any) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


# --- claims ---


def test_a_claim_says_what_it_did_to_the_wallet(ada, senior, other):
    def record(customer: Any, reference: str) -> str:
        typed = {"reference": reference, "evidence": "Filed"}
        return said(do(senior, "wallet_deposit", deposit_of(customer).pk, "claim", **typed))

    leaving = world.customer("leaving", funds="0.009")
    closing.close(senior, leaving.pk, reason="Leaves")
    ended = world.customer("ended", funds="1")
    termination.confirm(other, requested(senior, ended).pk)

    assert record(ada, "cb-1") == (
        "Claim cb-1 is recorded and the wallet is frozen until it is decided."
    )
    assert record(ended, "cb-2") == (
        "Claim cb-2 is recorded and ends with the account, which is terminated: the wallet stays "
        "forfeited."
    )
    assert record(leaving, "cb-3") == (
        "Claim cb-3 is recorded and waits for its decision: the wallet stays closed, and is frozen "
        "if it is reopened before."
    )


def test_a_claim_that_ended_the_account_reads_so_offers_nothing_and_waits_for_nobody(
    ada, senior, other
):
    claim = claimed(senior, ada)
    asked = requested(senior, ada, claim_id=claim.pk)
    termination.confirm(other, asked.pk)

    page = client_of(senior).get(admin_url("wallet_claim_change", claim.pk))
    listed = client_of(senior).get(admin_url("wallet_claim_changelist"))

    assert [action.name for action, _ in page.context["actions"]] == ["files"]
    state = dict(page.context["facts"][1].rows)["State"]
    assert "Account terminated" in state
    assert "Account terminated" in listed.content.decode()
    front = client_of(senior).get(admin_url("index"))
    waiting = {one["label"]: one["count"] for one in front.context["waiting"]}
    assert waiting["chargeback claims"] == 0


# --- terminations ---


def test_the_form_to_confirm_shows_all_that_it_takes(ada, senior, other):
    agent, finance = world.person(AGENT), world.person(FINANCE)
    more = world.customer("grace", funds="200")
    unsent = payouts.asked(agent, "25", more)
    sent = payouts.sent(agent, finance, "30", buyer=more, address=unsent.address)
    order = world.place(more, of=world.offer(price="1.50"))
    asked = requested(senior, more)

    form = client_of(other).get(admin_url("wallet_termination_do", asked.pk, "confirm"))

    shown = {group.title: dict(group.rows) for group in form.context["facts"]}
    taken = shown["What confirming takes now"]
    assert [(name, strip_tags(value)) for name, value in taken.items()] == [
        ("Wallet holds now, USD", "143.5000"),
        ("Payouts that nobody has sent, USD", f"25.0000: {unsent.reference}"),
        ("Open orders, USD", f"1.5000: Order {order.pk}"),
        ("Forfeited in all, USD", "170.0000"),
        ("Not taken", f"30.0000 USD on their way: {sent.reference}. What fails is forfeited then."),
    ]
    assert do(other, "wallet_termination", asked.pk, "confirm").status_code == 302
    asked.refresh_from_db()
    assert (asked.wallet_amount, asked.orders_amount) == (Decimal("168.5"), Decimal("1.5"))
    assert asked.forfeited == Decimal(170)


def test_a_form_to_confirm_takes_no_more_than_the_sum_that_it_showed(ada, senior, other):
    world.place(ada, of=world.offer(price="1.50"))
    asked = requested(senior, ada)
    shown = carried(asked, "confirm")
    assert shown["total"] == "33.3000"
    deposits.deposit(ada, amount=Decimal(1000), reference="late")

    answer = client_of(other).post(
        admin_url("wallet_termination_do", asked.pk, "confirm"), shown | {"reason": "Looked at it"}
    )

    assert answer.status_code == 409
    assert (
        f"{asked} has changed since you looked at it, so nothing was done. Meanwhile: what "
        "confirming takes went from 33.3000 to 1033.3000 USD. Look at it again first."
    ) in unescape(answer.content.decode())
    asked.refresh_from_db()
    assert (asked.state, asked.transfer_id) == ("requested", None)
    ada.wallet.refresh_from_db()
    assert (ada.wallet.state, ada.wallet.balance) == ("frozen", Decimal("1031.8"))
    # The form that says so is of the sum as it is now.
    assert answer.context["form"]["total"].value() == Decimal("1033.3")
    assert do(other, "wallet_termination", asked.pk, "confirm").status_code == 302
    asked.refresh_from_db()
    assert asked.forfeited == Decimal("1033.3")


def test_the_form_to_ask_for_a_termination_says_what_it_would_take(ada, senior):
    world.place(ada, of=world.offer(price="1.50"))
    claim = claimed(senior, ada)
    says = (
        "When it is confirmed, 33.3000 USD are forfeited as things stand: 31.8000 USD in the "
        "wallet, 1.5000 USD of open orders."
    )
    for page, row in (("wallet_customer", ada), ("wallet_claim", claim)):
        form = client_of(senior).get(admin_url(f"{page}_do", row.pk, "terminate"))
        assert says in form.context["warnings"]


def test_nobody_confirms_a_termination_that_rejects_what_they_sent_again(senior):
    agent, finance = world.person(AGENT), world.person(FINANCE)
    grace = world.customer("grace", funds="200")
    payout = payouts.sent(agent, senior, "30", buyer=grace)
    settlement.mark_failed(finance, payout.pk, problem="Refused")
    settlement.send_again(finance, payout.pk, reason="Again")
    asked = requested(senior, grace)

    page = client_of(finance).get(admin_url("wallet_termination_change", asked.pk))

    assert [action.name for action, _ in page.context["actions"]] == ["reject"]
    answer = do(finance, "wallet_termination", asked.pk, "confirm")
    assert answer.status_code == 403
    assert f"You sent {payout} again yourself" in answer.content.decode()


# --- files and search ---


def sent(*files: tuple[str, bytes]) -> dict[str, Any]:
    return {"evidence": [SimpleUploadedFile(name, content) for name, content in files]}


def test_a_claim_takes_files_that_are_kept_as_they_are_and_each_taking_is_noted(ada, senior):
    agent = world.person(AGENT, name="abe")
    claim = claimed(agent, ada)
    letter, shot = b"%PDF-1.4 a letter", b"\x89PNG\r\n\x1a\n a picture"

    added = do(agent, "wallet_claim", claim.pk, "files", **sent(("a.pdf", letter), ("b.png", shot)))
    again = do(agent, "wallet_claim", claim.pk, "files", **sent(("a.pdf", letter)))

    assert (added.status_code, again.status_code) == (302, 302)
    files = list(claim.files.order_by("pk"))
    assert [(file.name, bytes(file.content), file.added_by) for file in files] == [
        ("a.pdf", letter, agent),
        ("b.png", shot, agent),
    ]
    url = admin_url("wallet_claim_file", files[0].pk)
    page = client_of(senior).get(admin_url("wallet_claim_change", claim.pk))
    assert page.context["files"][0]["url"] == url
    assert client_of(senior).get(url).status_code == 405
    taken = client_of(senior).post(url)
    assert (taken.content, taken["Content-Type"]) == (letter, "application/octet-stream")
    assert taken["Content-Disposition"] == 'attachment; filename="a.pdf"'
    readings = ClaimFileReading.objects.values_list("file", "person")
    assert list(readings) == [(files[0].pk, senior.pk)]


def test_what_is_no_file_is_refused_in_words(ada):
    agent = world.person(AGENT)
    claim = claimed(agent, ada)

    none = do(agent, "wallet_claim", claim.pk, "files")
    empty = do(agent, "wallet_claim", claim.pk, "files", **sent(("a.txt", b"")))
    many = do(agent, "wallet_claim", claim.pk, "files", **sent(*[("a", b"x")] * 99))

    assert [one.status_code for one in (none, empty, many)] == [422, 422, 422]
    assert "Choose the files that show the claim." in none.content.decode()
    assert "A claim has" in many.content.decode()
    assert not claim.files.exists()


def test_who_may_not_record_a_claim_adds_no_file_and_who_may_not_see_it_takes_none(ada):
    agent = world.person(AGENT)
    claim = claimed(agent, ada)
    do(agent, "wallet_claim", claim.pk, "files", **sent(("a.txt", b"Filed")))
    url = admin_url("wallet_claim_file", claim.files.get().pk)
    newcomer = world.person(name="newcomer")
    newcomer.is_superuser = False
    newcomer.save()

    finance = world.person(FINANCE)
    added = do(finance, "wallet_claim", claim.pk, "files", **sent(("b.txt", b"More")))

    assert added.status_code == 403
    assert client_of(newcomer).post(url).status_code == 403
    auditor = client_of(world.person("Auditor"))
    assert auditor.post(url).status_code == 403
    page = auditor.get(admin_url("wallet_claim_change", claim.pk))
    assert [(file["name"], file["url"]) for file in page.context["files"]] == [("a.txt", "")]
    assert client_of(finance).post(url).status_code == 200
    assert client_of(finance).post(admin_url("wallet_claim_file", 999_999)).status_code == 404


def test_the_database_keeps_the_files_of_claims(ada):
    agent = world.person(AGENT)
    claim = claimed(agent, ada)
    do(agent, "wallet_claim", claim.pk, "files", **sent(("a.txt", b"Filed")))
    table = "wallet_claimfile"
    row = f"WHERE id = {claim.files.get().pk}"

    assert_refused(RESTRICT, table, f"UPDATE {table} SET name = 'b' {row}")
    assert_refused(RESTRICT, table, f"DELETE FROM {table} {row}")
    assert_refused(
        CHECK,
        "claim_file_hash_is_its_content",
        f"INSERT INTO {table} (claim_id, name, content_type, content, size, sha256, added_by_id, "
        f"added_at) SELECT claim_id, 'b', content_type, 'Other', 5, sha256, added_by_id, added_at "
        f"FROM {table}",
    )


def test_claims_are_found_by_reference_deposit_and_customer(ada, senior):
    claim = claimed(senior, ada)
    grace = world.customer("grace", funds="1")
    other = claims.record(
        senior, deposit_of(grace).pk, reference="cb-2", evidence="Filed on Tuesday"
    )

    def found(term: str) -> list[int]:
        page = client_of(senior).get(admin_url("wallet_claim_changelist"), {"q": term})
        return [row.pk for row in page.context["cl"].result_list]

    for term in ("cb-1", ada.external_id, str(ada.pk), deposit_of(ada).reference):
        assert found(term) == [claim.pk], term
    assert found("cb-2") == [other.pk]
    assert found("cb-") == []
    assert found("") == [other.pk, claim.pk]
