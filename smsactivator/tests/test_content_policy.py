"""The Content-Security-Policy: on every answer, and no page of ours needs what it forbids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page

from smsactivator.tests import world
from smsactivator.tests.test_admin_roles import shop as shop
from smsactivator.tests.test_browser import browser as browser
from support.tests import world as tickets
from wallet.models import RoleLimit

SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", re.IGNORECASE)
# What somebody who can write into a page would try.
SMUGGLED = """() => {
    const script = document.createElement("script");
    script.text = "window.ran = 1";
    document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = 1'>");
}"""
HANDLER = re.compile(r"<[a-z][^>]*\son[a-z]+=[\"']", re.IGNORECASE)


def directives(response: Any) -> dict[str, str]:
    policy = response.headers["Content-Security-Policy"]
    return {part.split()[0]: part.partition(" ")[2] for part in policy.split("; ")}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/login/", 200),
        ("/admin/", 302),
        ("/api/v1/docs", 200),
        ("/api/v1/offers", 401),
        ("/nothing/here", 404),
    ],
)
def test_every_answer_bears_the_policy(path: str, status: int) -> None:
    answer = Client().get(path)

    assert answer.status_code == status
    told = directives(answer)
    assert told["default-src"] == "'self'"
    assert told["script-src"] == "'self' 'unsafe-eval'"
    assert told["object-src"] == told["base-uri"] == told["frame-ancestors"] == "'none'"
    assert told["form-action"] == "'self'"


@pytest.mark.django_db
def test_no_page_has_a_script_in_it(shop: dict[str, Any]) -> None:
    client = Client()
    client.force_login(world.person())

    for name, pk in shop.items():
        if name.endswith("_file"):
            continue
        for url in (
            reverse(f"admin:{name}_changelist"),
            reverse(f"admin:{name}_change", args=[str(pk).replace("_", "_5F")]),
        ):
            page = client.get(url).content.decode()
            assert SCRIPT.findall(page) == HANDLER.findall(page) == [], url


@pytest.fixture
def seat(browser: Browser, live_server: Any) -> Iterator[tuple[Page, list[str]]]:
    """An administrator in every role at a browser, and what its console said of the policy."""
    admin = world.person()
    admin.groups.set(Group.objects.all())
    client = Client()
    client.force_login(admin)
    context = browser.new_context()
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}]
    )
    page = context.new_page()
    page.set_default_timeout(10_000)
    said: list[str] = []
    page.on("console", lambda told: told.type == "error" and said.append(told.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page, said
    context.close()


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_no_page_breaks_the_policy_in_a_browser(
    seat: tuple[Page, list[str]], live_server: Any
) -> None:
    page, said = seat
    ticket = tickets.ask(world.customer())
    paths = [
        reverse("admin:index"),
        reverse("admin:support_ticket_changelist"),
        reverse("admin:support_ticket_change", args=[ticket.pk]),
        reverse("admin:orders_order_changelist"),
        reverse("admin:wallet_payout_board"),
        reverse("admin:wallet_close_changelist"),
        reverse("admin:wallet_wallet_change", args=[ticket.customer_id]),
        reverse("admin:auth_user_add"),
        reverse("admin:auth_user_changelist"),
        reverse("admin:wallet_rolelimit_change", args=[RoleLimit.objects.earliest("pk").pk]),
        reverse("admin:orders_offer_add"),
        reverse("admin:support_calendar_changelist"),
        reverse("reports:page", args=["refunds"]),
        reverse("admin:password_change"),
        reverse("admin:axes_accesslog_changelist"),
        "/api/v1/docs",
        "/nothing/here",
    ]
    for path in paths:
        page.goto(live_server.url + path)
        page.wait_for_load_state("networkidle")
    assert [text for text in said if "404" not in text] == []
    # The policy is enforced: what stands in a page does not run.
    page.goto(live_server.url + reverse("admin:index"))
    page.evaluate(SMUGGLED)
    assert page.evaluate("window.ran") is None
