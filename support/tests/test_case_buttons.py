"""Decisions on the case page: a button is there exactly where it would be taken, by each person."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import Client

from orders import termination
from refunds.models import RefundRequest
from refunds.policy import Clause
from refunds.tests import world as refunds_world
from smsactivator.common.links import admin_url
from support import cases
from support.models import Ticket
from support.tests import world as desk
from support.tests.world import agent, ask, delivered, fresh, refund, senior, version, write
from wallet.models import RoleLimit

pytestmark = pytest.mark.django_db

DECISIONS = ("approve", "deny", "escalate", "withdraw", "overturn", "uphold", "dismiss")


class Desk:
    """Who asked, who else there is, and a ticket with a delivered order of 100 USD."""

    def __init__(self) -> None:
        self.ann, self.bob = agent("ann"), agent("bob")
        self.sonia, self.sam = senior("sonia"), senior("sam")
        self.admin = get_user_model().objects.create_superuser("admin")
        self.ticket = ask(refunds_world.customer("200"))
        self.order = delivered(self.ticket.customer, "80")

    def everybody(self) -> list[Any]:
        return [self.ann, self.bob, self.sonia, self.sam, self.admin]

    def asked(self, amount: str, by: Any = None, **fields: Any) -> RefundRequest:
        return refund(by or self.ann, self.ticket, self.order, amount=Decimal(amount), **fields)

    def goodwill(self) -> RefundRequest:
        return self.asked("3", clause=Clause.ORDERED_WRONG)

    def escalated(self) -> RefundRequest:
        asked = self.asked("5")
        desk.decide(cases.escalate, self.bob, self.ticket, asked)
        return asked

    def disputed(self, amount: str = "5", **fields: Any) -> RefundRequest:
        asked = self.asked(amount, deny=True, then="resolved", reply_body="No", **fields)
        write(fresh(self.ticket))
        return asked

    def without_limits(self, asked: RefundRequest) -> RefundRequest:
        RoleLimit.objects.update(each=0, daily=0)
        return asked

    def terminated(self, asked: RefundRequest) -> RefundRequest:
        customer = self.ticket.customer_id
        ended = termination.request(self.sonia, customer, reason="Resold", key=uuid4())
        termination.confirm(self.sam, ended.pk)
        return asked


CASES: dict[str, Callable[[Desk], RefundRequest]] = {
    "small": lambda d: d.asked("5"),
    "above an agent's limit": lambda d: d.asked("15"),
    "above everybody's limit": lambda d: d.asked("60"),
    "by a senior": lambda d: d.asked("5", d.sonia),
    "goodwill": Desk.goodwill,
    "escalated": Desk.escalated,
    "disputed": Desk.disputed,
    "disputed, without limits": lambda d: d.without_limits(d.disputed()),
    "disputed, terminated": lambda d: d.terminated(d.disputed()),
    "without limits": lambda d: d.without_limits(d.asked("5")),
    "terminated": lambda d: d.terminated(d.asked("5")),
}


def is_taken(client: Client, ticket: Ticket, asked: RefundRequest, act: str) -> bool:
    """Whether the decision is made when it is sent; it is undone afterwards."""
    told = act not in {"escalate", "withdraw"}
    typed = {
        "act": act,
        "request": asked.pk,
        "reason": "Looked at it",
        "seen": version(ticket),
        "key": str(uuid4()),
        "then": "resolved",
        "body": "We looked" if told else "",
    }
    with transaction.atomic():
        answer = client.post(admin_url("support_ticket_case", ticket.pk), typed)
        transaction.set_rollback(True)
    assert answer.status_code in {302, 402, 403, 409, 422}, answer.status_code
    return bool(answer.status_code == 302)


@pytest.mark.parametrize("case", CASES)
def test_a_decision_s_button_is_there_exactly_where_it_is_taken(case: str) -> None:
    office = Desk()
    asked = CASES[case](office)
    ticket = fresh(office.ticket)
    Ticket.objects.filter(pk=ticket.pk).update(claimed_by=None, claimed_until=None)
    wrong = []
    for somebody in office.everybody():
        client = Client()
        client.force_login(somebody)
        page = client.get(admin_url("support_ticket_change", ticket.pk))
        [panel] = [one for one in page.context["decide"] if one["pk"] == asked.pk]
        there = {act for act, _, _ in panel["acts"]}
        wrong += [
            f"{somebody}: {act} is {'there' if act in there else 'not there'}"
            for act in DECISIONS
            if is_taken(client, ticket, asked, act) != (act in there)
        ]
    assert wrong == []
