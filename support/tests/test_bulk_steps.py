"""One step on many tickets: what would be done is shown first, and what became of each after."""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world as shop
from smsactivator.common.links import admin_url
from support import bulk, cases, casework
from support.models import Message, Outbound, Ticket
from support.tests.world import (
    agent,
    ask,
    decide,
    delivered,
    denied,
    fresh,
    refund,
    senior,
    version,
    write,
)
from wallet.models import RoleLimit, Transfer
from wallet.tests.world import person

pytestmark = pytest.mark.django_db
LIST = "support_ticket_changelist"


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def bob():
    return agent("bob")


@pytest.fixture
def sonia():
    return senior("sonia")


def client_of(user: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def requested(by: Any, amount: str = "0.5", price: str = "1", **fields: Any) -> Ticket:
    """A ticket with a refund that waits, worked on by nobody."""
    ticket = ask(shop.customer(str(int(price) + 10)))
    refund(by, ticket, delivered(ticket.customer, price), amount=Decimal(amount), **fields)
    casework.release(by, ticket.pk)
    return fresh(ticket)


def request_of(ticket: Ticket) -> RefundRequest:
    return RefundRequest.objects.filter(case__ticket=ticket).latest("pk")


def step_url(name: str, *tickets: Ticket) -> str:
    return admin_url("support_ticket_bulk", name, ids=",".join(str(one.pk) for one in tickets))


def shown(response: Any) -> str:
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", response.content.decode(), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def rows(response: Any, heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    content = response.content.decode()
    if heading not in content:
        return []
    body = content.split(heading)[1].split("<tbody>")[1].split("</tbody>")[0]
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr>.*?</tr>", body, re.S)
    ]


def form(response: Any) -> dict[str, Any]:
    """What the form of a plan sends."""
    content = response.content.decode()
    key = re.search(r'name="key" value="([^"]+)"', content)
    assert key is not None
    return {
        "key": key[1],
        "row": re.findall(r'name="row" value="([^"]+)"', content),
        "reason": "As the upstream told",
        "body": "We have looked at it.",
    }


def plan(user: Any, name: str, *tickets: Ticket) -> Any:
    response = client_of(user).get(step_url(name, *tickets))
    assert response.status_code == 200
    return response


def carry_out(user: Any, name: str, typed: dict[str, Any]) -> Any:
    return client_of(user).post(admin_url("support_ticket_bulk", name), typed)


def outcome(response: Any) -> list[list[str]]:
    assert response.status_code == 200
    return rows(response, 'id="results"')


def books() -> list[Any]:
    tables = (Ticket, Message, Outbound, RefundRequest, Refund, Transfer)
    return [list(model.objects.order_by("pk").values()) for model in tables]


def credited(ticket: Ticket) -> Decimal:
    found = Refund.objects.filter(order__customer=ticket.customer_id)
    return sum((one.amount for one in found), Decimal(0))


# --- the plan -------------------------------------------------------------------------------------


def test_the_list_leads_to_the_plan_and_changes_nothing(ann, bob):
    first, second = requested(ann), requested(ann)
    before = books()

    response = client_of(bob).post(
        admin_url(LIST, queue="todo"),
        {"action": "approve", "_selected_action": [second.pk, first.pk], "index": "0"},
    )

    plan_url = step_url("approve", first, second).replace(",", "%2C")
    assert (response.status_code, response.url) == (302, plan_url)
    assert books() == before


def test_all_that_the_list_found_is_chosen_when_asked(ann, bob):
    tickets = [requested(ann) for _ in range(3)]
    casework.assign(bob, ask().pk, bob.pk)

    response = client_of(bob).post(
        admin_url(LIST, queue="mine", assignee__id__exact=ann.pk),
        {
            "action": "approve",
            "_selected_action": [tickets[0].pk],
            "select_across": "1",
            "index": "0",
        },
    )

    assert response.status_code == 302
    assert response.url == admin_url("support_ticket_bulk", "approve", ids="")


