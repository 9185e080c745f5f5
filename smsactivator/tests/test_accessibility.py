"""Everybody can read and use the pages: axe finds nothing, in both modes and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from playwright.sync_api import Browser, BrowserContext, Page, expect

from smsactivator.common.links import admin_url
from smsactivator.tests import world
from smsactivator.tests.test_admin_roles import shop
from smsactivator.tests.test_browser import PATIENCE, browser
from smsactivator.tests.test_roles_by_action import FINANCE, rows
from support.tests import world as desk
from wallet.tests import exported

__all__ = ["browser", "rows", "shop"]

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

AXE = Axe()


def pages(rows: dict[str, Any]) -> dict[str, str]:
    """The addresses that are looked at, by what they are."""
    gone = desk.leaving()
    desk.payout(desk.agent("lea"), gone)
    disputed, _ = desk.denied(desk.agent("dan"))
    desk.write(disputed, "I do not agree")
    waiting = exported.asked(world.person(FINANCE, name="fina"), "orders")
    lists = ["orders_order", "orders_sms", "refunds_refund", "refunds_refundrequest"]
    lists += ["support_ticket", "support_outbound", "support_wait", "support_macro"]
    lists += ["wallet_customer", "wallet_wallet", "wallet_payout", "wallet_payoutbatch"]
    lists += ["wallet_export", "wallet_close", "wallet_holding", "auth_user", "wallet_rolelimit"]
    one = [*lists[:4], *lists[5:], "wallet_claim", "wallet_termination", "wallet_correction"]
    one += ["wallet_resultfile", "wallet_auditrun", "wallet_liabilitycheck", "support_calendar"]
    one += ["orders_offer", "wallet_payoutmethod", "wallet_apikey"]
    return {
        "front page": admin_url("index"),
        "queue": admin_url("support_ticket_changelist", queue="todo"),
        "case": admin_url("support_ticket_change", rows["support_ticket"]),
        "case with a dispute": admin_url("support_ticket_change", disputed.pk),
        "case with a payout": admin_url("support_ticket_change", gone.pk),
        "export that is written": admin_url("wallet_export_change", waiting.pk),
        "payout board": admin_url("wallet_payout_board"),
        "gather": admin_url("wallet_payoutbatch_gather"),
        "upload": admin_url("wallet_resultfile_upload"),
        "ask for an export": admin_url("wallet_export_add"),
        "new offer": admin_url("orders_offer_add"),
        "new holding": admin_url("wallet_holding_add"),
        "issue a key": admin_url("wallet_apikey_add"),
        "freeze": admin_url("wallet_customer_do", rows["wallet_customer"], "freeze"),
        "approve a payout": admin_url("wallet_payout_do", rows["wallet_payout"], "approve"),
        "invite": admin_url("auth_user_add"),
        "change a person": admin_url("auth_user_do", rows["auth_user"], "change"),
        "role": admin_url("auth_group_change", rows["auth_group"]),
        "log-ins": admin_url("axes_accesslog_changelist"),
        "failed log-ins": admin_url("axes_accessfailurelog_changelist"),
        "policy preview": admin_url("refunds_policy_preview"),
        "read an SMS": admin_url("orders_order_read_sms", rows["orders_order"]),
        **{
            f"report of {name}": f"/admin/reports/{name}/"
            for name in ("refunds", "decisions", "answers")
        },
        **{f"list {name}": admin_url(f"{name}_changelist") for name in lists},
        **{f"row {name}": admin_url(f"{name}_change", rows[name]) for name in one},
        "nothing there": "/admin/nothing/",
    }


def found(page: Page) -> list[str]:
    """What axe finds on a page."""
    violations = AXE.run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {node['html'][:160]} | {node['failureSummary'][-160:]}"
        for one in violations
        for node in one["nodes"][:4]
    ]


@pytest.fixture
def signed_in(browser: Browser, live_server: Any) -> Iterator[Any]:
    """A context of somebody who is signed in, in a mode."""
    opened: list[BrowserContext] = []

    def enter(user: Any, mode: str = "light") -> BrowserContext:
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context = browser.new_context(
            base_url=live_server.url,
            color_scheme=mode,
            reduced_motion="reduce",
            viewport={"width": 1500, "height": 1000},
        )
        context.set_default_timeout(PATIENCE)
        name = settings.SESSION_COOKIE_NAME
        context.add_cookies([{"name": name, "value": session, "url": live_server.url}])
        opened.append(context)
        return context

    yield enter
    for context in opened:
        context.close()


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(mode: str, signed_in: Any, rows: dict[str, Any]) -> None:
    page = signed_in(world.person(name="admin"), mode).new_page()
    faults = []
    for name, url in pages(rows).items():
        page.goto(url)
        page.evaluate("document.fonts.ready")
        faults += [f"{name}: {fault}" for fault in found(page)]
        assert page.locator("main").count() == 1, name
    assert not faults, "\n".join(faults)


def test_who_comes_by_keyboard_can_skip_the_navigation(signed_in: Any) -> None:
    page = signed_in(world.person(name="admin")).new_page()
    for url in (admin_url("index"), admin_url("orders_order_changelist")):
        page.goto(url)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


def test_the_log_in_page_can_be_read_by_everybody(browser: Browser, live_server: Any) -> None:
    for mode in ("light", "dark"):
        context = browser.new_context(base_url=live_server.url, color_scheme=mode)
        page = context.new_page()
        page.goto("/admin/login/")
        assert found(page) == []
        assert page.locator("main").count() == 1
        context.close()


def test_what_a_link_for_a_password_opens_can_be_read_by_everybody(
    browser: Browser, live_server: Any
) -> None:
    person = world.person("Support agent", name="ann")
    uid = urlsafe_base64_encode(force_bytes(person.pk))
    good, bad = (
        reverse("choose_password", args=[uid, token])
        for token in (default_token_generator.make_token(person), "old-link")
    )
    for mode in ("light", "dark"):
        context = browser.new_context(base_url=live_server.url, color_scheme=mode)
        page = context.new_page()
        for url in (good, bad):
            page.goto(url)
            assert found(page) == []
            assert page.locator("main").count() == 1
        context.close()


def test_what_a_page_says_of_the_session_and_of_a_draft_can_be_read_by_everybody(
    signed_in: Any,
) -> None:
    ticket = desk.ask(world.customer())
    for mode in ("light", "dark"):
        page = signed_in(world.person("Support agent", name=f"ann-{mode}"), mode).new_page()
        page.goto(admin_url("support_ticket_change", ticket.pk))
        with page.expect_response(lambda got: got.url.endswith("/admin/drafts") and got.ok):
            page.fill("#reply [name=body]", "Look again, please")
        page.reload()
        expect(page.locator(".draft-note")).to_be_visible()
        Session.objects.all().delete()
        page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        expect(page.locator("#session-note")).to_contain_text("You are logged out.")
        assert found(page) == []


def test_the_front_page_loads_itself_again_but_not_under_somebodys_hands(signed_in: Any) -> None:
    page = signed_in(world.person(name="admin")).new_page()
    page.clock.install()
    page.goto(admin_url("index"))
    note = page.locator("[data-refresh]")
    expect(note).to_contain_text("refreshed every 15 seconds.")

    with page.expect_navigation():
        page.clock.run_for(16_000)

    page.evaluate("window.kept = true")
    page.locator("main a").first.focus()
    page.clock.run_for(60_000)
    assert page.evaluate("window.kept")
    page.get_by_role("button", name="Pause").click()
    expect(note).to_contain_text("not refreshed until you go on.")
    page.clock.run_for(60_000)
    assert page.evaluate("window.kept")
    page.get_by_role("button", name="Go on").click()
    with page.expect_navigation():
        page.clock.run_for(16_000)
