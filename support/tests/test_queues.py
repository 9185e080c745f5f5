"""The queues: what waits in each, in which order, how many, and how tickets are found."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.postgres.search import SearchQuery
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from refunds.tests import world as shop
from smsactivator.common.links import admin_url
from support import cases, casework, queues, search
from support.models import Message, Ticket
from support.tests.world import (
    MONDAY,
    agent,
    ask,
    decide,
    deliver,
    delivered,
    denied,
    refund,
    reply,
    senior,
    write,
)
from wallet.tests.attack import as_owner
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

LIST = "support_ticket_changelist"
MANY = """
    INSERT INTO support_ticket (
        customer_id, subject, channel, state, queue, opened_at, version, key,
        waiting_since, due_at, dispute_since, dispute_due_at, resolved_at, assignee_id
    )
    SELECT %(customer)s, 'Order ' || n || ' and its SMS', 'api', state, queue, opened_at, 1,
        'many:' || n,
        CASE WHEN waits THEN opened_at END, CASE WHEN waits THEN opened_at + interval '1 day' END,
        CASE WHEN disputed THEN opened_at END,
        CASE WHEN disputed THEN opened_at + interval '1 day' END,
        CASE WHEN state = 'closed' THEN opened_at + interval '1 hour' END,
        CASE WHEN n %% 3 = 0 THEN %(person)s END
    FROM (
        SELECT n, CASE WHEN n %% 20 = 0 THEN 'open' ELSE 'closed' END AS state,
            now() - n * interval '1 minute' AS opened_at,
            CASE WHEN n %% 200 = 0 THEN 'seniors' ELSE 'agents' END AS queue,
            n %% 20 = 0 AND n %% 200 <> 0 AS waits, n %% 200 = 0 AS disputed
        FROM generate_series(1, %(last)s) AS n
    ) AS made
"""
MESSAGES = """
    INSERT INTO support_message (ticket_id, kind, body, created_at, via, key, fingerprint)
    SELECT ticket.id, 'customer', 'The code of word' || ticket.id || ' was not accepted',
        ticket.opened_at, 'test', 'many', ''
    FROM support_ticket AS ticket
    WHERE NOT EXISTS (SELECT FROM support_message WHERE ticket_id = ticket.id)
