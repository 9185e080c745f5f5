"""Role by action, over HTTP: exactly those pass whom the tables name, and nothing else changes.

The tables name every page, act, step, action and call that there is: a new one fails here until
somebody has said who may do it.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from orders.models import Order, Sms, SmsReading
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause
from refunds.tests import world as refunds_world
from smsactivator import roles
from smsactivator.api import api
from smsactivator.common import actions
from smsactivator.common.files import Upload
from smsactivator.common.links import admin_url
from smsactivator.tests import payouts, world
from smsactivator.tests.test_admin_roles import shop
from support import cases, casework, delivery
from support.admin.casepage import ACTS
from support.bulk import STEPS
from support.models import (
    Attachment,
    AttachmentReading,
    Calendar,
    CalendarException,
    Macro,
    Message,
    Outbound,
    Ticket,
    TicketOrder,
    TicketPayout,
    Viewing,
)
from support.tests import threads
from support.tests import world as desk
from support.tests.conftest import mails_go_to, server
from support.tests.mailserver import Answers
from wallet import claim_files, keys, settlement
from wallet.models import (
    AccountOutcome,
    ApiKey,
    BatchLine,
    Claim,
    ClaimFile,
    ClaimFileReading,
    Close,
    CloseFigure,
    Customer,
    Deposit,
    Export,
    ExportDownload,
    ExportPart,
    FileDownload,
    Holding,
    LiabilityCheck,
    Payout,
    PayoutBatch,
    PayoutFile,
    PayoutMethod,
    PayoutMove,
    PayoutOutcome,
    ResultFile,
    ResultLine,
    Storefront,
    Transfer,
    Wallet,
)
from wallet.tests import exported
from wallet.tests.forms import carried

__all__ = ["mails_go_to", "server", "shop"]

pytestmark = pytest.mark.django_db

AGENT, SENIOR, FINANCE = "Support agent", "Senior agent", "Finance"
AUDITOR = "Auditor"  # views all and changes nothing
ADMIN, NOBODY = "Administrator", "Nobody"  # a superuser without a role; a login without one
ROLES = (AGENT, SENIOR, FINANCE, AUDITOR, ADMIN, NOBODY)

DESK = {AGENT, SENIOR, ADMIN}  # who speaks with customers
SENIORS = {SENIOR, ADMIN}
READERS = DESK | {AUDITOR}
ALL = READERS | {FINANCE}
NO_ONE: set[str] = set()

# Whose list and rows: of support and refunds.
PAGES: dict[str, set[str]] = {
    "support_ticket": READERS,
    "support_macro": READERS,
    "support_calendar": READERS,
    "support_calendarexception": READERS,
    "support_outbound": READERS,
    "support_wait": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "refunds_refund": ALL,
    "refunds_refundrequest": ALL,
    "refunds_sweep": {AUDITOR, ADMIN},
}
# Who adds and changes rows by the admin's own forms, each of which calls a verb.
EDITED = {"support_macro": SENIORS}
STANDARD = {"changelist", "add", "history", "delete", "change", "do"}
# Every other address of the admin: those that the tables below walk, and who reads the rest.
WALKED = {"support_ticket_case", "support_ticket_bulk"}
READ: dict[str, set[str]] = {
    "refunds_policy_preview": {SENIOR, FINANCE, ADMIN},
    "refunds_policy_preview_csv": {SENIOR, FINANCE, ADMIN},
    "wallet_wallet_csv": ALL,
    "wallet_wallet_print": ALL,
    "wallet_close_csv": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_close_xlsx": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_close_figure": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_payout_board": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_payout_board_csv": {SENIOR, FINANCE, AUDITOR, ADMIN},
    "wallet_payoutbatch_gather": {FINANCE, ADMIN},
    "wallet_resultfile_upload": {FINANCE, ADMIN},
    "orders_order_read_sms": SENIORS,
    "orders_sms_read_sms": SENIORS,
}
POSTED: dict[str, set[str]] = {
    "support_ticket_presence": DESK,
    "wallet_apikey_revoke": {ADMIN},
    "wallet_export_download": {FINANCE, ADMIN},
    "wallet_payoutbatch_file": {FINANCE, ADMIN},
    "wallet_claim_file": {AGENT, SENIOR, FINANCE, ADMIN},
}

# Each act on a case in a situation, and who may: "act: situation".
CASE_ACTS: dict[str, set[str]] = {
    "reply": DESK,
    "note": DESK,
    "waive": DESK,
    "claim": DESK,
    "release": DESK,
    "take_over: a colleague's": SENIORS,
    "assign": DESK,
    "assign: a colleague's": SENIORS,
    "link": DESK,
    "request": DESK,
    "refuse": DESK,
    "approve": DESK,
    "approve: above an agent's limit": SENIORS,
    "approve: goodwill": SENIORS,
    "approve: one's own": NO_ONE,
    "deny": DESK,
    "deny: one's own": DESK,
    "deny: above an agent's limit": SENIORS,
    "escalate": DESK,
    "withdraw: one's own": DESK,
    "withdraw": NO_ONE,
    "uphold": SENIORS,
    "overturn": SENIORS,
    "dismiss": SENIORS,
    "overturn: one's own denial": NO_ONE,
    "further": SENIORS,
    "further: one's own denial": NO_ONE,
    "payout": DESK,
    "withdraw_payout: one's own": DESK,
    "withdraw_payout": NO_ONE,
}
# An administrator without a role has no limit to decide within.
WITHIN_LIMITS = {
    "approve",
    "approve: above an agent's limit",
    "approve: goodwill",
    "overturn",
}
BULK_STEPS: dict[str, set[str]] = {"take": DESK, "approve": DESK, "deny": DESK}

# Each action on a row's page.
ACTIONS: dict[str, set[str]] = {
    "auth.User: change": {ADMIN},
    "auth.User: link": {ADMIN},
    "auth.User: deactivate": {ADMIN},
    "auth.User: activate": {ADMIN},
    "support.Calendar: change": {ADMIN},
    "support.Calendar: add-exception": {ADMIN},
    "support.CalendarException: remove": {ADMIN},
    "support.Outbound: retry": DESK,
    "support.Outbound: sent": DESK,
    "support.Outbound: bounced": DESK,
    "wallet.Customer: enter": DESK,
    "wallet.Customer: goodwill": DESK,
    "wallet.Customer: adjust": {SENIOR, FINANCE, ADMIN},
    "wallet.Customer: freeze": {SENIOR, FINANCE, ADMIN},
    "wallet.Customer: unfreeze": {SENIOR, FINANCE, ADMIN},
    "wallet.Customer: terminate": SENIORS,
    "wallet.Customer: close": {SENIOR, FINANCE, ADMIN},
    "wallet.Customer: reopen": {SENIOR, FINANCE, ADMIN},
    "wallet.Seal: close": {FINANCE, ADMIN},
    "wallet.Close: close-month": {FINANCE, ADMIN},
    "wallet.Transfer: reverse": {FINANCE, ADMIN},
    "wallet.Deposit: claim": DESK,
    "wallet.Deposit: reverse": {FINANCE, ADMIN},
    "wallet.Export: cancel": {FINANCE, ADMIN},
    "wallet.Correction: confirm": {SENIOR, FINANCE, ADMIN},
    "wallet.Correction: reject": {SENIOR, FINANCE, ADMIN},
    "wallet.Claim: files": DESK,
    "wallet.Claim: dismiss": SENIORS,
    "wallet.Claim: terminate": SENIORS,
    "wallet.Termination: confirm": {SENIOR, FINANCE, ADMIN},
    "wallet.Termination: reject": {SENIOR, FINANCE, ADMIN},
    "wallet.Termination: reinstate": SENIORS,
    "wallet.Reinstatement: confirm": {SENIOR, FINANCE, ADMIN},
    "wallet.Reinstatement: reject": {SENIOR, FINANCE, ADMIN},
    "wallet.Payout: approve": {SENIOR, FINANCE, ADMIN},
    "wallet.Payout: reject": {SENIOR, FINANCE, ADMIN},
    "wallet.Payout: paid": {FINANCE, ADMIN},
    "wallet.Payout: failed": {FINANCE, ADMIN},
    "wallet.Payout: came-back": {FINANCE, ADMIN},
    "wallet.Payout: again": {FINANCE, ADMIN},
    "wallet.Payout: return": {FINANCE, ADMIN},
    "wallet.PayoutBatch: export": {FINANCE, ADMIN},
    "wallet.PayoutBatch: submit": {FINANCE, ADMIN},
    "wallet.PayoutBatch: void": {FINANCE, ADMIN},
    "wallet.ResultFile: apply": {FINANCE, ADMIN},
    "wallet.Payout: withdraw": DESK,
    # Whoever sees the row; the verb lets only the one who asked.
    "wallet.Correction: withdraw": ALL,
    "wallet.Termination: withdraw": ALL,
    "wallet.Reinstatement: withdraw": ALL,
}

# Each call of the API: its answer to the storefront's own key, and to another storefront's.
API: dict[str, tuple[int, int]] = {
    "PUT /customers/{external_id}": (200, 201),  # another customer, of that storefront
    "GET /customers/{external_id}": (200, 404),
    "POST /customers/{external_id}/deposits": (201, 404),
    "GET /customers/{external_id}/wallet": (200, 404),
    "GET /customers/{external_id}/statement": (200, 404),
    "GET /offers": (200, 200),
    "POST /orders": (201, 404),
    "GET /orders/{order_id}": (200, 404),
    "POST /orders/{order_id}/cancel": (200, 404),
    "POST /customers/{external_id}/tickets": (201, 404),
    "GET /customers/{external_id}/tickets": (200, 404),
    "POST /tickets/{ticket_id}/messages": (201, 404),
    "GET /tickets/{ticket_id}": (200, 404),
}

CSV = {"version": "2026-05-07", "since": "2026-06-01", "until": "2026-06-30"}
KEPT = (
    *(Ticket, Message, Outbound, TicketOrder, Attachment, AttachmentReading, Macro, Calendar),
    *(CalendarException, Viewing, RefundRequest, Refund, Transfer, Wallet, Order, Sms, SmsReading),
    *(Customer, Deposit, ApiKey, Export, ExportPart, ExportDownload),
    *(Close, CloseFigure, Holding, LiabilityCheck),
    *(Payout, PayoutMethod, PayoutMove, PayoutOutcome),
    *(PayoutBatch, BatchLine, PayoutFile, FileDownload, ResultFile, ResultLine),
    *(Claim, ClaimFile, ClaimFileReading, AccountOutcome),
    TicketPayout,
)


def everything() -> list[Any]:
    return [list(model.objects.order_by("pk").values()) for model in KEPT]


def somebody(role: str) -> User:
    """A person in a role."""
    name = f"{role} {uuid4().hex[:6]}"
    if role == ADMIN:
        return world.person(name=name)
    if role == NOBODY:
        return User.objects.create_user(name, is_staff=True)
    return world.person(role, name=name)


def client_of(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


# --- the tables are complete ----------------------------------------------------------------------


def test_every_role_is_walked() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == {*ROLES} - {ADMIN, NOBODY}
    assert {*roles.ROLES} < {*ROLES}


def test_every_page_is_named() -> None:
    named = {*READ, *POSTED, *WALKED}
    for model, page in admin.site._registry.items():
        own = f"{model._meta.app_label}_{model._meta.model_name}"
        if model._meta.app_label in {"support", "refunds"}:
            assert own in PAGES, f"Who sees {own}?"
        if model._meta.app_label == "auth":
            continue
        for pattern in page.get_urls():
            if pattern.name and pattern.name.removeprefix(f"{own}_") not in STANDARD:
                assert pattern.name in named, f"Who may open {pattern.name}?"


def test_every_act_step_action_and_call_is_named() -> None:
    assert {name.split(":")[0] for name in CASE_ACTS} == set(ACTS)
    assert set(BULK_STEPS) == set(STEPS)
    assert set(ACTIONS) == {
        f"{label}: {action.name}" for label, known in actions._actions.items() for action in known
    }
    assert set(API) == {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, calls in api.get_openapi_schema()["paths"].items()
        for method in calls
    }


# --- pages ----------------------------------------------------------------------------------------


@pytest.fixture
def rows(shop: dict[str, Any]) -> dict[str, Any]:
    """A row of each page, by the page's name."""
    ticket = desk.ask(order_ids=(), files=[Upload("proof.txt", b"proof")])
    order = desk.delivered(ticket.customer)
    colleague = desk.agent("colleague")
    asked = desk.refund(colleague, ticket, order)
    macro = Macro.objects.create(title="Wait", body="Please wait.")
    day = CalendarException.objects.create(day="2030-01-02", note="Moving")
    claim = claim_files.add(colleague, shop["wallet_claim"], [Upload("letter.txt", b"Filed")])
    return {
        **shop,
        "wallet_claim_file": claim.files.get().pk,
        "support_ticket": ticket.pk,
        "support_macro": macro.pk,
        "support_calendar": Calendar.objects.get().pk,
        "support_wait": ticket.waits.get().pk,
        "support_calendarexception": day.pk,
        "refunds_refundrequest": asked.pk,
    }