def test_the_plan_says_what_would_be_moved_and_what_is_left_out_and_why(ann, bob, sonia):
    good, dear = requested(ann, "0.5"), requested(ann, "4.25", "5")
    own = requested(bob)
    for_seniors = requested(ann, "11", "12")
    goodwill = requested(ann, clause=Clause.BANNED_LATER)
    nothing = ask()
    held = requested(ann)
    casework.claim(sonia, held.pk)
    several = requested(ann)
    refund(ann, several, delivered(several.customer))
    casework.release(ann, several.pk)
    disputed, _ = denied(ann)
    write(disputed)
    everything = (good, dear, own, for_seniors, goodwill, nothing, held, several, disputed)
    before = books()

    response = plan(bob, "approve", *everything)

    assert "2 tickets, 4.7500 USD in all; 7 left out" in shown(response)
    subject = "Code refused"
    assert rows(response, "Will be done") == [
        [f"Ticket {good.pk}: {subject}", good.customer.external_id, "0.5000"],
        [f"Ticket {dear.pk}: {subject}", dear.customer.external_id, "4.2500"],
    ]
    assert rows(response, "Left out</h2>") == [
        [f"Ticket {own.pk}: {subject}", "You requested it yourself."],
        [f"Ticket {for_seniors.pk}: {subject}", "It waits for a senior agent."],
        [f"Ticket {goodwill.pk}: {subject}", "It waits for a senior agent."],
        [f"Ticket {nothing.pk}: {subject}", "No refund waits for a decision here."],
        [f"Ticket {held.pk}: {subject}", "sonia is working on it."],
        [f"Ticket {several.pk}: {subject}", "2 refunds wait here: decide them on its own page."],
        [f"Ticket {disputed.pk}: {subject}", "No refund waits for a decision here."],
    ]
    assert form(response)["row"] == [
        f"{good.pk}:{good.version}:{request_of(good).pk}",
        f"{dear.pk}:{dear.version}:{request_of(dear).pk}",
    ]
    assert books() == before
    # A senior takes what waits for one, but grants goodwill on the ticket's own page only.
    left = rows(plan(sonia, "approve", for_seniors, goodwill), "Left out</h2>")
    assert left == [
        [
            f"Ticket {goodwill.pk}: {subject}",
            "It can be granted as goodwill only: decide it on its own page.",
        ]
    ]


def test_the_plan_of_taking_leaves_out_what_is_others_or_done(ann, bob, sonia):
    free, own, others, done = ask(), ask(), ask(), ask()
    casework.assign(ann, own.pk, ann.pk)
    casework.assign(bob, others.pk, bob.pk)
    casework.resolve_without_reply(bob, done.pk, seen=version(done), reason="Spam")

    response = plan(ann, "take", free, own, others, done)

    assert [row[0] for row in rows(response, "Will be done")] == [f"Ticket {free.pk}: Code refused"]
    assert [row[1] for row in rows(response, "Left out</h2>")] == [
        "It is yours already.",
        "It is assigned to bob.",
        "It is resolved.",
    ]
    assert "USD in all" not in shown(response)
    # A senior may take it from its assignee.
    assert len(rows(plan(sonia, "take", free, own, others), "Will be done")) == 3


def test_names_on_the_plan_are_shown_as_text(bob):
    ticket = ask(subject="<b>bold</b>")
    content = plan(bob, "take", ticket).content.decode()
    assert "<b>bold" not in content
    assert "&lt;b&gt;bold" in content


# --- the step -------------------------------------------------------------------------------------


def test_each_ticket_is_decided_and_reported(ann, bob):
    first, second = requested(ann, "0.5"), requested(ann, "0.25")
    out = requested(bob)
    typed = form(plan(bob, "approve", first, second, out))

    response = carry_out(bob, "approve", typed)

    assert outcome(response) == [
        [f"Ticket {first.pk}", "0.5000", "Done"],
        [f"Ticket {second.pk}", "0.2500", "Done"],
    ]
    assert "2 of 2 done 0.7500 USD moved." in shown(response)
    for ticket, amount in ((first, "0.5"), (second, "0.25")):
        asked = request_of(ticket)
        assert (asked.state, asked.decided_by, asked.decision_reason) == (
            "approved",
            bob,
            "As the upstream told",
        )
        assert credited(ticket) == Decimal(amount)
        message = ticket.messages.latest("pk")
        assert message.kind == "reply"
        assert message.body.startswith("We have looked at it.\n\n0.")
        assert [one.state for one in message.deliveries.all()] == ["queued"]
        assert fresh(ticket).state == "resolved"
    assert request_of(out).state == "requested"


