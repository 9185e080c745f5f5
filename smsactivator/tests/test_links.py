"""No page offers a link that leads nowhere for the person who reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from smsactivator.tests.markup import Page
from smsactivator.tests.test_admin_roles import shop
from smsactivator.tests.test_roles_by_action import (
    ADMIN,
    AGENT,
    AUDITOR,
    FINANCE,
    NOBODY,
    SENIOR,
    rows,
    somebody,
)
from support.tests import world as desk

__all__ = ["rows", "shop"]

pytestmark = pytest.mark.django_db

ALIKE = 3  # pages of one kind that are looked at, as the tickets in a list
SUBJECT = "Words of a customer alone"


def kind(url: str) -> tuple[str, tuple[str, ...]]:
    """Pages that are made alike: the address without its numbers, and what it asks for."""
    parts = urlsplit(url)
    path = "/".join("#" if any(map(str.isdigit, step)) else step for step in parts.path.split("/"))
    query = parse_qs(parts.query)
    words = (f"{name}={query[name][0]}" if name in {"queue", "table"} else name for name in query)
    return path, tuple(sorted(words))


def crawl(user: User) -> tuple[dict[str, str], dict[str, tuple[int, str]]]:
    """Every page that links lead to, and each answer that is none, with where its link stands."""
    client = Client(raise_request_exception=False)
    client.force_login(user)
    waiting, seen, alike = [(reverse("admin:index"), "the start")], set(), Counter()
    pages: dict[str, str] = {}
    dead: dict[str, tuple[int, str]] = {}
    while waiting:
        url, found_on = waiting.pop(0)
        if url in seen or alike[kind(url)] >= ALIKE:
            continue
        seen.add(url)
        alike[kind(url)] += 1
        answer = client.get(url)
        if answer.status_code in {301, 302}:
            waiting.append((urljoin(url, answer.headers["Location"]), found_on))
            continue
        if answer.status_code != 200:
            dead[url] = (answer.status_code, found_on)
            continue
        if answer.streaming or not answer.headers["Content-Type"].startswith("text/html"):
            continue
        pages[url] = answer.content.decode()
        for link in Page(pages[url]).links:
            to = urlsplit(urljoin(url, link))
            if not to.netloc and to.scheme == "" and not to.path.startswith("/static/"):
                waiting.append((to._replace(fragment="").geturl(), url))
    return pages, dead


@pytest.fixture
def busy(rows: dict[str, Any]) -> dict[str, Any]:
    """A row of everything, and a ticket with a payout and a dispute."""
    gone = desk.ask(desk.world.customer("100"), "Pay me out", subject=SUBJECT)
    desk.payout(desk.agent("lea"), gone)
    disputed, _ = desk.denied(desk.agent("dan"), desk.ask(subject=SUBJECT))
    desk.write(disputed, "I do not agree")
    return rows


@pytest.mark.parametrize("role", [AGENT, SENIOR, FINANCE, AUDITOR, ADMIN, NOBODY])
def test_every_link_leads_somewhere_for_whoever_is_shown_it(
    role: str, busy: dict[str, Any]
) -> None:
    pages, dead = crawl(somebody(role))
    assert dead == {}
    if role != NOBODY:
        assert len(pages) > 40
    shown = [url for url, page in pages.items() if SUBJECT in page]
    assert bool(shown) == (role in {AGENT, SENIOR, AUDITOR, ADMIN}), shown