@pytest.mark.parametrize("role", ROLES)
def test_pages_and_exports(role: str, rows: dict[str, Any]) -> None:
    client = client_of(somebody(role))
    before = everything()

    for page, allowed in PAGES.items():
        expected = 200 if role in allowed else 403
        for name, args in (("changelist", []), ("change", [rows[page]])):
            assert client.get(admin_url(f"{page}_{name}", *args)).status_code == expected, page
        edits = role in EDITED.get(page, NO_ONE)
        assert client.get(admin_url(f"{page}_add")).status_code == (200 if edits else 403), page
        refused = {"delete": [rows[page]]}
        if not edits:
            refused |= {"add": [], "change": [rows[page]]}
        for name, args in refused.items():
            answer = client.post(admin_url(f"{page}_{name}", *args), {"post": "yes", "title": "x"})
            assert answer.status_code == 403, (page, name)
    for name, allowed in READ.items():
        page = name.removesuffix("_read_sms").removesuffix("_csv").removesuffix("_print")
        page = page.removesuffix("_xlsx").removesuffix("_figure")
        args = [rows[page]] if page in rows else []
        if name == "wallet_close_figure":
            args.append("deposits")
        query = CSV if name == "refunds_policy_preview_csv" else {}
        answer = client.get(admin_url(name, *args), query)
        assert answer.status_code == (200 if role in allowed else 403), name
    assert everything() == before


