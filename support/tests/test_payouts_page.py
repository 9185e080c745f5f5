"""Payouts on the page of a case: what is shown of them, and the forms that ask and take back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from smsactivator.common import links, seen
from smsactivator.common.links import admin_url
from smsactivator.common.timeline import timeline
from support import casework, inbound, notices, payouts
from support.models import Message, Outbound, Ticket, TicketPayout
from support.tests.test_case_page import (
    balance,
    buttons,
    client_of,
    done,
    page,
    panel,
    post,
    refusals,
    said,
    text,
)
from support.tests.world import (
    TRON,
    agent,
    ask,
    fresh,
    leaving,
    payout,
    reply,
    senior,
    version,
    write,
)
from wallet import payouts as wallet_payouts
from wallet import standing
from wallet.models import Customer, Payout, PayoutMethod, Transfer
from wallet.tests.together import at_once
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

OTHER_TRON = "TLa2f6VPqDgRE67v1736s7bJ8Ray5wYjU7"
TABLES = (Ticket, Message, Outbound, TicketPayout, Payout, Transfer)


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def bob():
    return agent("bob")


@pytest.fixture
def ticket():
    return leaving("100.1234")


def terms(**typed: Any) -> dict[str, Any]:
    return {
        "method": "USDT-TRON",
        "address": TRON,
        "share": "part",
        "amount": "50",
        "reason": "Leaves us",
        "body": "",
        "then": "open",
        **typed,
    }


def books() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in TABLES]


# --- what is shown ---


def test_the_form_offers_every_method_the_balance_and_the_minimum(ann, ticket):
    content = page(ann, ticket)

    form = panel(content, "payout")
    assert "Arrange a payout" in text(form)
    for method in PayoutMethod.objects.all():
        assert f'value="{method.code}"' in form
    PayoutMethod.objects.create(
        code="USDC-SOLANA", currency="USDC", network="SOLANA", address_format="solana"
    )
    chosen = panel(page(ann, ticket), "payout")
    assert "USDT on TRON (TRC-20)" in chosen
    assert "USDC on ETHEREUM (ERC-20)" in chosen
    assert "USDC on SOLANA" in chosen
    assert "USDC on SOLANA (" not in chosen
    assert "The whole balance, 100.12 USD" in form
    assert (
        "In whole cents, at least 20.00 USD. Less than 20.00 USD that stay in the wallet cannot be "
        "paid out later."
    ) in text(form)
    assert buttons(form) == ["payout"]
    assert "<details open" not in form
    assert "None was asked for." in text(panel(content, "payouts"))
    assert "At least 20.00 USD, by the policy." in text(panel(content, "payouts"))


@pytest.mark.parametrize("amount", ["0", "19.9999"])
def test_below_the_minimum_there_is_no_form_but_the_reason(ann, amount):
    content = page(ann, leaving(amount))

    assert 'id="payout"' not in content
    assert "The balance is below the least payout, 20.00 USD by the policy." in text(
        panel(content, "payouts")
    )


def test_of_a_frozen_wallet_there_is_no_form_but_the_reason(ann, ticket):
    standing.freeze(senior(), ticket.customer_id, reason="Looked at")

    content = page(ann, ticket)
    assert 'id="payout"' not in content
    assert "Nothing is paid out of this wallet now: Frozen" in text(panel(content, "payouts"))


def test_a_method_that_is_switched_off_is_not_offered(ann, ticket):
    PayoutMethod.objects.filter(code="USDT-TRON").update(enabled=False)
    assert 'value="USDT-TRON"' not in panel(page(ann, ticket), "payout")
    PayoutMethod.objects.update(enabled=False)
    content = page(ann, ticket)
    assert 'id="payout"' not in content
    assert "No coin or network for payouts is set up." in text(content)


def test_a_payout_is_shown_with_its_state_amount_and_ticket(ann, bob, ticket):
    asked = payout(ann, ticket, "50")
    other = ask(ticket.customer)

    shown = text(panel(page(bob, other), "payouts"))
    assert f"Payout {asked.reference} Waiting for approval" in shown
    assert f"USDT on TRON, ticket {ticket.pk} 50.0000" in shown
    wallet_payouts.reject(person("Finance"), asked.pk, reason="No")
    assert f"Payout {asked.reference} Rejected" in text(panel(page(bob, other), "payouts"))


def test_what_waits_is_shown_in_full_and_only_who_asked_has_its_button(ann, bob, ticket):
    asked = payout(ann, ticket, "50")

    mine = panel(page(ann, ticket), f"payout-{asked.pk}")
    assert f"ann asked for 50.0000 USD as USDT on TRON to {TRON} : Leaves us" in text(mine)
    assert buttons(mine) == ["withdraw_payout"]
    theirs = panel(page(bob, ticket), f"payout-{asked.pk}")
    assert buttons(theirs) == []
    assert "It is approved or rejected on its own page" in text(theirs)
    for shown in (mine, theirs):
        own = f'href="{admin_url("wallet_payout_change", asked.pk)}">its own page</a>'
        assert own in shown
    wallet_payouts.approve(person("Finance"), asked.pk)
    assert f'id="payout-{asked.pk}"' not in page(ann, ticket)


def test_an_address_of_another_customer_and_a_changed_one_are_flagged(ann, bob, ticket):
    payout(ann, leaving("50"), "20")
    first = payout(ann, ticket, "20")
    second = payout(ann, ticket, "20", address=OTHER_TRON)
    content = page(bob, ticket)

    assert "Another customer gave this address too." in text(panel(content, f"payout-{first.pk}"))
    changed = text(panel(content, f"payout-{second.pk}"))
    assert "Another customer" not in changed
    assert f"nobody can approve it before {second.not_before:%Y-%m-%d %H:%M} UTC." in changed


def test_finance_sees_no_case_and_an_auditor_no_form(ticket, ann):
    asked = payout(ann, ticket)
    url = admin_url("support_ticket_change", ticket.pk)
    assert client_of(person("Finance")).get(url).status_code == 403

    content = page(person("Auditor"), ticket)
    assert 'id="payout"' not in content
    assert buttons(content) == []
    assert asked.reference in text(panel(content, "payouts"))


def test_it_reads_as_many_payouts_with_as_many_queries(ann, sonia_client):
    def queries(of: Ticket) -> int:
        url = admin_url("support_ticket_change", of.pk)
        sonia_client.get(url)
        with CaptureQueriesContext(connection) as found:
            assert sonia_client.get(url).status_code == 200
        return len(found)

    small, large = leaving("100"), leaving("1000")
    payout(ann, small, "20")
    for number in range(24):
        payout(ann, large, "20", address=OTHER_TRON if number % 2 else TRON)
    elsewhere = ask(large.customer)
    for _ in range(8):
        payout(ann, elsewhere, "20")
    payout(ann, ask(small.customer), "20")

    assert queries(large) == queries(small)


@pytest.fixture
def sonia_client():
    return client_of(senior("sonia"))


def test_the_ticket_s_timeline_tells_of_the_payout_whose_page_leads_to_the_ticket(ann, ticket):
    asked = payout(ann, ticket)
    notices.tell_due()
    boss = senior()
    wallet_payouts.reject(boss, asked.pk, reason="Not yours")

    told = [entry.what for entry in timeline(ticket, boss)[0]]
    assert told[0] == "Rejected: Not yours"
    assert "Requested: Leaves us" in told
    assert f"Told the customer: {asked}: requested" in told
    found = links.collect("wallet.Payout", [asked.pk])[asked.pk]
    [link] = [one for one in found if one.text.startswith("Ticket")]
    assert (link.text, link.permission) == (
        f"Ticket {ticket.pk}: I want to leave",
        "support.view_ticket",
    )


def unwritten(by: Any, asked: Payout) -> tuple[dict[str, str], bool, bool]:
    """What the payout's page says of the ticket, and whether its approval and its case warn."""
    client = client_of(by)
    shown = client.get(admin_url("wallet_payout_change", asked.pk))
    [group] = [one for one in shown.context["facts"] if one.title == "What the customer wrote"]
    form = client.get(admin_url("wallet_payout_do", asked.pk, "approve"))
    case = page(agent(), asked.case.ticket)
    return (
        {label: text(str(value)) for label, value in group.rows},
        "The address is in no message of the ticket. Ask whoever entered it where it comes from."
        in text(form.content.decode()),
        "The address is in no message of the ticket." in text(panel(case, f"payout-{asked.pk}")),
    )


