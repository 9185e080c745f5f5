"""The page of a case: all that a decision needs is on it, and each button does exactly its verb."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orders.delivery import Arrival, record_sms
from orders.models import Order
from orders.upstreams.base import Message as UpstreamSms
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world as shop
from smsactivator.common.files import Upload
from smsactivator.common.links import admin_url
from support import cases, casework
from support.admin.casepage import ACTS
from support.models import Message, Outbound, Ticket, TicketOrder, Viewing
from support.tests.world import (
    MONDAY,
    agent,
    ask,
    decide,
    delivered,
    denied,
    fresh,
    refund,
    reply,
    senior,
    version,
    write,
)
from wallet import corrections
from wallet.models import Transfer, Wallet
from wallet.tests.together import at_once
from wallet.tests.world import person

TICKET_TABLES = (Ticket, Message, Outbound, RefundRequest, Refund, Transfer, TicketOrder)


def client_of(user: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def page(user: Any, ticket: Ticket) -> str:
    response = client_of(user).get(admin_url("support_ticket_change", ticket.pk))
    assert response.status_code == 200
    return response.content.decode()


def text(content: str) -> str:
    """What a person reads of a page."""
    bare = re.sub(r"<(script|style|select)\b.*?</\1>", " ", content, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


def buttons(content: str) -> list[str]:
    """The acts that the page offers, in its order."""
    return re.findall(r'name="act" value="(\w+)"', content)


def panel(content: str, ident: str) -> str:
    begins = rf'<section class="panel[^"]*" id="{ident}">'
    found = re.search(rf"{begins}.*?</section>", content, re.DOTALL)
    assert found, ident
    return found[0]


def post(user: Any, ticket: Ticket, act: str, **typed: Any) -> Any:
    fields = {"seen": version(ticket), "key": str(uuid4()), "then": "waiting", **typed}
    return client_of(user).post(admin_url("support_ticket_case", ticket.pk), {"act": act, **fields})


def done(response: Any, ticket: Ticket) -> bool:
    return (response.status_code, response.headers.get("Location")) == (
        302,
        admin_url("support_ticket_change", ticket.pk),
    )


def said(response: Any) -> list[str]:
    """What the next page tells of an act."""
    return [str(message) for message in response.wsgi_request._messages]


def books() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in TICKET_TABLES]


def balance(ticket: Ticket) -> Decimal:
    return Wallet.objects.get(pk=ticket.customer_id).balance


def last(ticket: Ticket) -> Message:
    return ticket.messages.latest("pk")


def refusals(response: Any) -> list[str]:
    content = response.content.decode()
    return [html.unescape(one) for one in re.findall(r'class="refusal"[^>]*>(.*?)</p>', content)]


@pytest.fixture
def clock():
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ann(db):
    return agent("ann")


@pytest.fixture
def bob(db):
    return agent("bob")


@pytest.fixture
def sonia(db):
    return senior("sonia")


@pytest.fixture
def sam(db):
    return senior("sam")


def about(order: Order, **fields: Any) -> Ticket:
    return ask(order.customer, order_ids=[order.pk], **fields)


# --- what is on it --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_everything_that_a_decision_needs_is_on_one_page(clock, ann, bob, sonia):
    customer = shop.customer("20")
    earlier = delivered(customer)
    old = ask(customer, order_ids=[earlier.pk], subject="The first one")
    cases.deny(
        bob,
        old.pk,
        refund(bob, old, earlier, amount=Decimal(1)).pk,
        reason="Worked for others",
        reply_body="No",
        seen=version(old),
        key="deny",
    )
    clock.shift(timedelta(hours=1))
    order = shop.allocated(shop.place(customer, shop.offer("2")))
    clock.shift(timedelta(seconds=90))
    record_sms({order.pk: [Arrival(UpstreamSms("482915", "Dear Ann, your code is 482915"))]})
    order.refresh_from_db()
    clock.shift(timedelta(seconds=30))
    ticket = about(order, subject="Code refused", body="Telegram says it is wrong")
    reply(bob, ticket, "Which message do you see?")
    assert "An SMS arrived in time and nothing else was reported." in text(page(sonia, ticket))
    refund(ann, ticket, order, amount=Decimal("1.5"))

    content = page(sonia, ticket)
    read = text(content)

    # The thread, the oldest first, each message with who and when and whether it arrived.
    thread = text(content.split('id="thread"')[1].split("</ol>")[0])
    assert re.search(
        r"Customer API key sf_1234567… of Shop 2026-06-01 11:02:00 Telegram says it is wrong "
        r"Reply bob 2026-06-01 11:02:00 Queued Which message do you see\?",
        thread,
    )
    # The order: its state, its times, its side at the upstream.
    for words in (
        f"Order {order.pk}",
        "SMS received",
        "Price, USD 2.0000",
        "Left to refund, USD 2.0000",
        f"Upstream sim, reference {order.upstream_ref}",
        "Phone +79001234567",
        "06-01 11:00:00 Placed 06-01 11:00:00 Number being bought",
        "06-01 11:00:00 Number handed out",
        "06-01 11:01:30 SMS arrived",
    ):
        assert words in read, words
    # The SMS, masked.
    assert "482915" not in content
    assert "06-01 11:01:30 ••••••15 Dear Ann, your code is ••••••15" in read
    # The verdict of the policy that was in force on what was reported, and the request's terms.
    assert "By the policy (2026-05-07)" in read
    assert "An SMS arrived in time. Not known, but claimed by ann: the service rejected it." in read
    asked = RefundRequest.objects.latest("pk")
    terms = text(panel(content, f"decide-{asked.pk}"))
    assert f"ann asked for 1.5000 USD of Order {order.pk} under “" in terms
    assert "Region block" in terms
    # Money: the wallet's lines with their causes, what went back.
    assert "Wallet" in read
    assert "17.0000 USD" in read
    assert re.search(rf"Purchase Order {order.pk} \S2\.0000", read)
    # Earlier refunds, disputes and tickets.
    assert f"Of order {earlier.pk}, ticket {old.pk}" in read
    assert "Denied" in read
    assert "The first one" in read
    assert buttons(panel(content, f"decide-{asked.pk}")) == ["approve", "deny", "escalate"]


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["Support agent", "Senior agent"])
def test_sms_are_masked_on_it_whoever_looks(role):
    order = shop.allocated(shop.place(shop.customer(), shop.offer("1")))
    record_sms({order.pk: [Arrival(UpstreamSms("482915", "Your code is 482915"))]})
    ticket = about(order)

    content = page(person(role), ticket)

    assert "482915" not in content
    offered = admin_url("orders_order_read_sms", order.pk) in content
    assert offered == (role == "Senior agent")


@pytest.mark.django_db
def test_the_clauses_say_what_the_policy_says_of_each(ann):
    order = delivered()
    content = panel(page(ann, about(order)), "refund")

    groups = {
        label: re.findall(r'<option value="([\w.]+)"[^>]*>(.*?)</option>', options, re.S)
        for label, options in re.findall(r'<optgroup label="(.*?)">(.*?)</optgroup>', content, re.S)
    }

    assert {name: len(found) for name, found in groups.items()} == {
        "Refunded by ticket": 3,
        "Not refunded": 4,
    }
    assert dict(groups["Refunded by ticket"])[Clause.SERVICE_REJECTED].endswith("for you to judge")
    assert dict(groups["Not refunded"])[Clause.ORDERED_WRONG].endswith("as goodwill at most")
    assert f"Suggested: 1.0000 for order {order.pk}" in text(content)
    assert buttons(content) == ["request", "refuse"]


@pytest.mark.django_db
def test_of_a_rental_the_time_that_was_lost_is_suggested(clock, ann):
    order = shop.rental("2")
    clock.shift(timedelta(hours=1))
    ticket = about(order)
    clock.shift(timedelta(hours=2))

    content = panel(page(ann, ticket), "refund")

    # Three of four hours were lost when the customer wrote, however late we look.
    assert f"Suggested: 1.5000 for order {order.pk}" in text(content)
    assert re.search(r'name="amount" value="1.5000"', content)


@pytest.mark.django_db
def test_a_rental_that_refunds_itself_is_not_offered(clock, ann):
    order = shop.rental("2")
    Order.objects.filter(pk=order.pk).update(broken_at=timezone.now(), broken_signal="gone")

    content = page(ann, about(order))

    assert 'id="refund"' not in content
    assert "Left to refund, USD 0.0000" in text(content)
    Order.objects.filter(pk=order.pk).update(broken_at=None, broken_signal="")


@pytest.mark.django_db
def test_names_and_texts_are_shown_as_text(ann):
    evil = "<script>alert(1)</script>"
    customer = shop.customer()
    file = Upload('<img src=x onerror=alert(1)>.png"', b"<svg onload=alert(1)>")
    ticket = ask(customer, subject=evil, body=evil, files=[file])
    reply(ann, ticket, evil)

    content = page(ann, ticket)

    assert evil not in content
    assert content.count(html.escape(evil)) >= 3
    assert "<img src=x" not in content
    assert html.escape(file.name.replace("/", "")) in content
    assert "image/svg+xml" in content


@pytest.mark.django_db
def test_a_file_that_another_customer_sent_too_is_flagged(ann):
    same = Upload("proof.txt", b"The same words")
    ticket = ask(files=[same])
    assert "The same file" not in page(ann, ticket)

    other = ask(files=[same])
    ask(other.customer, files=[Upload("own.txt", b"Of their own")])

    assert page(ann, ticket).count("The same file is on another customer's ticket") == 1
    assert page(ann, other).count("The same file is on another customer's ticket") == 1


@pytest.mark.django_db
def test_what_went_to_the_customer_counts_refunds_and_goodwill_apart(ann, sonia, sam):
    order, wrong = delivered(price="2"), delivered(price="3")
    ticket = about(order)
    theirs = ask(order.customer)
    granted = "USD of refunds and {} USD of goodwill went to this customer in all."
    assert f"0.0000 {granted.format('0.0000')}" in text(page(ann, ticket))

    # a refund of an order, goodwill for another customer, and goodwill that stands for a refund
    asked = refund(ann, ticket, order, amount=Decimal("1.5"))
    decide(cases.approve, sonia, ticket, asked, then="open")
    wrongs = ask(wrong.customer)
    exception = refund(ann, wrongs, wrong, clause=Clause.ORDERED_WRONG, amount=Decimal(3))
    decide(cases.approve, sonia, wrongs, exception, reason="New here", then="open")
    assert f"0.0000 {granted.format('3.0000')}" in text(page(ann, wrongs))
    # and goodwill of a person's own, of which one is reversed and one only asked for
    for amount_ in ("0.25", "0.75"):
        given = corrections.request_goodwill(
            ann, order.customer_id, amount=Decimal(amount_), reason="Sorry", key=uuid4()
        )
        given = corrections.confirm(sonia, given.pk)
    corrections.request_goodwill(
        ann, order.customer_id, amount=Decimal(4), reason="Sorry", key=uuid4()
    )
    finance = person("Finance")
    undone = corrections.request_reversal(
        finance, given.transfer_id, reason="Not theirs", key=uuid4()
    )
    assert f"1.5000 {granted.format('1.0000')}" in text(page(ann, theirs))
    corrections.confirm(sam, undone.pk)

    assert f"1.5000 {granted.format('0.2500')}" in text(page(ann, theirs))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("act", "place"),
    [("reply", "reply"), ("waive", "reply"), ("refuse", "refund"), ("claim", "")],
)
def test_a_refusal_is_said_once_and_where_it_was_sent(ann, bob, act, place):
    order = delivered()
    ticket = about(order)
    casework.claim(ann, ticket.pk)

    response = post(bob, ticket, act, **terms(order, body="My words"))

    assert response.status_code == 409
    [words] = refusals(response)
    content = html.unescape(response.content.decode())
    assert content.count(words) == 1
    if place:
        assert words in html.unescape(panel(response.content.decode(), place))


@pytest.mark.django_db
def test_it_reads_as_many_rows_with_as_many_queries(ann, sonia):
    def queries(ticket: Ticket) -> int:
        client = client_of(sonia)
        url = admin_url("support_ticket_change", ticket.pk)
        client.get(url)
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert client.get(url).status_code == 200
        return len(found)

    small = about(delivered(), files=[Upload("proof.txt", b"Of their own")])
    refund(ann, small, small.orders.get())
    large = ask(shop.customer("100"))
    for number in range(30):
        write(large, files=[Upload(f"{number}.txt", b"%d" % number)])
    orders = [delivered(large.customer) for _ in range(20)]
    casework.link_orders(ann, large.pk, [order.pk for order in orders[:5]])
    for number, order in enumerate(orders):
        refund(ann, large, order, deny=number > 2, then="open", reply_body="No")
    for _ in range(3):
        ask(large.customer, order_ids=[orders[0].pk])

    assert queries(large) == queries(small)


@pytest.mark.django_db
def test_a_refund_that_waits_is_never_the_one_that_does_not_fit(ann, bob):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    elsewhere = ask(ticket.customer)
    for _ in range(21):
        order = delivered(ticket.customer, "0.2")
        refund(ann, elsewhere, order, deny=True, then="open", amount=Decimal("0.1"))

    assert "approve" in buttons(panel(page(bob, ticket), f"decide-{asked.pk}"))


@pytest.mark.django_db
def test_each_of_several_refunds_has_a_form_of_its_own(ann, bob):
    customer = shop.customer("40")
    small, large = delivered(customer), delivered(customer, "30")
    ticket = ask(customer, order_ids=[small.pk, large.pk])
    first = refund(ann, ticket, small)
    second = refund(ann, ticket, large, amount=Decimal(30))
    assert second.state == "escalated"
    casework.release(ann, ticket.pk)

    content = page(bob, ticket)

    assert buttons(panel(content, f"decide-{first.pk}")) == ["approve", "deny", "escalate"]
    assert buttons(panel(content, f"decide-{second.pk}")) == []
    assert "It waits for a senior agent." in text(panel(content, f"decide-{second.pk}"))
    # What is left to be decided keeps the ticket open, and the form says so.
    assert '<option value="open" selected>' in panel(content, f"decide-{first.pk}")
    response = post(bob, ticket, "approve", request=first.pk, body="Here", then="open")
    assert done(response, ticket)
    assert (first.__class__.objects.get(pk=first.pk).state, fresh(ticket).state) == (
        "approved",
        "open",
    )


# --- who sees which buttons -----------------------------------------------------------------------

CLAIM, REPLY = ["claim", "assign"], ["reply", "note", "waive"]
REFUND = ["request", "refuse"]


@pytest.mark.django_db
def test_buttons_of_a_request_are_those_of_the_person(ann, bob, sonia):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.release(ann, ticket.pk)

    def offered(user: Any) -> list[str]:
        return buttons(panel(page(user, ticket), f"decide-{asked.pk}"))

    assert offered(ann) == ["withdraw", "deny", "escalate"]
    assert offered(bob) == ["approve", "deny", "escalate"]
    assert offered(sonia) == ["approve", "deny", "escalate"]

    decide(cases.escalate, ann, ticket, asked)

    assert offered(ann) == ["withdraw"]
    assert offered(bob) == []
    assert offered(sonia) == ["approve", "deny"]


@pytest.mark.django_db
def test_buttons_of_a_dispute_are_for_a_senior_who_took_no_part(ann, sonia, sam):
    ticket, asked = denied(sonia)
    write(ticket, "Look at my screenshot")

    def offered(user: Any) -> tuple[list[str], str]:
        found = panel(page(user, ticket), f"decide-{asked.pk}")
        return buttons(found), text(found)

    assert offered(ann)[0] == []
    assert "A senior agent decides disputes." in offered(ann)[1]
    assert offered(sonia)[0] == []
    assert "You took part in the denial, so another senior agent decides." in offered(sonia)[1]
    assert offered(sam)[0] == ["overturn", "uphold", "dismiss"]
    assert "sonia denied it on" in offered(sam)[1]
    assert "what is decided now is final" in offered(sam)[1]


@pytest.mark.django_db
def test_a_dispute_is_decided_on_the_ticket_that_follows(clock, ann, sonia):
    ticket, asked = denied(ann)
    clock.shift(timedelta(days=8))
    casework.close_resolved()
    following = write(ticket, "I never got it").ticket
    assert (following.follows_id, following.pk != ticket.pk) == (ticket.pk, True)

    content = page(sonia, following)

    assert buttons(panel(content, f"decide-{asked.pk}")) == ["overturn", "uphold", "dismiss"]
    assert f'id="decide-{asked.pk}"' not in page(sonia, ticket)
    response = post(
        sonia, following, "overturn", request=asked.pk, reason="Shown", body="You are right"
    )
    assert done(response, following)
    assert RefundRequest.objects.get(pk=asked.pk).state == "overturned"


@pytest.mark.django_db
def test_buttons_of_the_ticket_itself(ann, bob, sonia):
    ticket = ask()
    assert buttons(page(ann, ticket)) == [*CLAIM, *REPLY]

    casework.claim(ann, ticket.pk)
    casework.assign(ann, ticket.pk, ann.pk)

    assert buttons(page(ann, ticket)) == ["release", *REPLY]
    assert buttons(page(bob, ticket)) == REPLY
    assert "Claimed by ann for another" in text(page(bob, ticket))
    assert buttons(page(sonia, ticket)) == ["take_over", "assign", *REPLY]


@pytest.mark.django_db
def test_finance_has_no_such_page_and_a_viewer_no_button(ann):
    from django.contrib.auth.models import Permission, User

    ticket = about(delivered())
    finance = client_of(person("Finance"))
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    before = books()

    assert finance.get(admin_url("support_ticket_change", ticket.pk)).status_code == 403
    content = page(viewer, ticket)
    assert (buttons(content), 'method="post" action="/admin/support' in content) == ([], False)
    for act in ACTS:
        assert post(viewer, ticket, act, body="Mine").status_code == 403
        assert post(person("Finance"), ticket, act, body="Mine").status_code == 403
    assert books() == before


# --- what each does -------------------------------------------------------------------------------


def test_every_act_is_tested_here():
    assert set(ACTS) == {
        *("reply", "note", "waive", "claim", "release", "take_over", "assign", "link"),
        *("request", "refuse", "approve", "deny", "escalate", "withdraw"),
        *("uphold", "overturn", "dismiss"),
        # In test_payouts_page.py.
        *("payout", "withdraw_payout"),
        # In test_further.py.
        "further",
    }


@pytest.mark.django_db
def test_reply_sends_the_text_with_its_files(ann):
    ticket = ask()
    response = post(
        ann,
        ticket,
        "reply",
        body="Look again",
        evidence=[SimpleUploadedFile("a.txt", b"one\ntwo"), SimpleUploadedFile("b.txt", b"two")],
    )

    assert done(response, ticket)
    message = last(ticket)
    assert (message.kind, message.body, message.author) == ("reply", "Look again", ann)
    files = message.attachments.order_by("name")
    assert [(one.name, bytes(one.blob.content)) for one in files] == [
        ("a.txt", b"one\ntwo"),
        ("b.txt", b"two"),
    ]
    assert [(out.way, out.state) for out in message.deliveries.all()] == [("api", "queued")]
    ticket = fresh(ticket)
    assert (ticket.state, ticket.assignee, ticket.version) == ("waiting", ann, 2)
    assert "Look again" in page(ann, ticket)


@pytest.mark.django_db
def test_note_stays_inside(ann):
    ticket = ask()
    assert done(post(ann, ticket, "note", body="Smells {{of}} fraud"), ticket)
    message = last(ticket)
    assert (message.kind, message.body, message.deliveries.count()) == (
        "note",
        "Smells {{of}} fraud",
        0,
    )
    assert (fresh(ticket).state, Outbound.objects.count()) == ("new", 0)


@pytest.mark.django_db
def test_waive_resolves_without_a_word_to_the_customer(ann):
    ticket = ask()
    assert done(post(ann, ticket, "waive", body="Spam"), ticket)
    ticket = fresh(ticket)
    assert (ticket.state, ticket.due_at, ticket.messages.count()) == ("resolved", None, 1)
    assert ticket.history.latest().history_change_reason == "Resolved without a reply: Spam"


@pytest.mark.django_db
def test_claim_release_take_over_and_assign_move_the_ticket_between_people(ann, bob, sonia):
    ticket = ask()

    def holder() -> tuple[Any, Any]:
        now = fresh(ticket)
        return now.claimed_by, now.assignee

    claimed = client_of(ann).post(admin_url("support_ticket_case", ticket.pk), {"act": "claim"})
    assert done(claimed, ticket)
    assert (holder(), fresh(ticket).state) == ((ann, None), "open")
    refused = post(bob, ticket, "claim")
    assert refused.status_code == 409
    assert "ann is working on" in refusals(refused)[0]
    assert post(bob, ticket, "take_over").status_code == 403
    assert done(post(sonia, ticket, "take_over"), ticket)
    assert holder() == (sonia, None)
    assert done(post(sonia, ticket, "release"), ticket)
    assert holder() == (None, None)
    assert done(post(bob, ticket, "assign"), ticket)
    assert holder() == (None, bob)
    assert post(ann, ticket, "assign").status_code == 403
    assert done(post(sonia, ticket, "assign"), ticket)
    assert holder() == (None, sonia)
    assert (Message.objects.count(), Outbound.objects.count()) == (1, 0)


@pytest.mark.django_db
def test_link_names_another_order_of_the_same_customer(ann):
    ticket = ask()
    own, foreign = delivered(ticket.customer), delivered()
    shown = panel_of_links(page(ann, ticket))
    assert (f'value="{own.pk}"' in shown, f'value="{foreign.pk}"' in shown) == (True, False)

    # As the page's own form sends it.
    url = admin_url("support_ticket_case", ticket.pk)
    assert done(client_of(ann).post(url, {"act": "link", "order": own.pk}), ticket)
    assert done(client_of(ann).post(url, {"act": "link", "order": own.pk}), ticket)

    assert list(ticket.orders.all()) == [own]
    assert post(ann, ticket, "link", order=foreign.pk).status_code == 422
    assert list(ticket.orders.all()) == [own]


def panel_of_links(content: str) -> str:
    return content.split("Another order of this customer")[1].split("</form>")[0]


def terms(order: Order, **fields: Any) -> dict[str, Any]:
    return {
        "order": order.pk,
        "clause": Clause.SERVICE_REJECTED,
        "amount": "0.5",
        "reason": "Region block",
        "body": "",
        **fields,
    }


@pytest.mark.django_db
def test_request_asks_and_tells_the_customer_nothing(ann):
    ticket = about(delivered())
    before = balance(ticket)

    response = post(ann, ticket, "request", **terms(ticket.orders.get()))

    assert done(response, ticket)
    asked = RefundRequest.objects.get()
    assert (asked.state, asked.amount, asked.clause, asked.reason, asked.requested_by) == (
        "requested",
        Decimal("0.5"),
        Clause.SERVICE_REJECTED,
        "Region block",
        ann,
    )
    assert (balance(ticket), Outbound.objects.count(), fresh(ticket).state) == (before, 0, "open")


@pytest.mark.django_db
def test_a_request_above_what_agents_approve_goes_to_the_seniors(ann):
    ticket = about(delivered(shop.customer("20"), "20"))
    response = post(ann, ticket, "request", **terms(ticket.orders.get(), amount="10.0001"))
    assert done(response, ticket)
    assert (RefundRequest.objects.get().state, fresh(ticket).queue) == ("escalated", "seniors")


@pytest.mark.django_db
def test_what_is_typed_with_a_request_is_sent_as_the_form_says(ann):
    ticket = about(delivered())
    order = ticket.orders.get()
    assert "Sent as a reply." in text(panel(page(ann, ticket), "refund"))
    gap = post(ann, ticket, "request", **terms(order, body="{{amount}} is looked at"))
    assert (gap.status_code, RefundRequest.objects.count()) == (422, 0)

    response = post(ann, ticket, "request", **terms(order, body="A colleague looks at it."))

    assert done(response, ticket)
    assert RefundRequest.objects.get().state == "requested"
    assert (last(ticket).kind, last(ticket).body) == ("reply", "A colleague looks at it.")
    assert Outbound.objects.filter(message=last(ticket)).count() == 1


@pytest.mark.django_db
def test_the_back_button_and_the_other_button_is_no_denial(ann):
    ticket = about(delivered())
    form = terms(ticket.orders.get(), seen=version(ticket), key=str(uuid4()))
    assert done(post(ann, ticket, "request", **form), ticket)
    before = books()

    again = post(ann, ticket, "refuse", **form)

    assert again.status_code == 409
    assert "sent before" in refusals(again)[0]
    assert books() == before


@pytest.mark.django_db
@pytest.mark.parametrize("act", ["escalate", "withdraw"])
def test_a_reply_that_would_not_be_sent_is_not_lost(ann, act):
    ticket = about(delivered())
    order = ticket.orders.get()
    asked = refund(ann, ticket, order)
    typed = terms(order, body="Dear Ann, wait", request=asked.pk)
    before = books()

    response = post(ann, ticket, act, **typed)

    assert response.status_code == 422
    assert "your reply would not be sent" in refusals(response)[0]
    assert "Dear Ann, wait</textarea>" in response.content.decode()
    assert books() == before


@pytest.mark.django_db
def test_refuse_denies_at_once_and_says_so(ann):
    ticket = about(delivered())
    before = balance(ticket)

    response = post(
        ann,
        ticket,
        "refuse",
        **terms(ticket.orders.get(), clause=Clause.ORDERED_WRONG, body="Sorry", then="resolved"),
    )

    assert done(response, ticket)
    asked = RefundRequest.objects.get()
    assert (asked.state, asked.decided_by, asked.goodwill) == ("denied", ann, None)
    told = f"Sorry\n\nWe cannot refund order {asked.order_id}.\nRefund policy: "
    assert last(ticket).body.startswith(told)
    assert last(ticket).kind == "reply"
    assert (balance(ticket), Outbound.objects.count(), fresh(ticket).state) == (
        before,
        1,
        "resolved",
    )


@pytest.mark.django_db
def test_approve_credits_the_wallet_and_tells_the_customer(ann, bob):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.release(ann, ticket.pk)
    before = balance(ticket)

    response = post(bob, ticket, "approve", request=asked.pk, body="Sorry", then="resolved")

    assert done(response, ticket)
    assert balance(ticket) == before + Decimal("0.5")
    [made] = Refund.objects.filter(request=asked)
    assert (made.amount, made.decided_by, made.transfer.kind) == (
        Decimal("0.5"),
        bob,
        Transfer.Kind.DECIDED_REFUND,
    )
    message = last(ticket)
    assert message.body.startswith(
        f"Sorry\n\n0.50 USD for order {asked.order_id} have been credited to your wallet."
    )
    assert [out.state for out in message.deliveries.all()] == ["queued"]
    assert fresh(ticket).state == "resolved"


@pytest.mark.django_db
def test_deny_moves_nothing_and_says_how_to_dispute(ann, bob):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.release(ann, ticket.pk)
    before = balance(ticket)

    assert post(bob, ticket, "deny", request=asked.pk, body="No").status_code == 422  # no reason
    assert done(post(bob, ticket, "deny", request=asked.pk, body="No", reason="Works"), ticket)

    assert RefundRequest.objects.get().state == "denied"
    assert "reply to this thread with additional evidence" in last(ticket).body
    assert (balance(ticket), Refund.objects.count()) == (before, 0)


@pytest.mark.django_db
def test_escalate_and_withdraw_leave_a_note(ann):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())

    assert done(post(ann, ticket, "escalate", request=asked.pk, body="", reason="Odd"), ticket)
    assert (RefundRequest.objects.get().state, fresh(ticket).queue) == ("escalated", "seniors")
    assert (last(ticket).kind, last(ticket).body) == (
        "note",
        f"{asked}: Passed to a senior agent: Odd",
    )
    assert done(post(ann, ticket, "withdraw", request=asked.pk, body=""), ticket)
    assert (RefundRequest.objects.get().state, fresh(ticket).queue) == ("withdrawn", "agents")
    assert (last(ticket).kind, Outbound.objects.count()) == ("note", 0)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("act", "state", "credited", "words"),
    [
        ("uphold", "upheld", "0", "is not refunded"),
        ("overturn", "overturned", "0.5", "0.50 USD for order"),
        ("dismiss", "dismissed", "0", "We have not taken your last message as a dispute"),
    ],
)
def test_a_dispute_ends_for_good(ann, sonia, act, state, credited, words):
    ticket, asked = denied(ann)
    write(ticket, "Here is my proof")
    before = balance(ticket)

    response = post(
        sonia, ticket, act, request=asked.pk, reason="Seen", body="We looked", then="resolved"
    )

    assert done(response, ticket)
    assert RefundRequest.objects.get(pk=asked.pk).state == state
    assert balance(ticket) == before + Decimal(credited)
    body = last(ticket).body
    assert body.startswith("We looked\n\n")
    assert words in body
    assert body.endswith("This decision is final.")
    ticket = fresh(ticket)
    assert (ticket.state, ticket.dispute_due_at, ticket.queue) == ("resolved", None, "agents")
    assert buttons(page(sonia, ticket)).count("overturn") == 0


# --- what is refused, and what becomes of what was typed ------------------------------------------


def kept(response: Any, ident: str = "reply") -> dict[str, str]:
    """The values that a form of the page holds."""
    form = panel(response.content.decode(), ident)
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    fields |= dict(re.findall(r'<textarea name="(\w+)".*?>\n?(.*?)</textarea>', form, re.S))
    fields.pop("csrfmiddlewaretoken", None)
    return {name: html.unescape(value) for name, value in fields.items()}


@pytest.mark.django_db
def test_a_stale_view_is_told_what_happened_keeps_the_text_and_can_send_it(ann, bob):
    ticket = ask()
    seen = version(ticket)
    reply(bob, ticket, "I am on it")
    before = books()
    key = str(uuid4())

    response = post(ann, ticket, "reply", body="My <long> answer", seen=seen, key=key)

    assert response.status_code == 409
    assert books() == before
    assert "bob: Replied (message" in refusals(response)[0]
    assert "I am on it" in response.content.decode()
    form = kept(response)
    assert form["body"] == "My <long> answer"
    # Having read what happened, the person sends it again as it stands.
    assert done(post(ann, ticket, "reply", **form), ticket)
    assert last(ticket).body == "My <long> answer"


@pytest.mark.django_db
def test_a_ticket_that_somebody_else_works_on_is_left_to_them(ann, bob):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.claim(ann, ticket.pk)
    casework.claim(ann, ticket.pk)
    before = books()

    response = post(bob, ticket, "approve", request=asked.pk, body="Here you are", reason="Fine")

    assert response.status_code == 409
    assert "ann is working on" in refusals(response)[0]
    form = kept(response, f"decide-{asked.pk}")
    assert (form["body"], form["reason"]) == ("Here you are", "Fine")
    assert books() == before


@pytest.mark.django_db
@pytest.mark.parametrize("act", ["reply", "note", "request", "refuse", "approve"])
def test_a_double_click_is_one(ann, bob, act):
    ticket = about(delivered())
    order = ticket.orders.get()
    typed: dict[str, Any] = {"seen": version(ticket), "key": str(uuid4()), "body": "Once"}
    if act in {"request", "refuse"}:
        typed = terms(order, **typed) | ({"body": ""} if act == "request" else {})
    if act == "approve":
        asked = refund(ann, ticket, order)
        casework.release(ann, ticket.pk)
        typed |= {"request": asked.pk, "seen": version(ticket)}

    assert done(post(bob, ticket, act, **typed), ticket)
    after = books()
    assert done(post(bob, ticket, act, **typed), ticket)

    assert books() == after


@pytest.mark.django_db
def test_the_back_button_and_another_text_is_asked_about(ann):
    ticket = ask()
    typed = {"seen": version(ticket), "key": str(uuid4())}
    post(ann, ticket, "reply", body="First", **typed)
    before = books()

    again = post(ann, ticket, "reply", body="Second", **typed)

    assert again.status_code == 409
    assert books() == before
    form = kept(again)
    assert (form["body"], form["key"] != typed["key"]) == ("Second", True)
    # It is not the ticket that the person saw, which is said once before it can be sent.
    stale = post(ann, ticket, "reply", **form)
    assert stale.status_code == 409
    assert "Replied (message" in refusals(stale)[0]
    assert done(post(ann, ticket, "reply", **kept(stale)), ticket)
    assert [m.body for m in ticket.messages.filter(kind="reply").order_by("pk")] == [
        "First",
        "Second",
    ]


@pytest.mark.django_db
def test_a_decision_that_comes_too_late_keeps_the_words(ann, bob, sonia):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.release(ann, ticket.pk)
    seen = version(ticket)
    decide(cases.approve, bob, ticket, asked, reply_body="Credited", then="resolved")
    before = books()

    response = post(
        sonia, ticket, "deny", request=asked.pk, seen=seen, body="Sorry, no", reason="Not so"
    )

    assert response.status_code == 409
    assert books() == before
    assert f"bob: {asked}: Approved" in refusals(response)[0]
    form = kept(response, "decide-sent")
    assert (form["body"], form["reason"]) == ("Sorry, no", "Not so")
    assert buttons(panel(response.content.decode(), "decide-sent")) == ["reply", "note"]
    assert done(post(sonia, ticket, "note", **form), ticket)
    assert (last(ticket).kind, last(ticket).body) == ("note", "Sorry, no")


@pytest.mark.django_db
def test_a_second_request_for_the_order_is_told_of_the_first(ann, bob):
    ticket = about(delivered())
    order = ticket.orders.get()
    seen = version(ticket)
    asked = refund(ann, ticket, order)
    casework.release(ann, ticket.pk)
    before = books()

    stale = post(bob, ticket, "request", **terms(order, reason="Mine", seen=seen))
    assert stale.status_code == 409
    assert kept(stale, "refund")["reason"] == "Mine"
    again = post(bob, ticket, "request", **terms(order, reason="Mine"))
    assert again.status_code == 409
    assert f"{asked} of order {order.pk} is to be decided first" in refusals(again)[0]
    assert kept(again, "refund")["reason"] == "Mine"
    assert books() == before


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        ({"amount": "1.0001"}, 409, "1.0000 USD of the price"),
        ({"amount": "0"}, 422, "more than 0 USD"),
        ({"amount": "-1"}, 422, "more than 0 USD"),
        ({"amount": "NaN"}, 422, ""),
        ({"amount": "0.00001"}, 422, ""),
        ({"clause": "no_sms"}, 422, ""),
        ({"clause": ""}, 422, ""),
        ({"reason": "  "}, 422, ""),
        ({"reason": "x" * 2001}, 422, ""),
        ({"reason": "a\x00b"}, 422, ""),
        ({"key": "none"}, 422, ""),
        ({"seen": "-1"}, 422, ""),
        ({"seen": "9" * 30}, 409, "has changed"),
        ({"then": "closed"}, 422, ""),
        ({"order": "9" * 30}, 422, ""),
    ],
)
def test_odd_terms_of_a_refund_are_refused(ann, typed, status, words):
    ticket = about(delivered())
    before = books()

    response = post(ann, ticket, "request", **(terms(ticket.orders.get()) | typed))

    assert response.status_code == status
    assert words in " ".join([*refusals(response), text(response.content.decode())])
    assert books() == before


@pytest.mark.django_db
def test_long_texts_are_kept_whole(ann, bob):
    ticket = about(delivered())
    reason, body = "Wörter " * 285, "Satz. " * 3000
    asked = refund(ann, ticket, ticket.orders.get(), reason=reason.strip())
    casework.release(ann, ticket.pk)

    response = post(bob, ticket, "deny", request=asked.pk, reason=reason, body=body)

    assert done(response, ticket)
    assert RefundRequest.objects.get().decision_reason == reason.strip()
    assert last(ticket).body.startswith(body.strip())
    assert reason.strip() in html.unescape(page(ann, ticket))


@pytest.mark.django_db
@pytest.mark.parametrize("files", [[b""], [b"x"] * 6, [b"x" * (10 * 1024 * 1024 + 1)]])
def test_files_that_are_refused_leave_the_text(ann, files):
    ticket = ask()
    sent = [SimpleUploadedFile(f"{n}.txt", content) for n, content in enumerate(files)]
    before = books()

    response = post(ann, ticket, "reply", body="With proof", evidence=sent)

    assert response.status_code == 422
    assert "file" in refusals(response)[0]
    assert kept(response)["body"] == "With proof"
    assert books() == before


@pytest.mark.django_db
def test_a_closed_ticket_takes_notes_and_nothing_else(clock, ann):
    order = delivered()
    ticket = about(order)
    reply(ann, ticket, "Bye", then="resolved")
    from support.tests.world import deliver

    deliver(last(ticket))
    clock.shift(timedelta(days=7))
    assert casework.close_resolved() == 1

    assert buttons(page(ann, ticket)) == ["note"]
    nothing_typed = {"claim", "release", "take_over", "assign", "link", "withdraw_payout"}
    for act in sorted(set(ACTS) - {"note", *nothing_typed}):
        before = books()
        response = post(ann, ticket, act, **terms(order, body="Kept", request=1))
        assert response.status_code in {403, 404, 409, 422}, act
        if response.status_code != 403:
            assert "Kept" in response.content.decode(), act
        assert books() == before, act
    response = post(ann, ticket, "reply", body="Too late")
    assert response.status_code == 409
    assert "is closed for good" in refusals(response)[0]
    assert kept(response)["body"] == "Too late"
    assert done(post(ann, ticket, "note", body="For the record"), ticket)
    assert last(ticket).body == "For the record"


# --- forged and mistaken requests -----------------------------------------------------------------


@pytest.mark.django_db
def test_looking_changes_nothing(ann):
    ticket = about(delivered())
    refund(ann, ticket, ticket.orders.get())
    before = [*books(), list(Viewing.objects.values())]
    client = client_of(ann)

    for act in ACTS:
        answer = client.get(
            admin_url("support_ticket_case", ticket.pk), {"act": act, "body": "x", "seen": 1}
        )
        assert done(answer, ticket)
    assert client.get(admin_url("support_ticket_change", ticket.pk)).status_code == 200
    assert client.get(admin_url("support_ticket_presence", ticket.pk)).status_code == 403
    own = admin_url("support_ticket_change", ticket.pk)
    assert client.post(own, {"act": "claim"}).status_code == 403
    assert [*books(), list(Viewing.objects.values())] == before


@pytest.mark.django_db
def test_a_forged_post_does_nothing(ann):
    ticket = about(delivered())
    before = books()
    client = client_of(ann, enforce_csrf_checks=True)

    for act in ACTS:
        answer = client.post(
            admin_url("support_ticket_case", ticket.pk),
            {"act": act, "body": "x", "seen": 1, "key": str(uuid4()), "then": "open"},
        )
        assert answer.status_code == 403
    assert books() == before


@pytest.mark.django_db
def test_what_there_is_not_is_not_found(ann):
    ticket = ask()
    assert post(ann, ticket, "close").status_code == 404
    assert post(ann, ticket, "").status_code == 404
    client = client_of(ann)
    for name in ("support_ticket_case", "support_ticket_presence"):
        for pk in ("0", "9" * 30, "x", "%00", "1_00"):
            url = admin_url(name, 1).replace("/1/", f"/{pk}/")
            assert client.post(url, {"act": "claim"}).status_code == 404, url


@pytest.mark.django_db
def test_the_pages_of_a_refund_and_of_its_order_lead_to_the_ticket(ann):
    order = delivered()
    ticket = about(order)
    asked = refund(ann, ticket, order)
    link = f'href="{admin_url("support_ticket_change", ticket.pk)}"'

    for address in (
        admin_url("refunds_refundrequest_change", asked.pk),
        admin_url("orders_order_change", order.pk),
    ):
        content = client_of(ann).get(address).content.decode()
        # Once among the links of the page: the order's refund is no ticket.
        assert content.split("<h2>History</h2>")[0].count(link) == 1


@pytest.mark.django_db
def test_a_refund_of_another_ticket_is_not_decided_here(ann, bob):
    own, other = about(delivered()), about(delivered())
    asked = refund(ann, other, other.orders.get())
    casework.release(ann, other.pk)
    before = books()

    response = post(bob, own, "approve", request=asked.pk, body="Here")

    assert response.status_code == 409
    assert f"is decided on ticket {other.pk}" in refusals(response)[0]
    assert post(bob, own, "approve", request=10**30, body="Here").status_code == 404
    assert books() == before


# --- at once --------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("acts", [("approve", "deny"), ("approve", "approve")])
def test_of_two_who_decide_at_once_one_does_and_the_other_reads_what_happened(
    ann, sonia, sam, acts
):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.release(ann, ticket.pk)
    before, seen = balance(ticket), version(ticket)
    people = {"sonia": sonia, "sam": sam}
    clients = {name: client_of(user) for name, user in people.items()}

    def decision(name: str, act: str) -> Any:
        return clients[name].post(
            admin_url("support_ticket_case", ticket.pk),
            {
                "act": act,
                "request": asked.pk,
                "reason": f"Reason of {name}",
                "body": f"Words of {name}",
                "then": "resolved",
                "seen": seen,
                "key": str(uuid4()),
            },
        )

    made = at_once(lambda: decision("sonia", acts[0]), lambda: decision("sam", acts[1]))
    answers = dict(zip(people, made, strict=True))
    [winner] = [name for name, answer in answers.items() if answer.status_code == 302]
    [loser] = set(people) - {winner}
    lost = answers[loser]
    assert lost.status_code == 409
    [words] = refusals(lost)
    assert f"{winner}: {asked}: " in words
    form = kept(lost, "decide-sent")
    assert (form["body"], form["reason"]) == (f"Words of {loser}", f"Reason of {loser}")
    asked.refresh_from_db()
    assert asked.decided_by == people[winner]
    credited = Decimal("0.5") if asked.state == "approved" else Decimal(0)
    assert (balance(ticket), Refund.objects.count()) == (before + credited, int(bool(credited)))
    assert ticket.messages.filter(kind="reply").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_click_twice_at_once_is_one_decision(ann, bob):
    ticket = about(delivered())
    asked = refund(ann, ticket, ticket.orders.get())
    casework.release(ann, ticket.pk)
    before = balance(ticket)
    typed = {
        "act": "approve",
        "request": asked.pk,
        "body": "Credited",
        "then": "resolved",
        "seen": version(ticket),
        "key": str(uuid4()),
    }
    clients = [client_of(bob), client_of(bob)]
    url = admin_url("support_ticket_case", ticket.pk)

    answers = at_once(*(lambda c=client: c.post(url, typed) for client in clients))

    assert [answer.status_code for answer in answers] == [302, 302]
    assert balance(ticket) == before + Decimal("0.5")
    assert ticket.messages.filter(kind="reply").count() == 1