@pytest.mark.parametrize("role", ROLES)
def test_addresses_that_are_posted_to(role: str, rows: dict[str, Any]) -> None:
    client = client_of(somebody(role))
    forged = client_of(somebody(role), enforce_csrf_checks=True)
    for name, allowed in POSTED.items():
        url = admin_url(name, rows[name] if name in rows else rows[name.rsplit("_", 1)[0]])
        before = everything()
        client.get(url)
        assert forged.post(url).status_code == 403, name
        assert everything() == before, name
        passed = client.post(url).status_code in {200, 302}
        assert passed == (role in allowed), name
        assert (everything() != before) == passed, name


@pytest.mark.parametrize("role", ROLES)
def test_evidence(role: str) -> None:
    ticket = desk.ask(files=[Upload("proof.html", b"<script>alert(1)</script>")])
    file = Attachment.objects.get(message__ticket=ticket)
    url = reverse("download_attachment", args=[file.pk])

    assert client_of(somebody(role)).post(url).status_code == 405
    assert AttachmentReading.objects.count() == 0
    response = client_of(somebody(role)).get(url)

    assert response.status_code == (200 if role in READERS else 403)
    assert AttachmentReading.objects.count() == int(role in READERS)
    if role in READERS:
        assert response.headers["Content-Disposition"].startswith("attachment")
        assert response.headers["Content-Type"] == "application/octet-stream"
    assert Client().get(url).status_code == 302