def test_an_address_that_the_customer_did_not_write_on_the_ticket_is_flagged(ann, ticket):
    # Neither our own words nor another ticket count.
    reply(ann, ticket, f"Is it {TRON}?")
    write(ask(ticket.customer), f"Pay to {TRON}")
    asked = payout(ann, ticket)
    boss = senior()
    named = f"Ticket {ticket.pk}: I want to leave"

    assert unwritten(boss, asked) == (
        {"Ticket": named, "Address": "The address is in no message of the ticket"},
        True,
        True,
    )
    write(ticket, f"My address: {TRON.lower()}")
    assert unwritten(boss, asked)[1:] == (True, True)
    write(ticket, f"I mean:\n{TRON}. Thanks")
    assert unwritten(boss, asked) == (
        {"Ticket": named, "Address": "Stands in a message of the customer"},
        False,
        False,
    )


def test_an_address_that_one_of_us_entered_was_not_written_by_the_customer(ann, ticket):
    inbound.enter(
        ann, ticket.customer, ticket_id=ticket.pk, body=f"To {TRON}", key="a", channel="email"
    )
    asked = payout(ann, ticket)
    boss = senior()

    facts, approval_warns, case_warns = unwritten(boss, asked)

    assert facts["Address"] == (
        "The address is in no message of the ticket It stands only in what ann entered as said by "
        "the customer"
    )
    assert (approval_warns, case_warns) == (True, True)
    form = client_of(boss).get(admin_url("wallet_payout_do", asked.pk, "approve"))
    entered = "It stands only in what ann entered as said by the customer."
    assert entered in text(form.content.decode())
    assert entered in text(panel(page(boss, ticket), f"payout-{asked.pk}"))
    # The customer's own words silence it.
    write(ticket, f"Yes, {TRON}")
    assert unwritten(boss, asked)[0]["Address"] == "Stands in a message of the customer"
    assert unwritten(boss, asked)[1:] == (False, False)


