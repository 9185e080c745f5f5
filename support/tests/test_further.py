"""A final decision on the case page: what was ruled, and the one way to open it again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from refunds.models import RefundRequest
from refunds.policy import Clause
from smsactivator.common.files import Upload
from smsactivator.common.links import admin_url
from support import cases, casework, inbound
from support.models import Message, Ticket, TicketRefund
from support.reports import By, Period, decisions
from support.tests.test_case_page import (
    buttons,
    client_of,
    done,
    page,
    panel,
    post,
    refusals,
    text,
)
from support.tests.world import agent, ask, decide, denied, fresh, refund, senior, version, write
from wallet.tests.attack import CHECK, RESTRICT, assert_refused

pytestmark = pytest.mark.django_db


@pytest.fixture
def sonia():
    return senior("sonia")


@pytest.fixture
def sam():
    return senior("sam")


@pytest.fixture
def sue():
    return senior("sue")


@pytest.fixture
def ruling(sonia) -> RefundRequest:
    """A refund that ann denied, and whose denial sonia upheld."""
    ticket, asked = denied(agent("ann"))
    write(ticket, "Look again")
    decide(cases.uphold, sonia, ticket, asked, reason="The log shows a login", reply_body="No.")
    return RefundRequest.objects.get(pk=asked.pk)


@pytest.fixture
def ticket(ruling) -> Ticket:
    return ruling.case.ticket


def further(by: Any, ticket: Ticket, ruling: RefundRequest, said: Message, **typed: Any) -> Any:
    fields = {
        "order": ruling.order_id,
        "clause": Clause.WRONG_SERVICE,
        "amount": "0.5",
        "reason": "A new screenshot",
        "evidence": said.pk,
        "body": "We look at it again.",
        "then": "open",
    }
    return post(by, ticket, "further", **{**fields, **typed})


def ruled_words(ruling: RefundRequest) -> str:
    at = "%Y-%m-%d %H:%M:%S UTC"
    return (
        f"{ruling}, 0.5000 USD under “SMS rejected by the service”: denied by ann on "
        f"{ruling.decided_at:{at}}: “Region block”; disputed, and the denial upheld by sonia on "
        f"{ruling.resolved_at:{at}}: “The log shows a login”. Final."
    )


def test_the_case_says_what_was_decided_for_good_by_whom_and_why(ruling, ticket, sam):
    shown = page(sam, ticket)
    words = ruled_words(ruling)
    assert words in text(panel(shown, "further"))
    assert 'id="refund"' not in shown
    assert buttons(panel(shown, "further")) == []
    assert "The customer has sent nothing on this ticket since" in text(panel(shown, "further"))


def test_the_further_request_is_offered_to_a_senior_who_took_no_part_once_something_is_new(
    ruling, ticket, sonia, sam
):
    write(ticket, "Here is the log of the service")
    assert buttons(panel(page(sam, ticket), "further")) == ["further"]
    assert buttons(panel(page(sonia, ticket), "further")) == []
    assert "You took part in the decision" in text(panel(page(sonia, ticket), "further"))
    bob = agent("bob")
    assert buttons(panel(page(bob, ticket), "further")) == []
    assert "A senior agent who took no part can open a further request" in text(
        panel(page(bob, ticket), "further")
    )


def test_no_other_form_opens_the_case_again(ruling, ticket, sam):
    write(ticket, "Here is the log of the service")
    typed = {
        "order": ruling.order_id,
        "clause": Clause.WRONG_SERVICE,
        "amount": "0.5",
        "reason": "So",
        "body": "Well",
    }
    for act in ("request", "refuse"):
        for who in (agent(), sam):
            answer = post(who, ticket, act, **typed)
            assert answer.status_code == 409
            assert "new evidence that came after the decision" in " ".join(refusals(answer))
    assert RefundRequest.objects.count() == 1


def test_a_further_request_is_opened_with_what_the_customer_sent_and_decided_by_a_third_senior(
    ruling, ticket, sonia, sam, sue
):
    said = write(ticket, "Here is the log", files=[Upload("log.txt", b"rejected")])
    shown = panel(page(sam, ticket), "further")
    assert f"{said} of {said.created_at:%Y-%m-%d %H:%M:%S}, 1 file: Here is the log" in shown

    assert done(further(sam, ticket, ruling, said), ticket)

    asked = RefundRequest.objects.latest("pk")
    assert (asked.state, asked.further_to, asked.evidence, asked.evidence_at) == (
        "escalated",
        ruling,
        f"{said} on {ticket}",
        said.created_at,
    )
    assert TicketRefund.objects.get(request=asked).evidence == said
    assert fresh(ticket).queue == "seniors"
    for who, offered in ((sam, ["withdraw", "deny"]), (sonia, []), (sue, ["approve", "deny"])):
        shown = panel(page(who, ticket), f"decide-{asked.pk}")
        assert buttons(shown) == offered
        assert "further to a final decision" in text(shown)
        assert ruled_words(ruling) in text(shown)
        assert f"the new evidence: {said} on {ticket}" in text(shown)
        assert f"#message-{said.pk}" in shown
    assert "You took part in the earlier decision" in text(
        panel(page(sonia, ticket), f"decide-{asked.pk}")
    )
    answer = post(sonia, ticket, "approve", request=asked.pk, reason="x", body="y")
    assert answer.status_code == 403

    assert done(
        post(sue, ticket, "approve", request=asked.pk, reason="Shown", body="You are right."),
        ticket,
    )
    told = ticket.messages.exclude(kind="customer").latest("pk").body
    assert told.startswith(
        "You are right.\n\nYou have sent new evidence since our final decision, and senior agents "
        "who had taken no part in it have looked at your case once more. 0.50 USD for order "
        f"{ruling.order_id} have been credited to your wallet.\n"
    )


def test_what_a_colleague_entered_or_what_came_before_is_no_new_evidence(ruling, ticket, sam):
    before = ticket.messages.filter(kind="customer").latest("pk")
    entered = inbound.enter(
        agent("bob"),
        ticket.customer,
        ticket_id=ticket.pk,
        body="On the phone",
        key="e",
        channel="email",
    )
    theirs = ask().messages.get()
    assert "The customer has sent nothing" in text(panel(page(sam, ticket), "further"))
    write(ticket, "Please look")
    for said, words in (
        (before, "came before the decision"),
        (entered, "is none that this customer sent"),
        (theirs, "is none that this customer sent"),
    ):
        with pytest.raises(cases.EvidenceRefused, match=words):
            cases.open_refund(
                sam,
                ticket.pk,
                ruling.order_id,
                clause=Clause.WRONG_SERVICE,
                amount=ruling.amount,
                reason="So",
                seen=version(ticket),
                key=uuid4(),
                evidence_id=said.pk,
            )
    assert RefundRequest.objects.count() == 1


def test_what_waited_when_the_order_was_decided_for_good_is_offered_to_be_denied_alone(sonia, sam):
    ticket, first = denied(agent())
    second = refund(
        agent(), ticket, first.order, clause=Clause.WRONG_SERVICE, reason="Not ours either"
    )
    write(ticket, "I do not agree")
    assert buttons(panel(page(sam, ticket), f"decide-{second.pk}")) == ["approve", "deny"]

    decide(cases.uphold, sonia, ticket, first, reply_body="No.", then="open")

    shown = panel(page(sam, ticket), f"decide-{second.pk}")
    assert buttons(shown) == ["deny"]
    assert f"{first} was decided for good meanwhile: this is not granted." in text(shown)
    answer = post(sam, ticket, "approve", request=second.pk, reason="So", body="Yes")
    assert (answer.status_code, RefundRequest.objects.get(pk=second.pk).state) == (
        409,
        "escalated",
    )


def test_what_is_disputed_after_the_order_was_decided_for_good_is_not_offered_to_be_overturned(
    sonia, sam, sue
):
    ticket, first = denied(agent())
    second = refund(
        agent(), ticket, first.order, clause=Clause.WRONG_SERVICE, reason="Not ours either"
    )
    write(ticket, "I do not agree")
    decide(cases.uphold, sonia, ticket, first, reply_body="No.", then="open")
    casework.take_over(sue, ticket.pk)
    decide(cases.deny, sue, ticket, second, reply_body="No.", then="open")
    write(ticket, "I do not agree with that either")

    shown = panel(page(sam, ticket), f"decide-{second.pk}")
    assert buttons(shown) == ["uphold", "dismiss"]
    assert f"{first} was decided for good meanwhile: this is not granted." in text(shown)
    typed = {"request": second.pk, "reason": "So", "body": "Yes"}
    casework.take_over(sam, ticket.pk)
    assert "It is not asked a second time" in " ".join(
        refusals(post(sam, ticket, "overturn", **typed))
    )
    shown = panel(page(sonia, ticket), f"decide-{second.pk}")
    assert buttons(shown) == []
    assert "You took part in the earlier decision" in text(shown)
    assert RefundRequest.objects.get(pk=second.pk).state == "disputed"


def test_it_is_marked_in_lists_on_its_page_and_in_the_report(ruling, ticket, sam):
    further(sam, ticket, ruling, write(ticket, "The log"))
    asked = RefundRequest.objects.latest("pk")
    client = client_of(sam)
    listed = text(
        client.get(admin_url("refunds_refundrequest_changelist", further="yes")).content.decode()
    )
    assert "To a final decision" in listed
    rows = client.get(admin_url("refunds_refundrequest_changelist", further="yes")).context["cl"]
    assert [row.pk for row in rows.result_list] == [asked.pk]
    shown = text(client.get(admin_url("refunds_refundrequest_change", asked.pk)).content.decode())
    assert "Further to a final decision" in shown
    assert asked.evidence in shown
    assert "Opened again" in text(
        client.get(admin_url("refunds_refundrequest_change", ruling.pk)).content.decode()
    )
    assert f"Of order {ruling.order_id}, further to a final decision, ticket {ticket.pk}" in text(
        page(sam, ticket)
    )
    today = timezone.now().date()
    found = decisions(sam, Period(today, today), By.CLAUSE)
    assert (found.total.asked, found.total.further) == (2, 1)


@pytest.mark.parametrize("verb", [cases.uphold, cases.dismiss])
def test_the_customer_is_told_that_it_is_final_and_what_alone_can_open_it_again(verb, sonia):
    ticket, asked = denied(agent())
    write(ticket)
    decide(verb, sonia, ticket, asked, reply_body="No.")
    told = ticket.messages.exclude(kind="customer").latest("pk").body
    assert told.endswith(
        "\nIt cannot be disputed again. Only if you send new evidence can a senior agent who has "
        "taken no part in this decide to look at it once more.\nThis decision is final."
    )


# --- the database, in raw SQL ---


def test_the_database_takes_no_evidence_but_what_the_customer_sent_after_the_decision(
    ruling, ticket, sam
):
    said = write(ticket, "The log")
    later = write(ticket, "And another")
    further(sam, ticket, ruling, said)
    case = TicketRefund.objects.latest("pk")
    for evidence in (later.pk, "NULL"):
        assert_refused(
            RESTRICT,
            "is fixed",
            f"UPDATE support_ticketrefund SET evidence_id = {evidence} WHERE id = {case.pk}",
        )


def test_the_database_wants_the_evidence_of_a_further_request_on_its_ticket(ruling, ticket, sam):
    entered = inbound.enter(
        sam, ticket.customer, ticket_id=ticket.pk, body="Phone", key="e", channel="email"
    )
    for message in (entered, ask().messages.get()):
        opened = (
            "INSERT INTO refunds_refundrequest (order_id, clause, amount, reason, state, "
            "policy_version, facts, verdict, verdict_clause, verdict_why, requested_by_id, "
            "requested_at, request_key, decision_reason, against_verdict, resolution_reason, "
            "further_to_id, evidence, evidence_at) SELECT order_id, 'ticket.wrong_service', "
            "amount, 'So', 'requested', policy_version, facts, verdict, verdict_clause, "
            f"verdict_why, {sam.pk}, now(), gen_random_uuid(), '', false, '', id, 'x', "
            f"(SELECT created_at FROM support_message WHERE id = {message.pk}) "
            f"FROM refunds_refundrequest WHERE id = {ruling.pk}"
        )
        for evidence in (message.pk, "NULL"):
            assert_refused(
                CHECK,
                "its evidence is not what its customer sent",
                opened,
                "INSERT INTO support_ticketrefund (ticket_id, request_id, evidence_id) SELECT "
                f"{ticket.pk}, max(id), {evidence} FROM refunds_refundrequest",
            )
