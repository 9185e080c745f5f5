"""Canned replies: typed gaps that a case fills, and no text with a gap leaves the house."""

from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.contrib.admin import site
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client

from refunds import policy
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world as shop
from smsactivator.common.links import admin_url
from support import macros
from support.admin.macros import MacroAdmin
from support.casefile import read_case
from support.macros import GapLeft, MacroRefused, MacroUnknown
from support.models import Macro, Message, Outbound, Ticket
from support.tests.world import MONDAY, agent, ask, delivered, refund, senior, version
from wallet.deciding import ReasonMissing
from wallet.models import Transfer, Wallet
from wallet.tests.together import PATIENCE, somebody_waits_for_a_lock
from wallet.tests.world import person

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock():
    with time_machine.travel(MONDAY, tick=False) as traveller:
        yield traveller


@pytest.fixture
def ann():
    return agent("ann")


@pytest.fixture
def sonia():
    return senior("sonia")


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def save(by: Any, macro: Macro | None = None, **fields: Any) -> Macro:
    typed = {"title": "Wait", "body": "Please wait.", "active": True, "reason": "Often said"}
    return macros.save(by, macro.pk if macro else None, **{**typed, **fields})


def on_the_page(user: Any, ticket: Ticket) -> dict[str, str]:
    """The canned replies that a case's page offers, each with the text that it fills in."""
    content = client_of(user).get(admin_url("support_ticket_change", ticket.pk)).content.decode()
    found = re.findall(r'<option value="\d+" data-body="(.*?)">(.*?)</option>', content, re.S)
    return {html.unescape(title): html.unescape(body) for body, title in found}


def case_of(ticket: Ticket) -> Any:
    return read_case(Ticket.objects.select_related("customer__wallet").get(pk=ticket.pk))


def test_each_gap_is_written_by_its_type(clock, ann):
    order = delivered(shop.customer("11.5"), "1.25")
    ticket = ask(order.customer, order_ids=[order.pk])
    refund(ann, ticket, order, amount=Decimal("0.125"))
    file = case_of(ticket)

    assert {name: macros.filled("{{" + name + "}}", file) for name in macros.VARIABLES} == {
        "ticket": str(ticket.pk),
        "customer": order.customer.external_id,
        "balance": "10.25 USD",
        "order": str(order.pk),
        "service": "tg",
        "country": order.country,
        "price": "1.25 USD",
        "placed": "2026-06-01 10:00 UTC",
        "amount": "0.125 USD",
        "clause": policy.text(Clause.SERVICE_REJECTED, "2026-05-07"),
    }


@pytest.mark.parametrize(
    ("amount", "words"),
    [("0", "0.00 USD"), ("100", "100.00 USD"), ("0.5", "0.50 USD"), ("0.0001", "0.0001 USD")],
)
def test_money_is_written_for_customers(amount, words):
    assert macros.VARIABLES["balance"].written(Decimal(amount).quantize(Decimal("0.0001"))) == words


def test_what_the_case_does_not_know_stays_a_gap():
    customer = shop.customer()
    orders = [delivered(customer).pk for _ in range(2)]
    nothing, several = ask(customer), ask(customer, order_ids=orders)
    body = "{{ ticket }}: {{order}} {{amount}} {{nobody}}"

    assert macros.filled(body, case_of(nothing)) == (
        f"{nothing.pk}: {{{{order}}}} {{{{amount}}}} {{{{nobody}}}}"
    )
    # With two orders nobody knows which is meant.
    assert macros.filled("{{order}}", case_of(several)) == "{{order}}"


def test_the_page_offers_the_active_ones_filled_in_and_escaped(ann, sonia):
    order = delivered()
    ticket = ask(order.customer, order_ids=[order.pk])
    save(sonia, title="B <b>", body='About "order" {{order}} & {{amount}}')
    save(sonia, title="A", body="Please wait.\nSoon.")
    save(sonia, title="Off", active=False)

    assert list(on_the_page(ann, ticket).items()) == [
        ("A", "Please wait.\nSoon."),
        ("B <b>", f'About "order" {order.pk} & {{{{amount}}}}'),
    ]