def test_the_list_of_payouts_flags_each_address_that_nobody_wrote_in_as_many_queries(ann, ticket):
    client = client_of(person("Finance"))
    url = admin_url("wallet_payout_changelist")

    def flagged() -> tuple[list[int], int]:
        client.get(url)
        with CaptureQueriesContext(connection) as captured:
            rows = client.get(url).context["cl"].result_list
        found = [row.pk for row in rows if "is in no message of the ticket" in row.looked_at]
        return sorted(found), len(captured)

    first = payout(ann, ticket, "20")
    found, few = flagged()
    assert found == [first.pk]
    others = [payout(ann, leaving("50"), "20") for _ in range(5)]
    write(ticket, f"To {TRON}")
    assert flagged() == ([one.pk for one in others], few)


def test_an_address_on_ethereum_may_be_written_in_small_letters(ann, ticket):
    ethereum = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    write(ticket, f"Pay to {ethereum.lower()} please")
    asked = payout(ann, ticket, method="USDT-ETHEREUM", address=ethereum)

    assert unwritten(senior(), asked)[1:] == (False, False)


def test_finance_is_told_of_an_address_that_nobody_wrote_without_seeing_the_ticket(ann, ticket):
    asked = payout(ann, ticket)
    client = client_of(person("Finance"))
    shown = client.get(admin_url("wallet_payout_change", asked.pk)).content.decode()

    assert "The address is in no message of the ticket" in text(shown)
    assert admin_url("support_ticket_change", ticket.pk) not in shown


def test_a_payout_without_a_ticket_says_so_and_warns_of_nothing(ann, ticket):
    asked = wallet_payouts.request(
        ann,
        ticket.customer_id,
        method="USDT-TRON",
        address=TRON,
        amount=Decimal(50),
        terms=payouts.terms(timezone.now()),
        reason="Leaves us",
        key=uuid4(),
    )
    client = client_of(senior())
    shown = client.get(admin_url("wallet_payout_change", asked.pk))
    [group] = [one for one in shown.context["facts"] if one.title == "What the customer wrote"]
    form = client.get(admin_url("wallet_payout_do", asked.pk, "approve"))

    assert group.rows == [("Ticket", "Entered without a ticket")]
    assert list(form.context["warnings"]) == []


# --- what each act does ---


