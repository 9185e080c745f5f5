"""The handbook's table of who sees and does what is complete and true."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from smsactivator import roles
from smsactivator.tests import test_admin_roles, world
from smsactivator.tests.test_roles_by_action import (
    ACTIONS,
    ADMIN,
    BULK_STEPS,
    CASE_ACTS,
    NOBODY,
    PAGES,
    POSTED,
    READ,
)

pytestmark = pytest.mark.django_db

HANDBOOK = Path(settings.BASE_DIR) / "docs" / "agents.md"
REPORTS = ("refunds", "decisions", "answers")

# What each line of the table speaks of: permissions, pages and steps.
LINES: dict[str, tuple[str, str, str]] = {
    "orders, SMS (codes hidden), refunds, refund requests, customers, wallets and statements, "
    "deposits, transfers": (
        "orders.view_order orders.view_sms refunds.view_refund refunds.view_refundrequest "
        "wallet.view_customer wallet.view_wallet wallet.view_deposit wallet.view_transfer",
        "orders_order orders_sms refunds_refund refunds_refundrequest wallet_customer "
        "wallet_wallet wallet_deposit wallet_transfer wallet_wallet_csv wallet_wallet_print",
        "",
    ),
    "SMS in full, each reading with a reason": (
        "orders.view_sms_text",
        "orders_order_read_sms orders_sms_read_sms",
        "",
    ),
    "the list of readings of SMS": ("orders.view_smsreading", "orders_smsreading", ""),
    "history of orders, customers and refund requests": (
        "orders.view_historicalorder wallet.view_historicalcustomer "
        "refunds.view_historicalrefundrequest",
        "",
        "",
    ),
    "corrections, claims, terminations, reinstatements, their history and a wallet's": (
        "wallet.view_correction wallet.view_claim wallet.view_termination "
        "wallet.view_reinstatement wallet.view_historicalcorrection wallet.view_historicalclaim "
        "wallet.view_historicaltermination wallet.view_historicalreinstatement "
        "wallet.view_historicalwallet",
        "wallet_correction wallet_claim wallet_termination wallet_reinstatement",
        "",
    ),
    "ask for goodwill": ("wallet.request_goodwill", "", "wallet.Customer: goodwill"),
    "record chargeback claims, add files to them": (
        "wallet.record_claim",
        "",
        "wallet.Deposit: claim, wallet.Claim: files",
    ),
    "take files of chargeback claims, each taking written down": ("", "wallet_claim_file", ""),
    "ask for adjustments": ("wallet.request_adjustment", "", "wallet.Customer: adjust"),
    "confirm and reject corrections": (
        "wallet.confirm_correction",
        "",
        "wallet.Correction: confirm, wallet.Correction: reject",
    ),
    "ask for reversals": (
        "wallet.request_reversal",
        "",
        "wallet.Transfer: reverse, wallet.Deposit: reverse",
    ),
    "ask for refunds by ticket, and refuse them": (
        "refunds.request_refund",
        "",
        "request, refuse",
    ),
    "approve, deny and pass on refunds by ticket, within the limits": (
        "refunds.decide_refund",
        "",
        "approve, deny, deny: one's own, escalate, bulk approve, bulk deny",
    ),
    "decide what waits for a senior, give goodwill for what is not refundable": (
        "refunds.decide_escalated_refund refunds.grant_goodwill_refund",
        "",
        "approve: above an agent's limit, approve: goodwill, deny: above an agent's limit",
    ),
    "resolve disputes, open a final decision again": (
        "refunds.resolve_dispute",
        "",
        "uphold, overturn, dismiss, further",
    ),
    "tickets with their files and history, canned replies, the business calendar": (
        "support.view_ticket support.view_message support.view_attachment support.view_macro "
        "support.view_calendar support.view_calendarexception support.view_historicalticket",
        "support_ticket support_macro support_calendar support_calendarexception",
        "",
    ),
    "claim, answer, write notes, link orders, enter messages, many at once": (
        "support.answer_ticket",
        "support_ticket_presence",
        "reply, note, waive, claim, release, assign, link, wallet.Customer: enter, bulk take",
    ),
    "take over a claim, assign to others": (
        "support.assign_ticket",
        "",
        "take_over: a colleague's, assign: a colleague's",
    ),
    "keep canned replies": ("support.change_macro", "", ""),
    "deliveries and their history": (
        "support.view_outbound support.view_historicaloutbound",
        "support_outbound",
        "",
    ),
    "mend deliveries": (
        "support.retry_outbound",
        "",
        "support.Outbound: retry, support.Outbound: sent, support.Outbound: bounced",
    ),
    "freeze and unfreeze wallets": (
        "wallet.freeze_wallet",
        "",
        "wallet.Customer: freeze, wallet.Customer: unfreeze",
    ),
    "close and reopen wallets": (
        "wallet.close_wallet",
        "",
        "wallet.Customer: close, wallet.Customer: reopen",
    ),
    "decide claims": (
        "wallet.decide_claim",
        "",
        "wallet.Claim: dismiss, wallet.Claim: terminate",
    ),
    "ask for terminations and reinstatements": (
        "wallet.request_termination",
        "",
        "wallet.Customer: terminate, wallet.Termination: reinstate",
    ),
    "confirm and reject terminations and reinstatements": (
        "wallet.confirm_termination",
        "",
        "wallet.Termination: confirm, wallet.Termination: reject, "
        "wallet.Reinstatement: confirm, wallet.Reinstatement: reject",
    ),
    "limits of the roles": ("wallet.view_rolelimit", "wallet_rolelimit", ""),
    "audits, seals, escrow, closes, holdings, liabilities checks": (
        "wallet.view_auditrun wallet.view_seal wallet.view_close wallet.view_holding "
        "wallet.view_liabilitycheck",
        "wallet_auditrun wallet_seal wallet_close wallet_holding wallet_liabilitycheck "
        "wallet_close_csv wallet_close_xlsx wallet_close_figure",
        "",
    ),
    "close the books": (
        "wallet.close_books",
        "",
        "wallet.Seal: close, wallet.Close: close-month",
    ),
    "enter holdings, check liabilities": ("wallet.record_holding", "", ""),
    "payouts, their history, payout methods, refused addresses": (
        "wallet.view_payout wallet.view_historicalpayout wallet.view_payoutmethod "
        "wallet.view_refusedaddress",
        "wallet_payout wallet_payoutmethod wallet_refusedaddress",
        "",
    ),
    "keep the list of refused addresses": ("wallet.refuse_address", "", ""),
    "ask for payouts": ("wallet.request_payout", "", "payout"),
    "the payout board": (
        "wallet.view_auditrun",
        "wallet_payout_board wallet_payout_board_csv",
        "",
    ),
    "approve and reject payouts": (
        "wallet.approve_payout",
        "",
        "wallet.Payout: approve, wallet.Payout: reject",
    ),
    "payout batches with their history, the names and hashes of their files, result files": (
        "wallet.view_payoutbatch wallet.view_historicalpayoutbatch wallet.view_resultfile",
        "wallet_payoutbatch wallet_resultfile",
        "",
    ),
    "gather, export, submit and void batches, take their files, upload and apply results": (
        "wallet.batch_payout",
        "wallet_payoutbatch_gather wallet_resultfile_upload wallet_payoutbatch_file",
        "wallet.PayoutBatch: export, wallet.PayoutBatch: submit, wallet.PayoutBatch: void, "
        "wallet.ResultFile: apply",
    ),
    "say what became of payouts, send them again, give them back": (
        "wallet.settle_payout",
        "",
        "wallet.Payout: paid, wallet.Payout: failed, wallet.Payout: came-back, "
        "wallet.Payout: again, wallet.Payout: return",
    ),
    "policy preview": (
        "refunds.preview_policy",
        "refunds_policy_preview refunds_policy_preview_csv",
        "",
    ),
    "reports, and the waits behind them": (
        "support.view_reports",
        "support_wait",
        "",
    ),
    "exports": ("wallet.view_export wallet.view_historicalexport", "wallet_export", ""),
    "ask for exports and take them": (
        "wallet.export_data",
        "wallet_export_download",
        "wallet.Export: cancel",
    ),
    "set-up: offers, upstreams, storefronts, API keys, sweeps, users, roles, log-ins": (
        "orders.view_offer orders.view_upstream wallet.view_storefront wallet.view_apikey "
        "refunds.view_sweep auth.view_user auth.view_group axes.view_accesslog "
        "axes.view_accessfailurelog",
        "orders_offer orders_upstream wallet_storefront wallet_apikey refunds_sweep auth_user "
        "auth_group axes_accesslog axes_accessfailurelog",
        "",
    ),
}
# Whoever sees the row is offered it, and the verb takes it from the one who asked alone.
ONES_OWN = {
    *("wallet.Correction: withdraw", "wallet.Termination: withdraw"),
    *("wallet.Reinstatement: withdraw", "wallet.Payout: withdraw"),
    *("withdraw: one's own", "withdraw_payout: one's own"),
}
STEPS = {**ACTIONS, **CASE_ACTS, **{f"bulk {name}": who for name, who in BULK_STEPS.items()}}
SEEN = {
    **{name: {role or ADMIN for role in who} for name, who in test_admin_roles.PAGES.items()},
    **PAGES,
    **READ,
    **POSTED,
}


def table() -> dict[str, dict[str, bool]]:
    """The table of the handbook: by line and role, whether it says yes."""
    lines = HANDBOOK.read_text().split("## Who sees what\n\n")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads, rows = cells[0][1:], cells[2:]
    assert all(cell in {"yes", "no"} for row in rows for cell in row[1:])
    return {
        row[0]: {role: cell == "yes" for role, cell in zip(heads, row[1:], strict=True)}
        for row in rows
    }


def split(steps: str) -> list[str]:
    return [step for step in steps.split(", ") if step]


def test_the_table_names_every_role_and_each_line_of_it_is_known() -> None:
    found = table()
    assert set(found) == set(LINES)
    for said in found.values():
        assert set(said) == set(roles.permissions())
    assert set(Group.objects.values_list("name", flat=True)) == set(roles.permissions())


def test_every_permission_page_and_step_of_a_role_stands_in_the_table() -> None:
    permissions = {name for line in LINES.values() for name in line[0].split()}
    pages = {name for line in LINES.values() for name in line[1].split()}
    steps = {name for line in LINES.values() for name in split(line[2])}
    given = {name for names in roles.ROLES.values() for name in names}
    assert given <= permissions
    ours = {f"{model._meta.app_label}_{model._meta.model_name}" for model in admin.site._registry}
    assert pages == {name for name, who in SEEN.items() if who - {ADMIN, NOBODY}}
    assert ours <= set(SEEN)
    assert steps | ONES_OWN == {name for name, who in STEPS.items() if who - {ADMIN}}


@pytest.mark.parametrize("line", LINES)
def test_a_line_says_what_is_so(line: str) -> None:
    permissions, pages, steps = LINES[line]
    for role, said in table()[line].items():
        held = set(roles.permissions()[role])
        for name in permissions.split():
            assert (name in held) == said, (role, name)
        for name in pages.split():
            assert (role in SEEN[name]) == said, (role, name)
        for name in split(steps):
            assert (role in STEPS[name]) == said, (role, name)


@pytest.mark.parametrize("role", roles.permissions())
def test_the_pages_of_the_table_answer_as_it_says(role: str) -> None:
    client = Client()
    client.force_login(world.person(role))
    for line, said in table().items():
        for name in LINES[line][1].split():
            plain = {"wallet_payout_board", "refunds_policy_preview"}
            plain |= {"wallet_payoutbatch_gather", "wallet_resultfile_upload"}
            listed = name in test_admin_roles.PAGES or name in PAGES
            if listed or name in plain:
                url = reverse(f"admin:{name}_changelist" if listed else f"admin:{name}")
                assert client.get(url).status_code == (200 if said[role] else 403), (line, name)
    for name in REPORTS:
        answer = client.get(reverse("reports:page", args=[name]))
        said = table()["reports, and the waits behind them"]
        assert answer.status_code == (200 if said[role] else 403)
