"""The queue of tickets over many tickets beside the queue over few, interleaved."""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

FEW, MANY = 2_000, 200_000
PAGES = 60

TICKETS = """
    INSERT INTO support_ticket (
        customer_id, subject, channel, state, queue, opened_at, version, key,
        waiting_since, due_at, dispute_since, dispute_due_at, resolved_at, assignee_id
    )
    SELECT %(customer)s, 'Order ' || n || ' and its SMS', 'api', state, queue, opened_at, 1,
        'bench:' || n,
        CASE WHEN waits THEN opened_at END, CASE WHEN waits THEN opened_at + interval '1 day' END,
        CASE WHEN disputed THEN opened_at END,
        CASE WHEN disputed THEN opened_at + interval '1 day' END,
        CASE WHEN state IN ('resolved', 'closed') THEN opened_at + interval '1 hour' END,
        CASE WHEN n %% 3 = 0 THEN %(person)s END
    FROM (
        SELECT n, state, now() - n * interval '1 minute' AS opened_at,
            CASE WHEN n %% 50 = 0 THEN 'seniors' ELSE 'agents' END AS queue,
            state IN ('new', 'open') AND n %% 50 <> 0 AS waits,
            state IN ('new', 'open') AND n %% 50 = 0 AS disputed
        FROM (
            SELECT n, CASE WHEN n %% 10 < 7 THEN 'closed' WHEN n %% 10 = 7 THEN 'resolved'
                WHEN n %% 10 = 8 THEN 'new' ELSE 'open' END AS state
            FROM generate_series(%(first)s, %(last)s) AS n
        ) AS numbered
    ) AS made
"""
MESSAGES = """
    INSERT INTO support_message (ticket_id, kind, body, created_at, via, key, fingerprint)
    SELECT ticket.id, 'customer', 'The code of order ' || ticket.id || ' was not accepted',
        ticket.opened_at, 'bench', 'bench', ''
    FROM support_ticket AS ticket
    WHERE NOT EXISTS (SELECT FROM support_message WHERE ticket_id = ticket.id)
"""


def run(*, few: int = FEW, many: int = MANY, pages: int = PAGES) -> dict[str, Any]:
    """Each queue's page and a search, over few and over many tickets, in two databases of one
    server, the pages in turns. Returns the ratio of the medians for each page.
    """
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    databases = setup_databases(verbosity=0, interactive=False)
    try:
        client, customer, person = _people()
        urls = _urls()
        taken: dict[int, dict[str, list[float]]] = {}
        made = 0
        # Few first, then many in the same database: the tables only grow, as in the shop.
        for size in (few, many):
            with connection.cursor() as cursor:
                ids = {"customer": customer, "person": person, "first": made + 1, "last": size}
                cursor.execute(TICKETS, ids)
                cursor.execute(MESSAGES)
                cursor.execute("VACUUM ANALYZE support_ticket")
                cursor.execute("VACUUM ANALYZE support_message")
            made = size
            sys.stderr.write(f"{size:,} tickets\n")
            taken[size] = _timed(client, urls, pages)
    finally:
        teardown_databases(databases, verbosity=0)
    return {
        "few": few,
        "many": many,
        "pages": {
            name: round(statistics.median(taken[many][name]) / statistics.median(times), 2)
            for name, times in taken[few].items()
        },
    }


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    rows = [
        f"| page | {result['many']:,} tickets to {result['few']:,} | wanted |",
        "|---|---|---|",
        *(f"| {name} | {ratio} | at most 1.3 |" for name, ratio in result["pages"].items()),
    ]
    return "\n".join(rows)


def _people() -> tuple[Any, int, int]:
    from django.contrib.auth.models import Group, User
    from django.test import Client

    from smsactivator.common.history import Actor
    from smsactivator.roles import SENIOR_AGENT
    from wallet import customers
    from wallet.models import Storefront

    shop, _ = Storefront.objects.get_or_create(name="Bench")
    customer, _ = customers.create_or_update(shop.pk, "bench", actor=Actor.automatic("bench"))
    person = User.objects.create_user("bench", is_staff=True)
    person.groups.add(Group.objects.get(name=SENIOR_AGENT))
    client = Client(SERVER_NAME="localhost")
    client.force_login(person)
    return client, customer.pk, person.pk


def _urls() -> dict[str, str]:
    from smsactivator.common.links import admin_url
    from support.queues import QUEUES

    name = "support_ticket_changelist"
    return {
        **{f"queue: {queue.label}": admin_url(name, queue=queue.name) for queue in QUEUES},
        "all tickets": admin_url(name),
        "search for words": admin_url(name, q="code 1999"),
    }


def _timed(client: Any, urls: dict[str, str], pages: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(pages + 1):
        for name, url in urls.items():
            begun = time.perf_counter()
            if client.get(url).status_code != 200:
                raise SystemExit(f"{url} does not open")
            if number:  # the first one warms up
                taken[name].append(time.perf_counter() - begun)
    return taken