def test_payout_asks_for_a_part_and_says_who_goes_on(ann, ticket):
    response = post(ann, ticket, "payout", **terms(body="We arrange it.", then="waiting"))

    assert done(response, ticket)
    asked = Payout.objects.get()
    assert said(response) == [
        f"{asked} of 50.0000 USD is out of the wallet. Somebody else (a senior agent or finance) "
        "approves it, then finance sends it; the customer is told what becomes of it."
    ]
    assert (asked.amount, asked.address, asked.requested_by) == (Decimal(50), TRON, ann)
    assert balance(ticket) == Decimal("50.1234")
    assert fresh(ticket).state == "waiting"
    assert ticket.messages.get(kind="reply").body == "We arrange it."


@pytest.mark.parametrize(
    ("balance", "amount", "left"),
    [
        ("39.10", "25", "14.10"),
        ("45.0099", "25.01", "19.99"),
        ("45.0099", "25", ""),
        ("25.0099", "25", ""),
    ],
)
def test_payout_of_a_part_that_strands_the_rest_says_how_much_stays(ann, balance, amount, left):
    response = post(ann, leaving(balance), "payout", **terms(amount=amount))

    [words] = said(response)
    told = (
        f"{left} USD stay in the wallet, less than the least payout: they cannot be paid out by "
        "themselves. If all should leave, withdraw this and ask for the whole balance."
    )
    assert words.endswith(told if left else "the customer is told what becomes of it.")


def test_payout_of_the_whole_balance_points_to_the_closing_of_the_wallet(ann, ticket):
    response = post(ann, ticket, "payout", **terms(share="whole", amount=""))

    asked = Payout.objects.get()
    assert said(response) == [
        f"{asked} of 100.1200 USD is out of the wallet. Somebody else (a senior agent or finance) "
        "approves it, then finance sends it; the customer is told what becomes of it. When the "
        "payout has ended, the wallet can be closed on the customer's page: what is below a cent "
        "goes to rounding then."
    ]
    assert balance(ticket) == Decimal("0.0034")


def test_payout_above_the_amount_to_a_changed_address_says_how_many_approve_it_and_when(ann):
    ticket = leaving("2000")
    payout(ann, ticket, "50")

    response = post(ann, ticket, "payout", **terms(address=OTHER_TRON, amount="600"))

    asked = Payout.objects.latest("pk")
    assert said(response) == [
        f"{asked} of 600.0000 USD is out of the wallet. Two others (senior agents or finance) "
        f"approve it, because of its amount, from {asked.not_before:%Y-%m-%d %H:%M} UTC on, as "
        "the address has changed, then finance sends it; the customer is told what becomes of it."
    ]


@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        ({"address": TRON[:-1] + "9"}, 422, "checksum"),
        ({"amount": "19.99"}, 422, "A payout is at least 20.00 USD"),
        ({"amount": "200"}, 422, "at most 100.12 USD"),
        ({"amount": "50.001"}, 422, "in whole cents"),
        ({"amount": ""}, 422, "Say how much, or choose the whole balance."),
        ({"amount": "x"}, 422, "Enter an amount in digits, with a point before its parts: 12.50."),
        ({"share": "whole"}, 422, "leave the amount out"),
        ({"share": ""}, 422, "This field is required."),
        ({"method": "USDT-NOWHERE"}, 422, "Select a valid choice"),
        ({"method": ""}, 422, "This field is required."),
        ({"address": ""}, 422, "This field is required."),
        ({"reason": ""}, 422, "This field is required."),
        ({"then": "resolved", "body": ""}, 409, "waits for an answer"),
        ({"body": "We pay {{amount}}"}, 422, "{{amount}}"),
        ({"seen": 0}, 409, "has changed since you looked"),
    ],
)
def test_what_is_refused_says_why_and_keeps_what_was_typed(ann, ticket, typed, status, words):
    before = books()

    response = post(ann, ticket, "payout", **terms(**{"body": "Kept words", **typed}))

    content = response.content.decode()
    assert response.status_code == status
    form = panel(content, "payout")
    assert "<details open" in form
    assert words in text(form)
    assert typed.get("body", "Kept words") in form
    assert f'value="{typed.get("address", TRON)}"' in form or not typed.get("address", TRON)
    assert books() == before