@pytest.mark.parametrize("role", ROLES)
def test_canned_replies(role: str, rows: dict[str, Any]) -> None:
    client, forged = (client_of(somebody(role), enforce_csrf_checks=csrf) for csrf in (False, True))
    typed = {"title": "New", "body": "Wait {{order}}", "active": "on", "reason": "Often said"}
    urls = (
        admin_url("support_macro_add"),
        admin_url("support_macro_change", rows["support_macro"]),
    )
    for url, title in zip(urls, ("New", "Other"), strict=True):
        before = everything()
        client.get(url, typed)
        assert forged.post(url, typed).status_code == 403
        assert everything() == before
        answer = client.post(url, typed | {"title": title})
        assert answer.status_code == (302 if role in SENIORS else 403)
        assert Macro.objects.filter(title=title).exists() == (role in SENIORS)


# --- acts on a case -------------------------------------------------------------------------------


def situation(name: str, person: User, other: User) -> tuple[Ticket, dict[str, Any]]:
    """A ticket on which the act could be done, and what its form sends."""
    act, _, case = name.partition(": ")
    ticket = desk.ask(refunds_world.customer("100"))
    order = desk.delivered(ticket.customer, "20")
    own = case.startswith("one's own") and person.has_perm("refunds.request_refund")
    by = person if own else other
    terms = {"clause": Clause.SERVICE_REJECTED, "amount": "5", "reason": "Region block"}
    typed: dict[str, Any] = {"body": "", "reason": "Looked at it"}
    if act in {"reply", "note", "waive"}:
        typed["body"] = "Said"
    elif act == "link":
        typed["order"] = order.pk
    elif act == "take_over":
        casework.claim(other, ticket.pk)
    elif act == "assign" and case:
        casework.assign(other, ticket.pk, other.pk)
    elif act in {"request", "refuse"}:
        casework.link_orders(other, ticket.pk, [order.pk])
        typed |= terms | {"order": order.pk}
    elif act in {"uphold", "overturn", "dismiss"}:
        asked = desk.refund(by, ticket, order, deny=True, then="waiting", reply_body="No")
        desk.write(ticket, "I do not agree")
        typed["request"] = asked.pk
    elif act == "further":
        asked = desk.refund(by, ticket, order, deny=True, then="waiting", reply_body="No")
        desk.write(ticket, "I do not agree")
        desk.decide(cases.uphold, somebody(SENIOR), ticket, asked, reply_body="No")
        typed |= terms | {"order": order.pk, "evidence": desk.write(ticket, "Proof").pk}
    elif act in {"approve", "deny", "escalate", "withdraw"}:
        more = {"amount": Decimal(15)} if "above" in case else {"amount": Decimal(5)}
        if case == "goodwill":
            more["clause"] = Clause.BANNED_LATER
        typed["request"] = desk.refund(by, ticket, order, **more).pk
    elif act == "payout":
        typed |= {"method": "USDT-TRON", "address": desk.TRON, "share": "whole"}
    elif act == "withdraw_payout":
        typed |= {"payout": desk.payout(by, ticket).pk, "payout_seen": "1"}
    if act != "take_over":
        Ticket.objects.filter(pk=ticket.pk).update(claimed_by=None, claimed_until=None)
    return desk.fresh(ticket), typed


