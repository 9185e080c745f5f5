"""Refunds decided on tickets: the decision, the words, the money and the clocks, in one."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.db import connection

from orders.locking import OrderUnknown
from refunds.decisions import RequestUnknown, VerdictReasonMissing, WaitsForSenior
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world
from smsactivator.common.seen import Outdated
from support import cases, casework, replies
from support.casework import ClaimedByOther, RefundUndecided, StillUnanswered
from support.inbound import KeyConflict
from support.models import Message, Outbound, Ticket, TicketRefund, Wait
from support.tests.world import (
    MONDAY,
    agent,
    ask,
    decide,
    deliver,
    delivered,
    denied,
    fresh,
    refund,
    reply,
    senior,
    version,
    write,
)
from wallet.deciding import AlreadyDecided, OwnRequest, RequestConflict
from wallet.models import Transfer
from wallet.tests.together import at_once
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

REJECTED = (
    "Refund policy: “You received an SMS but the destination service rejected it (e.g. a "
    "region-block on the upstream carrier).”"
)
# That clause says that people look at such a case: a denial says that they did.
LOOKED_AT = "We have looked at it under this clause of the refund" + REJECTED.removeprefix("Refund")


@pytest.fixture
def clock():
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def bob():
    return agent("bob")


@pytest.fixture
def ticket():
    """A ticket of a customer with an order of 1 USD that was delivered."""
    made = ask()
    delivered(made.customer)
    return made


def order_of(ticket):
    return ticket.customer.orders.get()


def asked_by(who, ticket, **fields):
    """A request of a person."""
    return refund(who, ticket, order_of(ticket), **fields)


def said(ticket) -> list[tuple[str, str]]:
    """What we wrote on the thread, by kind."""
    return list(ticket.messages.exclude(kind="customer").order_by("pk").values_list("kind", "body"))


def everything() -> list[object]:
    """Every row that a decision writes, for comparing before and after."""
    models = (Ticket, Message, Outbound, Wait, TicketRefund, RefundRequest, Refund, Transfer)
    return [list(model.objects.order_by("pk").values()) for model in models] + [
        Ticket.history.count(),
        RefundRequest.history.count(),
    ]


# --- opening ---


def test_a_refund_is_opened_on_the_ticket_and_tells_the_customer_nothing(clock, ann, ticket):
    asked = refund(ann, ticket, order_of(ticket))

    assert (asked.state, asked.amount, asked.requested_by) == ("requested", Decimal("0.5"), ann)
    case = TicketRefund.objects.get()
    assert (case.ticket, case.request, case.disputed_by) == (ticket, asked, None)
    assert list(ticket.orders.all()) == [order_of(ticket)]
    ticket = fresh(ticket)
    assert (ticket.state, ticket.queue, ticket.assignee) == ("open", "agents", ann)
    assert said(ticket) == []
    assert ticket.history.latest().history_change_reason == (
        f"Opened refund request {asked.pk} of 0.50 USD for order {order_of(ticket).pk}: "
        "Region block"
    )


def test_what_is_typed_with_a_request_is_sent_as_a_reply_once(ann, ticket):
    order = delivered(ticket.customer)
    form = {"reply_body": "A colleague looks at it.", "key": uuid4(), "seen": version(ticket)}

    first = refund(ann, ticket, order, **form)
    again = refund(ann, ticket, order, **form)

    assert first == again
    [sent] = ticket.messages.exclude(kind="customer")
    assert (sent.kind, sent.body, sent.author) == ("reply", "A colleague looks at it.", ann)
    assert Outbound.objects.filter(message=sent).count() == 1
    assert fresh(ticket).state == "open"


def test_who_opened_a_refund_lets_go_of_the_ticket_so_that_another_can_decide(ann, bob, ticket):
    asked = refund(ann, ticket, order_of(ticket))
    assert fresh(ticket).claimed_by is None
    decide(cases.approve, bob, ticket, asked, reply_body="Here you are")
    assert (fresh(ticket).state, fresh(ticket).assignee) == ("resolved", ann)


def test_above_an_agents_limit_it_waits_in_the_seniors_queue(ann):
    ticket = ask(world.customer("100"))
    order = delivered(ticket.customer, "20")
    asked = refund(ann, ticket, order, amount=Decimal("10.0001"))
    assert (asked.state, fresh(ticket).queue) == ("escalated", "seniors")
    with pytest.raises(WaitsForSenior):
        decide(cases.approve, agent(), ticket, asked)
    boss = senior()
    decide(cases.approve, boss, ticket, asked, reply_body="Here you are")
    assert (fresh(ticket).queue, fresh(ticket).state) == ("agents", "resolved")


def test_the_same_form_sent_twice_opens_one_refund(ann, ticket):
    key, seen = uuid4(), version(ticket)
    first = refund(ann, ticket, order_of(ticket), key=key, seen=seen)
    assert refund(ann, ticket, order_of(ticket), key=key, seen=seen) == first
    with pytest.raises(RequestConflict):
        refund(ann, ticket, order_of(ticket), key=key, seen=seen, amount=Decimal("0.4"))
    assert RefundRequest.objects.count() == TicketRefund.objects.count() == 1


@pytest.mark.parametrize("turn", [False, True])
def test_the_form_of_a_request_sent_again_as_a_denial_is_no_denial(turn, ann, ticket):
    form = {"key": uuid4(), "seen": version(ticket)}
    refund(ann, ticket, order_of(ticket), deny=turn, **form)
    before = everything()

    with pytest.raises(KeyConflict):
        refund(ann, ticket, order_of(ticket), deny=not turn, **form)

    assert everything() == before


@pytest.mark.parametrize("deny", [False, True])
def test_the_form_of_a_refund_sent_again_with_other_words_is_a_conflict(deny, ann, ticket):
    form = {"key": uuid4(), "seen": version(ticket), "deny": deny}
    refund(ann, ticket, order_of(ticket), reply_body="We look at it.", **form)
    before = everything()

    for other in ("We looked at it.", ""):
        with pytest.raises(KeyConflict):
            refund(ann, ticket, order_of(ticket), reply_body=other, **form)

    assert everything() == before


def test_the_form_of_a_refund_sent_again_on_another_ticket_is_a_conflict(ann, ticket):
    form = {"key": uuid4(), "seen": version(ticket)}
    refund(ann, ticket, order_of(ticket), **form)
    other = ask(ticket.customer)

    with pytest.raises(cases.DecidedElsewhere):
        refund(ann, other, order_of(ticket), **form)


def test_another_customers_order_is_not_found(ann, ticket):
    theirs, before = delivered(), everything()
    with pytest.raises(OrderUnknown, match=f"no order {theirs.pk} of this customer"):
        refund(ann, ticket, theirs)
    assert everything() == before


# --- deciding ---


def test_an_approval_credits_and_tells_the_clause(clock, ann, bob, ticket):
    asked = asked_by(ann, ticket)

    decide(cases.approve, bob, ticket, asked, reply_body="Sorry for that!")

    assert world.balance(ticket.customer) == Decimal("9.5")
    assert RefundRequest.objects.get().state == "approved"
    assert said(ticket) == [
        (
            "reply",
            "Sorry for that!\n\n"
            f"0.50 USD for order {order_of(ticket).pk} have been credited to your wallet.\n"
            f"{REJECTED}",
        )
    ]
    [out] = Outbound.objects.all()
    assert (out.state, out.message.answers) == ("queued", ticket.messages.get(kind="customer"))
    ticket = fresh(ticket)
    assert (ticket.state, ticket.claimed_by, ticket.waiting_since) == ("resolved", None, MONDAY)
    deliver(out.message)
    assert fresh(ticket).waiting_since is None
    assert ticket.history.filter(history_user=bob).latest().history_change_reason == (
        f"Refund request {asked.pk}: Approved and credited: Looked at it"
    )


def test_a_denial_tells_the_clause_and_how_to_dispute_it(clock, ann, ticket):
    refund(ann, ticket, order_of(ticket), deny=True, reply_body="No.", then="resolved")
    assert said(ticket) == [
        (
            "reply",
            f"No.\n\nWe cannot refund order {order_of(ticket).pk}.\n{LOOKED_AT}\n"
            "If you disagree, reply to this thread with additional evidence: a senior agent who "
            "took no part in this decision will look at it.",
        )
    ]
    assert RefundRequest.objects.get().state == "denied"


def test_a_reason_is_for_us_and_never_for_the_customer(ann, bob, ticket):
    asked = asked_by(ann, ticket, reason="Known liar")
    decide(cases.deny, bob, ticket, asked, reason="Fraud ring", reply_body="No.")
    [(_, body)] = said(ticket)
    assert "liar" not in body
    assert "ring" not in body


def test_without_a_word_it_is_a_notice_which_answers_nobody(clock, ann, bob, ticket):
    asked = asked_by(ann, ticket)
    with pytest.raises(StillUnanswered, match="write one, or resolve the ticket without a reply"):
        decide(cases.approve, bob, ticket, asked, then="resolved")
    assert world.balance(ticket.customer) == 9

    decide(cases.approve, bob, ticket, asked, then="open")

    [(kind, body)] = said(ticket)
    assert (kind, body.splitlines()[1]) == ("notice", REJECTED)
    deliver(Message.objects.get(kind="notice"))
    assert fresh(ticket).waiting_since == MONDAY


def test_goodwill_is_told_as_what_it_is(ann):
    ticket = ask()
    asked = asked_by_new(ann, ticket, clause=Clause.ORDERED_WRONG)
    assert fresh(ticket).queue == "seniors"
    decide(cases.approve, senior(), ticket, asked, reply_body="This once")
    [(_, body)] = said(ticket)
    assert body.endswith(
        "Refund policy: “You ordered the wrong service or the wrong country.” The policy does not "
        "refund this; we have made an exception as goodwill."
    )
    assert world.balance(ticket.customer) == Decimal("9.5")


def asked_by_new(who, ticket, **fields):
    delivered(ticket.customer)
    return asked_by(who, ticket, **fields)


def test_against_the_verdict_without_a_reason_nothing_is_done(ann):
    ticket = ask()
    asked = asked_by_new(ann, ticket, clause=Clause.ORDERED_WRONG)
    before = everything()
    with pytest.raises(VerdictReasonMissing):
        decide(cases.approve, senior(), ticket, asked, reason="", reply_body="Yes")
    assert everything() == before


def test_nobody_approves_what_they_asked_for(ann, ticket):
    asked = refund(ann, ticket, order_of(ticket))
    before = everything()
    with pytest.raises(OwnRequest):
        decide(cases.approve, ann, ticket, asked, reply_body="Yes")
    assert everything() == before


def test_passing_it_on_writes_a_note_and_changes_the_queue(ann, ticket):
    asked = refund(ann, ticket, order_of(ticket))
    seen, key = version(ticket), str(uuid4())
    for _ in range(2):
        decide(cases.escalate, ann, ticket, asked, reason="Odd", seen=seen, key=key)
    assert said(ticket) == [("note", f"Refund request {asked.pk}: Passed to a senior agent: Odd")]
    assert (fresh(ticket).queue, fresh(ticket).state) == ("seniors", "open")
    assert RefundRequest.objects.get().state == "escalated"
    assert not Outbound.objects.exists()


def test_taking_it_back_writes_a_note_and_leaves_the_queue(ann, ticket):
    asked = refund(ann, ticket, order_of(ticket))
    decide(cases.escalate, ann, ticket, asked)
    decide(cases.withdraw, ann, ticket, asked, reason="")
    assert said(ticket)[-1] == ("note", f"Refund request {asked.pk}: Withdrew the request")
    assert (fresh(ticket).queue, RefundRequest.objects.get().state) == ("agents", "withdrawn")


# --- disputes ---


@pytest.mark.parametrize(
    ("verb", "state", "balance", "words"),
    [
        (cases.uphold, "upheld", "9", "has looked at your case again: order"),
        (cases.overturn, "overturned", "9.5", "decided for you: 0.50 USD for order"),
        (cases.dismiss, "dismissed", "9", "We have not taken your last message as a dispute"),
    ],
)
@pytest.mark.parametrize("typed", ["", "We looked again."])
def test_the_final_word_after_a_dispute_says_that_it_is_final(
    clock, verb, state, balance, words, typed
):
    ticket, asked = denied()
    deliver(Message.objects.get(kind="reply"))
    write(ticket, "Thanks")
    boss = senior()

    decide(verb, boss, ticket, asked, reply_body=typed)

    asked.refresh_from_db()
    assert (asked.state, asked.resolved_by) == (state, boss)
    assert world.balance(ticket.customer) == Decimal(balance)
    kind, body = said(ticket)[-1]
    assert kind == ("reply" if typed else "notice")
    assert body.startswith(typed)
    assert words in body
    assert (REJECTED if state == "overturned" else LOOKED_AT) in body
    assert body.endswith("\nThis decision is final.")
    ticket = fresh(ticket)
    assert (ticket.state, ticket.queue, ticket.dispute_since) == ("resolved", "agents", None)
    assert ticket.waits.get(clock="dispute").outcome == "decided"
    # and nothing leads on from there
    write(ticket)
    asked.refresh_from_db()
    assert asked.state == state


def test_who_took_part_does_not_resolve_the_dispute():
    boss = senior()
    ticket, asked = denied(boss)
    write(ticket)
    before = everything()
    with pytest.raises(OwnRequest):
        decide(cases.uphold, boss, ticket, asked, reply_body="Still no")
    assert everything() == before


def test_a_disputed_ticket_is_not_resolved_before_its_decision(ann):
    ticket, _ = denied()
    write(ticket)
    with pytest.raises(RefundUndecided, match="is disputed"):
        reply(ann, ticket, then="resolved")


# --- the wrong view, person, ticket ---

VERBS = (cases.approve, cases.deny, cases.escalate, cases.withdraw)
SENIORS_VERBS = (cases.uphold, cases.overturn, cases.dismiss)


@pytest.mark.parametrize("verb", VERBS + SENIORS_VERBS)
def test_a_decision_on_an_outdated_view_is_refused_and_says_what_happened(verb, ann, bob, ticket):
    asked = asked_by(ann, ticket)
    seen = version(ticket)
    replies.note(bob, ticket.pk, body="Careful", key="n")
    before = everything()
    with pytest.raises(Outdated, match=r"Meanwhile: bob: Wrote a note \(message \d+\)"):
        decide(verb, ann, ticket, asked, seen=seen)
    assert everything() == before


@pytest.mark.parametrize("verb", VERBS + SENIORS_VERBS)
def test_a_decision_needs_the_claim(verb, ann, bob, ticket):
    asked = refund(ann, ticket, order_of(ticket))
    casework.claim(ann, ticket.pk)
    before = everything()
    with pytest.raises(ClaimedByOther, match="ann is working on"):
        decide(verb, bob, ticket, asked)
    assert everything() == before


@pytest.mark.parametrize("verb", VERBS + SENIORS_VERBS)
def test_a_refund_of_another_ticket_is_not_decided_here(verb, ann, ticket):
    asked = asked_by(ann, ticket)
    other = ask(ticket.customer)
    before = everything()
    with pytest.raises(cases.DecidedElsewhere, match=f"is decided on ticket {ticket.pk}"):
        decide(verb, ann, other, asked)
    with pytest.raises(RequestUnknown):
        verb(ann, ticket.pk, 10**9, reason="x", seen=version(ticket), key="k")
    assert everything() == before


@pytest.mark.parametrize("verb", VERBS + SENIORS_VERBS)
@pytest.mark.parametrize("role", ["Finance", ""])
def test_only_who_answers_tickets_decides_on_them(verb, role, ann, ticket):
    from django.contrib.auth.models import User

    asked = asked_by(ann, ticket)
    by = person(role) if role else User.objects.create_user("outsider", is_staff=True)
    before = everything()
    with pytest.raises(PermissionDenied):
        decide(verb, by, ticket, asked)
    with pytest.raises(PermissionDenied):
        refund(by, ticket, order_of(ticket))
    assert everything() == before


@pytest.mark.parametrize("verb", SENIORS_VERBS)
def test_only_seniors_resolve_disputes(verb, bob):
    ticket, asked = denied()
    write(ticket)
    before = everything()
    with pytest.raises(PermissionDenied):
        decide(verb, bob, ticket, asked)
    assert everything() == before


def test_the_same_decision_sent_twice_is_one_and_with_other_words_a_conflict(ann, bob, ticket):
    asked = asked_by(ann, ticket)
    form = {"seen": version(ticket), "key": str(uuid4()), "reply_body": "Yes"}
    first = decide(cases.approve, bob, ticket, asked, **form)
    after = everything()
    assert decide(cases.approve, bob, ticket, asked, **form) == first
    for verb, other in ((cases.approve, {"reply_body": "No"}), (cases.deny, {})):
        with pytest.raises(KeyConflict):
            decide(verb, bob, ticket, asked, **{**form, **other})
    assert everything() == after


def test_what_is_decided_is_not_decided_again(ann, bob, ticket):
    asked = asked_by(ann, ticket)
    decide(cases.deny, bob, ticket, asked, reply_body="No")
    before = everything()
    with pytest.raises(AlreadyDecided, match="was denied by bob"):
        decide(cases.approve, agent(), ticket, asked, reply_body="Yes")
    assert everything() == before


# --- one transaction ---


class Died(Exception):
    """What a killed process leaves in the middle of a transaction."""


def dying(after: int):
    """Die at the statement number ``after`` that writes or reads anything."""
    left = [after]

    def wrapper(execute, sql, params, many, context):
        left[0] -= 1
        if left[0] < 0:
            raise Died
        return execute(sql, params, many, context)

    return wrapper


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["approve", "overturn", "deny at once", "reply"])
def test_whoever_dies_in_the_middle_leaves_nothing(kind):
    ann, bob = agent("ann"), agent("bob")
    if kind == "overturn":
        ticket, asked = denied(ann)
        write(ticket)
        by, act = senior(), cases.overturn
    else:
        ticket = ask()
        delivered(ticket.customer)
        by, act = bob, cases.approve
        asked = asked_by(ann, ticket) if kind == "approve" else None
    key = uuid4()

    def go():
        if kind == "reply":
            return reply(by, ticket, key=str(key))
        if asked is None:
            return refund(by, ticket, order_of(ticket), deny=True, reply_body="No", key=key)
        return decide(act, by, ticket, asked, reply_body="Here", key=str(key))

    before, statement = everything(), 0
    while True:
        try:
            with connection.execute_wrapper(dying(statement)):
                go()
            break
        except Died:
            assert everything() == before, statement
        statement += 1
    assert statement > 10  # it was let die at many places
    assert everything() != before


# --- at once ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_two_people_deciding_at_once_make_one_decision_and_the_other_is_told(turn):
    ticket = ask()
    delivered(ticket.customer)
    asked = asked_by(agent(), ticket)
    seen = version(ticket)
    people = {name: agent(f"{name}{ticket.pk}") for name in ("yes", "no")}
    done = at_once(
        lambda: decide(cases.approve, people["yes"], ticket, asked, seen=seen, reply_body="Yes"),
        lambda: decide(cases.deny, people["no"], ticket, asked, seen=seen, reply_body="No"),
    )
    [made] = [one for one in done if isinstance(one, RefundRequest)]
    [refusal] = [one for one in done if isinstance(one, Outdated)]
    assert f"{made.decided_by}: Refund request {asked.pk}: " in refusal.message
    assert ("Approved and credited" in refusal.message) == (made.state == "approved")
    assert ticket.messages.filter(kind="reply").count() == 1
    assert world.balance(ticket.customer) == (
        Decimal("9.5") if made.state == "approved" else Decimal(9)
    )


@pytest.mark.django_db(transaction=True)
def test_a_double_click_is_one_reply_and_one_decision():
    ann, bob = agent("ann"), agent("bob")
    ticket = ask()
    delivered(ticket.customer)
    seen, key = version(ticket), str(uuid4())
    made = at_once(*(lambda: reply(ann, ticket, seen=seen, key=key) for _ in range(4)))
    assert len({message.pk for message in made}) == 1

    asked = asked_by(ann, ticket)
    form = {"seen": version(ticket), "key": str(uuid4()), "reply_body": "Yes"}
    done = at_once(*(lambda: decide(cases.approve, bob, ticket, asked, **form) for _ in range(4)))
    assert {one.pk for one in done} == {asked.pk}
    assert (Message.objects.filter(kind="reply").count(), Refund.objects.count()) == (2, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(3))
def test_a_reply_and_a_resolve_at_once(turn):
    """The customer writes while an agent resolves: never resolved with the message unanswered."""
    ann = agent("ann")
    ticket = ask()
    deliver(reply(ann, ticket, then="open"))
    seen = version(ticket)
    wrote, done = at_once(
        lambda: write(ticket), lambda: casework.resolve(ann, ticket.pk, seen=seen)
    )
    assert isinstance(wrote, Message)
    assert isinstance(done, (Ticket, Outdated))
    assert (fresh(ticket).state, fresh(ticket).waiting_since) == ("open", wrote.created_at)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", range(4))
def test_a_message_and_a_denial_at_once(turn):
    """The message was before the denial and is none, or after it and disputes it."""
    ann = agent()
    ticket = ask()
    order = delivered(ticket.customer)
    seen = version(ticket)
    wrote, done = at_once(
        lambda: write(ticket),
        lambda: refund(ann, ticket, order, deny=True, reply_body="No", seen=seen),
    )
    if isinstance(done, Outdated):
        assert "The customer wrote" in done.message
        assert not RefundRequest.objects.filter(order=order).exists()
    else:
        assert RefundRequest.objects.get(order=order).state == "disputed"
        assert wrote.disputes.count() == 1
        assert fresh(ticket).queue == "seniors"


@pytest.mark.django_db(transaction=True)
def test_two_messages_after_a_denial_at_once_are_one_dispute():
    ticket, _ = denied()
    wrote = at_once(*(lambda: write(ticket) for _ in range(4)))
    assert sum(message.disputes.count() for message in wrote) == 1
    assert ticket.waits.filter(clock="dispute").count() == 1
    assert RefundRequest.objects.get().state == "disputed"


@pytest.mark.django_db(transaction=True)
def test_two_seniors_resolving_at_once_are_one_decision():
    ticket, asked = denied()
    write(ticket)
    seen = version(ticket)
    done = at_once(
        lambda: decide(cases.overturn, senior(), ticket, asked, seen=seen, reply_body="Yes"),
        lambda: decide(cases.uphold, senior(), ticket, asked, seen=seen, reply_body="No"),
    )
    assert sorted(type(one).__name__ for one in done) == ["Outdated", "RefundRequest"]
    assert Refund.objects.count() == (RefundRequest.objects.get().state == "overturned")


def test_a_bounced_outcome_is_seen_and_the_decision_stands(clock, ann, bob, ticket):
    from support.tests.world import bounce

    asked = asked_by(ann, ticket)
    decide(cases.approve, bob, ticket, asked, reply_body="Yes")
    message = Message.objects.get(kind="reply")
    deliver(message)
    clock.shift(timedelta(hours=1))
    bounce(message)
    assert (fresh(ticket).state, fresh(ticket).waiting_since) == ("open", MONDAY)
    assert RefundRequest.objects.get().state == "approved"