def test_a_refused_form_stays_on_a_ticket_that_offers_it_no_more(ann, ticket):
    standing.freeze(senior(), ticket.customer_id, reason="Looked at")

    response = post(ann, ticket, "payout", **terms())

    assert response.status_code == 403
    [why] = refusals(response)
    assert "is frozen, so nothing is paid out of it" in why
    assert "we can arrange an outbound payout (subject to a minimum of $20)" in why
    assert TRON in panel(response.content.decode(), "payout")


def taking_back(asked: Payout) -> dict[str, int]:
    """What the form carries on the page of a payout as it is now."""
    return {"payout": asked.pk, "payout_seen": seen.of(asked)}


def test_a_payout_that_was_approved_by_the_first_of_two_meanwhile_is_not_withdrawn_unseen(ann):
    ticket = leaving("1000")
    asked = payout(ann, ticket, amount="600")
    assert f'name="payout_seen" value="{seen.of(asked)}"' in page(ann, ticket)
    old = taking_back(asked)
    bob = person("Finance")
    wallet_payouts.approve(bob, asked.pk)

    response = post(ann, ticket, "withdraw_payout", **old)

    assert response.status_code == 409
    assert f"Meanwhile: {bob}: Approved by the first of two (" in refusals(response)[0]
    assert Payout.objects.get().state == "first_approved"
    assert done(post(ann, ticket, "withdraw_payout", **taking_back(asked)), ticket)


def test_withdraw_payout_gives_the_money_back_and_leaves_a_note(ann, ticket):
    asked = payout(ann, ticket)

    response = post(ann, ticket, "withdraw_payout", **taking_back(asked))

    assert done(response, ticket)
    assert said(response) == [
        f"{asked} is withdrawn: the money is back in the wallet, and the customer is told."
    ]
    assert balance(ticket) == Decimal("100.1234")
    assert ticket.messages.get(kind="note").body.startswith(f"Withdrew payout {asked.reference}")


def test_a_payout_of_somebody_else_of_another_ticket_or_approved_is_not_withdrawn(ann, bob, ticket):
    asked = payout(ann, ticket)
    casework.release(ann, ticket.pk)
    before = books()

    by_other = post(bob, ticket, "withdraw_payout", **taking_back(asked))
    elsewhere = post(ann, ask(ticket.customer), "withdraw_payout", **taking_back(asked))
    unknown = taking_back(asked) | {"payout": asked.pk + 1000}
    nowhere = post(ann, ticket, "withdraw_payout", **unknown)

    assert [one.status_code for one in (by_other, elsewhere, nowhere)] == [403, 409, 404]
    assert f"was asked for on ticket {ticket.pk}" in refusals(elsewhere)[0]
    assert books()[3:] == before[3:]
    wallet_payouts.approve(person("Finance"), asked.pk)
    late = post(ann, ticket, "withdraw_payout", **taking_back(asked))
    assert (late.status_code, "“Approved” by now" in refusals(late)[0]) == (409, True)
    assert Payout.objects.get().state == "approved"


def test_names_and_reasons_are_shown_as_text(ann, ticket):
    Customer.objects.filter(pk=ticket.customer_id).update(email="<b>@x.test")
    payout(ann, ticket, reason="<script>alert(1)</script>")

    assert "<script>alert(1)" not in page(ann, ticket)


@pytest.mark.django_db(transaction=True)
def test_the_same_click_twice_at_once_is_one_payout(ann, ticket):
    typed = {**terms(), "act": "payout", "seen": version(ticket), "key": str(uuid4())}
    clients = [client_of(ann), client_of(ann)]
    url = admin_url("support_ticket_case", ticket.pk)

    answers = at_once(*(lambda c=client: c.post(url, typed) for client in clients))

    assert [answer.status_code for answer in answers] == [302, 302]
    assert (Payout.objects.count(), balance(ticket)) == (1, Decimal("50.1234"))


@pytest.mark.parametrize("act", ["payout", "withdraw_payout"])
def test_looking_and_forging_change_nothing(ann, ticket, act):
    asked = payout(ann, ticket)
    url = admin_url("support_ticket_case", ticket.pk)
    typed = terms(act=act, payout=asked.pk, seen=version(ticket), key=str(uuid4()))
    before = books()

    client_of(ann).get(url, typed)
    assert client_of(ann, enforce_csrf_checks=True).post(url, typed).status_code == 403
    assert books() == before