def send(
    client: Client, ticket: Ticket, act: str, typed: dict[str, Any], *, get: bool = False
) -> Any:
    fields = {"seen": ticket.version, "key": str(uuid4()), "then": "open", "act": act, **typed}
    call = client.get if get else client.post
    return call(admin_url("support_ticket_case", ticket.pk), fields)


@pytest.mark.parametrize("role", ROLES)
def test_acts_on_a_case(role: str) -> None:
    person, other = somebody(role), somebody(SENIOR)
    client, forged = client_of(person), client_of(person, enforce_csrf_checks=True)
    passed, changed = set(), set()
    for name in CASE_ACTS:
        act = name.split(":")[0]
        ticket, typed = situation(name, person, other)
        before = everything()
        assert (
            forged.post(
                admin_url("support_ticket_case", ticket.pk), {"act": act, **typed}
            ).status_code
            == 403
        )
        send(client, ticket, act, typed, get=True)
        assert everything() == before, name

        answer = send(client, ticket, act, typed)

        if answer.status_code == 302:
            passed.add(name)
        else:
            refused = {403, 409} if role in DESK else {403}
            assert answer.status_code in refused, (name, answer.status_code)
        if everything() != before:
            changed.add(name)
    expected = {name for name, allowed in CASE_ACTS.items() if role in allowed}
    if role == ADMIN:
        expected -= WITHIN_LIMITS
    assert passed == expected
    # Letting go of what nobody holds is harmless.
    assert changed == expected - {"release"}


