"""What customers are told of their account, by thread and by the API: once, with the clause."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from orders import termination
from refunds.tests.world import customer
from smsactivator.common.links import admin_url
from support import account_notices
from support.models import Message, Outbound, Ticket
from support.tasks import tell_accounts
from support.tests.world import agent, senior, write
from wallet import claims, keys, standing
from wallet.models import AccountOutcome, Customer, Deposit
from wallet.tests.attack import CHECK, RESTRICT, assert_refused
from wallet.tests.together import at_once

pytestmark = pytest.mark.django_db

CHARGEBACK = (
    "Refund policy, disputes: “any chargeback claim filed against a crypto provider is the user's "
    "responsibility, not ours, and may result in account termination per /tos §9.”"
)
AUP = (
    "Refund policy, not granted: “AUP violations resulting in account termination — wallet balance "
    "is forfeited per /aup.”"
)
KEPT = "Until then nothing is spent from it or paid out; refunds and deposits still arrive."
DISAGREE = "If you disagree, reply to this thread with whatever shows it."
BY_CLAIM = (
    "The wallet is frozen: a chargeback claim was filed against a deposit, and is being decided. "
    f"{KEPT} {CHARGEBACK}"
)


@pytest.fixture
def ann() -> Any:
    return agent("ann")


@pytest.fixture
def sonia() -> Any:
    return senior("sonia")


@pytest.fixture
def sam() -> Any:
    return senior("sam")


@pytest.fixture
def ada() -> Customer:
    return customer("10")


def claimed(by: Any, ada: Customer) -> Any:
    deposit = Deposit.objects.filter(transfer__wallet=ada.pk).earliest("pk")
    return claims.record(by, deposit.pk, reference="cb-1", evidence="Filed on Monday")


def requested(by: Any, ada: Customer, **fields: Any) -> Any:
    return termination.request(by, ada.pk, reason="Resold numbers", key=uuid4(), **fields)


def told(ada: Customer) -> list[str]:
    """What the sweep says, in its order."""
    account_notices.tell_due()
    notices = Message.objects.filter(ticket__customer=ada, kind="notice", via="automatic: accounts")
    return list(notices.order_by("pk").values_list("body", flat=True))


def wallet(ada: Customer) -> dict[str, Any]:
    _, plain = keys.issue(ada.storefront, name=uuid4().hex[:8], created_by="test")
    answer = Client().get(
        f"/api/v1/customers/{ada.external_id}/wallet", headers={"Authorization": f"Bearer {plain}"}
    )
    assert answer.status_code == 200
    return dict(answer.json())


# --- the words ---


def test_a_freeze_by_a_person_is_told_without_our_reason(ada, sonia):
    standing.freeze(sonia, ada.pk, reason="Looks stolen")
    standing.unfreeze(sonia, ada.pk, reason="It was theirs")

    assert told(ada) == [
        f"The wallet is frozen: we are looking into the account. {KEPT}\n{DISAGREE}",
        "The wallet is not frozen any more: it can be spent from again.",
    ]


def test_a_claim_is_told_with_the_policy_s_sentence_about_it_and_ends_the_account_by_it(
    ada, ann, sonia, sam
):
    claim = claimed(ann, ada)
    assert told(ada) == [f"{BY_CLAIM}\n{DISAGREE}"]

    termination.confirm(sam, requested(sonia, ada, claim_id=claim.pk).pk)

    assert told(ada)[1:] == [
        f"The account was terminated, and the wallet is forfeited. {CHARGEBACK}\n"
        f"Forfeited, from the wallet and from open orders: 10.00 USD.\n{DISAGREE}"
    ]


def test_a_termination_and_its_end_are_told_with_the_clause(ada, sonia, sam):
    ended = termination.confirm(sam, requested(sonia, ada).pk)
    back = termination.request_reinstatement(
        sonia, ended.pk, give_back=True, reason="Mix-up", key=uuid4()
    )
    termination.confirm_reinstatement(sam, back.pk)

    assert told(ada) == [
        f"The wallet is frozen: the termination of the account is being decided. {KEPT} {AUP}\n"
        f"{DISAGREE}",
        f"The account was terminated, and the wallet is forfeited. {AUP}\n"
        f"Forfeited, from the wallet and from open orders: 10.00 USD.\n{DISAGREE}",
        "The account is open again. 10.00 USD are back in the wallet.",
    ]


def test_what_is_not_confirmed_is_told_as_let_go(ada, sonia, sam):
    termination.reject(sam, requested(sonia, ada).pk, reason="Not enough")

    assert told(ada)[1] == "The wallet is not frozen any more: it can be spent from again."


# --- the thread ---


def test_the_account_has_a_thread_of_its_own_on_which_nobody_waits(ada, sonia):
    standing.freeze(sonia, ada.pk, reason="Odd")
    standing.unfreeze(sonia, ada.pk, reason="Fine")
    assert [tell_accounts(), tell_accounts()] == [2, 0]

    ticket = Ticket.objects.get(customer=ada)
    assert (ticket.subject, ticket.state, ticket.due_at) == ("Your account", "resolved", None)
    assert Outbound.objects.filter(message__ticket=ticket, state="queued").count() == 2
    client = Client()
    client.force_login(sonia)
    assert client.get(admin_url("support_ticket_change", ticket.pk)).status_code == 200


def test_a_customer_who_replies_waits_for_an_answer_on_that_thread(ada, sonia):
    standing.freeze(sonia, ada.pk, reason="Odd")
    tell_accounts()
    ticket = Ticket.objects.get(customer=ada)

    write(ticket, "It is mine")

    ticket.refresh_from_db()
    assert (ticket.state, ticket.due_at is not None) == ("open", True)
    standing.unfreeze(sonia, ada.pk, reason="Fine")
    assert told(ada)[1:] == ["The wallet is not frozen any more: it can be spent from again."]
    assert Ticket.objects.filter(customer=ada).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_tell_each_outcome_once_on_one_thread():
    ada, sonia = customer("10"), senior("sonia")
    standing.freeze(sonia, ada.pk, reason="Odd")

    at_once(*[account_notices.tell_due] * 4)

    assert Ticket.objects.filter(customer=ada).count() == 1
    assert len(told(ada)) == 1


# --- the API ---


def test_the_api_tells_the_wallet_s_state_and_why_with_the_clause(ada, ann, sonia, sam):
    assert (wallet(ada)["state"], wallet(ada)["reason"]) == ("active", "")
    claim = claimed(ann, ada)
    assert (wallet(ada)["state"], wallet(ada)["reason"]) == ("frozen", BY_CLAIM)
    asked = requested(sonia, ada, claim_id=claim.pk)
    assert wallet(ada)["reason"] == BY_CLAIM
    termination.confirm(sam, asked.pk)
    assert (wallet(ada)["state"], wallet(ada)["reason"]) == (
        "forfeited",
        f"The account was terminated, and the wallet is forfeited. {CHARGEBACK}",
    )


def test_the_api_documents_the_states():
    schemas = Client().get("/api/v1/openapi.json").json()["components"]["schemas"]

    shown = schemas["WalletOut"]["properties"]
    assert shown["state"]["enum"] == ["active", "frozen", "forfeited", "closed"]
    assert "with the refund policy's clause" in shown["reason"]["description"]
    states = schemas["CustomerOut"]["properties"]["wallet_state"]
    assert states["enum"] == ["active", "frozen", "forfeited", "closed"]


# --- what the database holds ---


def test_the_database_keeps_what_is_told(ada, sonia):
    standing.freeze(sonia, ada.pk, reason="Odd")
    outcome = AccountOutcome.objects.get()

    row = f"WHERE id = {outcome.pk}"
    said = f"account outcome {outcome.pk}: it is fixed, and told once"
    table = "wallet_accountoutcome"
    assert_refused(RESTRICT, said, f"UPDATE {table} SET what = 'unfrozen' {row}")
    tell_accounts()
    assert_refused(RESTRICT, said, f"UPDATE {table} SET told_at = NULL {row}")
    assert_refused(
        CHECK,
        f"account {ada.pk} is not terminated, or nobody was told",
        f"INSERT INTO {table} (customer_id, what, ground, amount, at) "
        f"VALUES ({ada.pk}, 'terminated', 'claim', 1, now())",
    )
