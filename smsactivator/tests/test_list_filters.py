"""A list stays the list that was chosen, whatever is pressed on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.test import Client, RequestFactory

from refunds.tests import world as shop
from smsactivator.common.admin import BoundedAdmin, TimeRangeFilter
from smsactivator.common.links import admin_url
from smsactivator.tests import world
from smsactivator.tests.markup import Page
from support import casework
from support.admin.tickets import TicketAdmin
from support.tests.world import agent, ask

pytestmark = pytest.mark.django_db

LISTS = [one for one in admin.site._registry.values() if isinstance(one, BoundedAdmin)]
TICKETS = "support_ticket_changelist"


def signed_in(user: Any = None) -> Client:
    client = Client()
    client.force_login(user or world.person())
    return client


def list_of(model_admin: Any, **query: Any) -> str:
    opts = model_admin.opts
    return admin_url(f"{opts.app_label}_{opts.model_name}_changelist", **query)


def filled() -> None:
    """Two of what a filter by rows needs to be shown."""
    for name in ("one", "two"):
        world.storefront(name)
        world.upstream(name)
        agent(name)


def asked_for(model_admin: Any) -> Iterator[dict[str, str]]:
    """Each way in which an address narrows this list."""
    request = RequestFactory().get("/")
    request.user = world.person(name=f"asks-{model_admin.opts.label_lower}")
    changelist = model_admin.get_changelist_instance(request)
    for item in model_admin.get_list_filter(request):
        if isinstance(item, type) and issubclass(item, SimpleListFilter):
            for value, _ in item(request, {}, model_admin.model, model_admin).lookup_choices:
                yield {item.parameter_name: value}
    for spec in changelist.filter_specs:
        if isinstance(spec, TimeRangeFilter):
            for side in ("from", "to"):
                day = f"{spec.parameter_name}_{side}"
                yield {f"{day}_0": "2026-11-02", f"{day}_1": "10:30:00"}
        elif not isinstance(spec, SimpleListFilter):
            for choice in list(spec.choices(changelist)):
                if "form" in choice:
                    [field] = choice["form"].fields.items()
                    yield from ({field[0]: str(key)} for key, _ in field[1].choices if key != "")
                else:
                    for name, value in parse_qsl(choice["query_string"].removeprefix("?")):
                        yield {name: value}
    for lookup in model_admin.linked_lookups:
        yield {lookup: "1"}
    if any(item for item in model_admin.get_list_filter(request) if "CustomerFilter" in str(item)):
        yield {"customer": "7"}


@pytest.mark.parametrize("model_admin", LISTS, ids=lambda one: one.opts.label)
def test_what_narrows_a_list_is_kept_by_its_filters_and_by_its_search(model_admin):
    filled()
    client = signed_in()
    for asked in asked_for(model_admin):
        response = client.get(list_of(model_admin, **asked, p="1"))
        assert response.status_code == 200, (asked, response.headers)
        page = Page(response.content.decode())

        if response.context["cl"].has_filters:
            form = page.form(id="filter-form")
            for name, value in asked.items():
                assert form.values(name) == [value], "the form of the filters"
            # Another list has other pages.
            assert form.values("p") == []
        if model_admin.search_fields:
            form = page.form(id="changelist-search")
            for name, value in asked.items():
                assert form.values(name) == [value], "the search"
            assert form.values("p") == []


@pytest.mark.parametrize("model_admin", LISTS, ids=lambda one: one.opts.label)
def test_a_search_is_kept_by_the_filters(model_admin):
    filled()
    response = signed_in().get(list_of(model_admin, q="17"))
    assert response.status_code == 200
    if model_admin.search_fields and response.context["cl"].has_filters:
        form = Page(response.content.decode()).form(id="filter-form")
        assert form.values("q") == ["17"]


def test_the_filters_of_a_queue_find_within_the_queue():
    ann = agent("ann")
    ask(subject="Of nobody")
    mine = ask(channel="email", via=shop.TESTER)
    casework.assign(ann, mine.pk, ann.pk)
    client = signed_in(ann)

    page = Page(client.get(admin_url(TICKETS, queue="mine")).content.decode())
    sent = dict(page.form(id="filter-form").sent) | {"channel__exact": "email"}
    found = client.get(admin_url(TICKETS, **sent))

    assert [ticket.pk for ticket in found.context["cl"].result_list] == [mine.pk]
    assert found.context["title"] == "Mine"


def test_the_pages_of_a_list_keep_what_was_asked(monkeypatch):
    monkeypatch.setattr(TicketAdmin, "list_per_page", 1)
    ann = agent("ann")
    for _ in range(3):
        casework.assign(ann, ask().pk, ann.pk)
    ask()

    query = {"queue": "mine", "channel__exact": "api"}
    response = signed_in(ann).get(admin_url(TICKETS, **query))

    pages = [link for link in Page(response.content.decode()).links if "p=" in link]
    assert len(pages) >= 2
    for link in pages:
        kept = parse_qs(urlsplit(link).query)
        assert {name: kept[name] for name in query} == {n: [v] for n, v in query.items()}


def test_clearing_the_filters_of_a_queue_leaves_its_queue_and_search():
    response = signed_in(agent("ann")).get(
        admin_url(TICKETS, queue="mine", channel__exact="api", q="word")
    )
    assert parse_qs(response.context["cl"].clear_all_filters_qs.removeprefix("?")) == {
        "queue": ["mine"],
        "q": ["word"],
    }


def test_a_page_beyond_the_last_is_the_last_page_of_the_same_list(monkeypatch):
    monkeypatch.setattr(TicketAdmin, "list_per_page", 1)
    ann = agent("ann")
    tickets = [ask() for _ in range(3)]
    for ticket in tickets[:2]:
        casework.assign(ann, ticket.pk, ann.pk)

    response = signed_in(ann).get(admin_url(TICKETS, queue="mine", p="9"))

    assert response.status_code == 200
    assert response.context["cl"].page_num == 2
    assert [row.pk for row in response.context["cl"].result_list] == [tickets[1].pk]


@pytest.mark.parametrize("number", ["0", "-1", "x", "1e3"])
def test_no_number_of_a_page_leads_to_another_list(number):
    ann = agent("ann")
    mine = ask()
    ask()
    casework.assign(ann, mine.pk, ann.pk)
    response = signed_in(ann).get(admin_url(TICKETS, queue="mine", p=number))
    assert [row.pk for row in response.context["cl"].result_list] == [mine.pk]


def test_an_address_that_cannot_be_read_is_refused_and_not_answered_with_all_rows():
    ask()
    response = signed_in(agent("ann")).get(admin_url(TICKETS, customer__id__exact="x"))
    assert response.status_code == 400


def test_a_row_leads_back_to_the_list_that_it_was_found_in():
    ann = agent("ann")
    mine = ask()
    casework.assign(ann, mine.pk, ann.pk)
    client = signed_in(ann)
    asked = admin_url(TICKETS, queue="mine", channel__exact="api")
    listed = Page(client.get(asked).content.decode())
    row = admin_url("support_ticket_change", mine.pk)
    [link, *_] = [link for link in listed.links if link.startswith(row)]

    page = Page(client.get(link).content.decode())

    assert asked in page.links


def test_all_of_a_list_is_what_the_page_showed_and_nothing_that_came_later(monkeypatch):
    monkeypatch.setattr(TicketAdmin, "list_per_page", 1)
    ann = agent("ann")
    shown = [ask() for _ in range(3)]
    client = signed_in(ann)
    page = Page(client.get(admin_url(TICKETS, queue="unassigned")).content.decode())
    later = ask()

    sent = [*page.form(id="changelist-form").sent, ("_selected_action", str(shown[0].pk))]
    typed: dict[str, Any] = {}
    for name, value in sent:
        typed.setdefault(name, []).append(value)
    typed |= {"action": "take", "select_across": "1", "index": "0"}
    response = client.post(admin_url(TICKETS, queue="unassigned"), typed)

    assert response.status_code == 302
    ids = parse_qs(urlsplit(response.url).query)["ids"][0].split(",")
    assert sorted(ids) == sorted(str(ticket.pk) for ticket in shown)
    assert str(later.pk) not in ids


def test_all_of_a_list_is_refused_when_the_page_does_not_say_what_it_showed():
    ann = agent("ann")
    ticket = ask()
    response = signed_in(ann).post(
        admin_url(TICKETS, queue="unassigned"),
        {
            "action": "take",
            "_selected_action": [ticket.pk],
            "select_across": "1",
            "listed": "1;2",
            "index": "0",
        },
    )
    assert response.status_code == 400