@pytest.mark.parametrize("role", ROLES)
def test_steps_on_many_tickets(role: str) -> None:
    person, other = somebody(role), somebody(SENIOR)
    client, forged = client_of(person), client_of(person, enforce_csrf_checks=True)
    for name, allowed in BULK_STEPS.items():
        ticket, _ = situation("approve" if name != "take" else "claim", person, other)
        asked = RefundRequest.objects.filter(case__ticket=ticket).first()
        row = f"{ticket.pk}:{ticket.version}:{asked.pk if asked else 0}"
        typed = {"row": [row], "key": str(uuid4()), "reason": "Seen", "body": "We looked"}
        url = admin_url("support_ticket_bulk", name)
        before = everything()
        plan = client.get(url, {**typed, "ids": ticket.pk})
        assert plan.status_code == (200 if role in allowed else 403), name
        assert forged.post(url, typed).status_code == 403
        assert everything() == before, name

        answer = client.post(url, typed)

        assert answer.status_code == (200 if role in allowed else 403), name
        decides = role in allowed and not (role == ADMIN and name == "approve")
        assert (everything() != before) == decides or (role == ADMIN and name == "deny"), name


# --- actions on a row's page ----------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_actions_on_rows(role: str, rows: dict[str, Any]) -> None:
    person = somebody(role)
    client, forged = client_of(person), client_of(person, enforce_csrf_checks=True)
    before = everything()
    for name, allowed in ACTIONS.items():
        label, action = name.split(": ")
        page = label.lower().replace(".", "_")
        url = admin_url(f"{page}_do", rows[page], action)
        form = client.get(url, {"key": str(uuid4()), "reason": "By the address"})
        assert form.status_code in ({200, 302} if role in allowed else {403}), name
        assert forged.post(url, {"key": str(uuid4()), "reason": "Forged"}).status_code == 403, name
        # Without its key no form is complete: who may is told so, and others are not.
        assert client.post(url, {}).status_code == (422 if role in allowed else 403), name
    assert everything() == before


@pytest.mark.parametrize("role", ROLES)
def test_deliveries(role: str, server: Any) -> None:
    client = client_of(somebody(role))

    def act(out: Outbound, action: str) -> tuple[int, str]:
        typed = carried(out, action) | {"reason": "Seen in the log"}
        answer = client.post(admin_url("support_outbound_do", out.pk, action), typed)
        return answer.status_code, Outbound.objects.get(pk=out.pk).state

    def tried() -> Outbound:
        out = threads.delivery()
        delivery.deliver(out.pk)
        return out

    sent = tried()
    server.rcpt = "550 No such user"
    failed = tried()
    server.rcpt, server.taken = "250 OK", Answers.DROP
    unknown = tried()

    for action, out, before, after in (
        ("bounced", sent, "sent", "failed"),
        ("retry", failed, "failed", "queued"),
        ("sent", unknown, "unknown", "sent"),
    ):
        assert Outbound.objects.get(pk=out.pk).state == before
        allowed = role in ACTIONS[f"support.Outbound: {action}"]
        assert act(out, action) == ((302, after) if allowed else (403, before)), action


@pytest.mark.parametrize("role", ROLES)
def test_the_calendar(role: str, rows: dict[str, Any]) -> None:
    client = client_of(somebody(role))
    allowed = role in ACTIONS["support.Calendar: add-exception"]
    pk = rows["support_calendar"]

    added = client.post(
        admin_url("support_calendar_do", pk, "add-exception"),
        carried(Calendar.objects.get(), "add-exception") | {"day": "2031-05-05", "note": "Moving"},
    )
    removed = client.post(
        admin_url("support_calendarexception_do", rows["support_calendarexception"], "remove"),
        carried(CalendarException.objects.get(day="2030-01-02"), "remove")
        | {"reason": "Not moving"},
    )
    now = Calendar.objects.get()
    changed = client.post(
        admin_url("support_calendar_do", pk, "change"),
        carried(now, "change")
        | {
            "reason": "Summer",
            "zone": now.zone,
            "opens": "08:00",
            "closes": "17:00",
            "weekdays": [0, 1, 2],
            "country": "",
            "subdivision": "",
        },
    )

    expected = 302 if allowed else 403
    assert [one.status_code for one in (added, removed, changed)] == [expected] * 3
    days = {str(one.day) for one in CalendarException.objects.all()}
    assert days == ({"2031-05-05"} if allowed else {"2030-01-02"})
    assert (f"{Calendar.objects.get().opens:%H:%M}" == "08:00") == allowed