def test_without_a_word_to_a_customer_who_waits_nothing_is_done(ann, bob):
    ticket = requested(ann)
    typed = form(plan(bob, "approve", ticket)) | {"body": ""}
    before = books()

    response = carry_out(bob, "approve", typed)

    [[_, amount, words]] = outcome(response)
    assert amount == "0.0000"
    assert words.startswith("Left as it was: The customer waits for an answer")
    assert books() == before


def test_denials_and_taking_move_nothing(ann, bob):
    first, second = requested(ann), requested(ann)
    response = carry_out(bob, "deny", form(plan(bob, "deny", first, second)))
    assert outcome(response) == [[f"Ticket {one.pk}", "Done"] for one in (first, second)]
    assert [request_of(one).state for one in (first, second)] == ["denied", "denied"]
    assert Refund.objects.count() == 0

    free = ask()
    response = carry_out(bob, "take", form(plan(bob, "take", free)))
    assert outcome(response) == [[f"Ticket {free.pk}", "Done"]]
    assert (fresh(free).assignee, fresh(free).messages.count()) == (bob, 1)


@pytest.mark.parametrize("name", ["approve", "take"])
def test_what_changed_since_the_plan_is_refused_and_the_others_are_done(ann, bob, name):
    make = (lambda: requested(ann)) if name == "approve" else ask
    tickets = [make() for _ in range(3)]
    typed = form(plan(bob, name, *tickets))
    write(tickets[1], "One more thing")

    response = carry_out(bob, name, typed)

    words = [row[-1] for row in outcome(response)]
    assert (words[0], words[2]) == ("Done", "Done")
    assert words[1].startswith("Left as it was: ")
    assert "The customer wrote (message" in words[1]
    if name == "approve":
        assert [credited(ticket) for ticket in tickets] == [Decimal("0.5"), 0, Decimal("0.5")]
        assert "2 of 3 done 1.0000 USD moved." in shown(response)
    else:
        assert [fresh(ticket).assignee for ticket in tickets] == [bob, None, bob]


def test_what_somebody_decided_meanwhile_is_said(ann, bob, sonia):
    ticket, other = requested(ann), requested(ann)
    typed = form(plan(bob, "approve", ticket, other))
    decide(cases.approve, sonia, ticket, request_of(ticket), reply_body="Here", then="resolved")

    response = carry_out(bob, "approve", typed)

    assert [row[1:] for row in outcome(response)] == [
        ["0.0000", "Left as it was: No refund waits for a decision here."],
        ["0.5000", "Done"],
    ]
    assert credited(ticket) == Decimal("0.5")


def test_sent_twice_it_is_done_once_and_told_again(ann, bob):
    first, second = requested(ann), requested(ann)
    typed = form(plan(bob, "approve", first, second))
    told = outcome(carry_out(bob, "approve", typed))
    before = books()

    again = carry_out(bob, "approve", typed)

    assert outcome(again) == told
    assert books() == before


def test_the_day_s_limit_is_reached_in_the_middle(ann, bob):
    RoleLimit.objects.filter(role__name="Support agent", decision="decided_refund").update(
        each=Decimal("2.5"), daily=Decimal("2.5")
    )
    tickets = [requested(ann, "1") for _ in range(4)]
    typed = form(plan(bob, "approve", *tickets))

    response = carry_out(bob, "approve", typed)

    words = [row[-1] for row in outcome(response)]
    assert words[:2] == ["Done", "Done"]
    assert words[2] == words[3]
    assert words[2].startswith("Left as it was: ")
    assert "2.5" in words[2]
    assert [request_of(one).state for one in tickets] == [
        *("approved", "approved"),
        *("requested", "requested"),
    ]
    assert [fresh(one).state for one in tickets] == ["resolved", "resolved", "open", "open"]
    assert "2 of 4 done 2.0000 USD moved." in shown(response)


def test_a_row_that_nobody_may_take_does_not_hide_what_became_of_the_others(ann, bob):
    first, second, third = ask(), ask(), ask()
    seen = {one.pk: (one.version, 0) for one in (first, second, third)}
    casework.assign(bob, second.pk, bob.pk)

    results = bulk.carry_out(ann, bulk.STEPS["take"], seen, words=bulk.Words(), key=uuid4())

    assert [(one.ticket_id, one.refused) for one in results] == [
        (first.pk, ""),
        (second.pk, "It is assigned to bob."),
        (third.pk, ""),
    ]