def act(user: Any, ticket: Ticket, name: str, **typed: Any) -> Any:
    fields = {"seen": version(ticket), "key": str(uuid4()), "then": "open", "reason": "Why"}
    url = admin_url("support_ticket_case", ticket.pk)
    return client_of(user).post(url, {"act": name, **fields, **typed})


@pytest.mark.parametrize("name", ["reply", "request", "refuse", "approve", "deny"])
@pytest.mark.parametrize("gap", ["{{order}}", "{{ nobody }}", "{{}}", "{{a\nb}}"])
def test_a_gap_blocks_sending(ann, sonia, name, gap):
    order = delivered()
    ticket = ask(order.customer, order_ids=[order.pk])
    typed: dict[str, Any] = {"body": f"Your order {gap} is here"}
    if name in {"request", "refuse"}:
        typed |= {"order": order.pk, "clause": Clause.SERVICE_REJECTED, "amount": "0.5"}
    elif name != "reply":
        asked = refund(sonia, ticket, order)
        Ticket.objects.update(claimed_by=None, claimed_until=None)
        typed["request"] = asked.pk
    before = [list(model.objects.values()) for model in (Message, Outbound, RefundRequest, Refund)]

    response = act(ann, ticket, name, **typed)

    assert response.status_code == 422
    content = html.unescape(response.content.decode())
    inner = gap.strip("{} ")
    assert f"Fill {{{{{inner}}}}} in, or take it out: the text was not sent." in content
    assert typed["body"] in content
    assert before == [
        list(model.objects.values()) for model in (Message, Outbound, RefundRequest, Refund)
    ]
    assert act(ann, ticket, name, **typed | {"body": "Your order is here"}).status_code == 302


def test_a_text_says_all_its_gaps():
    with pytest.raises(GapLeft, match=r"Fill \{\{a\}\}, \{\{b\}\} in"):
        macros.refuse_gaps("{{b}} {{a}} {{ a }}")
    macros.refuse_gaps("No { gap } here }}")


def test_choosing_one_moves_no_money_and_says_nothing(ann, sonia):
    order = delivered()
    ticket = ask(order.customer, order_ids=[order.pk])
    refund(ann, ticket, order)
    before = (Transfer.objects.count(), Message.objects.count(), list(Wallet.objects.values()))

    save(sonia, body="Approve {{amount}} of order {{order}}")
    on_the_page(ann, ticket)

    assert before == (
        Transfer.objects.count(),
        Message.objects.count(),
        list(Wallet.objects.values()),
    )
    assert RefundRequest.objects.get().state == "requested"


# --- keeping them ---------------------------------------------------------------------------------


def test_one_is_added_and_changed_and_its_history_says_by_whom_and_why(sonia):
    macro = save(sonia, title=" Wait ", body=" Please wait. ")
    assert (macro.title, macro.body, macro.active) == ("Wait", "Please wait.", True)

    save(sonia, macro, body="Wait {{order}}", active=False, reason="Shorter")

    assert [
        (row.history_actor, row.history_change_reason, row.body, row.active)
        for row in macro.history.order_by("history_id")
    ] == [
        ("sonia", "Often said", "Please wait.", True),
        ("sonia", "Shorter", "Wait {{order}}", False),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"body": "{{name}} and {{order}}"}, "No case has name. It has: amount, balance"),
        ({"body": "{{Order}}"}, "No case has Order"),
        ({"body": "{{order}"}, "two braces on each side"),
        ({"body": "order}}"}, "two braces on each side"),
        ({"body": "{{{order}}}"}, ""),
        ({"body": " "}, "has a title and a text"),
        ({"title": " "}, "has a title and a text"),
        ({"title": "Taken"}, "There is a canned reply called Taken already"),
    ],
)
def test_what_cannot_be_filled_or_is_taken_is_refused(sonia, fields, words):
    save(sonia, title="Taken")
    if not words:
        assert save(sonia, **fields).body == fields["body"]
        return
    with pytest.raises(MacroRefused, match=re.escape(words)):
        save(sonia, **fields)
    assert Macro.objects.count() == 1