# --- exports --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_exports(role: str, shop: dict[str, Any]) -> None:
    person = somebody(role)
    client, forged = client_of(person), client_of(person, enforce_csrf_checks=True)
    allowed = role in {FINANCE, ADMIN}
    typed = {
        "key": str(uuid4()),
        "dataset": "orders",
        "since": "2026-11-01",
        "until": "2026-11-30",
    }
    before = everything()
    ask = admin_url("wallet_export_add")
    assert client.get(ask, typed).status_code == (200 if allowed else 403)
    assert forged.post(ask, typed).status_code == 403
    assert client.post(ask, {}).status_code == (422 if allowed else 403)
    assert everything() == before

    asked = client.post(ask, typed)

    assert asked.status_code == (302 if allowed else 403)
    found = Export.objects.filter(dataset="orders")
    assert [one.requested_by for one in found] == ([person] if allowed else [])
    waiting = exported.asked(somebody(FINANCE), "orders")
    url = admin_url("wallet_export_do", waiting.pk, "cancel")
    assert forged.post(url, {"key": str(uuid4())}).status_code == 403
    cancelled = client.post(url, carried(waiting, "cancel"))
    assert cancelled.status_code == (302 if allowed else 403)
    assert exported.fresh(waiting).state == ("cancelled" if allowed else "queued")


# --- payouts --------------------------------------------------------------------------------------

PAYOUT_STEPS = (
    *("approve", "reject", "withdraw", "paid", "failed", "came-back", "again", "return"),
)


@pytest.mark.parametrize("role", ROLES)
def test_payouts(role: str) -> None:
    """Each action in a state that it is for, on what others requested and approved."""
    person, agent, finance = somebody(role), somebody(AGENT), somebody(FINANCE)
    other = world.person(FINANCE)
    strict = client_of(person, enforce_csrf_checks=True)
    typed = {"reason": "Looked at it", "problem": "Refused", "transaction_hash": payouts.HASH}
    passed = set()
    for action in PAYOUT_STEPS:
        if action in {"approve", "reject", "withdraw"}:
            payout = payouts.asked(agent)
        else:
            payout = payouts.sent(agent, finance)
        if action == "came-back":
            settlement.mark_paid(other, payout.pk, transaction_hash=payouts.OTHER_HASH)
        if action in {"again", "return"}:
            settlement.mark_failed(other, payout.pk, problem="Refused")
        url = admin_url("wallet_payout_do", payout.pk, action)
        before = everything()
        strict.get(url, typed)
        assert strict.post(url, {"key": str(uuid4()), **typed}).status_code == 403, action
        assert everything() == before, action

        answer = client_of(person).post(url, {**typed, **carried(payout, action)})

        assert answer.status_code in {302, 403}, action
        assert (everything() != before) == (answer.status_code == 302), action
        if answer.status_code == 302:
            passed.add(action)
    expected = {one for one in PAYOUT_STEPS if role in ACTIONS[f"wallet.Payout: {one}"]}
    # Nobody withdraws another's request, and an administrator without a role has no limit.
    expected -= {"withdraw"} | ({"approve"} if role == ADMIN else set())
    assert passed == expected


def test_who_requests_a_payout_never_approves_it() -> None:
    person = somebody(SENIOR)
    own = payouts.asked(person)
    before = everything()

    url = admin_url("wallet_payout_do", own.pk, "approve")
    assert client_of(person).post(url, carried(own, "approve")).status_code == 403
    assert everything() == before

    url = admin_url("wallet_payout_do", own.pk, "withdraw")
    assert client_of(person).post(url, carried(own, "withdraw")).status_code == 302