@pytest.mark.parametrize(
    "typed", [{"reason": " "}, {"key": "x"}, {"body": "Dear {{name}}"}, {"reason": "x" * 2001}]
)
def test_a_form_that_is_not_complete_comes_back_with_what_was_typed(ann, bob, typed):
    ticket = requested(ann)
    sent = form(plan(bob, "approve", ticket)) | typed
    before = books()

    response = carry_out(bob, "approve", sent)

    assert response.status_code == 422
    assert html.escape(sent["body"]) in response.content.decode()
    assert f'name="row" value="{sent["row"][0]}"' in response.content.decode()
    assert books() == before


# --- who may, and what is no request --------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(bulk.STEPS))
def test_looking_and_forged_posts_change_nothing(ann, bob, name):
    # One that nobody has can be taken; with a request it is the one's who asked.
    ticket = ask() if name == "take" else requested(ann)
    typed = form(plan(bob, name, ticket))
    before = books()

    url = admin_url("support_ticket_bulk", name)
    assert client_of(bob).get(url, {**typed, "ids": ticket.pk}).status_code == 200
    assert client_of(bob, enforce_csrf_checks=True).post(url, typed).status_code == 403
    finance = client_of(person("Finance"))
    assert finance.get(step_url(name, ticket)).status_code == 403
    assert finance.post(url, typed).status_code == 403
    assert Client().post(url, typed).status_code == 302
    assert books() == before


def test_the_verb_asks_for_the_permission_too(ann):
    ticket = requested(ann)
    finance = person("Finance")
    for step in bulk.STEPS.values():
        with pytest.raises(PermissionDenied):
            bulk.plan(finance, step, [ticket.pk])
        with pytest.raises(PermissionDenied):
            bulk.carry_out(finance, step, {ticket.pk: (1, 0)}, words=bulk.Words("x"), key=uuid4())


@pytest.mark.parametrize("ids", ["x", "1,", ",", "1,,2", "-1", "1;2", "9" * 19, "٣", "1\x00", "1 "])
def test_odd_tickets_are_not_understood(bob, ids):
    client = client_of(bob)
    assert client.get(admin_url("support_ticket_bulk", "take", ids=ids)).status_code == 400
    url = admin_url("support_ticket_bulk", "take")
    for row in (ids, f"{ids}:1:0", f"1:{ids}:0", "1:1", "1", ""):
        sent = {"key": str(uuid4()), "row": [row]}
        assert client.post(url, sent).status_code == 400, row
    assert client.post(url, {"key": str(uuid4())}).status_code == 400
    chosen = {"action": "take", "_selected_action": [ids], "index": "0"}
    assert client.post(admin_url(LIST), chosen).status_code == 400


def test_a_step_that_there_is_not_is_not_found(bob):
    assert client_of(bob).get(admin_url("support_ticket_bulk", "close")).status_code == 404


def test_no_tickets_are_an_empty_plan(bob):
    response = plan(bob, "take")
    assert "0 tickets" in shown(response)
    assert '<button class="button">' not in response.content.decode()


def test_more_than_can_be_done_at_once_is_said(bob):
    client = client_of(bob)
    ids = ",".join(str(number) for number in range(1, 202))
    words = "Choose at most 200 tickets at once."

    asked = client.get(admin_url("support_ticket_bulk", "take", ids=ids))
    sent = client.post(
        admin_url("support_ticket_bulk", "take"),
        {"key": str(uuid4()), "row": [f"{number}:1:0" for number in range(1, 202)]},
    )

    for response in (asked, sent):
        assert response.status_code == 422
        assert words in shown(response)


def test_a_plan_takes_as_many_queries_whatever_is_in_it(ann, bob):
    def queries(*tickets: Ticket) -> int:
        with CaptureQueriesContext(connection) as made:
            bulk.plan(bob, bulk.STEPS["approve"], [ticket.pk for ticket in tickets])
        return len(made)

    one, more = requested(ann), [requested(ann) for _ in range(5)]
    queries(one)  # reads bob's permissions
    assert queries(one) == queries(one, *more, ask()) == 2