"""


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


def listed(user: Any, **query: Any) -> list[int]:
    """The tickets of a list, in its order."""
    response = client_of(user).get(admin_url(LIST, **query))
    assert response.status_code == 200
    return [ticket.pk for ticket in response.context["cl"].result_list]


def tabs(user: Any, **query: Any) -> dict[str, str]:
    """The tabs above the list with the counts that stand in them."""
    content = client_of(user).get(admin_url(LIST, **query)).content.decode()
    nav = content.split('aria-label="Queues"')[1].split("</nav>")[0]
    count = r'(?: <span class="tab-count">(.*?)</span>)?'
    return dict(re.findall(rf'<a class="tab[^>]*>([^<]+?){count}</a>', nav))


def many(user: Any, last: int) -> None:
    customer = shop.customer("0")
    with connection.cursor() as cursor:
        cursor.execute(MANY, {"customer": customer.pk, "person": user.pk, "last": last})
        cursor.execute(MESSAGES)


# --- what waits in each ---------------------------------------------------------------------------


def test_each_queue_holds_its_tickets_in_the_order_in_which_they_are_due(clock, ann, sonia):
    late = ask(shop.customer())
    clock.shift(timedelta(minutes=1))
    own = ask(shop.customer())
    casework.assign(ann, own.pk, ann.pk)
    clock.shift(timedelta(minutes=1))
    answered = ask(shop.customer())
    deliver(reply(ann, answered, then="waiting"))
    done = ask(shop.customer())
    deliver(reply(ann, done, then="resolved"))
    clock.shift(timedelta(minutes=1))
    first, first_denial = denied(ann)
    write(first, "I do not agree")
    clock.shift(timedelta(minutes=1))
    second, _ = denied(ann)
    write(second, "Nor do I")
    clock.shift(timedelta(minutes=1))
    above = ask(shop.customer("20"))
    refund(ann, above, delivered(above.customer, "15"), amount=15)
    clock.shift(timedelta(minutes=1))
    newest = ask(shop.customer())

    assert listed(ann, queue="todo") == [late.pk, own.pk, newest.pk]
    assert listed(ann, queue="mine") == [
        *(own.pk, first.pk, second.pk, above.pk),
        answered.pk,  # nothing is due
    ]
    assert listed(sonia, queue="mine") == []
    assert listed(ann, queue="unassigned") == [late.pk, newest.pk]
    assert listed(ann, queue="senior") == [first.pk, second.pk, above.pk]
    assert listed(ann, queue="disputes") == [first.pk, second.pk]
    assert listed(ann, queue="decided") == [second.pk, first.pk]
    assert listed(ann) == sorted((t.pk for t in Ticket.objects.all()), reverse=True)
    assert tabs(ann) == {
        "To answer": "3",
        "Mine": "5",
        "Unassigned": "2",
        "Waiting for a senior": "3",
        "Disputes": "2",
        "Decided today": "2",
        "All": "",
    }

    # What is decided leaves its queue; tomorrow it was not decided today.
    decide(cases.uphold, sonia, first, first_denial, reply_body="No", then="resolved")
    assert listed(ann, queue="disputes") == [second.pk]
    assert listed(ann, queue="senior") == [second.pk, above.pk]
    clock.move_to(MONDAY.replace(hour=23, minute=59))
    assert listed(ann, queue="decided") == [second.pk, first.pk]
    clock.move_to(MONDAY.replace(hour=0) + timedelta(days=1))
    assert listed(ann, queue="decided") == []


def test_a_dispute_is_decided_today_on_the_ticket_that_follows(clock, ann, sonia):
    ticket, asked = denied(ann)
    deliver(ticket.messages.get(kind="reply"))
    clock.shift(timedelta(days=8))
    casework.close_resolved()
    following = write(ticket, "I never got it").ticket
    assert listed(ann, queue="disputes") == [following.pk]

    decide(cases.overturn, sonia, following, asked, reply_body="You are right", then="resolved")

    assert listed(ann, queue="decided") == [following.pk]


def test_tickets_due_at_the_same_moment_stand_in_the_order_they_came(clock, ann):
    tickets = [ask(shop.customer()).pk for _ in range(3)]
    assert listed(ann, queue="todo") == tickets
    assert listed(ann, queue="unassigned") == tickets


def test_an_unknown_queue_is_the_list_of_all(ann):
    ticket = ask()
    assert listed(ann, queue="gone") == [ticket.pk]
    assert client_of(ann).get(admin_url(LIST, queue="mine\x00")).status_code == 400


# --- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "words"), [(0, ""), (1, "1"), (99, "99"), (100, "99+")])
def test_the_navigation_says_how_many_wait(ann, number, words):
    if number:
        many(ann, number * 20)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE support_ticket SET queue = 'agents', waiting_since = dispute_since, "
                "due_at = dispute_due_at, dispute_since = NULL, dispute_due_at = NULL "
                "WHERE dispute_due_at IS NOT NULL"
            )
    client = client_of(ann)

    assert queues.count(queues.BY_NAME["todo"], ann) == words
    sidebar = client.get("/admin/").content.decode()
    entry = sidebar.split('href="/admin/support/ticket/?queue=todo"')[1].split("</a>")[0]
    assert " ".join(re.sub(r"<[^>]+>", " ", entry).split()).endswith(f"To answer {words}".strip())
    assert tabs(ann)["To answer"] == words


def test_the_tab_of_the_open_queue_is_marked(ann):
    for queue in queues.QUEUES:
        content = client_of(ann).get(admin_url(LIST, queue=queue.name)).content.decode()
        nav = content.split('aria-label="Queues"')[1].split("</nav>")[0]
        [marked] = re.findall(r'<a [^>]*aria-current="page">([^<]+)', nav)
        assert marked.strip() == queue.label


# --- finding --------------------------------------------------------------------------------------


def test_tickets_are_found_by_what_people_know_of_them(ann):
    shop_customer = shop.customer()
    order = delivered(shop_customer)
    ticket = ask(
        shop_customer,
        subject="Zahlung für Telegram",
        body="My friend's number got no code",
        order_ids=[order.pk],
    )
    write(ticket, "It says: invalid passcode")
    other = ask(subject="Something else", body="Where is my money?")
    from wallet.models import Customer

    Customer.objects.filter(pk=shop_customer.pk).update(email="ann@customer.test")

    def found(term: str) -> list[int]:
        return listed(ann, q=term)

    assert found("passcode") == [ticket.pk]
    assert found("PASSCODE invalid") == [ticket.pk]  # in any order and case
    assert found("Zahlung") == [ticket.pk]
    assert found("für telegram") == [ticket.pk]
    assert found('"invalid passcode"') == [ticket.pk]
    assert found('"passcode invalid"') == []
    assert found("my") == [other.pk, ticket.pk]
    assert found("passcode money") == []
    assert found("pass") == []
    assert found(f"{ticket.pk}") == [ticket.pk]
    assert found(f"#{ticket.pk}") == [ticket.pk]
    assert found(f"Ticket {ticket.pk}") == [ticket.pk]  # as the pages name them
    assert found(f"ticket #{ticket.pk}") == [ticket.pk]
    assert found(f"Order {order.pk}") == [ticket.pk]
    assert found("Ticket 999999999999999999999") == []
    assert ticket.pk in found(f"{order.pk}")
    assert found(order.phone) == [ticket.pk]
    assert found(order.phone[1:]) == [ticket.pk]
    assert found(order.phone[:9]) == [ticket.pk]
    assert found(shop_customer.external_id) == [ticket.pk]
    assert found("ann@customer.test") == [ticket.pk]
    assert found("  passcode ") == [ticket.pk]
    assert found("passcode or money") == [other.pk, ticket.pk]
    assert found("my -passcode") == [other.pk, ticket.pk]  # another message of it has no passcode


def test_a_list_is_named_by_its_queue(ann):
    def title(**query: str) -> str:
        return client_of(ann).get(admin_url(LIST, **query)).context["title"]

    assert title(queue="todo") == "To answer"
    assert title() == title(queue="nothing") == "Tickets"


def test_notes_are_found_too(ann):
    from support import replies

    ticket = ask()
    replies.note(ann, ticket.pk, body="Smells of chargeback", key="note")
    assert listed(ann, q="chargeback") == [ticket.pk]


def test_a_search_within_a_queue_stays_in_it(ann):
    own, other = ask(body="same words"), ask(body="same words")
    casework.assign(ann, own.pk, ann.pk)
    assert listed(ann, q="same words", queue="mine") == [own.pk]
    assert listed(ann, q="same words", queue="unassigned") == [other.pk]


@pytest.mark.parametrize(
    "term",
    [
        *("!", "&|!()<->:*", "'", '"', "\\", "%", "_", "a:*", "-", "-a", "or", '"a', "+", "#", "0"),
        *("9" * 18, "9" * 30, "+" + "9" * 40, "٣", "²", "a" * 5000, "a " * 2000, "\ud83d\ude00"),
        *("\U0001d54f", "\u202e", "1e5", "-1", "NaN", "{{order}}", "<b>"),
    ],
)
def test_odd_words_find_nothing_and_break_nothing(ann, term):
    ask(body="Plain text")
    if any("\ud800" <= char <= "\udfff" for char in term):
        term = term.encode("utf-16", "surrogatepass").decode("utf-16")
    response = client_of(ann).get(admin_url(LIST, q=term))
    assert response.status_code == 200
    assert html.escape(term.strip()) in response.content.decode()


def test_a_nul_and_unknown_filters_are_not_understood(ann):
    client = client_of(ann)
    assert client.get(admin_url(LIST, q="a\x00b")).status_code == 400
    assert client.get(admin_url(LIST, subject__startswith="C")).status_code == 400
    assert client.get(admin_url(LIST, messages__body__contains="C")).status_code == 400
    assert client.post(admin_url(LIST, q="a\x00b"), {"action": "take"}).status_code == 400


def test_a_list_says_nothing_to_those_who_may_not_see_tickets():
    ask()
    finance = client_of(person("Finance"))
    assert finance.get(admin_url(LIST)).status_code == 403
    assert finance.get(admin_url(LIST, queue="todo")).status_code == 403
    assert finance.get(admin_url(LIST, q="work")).status_code == 403


# --- cost -----------------------------------------------------------------------------------------


def test_a_list_takes_as_many_queries_whatever_is_in_it(ann, sonia):
    def queries() -> dict[str, int]:
        client, found = client_of(ann), {}
        for name, query in {
            **{queue.name: {"queue": queue.name} for queue in queues.QUEUES},
            "all": {},
            "words": {"q": "work"},
        }.items():
            client.get(admin_url(LIST, **query))
            with CaptureQueriesContext(connection) as made:
                assert client.get(admin_url(LIST, **query)).status_code == 200
            found[name] = len(made)
        return found

    for _ in range(2):
        ticket, _asked = denied(ann)
        write(ticket)
        casework.assign(ann, ask().pk, ann.pk)
        ask()
    few = queries()
    for _ in range(8):
        ticket, _asked = denied(ann)
        write(ticket)
        casework.assign(ann, ask().pk, ann.pk)
        casework.claim(sonia, ask().pk)
    assert queries() == few


INDEXES = {
    "todo": {"ticket_due"},
    "mine": {"ticket_mine"},
    "unassigned": {"ticket_unassigned"},
    "senior": {"ticket_senior"},
    "disputes": {"ticket_dispute_due"},
}


def plan_of(queryset: Any) -> str:
    return str(queryset.explain())


@pytest.fixture
def crowd(ann):
    many(ann, 20_000)
    with as_owner(), connection.cursor() as cursor:
        cursor.execute("ANALYZE support_ticket")
        cursor.execute("ANALYZE support_message")


def test_each_queue_is_a_range_of_an_index_in_its_order(crowd, ann):
    from django.contrib import admin

    page = admin.site.get_model_admin(Ticket)
    with connection.cursor() as cursor:
        # A queue of a few may be sorted at once: what is asked is whether an index has its order.
        cursor.execute("SET LOCAL enable_sort = off")
    for name, indexes in INDEXES.items():
        request = RequestFactory().get("/", {"queue": name})
        request.user = ann
        found = page.get_changelist_instance(request).queryset
        assert found.count() > 0, name
        plan = plan_of(found[:50])
        assert {index for index in indexes if index in plan} == indexes, (name, plan)
        assert "Seq Scan on support_ticket" not in plan, (name, plan)
        assert "Sort" not in plan, (name, plan)
        counted = plan_of(
            queues.BY_NAME[name].tickets(Ticket.objects.all(), ann).order_by()[: queues.COUNTED]
        )
        assert "Seq Scan on support_ticket" not in counted, (name, counted)


def test_what_was_decided_today_is_found_by_indexes_of_the_day(ann):
    for _ in range(3):
        denied(ann)
    with CaptureQueriesContext(connection) as made:
        assert len(listed(ann, queue="decided")) == 3
    found = [query["sql"] for query in made if '"decided_at" >= ' in query["sql"]]
    assert found
    with connection.cursor() as cursor:
        # So few rows are read whole or by their keys, unless that is made dear: a bitmap is only
        # of an index that the condition fits.
        cursor.execute(
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off;"
            " SET LOCAL enable_indexonlyscan = off"
        )
        for sql in found:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "request_decided_by_day" in plan, plan
            assert "request_resolved_by_day" in plan, plan


def test_words_are_found_by_an_index(crowd, ann):
    query = SearchQuery("word77", config="simple", search_type="websearch")
    said = Message.objects.annotate(words=search.WORDS).filter(words=query).order_by("-id")
    plan = plan_of(said[: search.MOST])
    assert "message_words" in plan, plan
    from django.contrib.postgres.search import SearchVector

    query = SearchQuery("order 777", config="simple", search_type="websearch")
    named = Ticket.objects.annotate(words=SearchVector("subject", config="simple"))
    plan = plan_of(named.filter(words=query).order_by("-id")[: search.MOST])
    assert "ticket_words" in plan, plan
    assert len(listed(ann, q="order 777")) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "active"),
    [
        ({"queue": "todo"}, False),
        ({"queue": "todo", "channel__exact": "email"}, True),
        ({"channel__exact": "email"}, True),
        ({}, False),
    ],
)
def test_a_queue_is_no_filter_that_somebody_set(client, asked, active):
    client.force_login(agent())
    listed = client.get(admin_url("support_ticket_changelist", **asked))
    assert listed.context["cl"].has_active_filters is active


EMPTY = {
    "todo": "Nothing here: no ticket waits.",
    "mine": "No ticket is assigned to you.",
    "decided": "Nothing here: no refund was decided today.",
}


@pytest.mark.django_db
@pytest.mark.parametrize("queue", EMPTY)
def test_an_empty_queue_says_that_nothing_waits_and_a_narrowed_one_that_nothing_matches(
    client, queue
):
    client.force_login(agent())

    def read(**query):
        page = client.get(admin_url("support_ticket_changelist", **query)).content.decode()
        found = re.search(r'empty-list">(.*?)</div>', page, re.DOTALL)
        return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())

    assert read(queue=queue) == EMPTY[queue]
    assert read(queue=queue, q="") == EMPTY[queue]
    assert read(queue=queue, q="code") == "No tickets match what is asked for. Show all"
    narrowed = read(queue=queue, channel__exact="email")
    assert narrowed == "No tickets match what is asked for. Show all"
    assert read() == "There are no tickets yet."