@pytest.mark.parametrize("role", ROLES)
def test_payout_methods(role: str) -> None:
    client, strict = (client_of(somebody(role), enforce_csrf_checks=csrf) for csrf in (False, True))
    typed = {
        "code": "USDC-SOLANA",
        "currency": "USDC",
        "network": "SOLANA",
        "address_format": "solana",
        "memo_rule": "none",
        "enabled": "on",
        "reason": "Asked for",
    }
    known = PayoutMethod.objects.earliest("pk")
    urls = (
        admin_url("wallet_payoutmethod_add"),
        admin_url("wallet_payoutmethod_change", known.pk),
    )
    before = everything()
    for url in urls:
        strict.get(url, typed)
        assert strict.post(url, typed).status_code == 403
    assert everything() == before
    answers = [client.post(url, typed).status_code for url in urls]
    assert answers == ([302, 302] if role == ADMIN else [403, 403])
    assert (everything() != before) == (role == ADMIN)


# --- the API --------------------------------------------------------------------------------------

HTTP = Client(raise_request_exception=False)
BODIES: dict[str, Any] = {
    "PUT /customers/{external_id}": {"email": "a@customer.test"},
    "POST /customers/{external_id}/deposits": {"amount": "1.00", "reference": "tx-api"},
    "POST /customers/{external_id}/tickets": {"subject": "Help", "body": "Please"},
    "POST /tickets/{ticket_id}/messages": {"body": "Still"},
}


@pytest.fixture
def own() -> dict[str, Any]:
    customer = refunds_world.customer("100")
    ticket = desk.ask(customer)
    awaited = refunds_world.allocated(refunds_world.place(customer, refunds_world.offer("1")))
    return {
        "storefront": customer.storefront,
        "external_id": customer.external_id,
        "order_id": awaited.pk,
        "ticket_id": ticket.pk,
        "offer": refunds_world.offer("1").pk,
    }


def key_of(storefront: Storefront) -> str:
    _, plain = keys.issue(storefront, name=uuid4().hex[:8], created_by="test")
    return f"Bearer {plain}"


def call(client: Client, name: str, own: dict[str, Any], authorization: str = "") -> Any:
    method, path = name.split(" ")
    body = BODIES.get(name)
    if name == "POST /orders":
        body = {"customer": own["external_id"], "offer": own["offer"]}
    extra: dict[str, Any] = {"HTTP_IDEMPOTENCY_KEY": uuid4().hex}
    if authorization:
        extra["HTTP_AUTHORIZATION"] = authorization
    return client.generic(
        method,
        "/api/v1" + path.format(**own),
        json.dumps(body) if body is not None else "",
        content_type="application/json",
        **extra,
    )


def test_calls_with_the_own_key_and_with_another_s(own: dict[str, Any]) -> None:
    stranger = key_of(world.storefront("Another shop"))
    mine = key_of(own["storefront"])
    orders = (
        list(Ticket.objects.values()),
        list(Order.objects.values()),
        list(Wallet.objects.filter(customer__storefront=own["storefront"]).values()),
    )
    # Its own customer of that name, if it makes one, comes last.
    calls = sorted(API, key=lambda name: name.startswith("PUT"))
    told = {name: call(HTTP, name, own, stranger).status_code for name in calls}
    assert told == {name: other for name, (_, other) in API.items()}
    assert orders == (
        list(Ticket.objects.values()),
        list(Order.objects.values()),
        list(Wallet.objects.filter(customer__storefront=own["storefront"]).values()),
    )
    told = {name: call(HTTP, name, own, mine).status_code for name in API}
    assert told == {name: expected for name, (expected, _) in API.items()}


@pytest.mark.parametrize("role", ROLES)
def test_a_login_of_ours_is_no_key(role: str, own: dict[str, Any]) -> None:
    client = client_of(somebody(role), raise_request_exception=False)
    before = everything()
    assert {call(client, name, own).status_code for name in API} == {401}
    assert everything() == before


def test_no_key_a_wrong_one_and_a_revoked_one(own: dict[str, Any]) -> None:
    mine = key_of(own["storefront"])
    keys.revoke_by_person(world.person(), ApiKey.objects.get().pk)
    before = everything()
    for authorization in ("", "Bearer sf_wrong", mine, mine.replace("Bearer", "Basic")):
        assert {call(HTTP, name, own, authorization).status_code for name in API} == {401}
    assert everything() == before