def test_it_needs_a_reason_a_permission_and_something_to_change(ann, sonia):
    with pytest.raises(ReasonMissing):
        save(sonia, reason=" ")
    for nobody in (ann, person("Finance")):
        with pytest.raises(PermissionDenied):
            save(nobody)
    with pytest.raises(MacroUnknown):
        macros.save(sonia, 77, title="a", body="b", active=True, reason="c")
    assert Macro.objects.count() == 0


def test_the_pages_save_through_the_verb(ann, sonia):
    client = client_of(sonia)
    typed = {"title": "Wait", "body": "Wait {{order}}", "active": "on", "reason": "Often said"}
    add = admin_url("support_macro_add")

    assert client.post(add, typed).status_code == 302
    macro = Macro.objects.get()
    change = admin_url("support_macro_change", macro.pk)
    assert client.post(change, typed | {"title": "Later", "reason": "Better"}).status_code == 302
    assert [row.history_change_reason for row in macro.history.order_by("history_id")] == [
        "Often said",
        "Better",
    ]
    assert "Better" in client.get(change).content.decode()
    for wrong, words in (
        ({"title": "Later"}, "already exists"),
        ({"body": "{{who}}"}, "No case has who"),
        ({"reason": " "}, "This field is required"),
        ({"body": "{{order}"}, "two braces"),
    ):
        response = client.post(add, typed | wrong)
        assert (response.status_code, words in response.content.decode()) == (200, True), wrong
    assert Macro.objects.count() == 1
    delete = admin_url("support_macro_delete", macro.pk)
    assert client.post(delete, {"post": "yes"}).status_code == 403
    agents = client_of(ann)
    assert agents.get(change).status_code == 200
    assert "Wait {{order}}" in agents.get(change).content.decode()
    assert agents.post(change, typed).status_code == 403
    assert agents.post(add, typed).status_code == 403
    assert Macro.objects.get().title == "Later"


@pytest.mark.django_db(transaction=True)
def test_a_title_that_somebody_takes_at_the_same_moment_is_refused_and_what_was_typed_stays(sonia):
    client = client_of(sonia)
    typed = {"title": "Wait", "body": "My own words", "active": "on", "reason": "Often said"}

    def send() -> HttpResponse:
        try:
            return client.post(admin_url("support_macro_add"), typed)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        # given one of this title that is saved and not committed yet
        with transaction.atomic():
            save(sonia, title="Wait", body="Please wait.")
            # when another is sent, and waits for what becomes of the first
            sent = threads.submit(send)
            somebody_waits_for_a_lock()
        response = sent.result(PATIENCE)

    assert response.status_code == 422
    page = html.unescape(response.content.decode())
    for kept in ("with this Title already exists", "My own words", "Often said"):
        assert kept in page
    assert [macro.body for macro in Macro.objects.all()] == ["Please wait."]


class RefusingAdmin(MacroAdmin):
    """As when something is refused that the form could not know."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        raise MacroRefused("Not this one: choose another.")


def test_what_only_the_verb_refuses_is_said_above_the_form(rf, sonia):
    macro = save(sonia)
    typed = {"title": "Wait", "body": "My own words", "active": "on", "reason": "Better"}
    request = rf.post(admin_url("support_macro_change", macro.pk), typed)
    request.user = sonia
    request._dont_enforce_csrf_checks = True

    response = RefusingAdmin(Macro, site).changeform_view(request, str(macro.pk))

    page = html.unescape(response.render().content.decode())
    assert (response.status_code, page.count("Not this one: choose another.")) == (422, 1)
    assert "My own words" in page
    assert Macro.objects.get().body == "Please wait."
