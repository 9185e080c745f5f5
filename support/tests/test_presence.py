"""Who has a ticket open: told by the page itself, forgotten after a minute, and only a hint."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.test import Client

from smsactivator.common.links import admin_url
from support import casework, presence
from support.models import Ticket, Viewing
from support.tests.world import MONDAY, agent, ask, senior, version, write
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
def bob():
    return agent("bob")


def client_of(user: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def look(user: Any, ticket: Ticket) -> Any:
    response = client_of(user).post(admin_url("support_ticket_presence", ticket.pk))
    assert response.status_code == 200
    return response.json()


def test_each_reads_who_else_has_it_open(clock, ann, bob):
    ticket, other = ask(), ask()

    assert look(ann, ticket) == {"others": "", "version": 1}
    assert look(bob, ticket) == {"others": "ann has this open too.", "version": 1}
    assert look(senior("sonia"), ticket) == {"others": "ann, bob have this open too.", "version": 1}
    assert look(ann, ticket)["others"] == "bob, sonia have this open too."
    assert look(ann, other)["others"] == ""
    content = client_of(bob).get(admin_url("support_ticket_change", ticket.pk)).content.decode()
    assert "ann, sonia have this open too." in content


def test_after_a_minute_without_a_word_it_is_forgotten(clock, ann, bob):
    ticket = ask()
    look(ann, ticket)
    clock.shift(timedelta(seconds=59))
    assert presence.others(bob, ticket.pk) == [ann]
    clock.shift(timedelta(seconds=1))
    assert presence.others(bob, ticket.pk) == []

    look(ann, ticket)

    assert presence.others(bob, ticket.pk) == [ann]
    assert Viewing.objects.count() == 1


def test_the_answer_says_that_the_ticket_changed(clock, ann):
    ticket = ask()
    write(ticket)
    assert look(ann, ticket)["version"] == version(ticket) == 2


def test_it_locks_and_refuses_nothing(ann, bob):
    ticket = ask()
    look(ann, ticket)
    casework.claim(bob, ticket.pk)
    assert version(ticket) == 2  # by the claim alone


def test_only_a_post_of_the_page_notes_it(ann):
    ticket = ask()
    client = client_of(ann)
    assert client.get(admin_url("support_ticket_change", ticket.pk)).status_code == 200
    url = admin_url("support_ticket_presence", ticket.pk)
    for method in (client.get, client.head, client.put, client.delete):
        assert method(url).status_code == 403
    forged = client_of(ann, enforce_csrf_checks=True)
    assert forged.post(url).status_code == 403
    assert Viewing.objects.count() == 0


def test_those_who_may_not_see_the_ticket_are_not_told(ann):
    ticket = ask()
    finance = person("Finance")
    url = admin_url("support_ticket_presence", ticket.pk)
    assert client_of(finance).post(url).status_code == 403
    assert Client().post(url).status_code == 302
    assert client_of(ann).post(admin_url("support_ticket_presence", 0)).status_code == 404
    with pytest.raises(PermissionDenied):
        presence.look(finance, ticket.pk)
    assert Viewing.objects.count() == 0


def test_who_only_reads_leaves_no_trace(ann):
    ticket = ask()
    auditor = client_of(person("Auditor"))
    page = auditor.get(admin_url("support_ticket_change", ticket.pk))
    assert page.status_code == 200
    assert "data-presence" not in page.content.decode()

    assert auditor.post(admin_url("support_ticket_presence", ticket.pk)).status_code == 403

    assert Viewing.objects.count() == 0
    shown = client_of(ann).get(admin_url("support_ticket_change", ticket.pk)).content.decode()
    assert f'data-presence="{admin_url("support_ticket_presence", ticket.pk)}"' in shown
