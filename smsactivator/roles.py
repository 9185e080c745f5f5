"""The four roles of the people who work here, and what each may see and do.

Administrators (superusers) change offers, upstreams, storefronts, keys, users and limits. What
moves money is done by people in roles, within their limits: a superuser without a role has none. A
role changed here reaches a running copy by a new migration that calls ``sync`` again.
"""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

_EVERYONE = (
    "wallet.view_customer",
    "wallet.view_wallet",
    "wallet.view_transfer",
    "wallet.view_deposit",
    "wallet.view_correction",
    "wallet.view_claim",
    "wallet.view_termination",
    "wallet.view_reinstatement",
    "wallet.view_payout",
    "wallet.view_payoutmethod",
    "wallet.view_refusedaddress",
    "orders.view_order",
    "orders.view_sms",
    "refunds.view_refund",
    "refunds.view_refundrequest",
)
# Who speaks with customers.
_SUPPORT = (
    "support.view_ticket",
    "support.view_message",
    "support.view_attachment",
    "support.view_macro",
    "support.view_calendar",
    "support.view_calendarexception",
    "support.view_outbound",
    "support.answer_ticket",
    "support.retry_outbound",
    "support.view_historicalticket",
    "support.view_historicaloutbound",
    "refunds.view_historicalrefundrequest",
    "refunds.request_refund",
    "refunds.decide_refund",
)
_HISTORY = ("wallet.view_historicalcustomer", "orders.view_historicalorder")
_DECISIONS = (
    "wallet.view_historicalwallet",
    "wallet.view_historicalcorrection",
    "wallet.view_historicalclaim",
    "wallet.view_historicaltermination",
    "wallet.view_historicalreinstatement",
    "wallet.view_historicalpayout",
)
_BATCHES = (
    "wallet.view_payoutbatch",
    "wallet.view_historicalpayoutbatch",
    "wallet.view_resultfile",
)
_BOOKS = (
    "wallet.view_auditrun",
    "wallet.view_seal",
    "wallet.view_close",
    "wallet.view_holding",
    "wallet.view_liabilitycheck",
)
_REPORTS = ("support.view_reports",)

SUPPORT_AGENT = "Support agent"
SENIOR_AGENT = "Senior agent"
FINANCE = "Finance"
AUDITOR = "Auditor"

# What an auditor sees every row of, with the histories. Not the text of SMS: each reading of one is
# written down, and an auditor changes nothing.
_AUDITED = ("wallet", "orders", "refunds", "support")
_SET_UP = (
    "auth.view_user",
    "auth.view_group",
    "axes.view_accesslog",
    "axes.view_accessfailurelog",
)

ROLES: dict[str, tuple[str, ...]] = {
    SUPPORT_AGENT: (
        *_EVERYONE,
        *_HISTORY,
        *_DECISIONS,
        *_SUPPORT,
        "wallet.request_goodwill",
        "wallet.request_payout",
        "wallet.record_claim",
    ),
    SENIOR_AGENT: (
        *_EVERYONE,
        *_HISTORY,
        *_DECISIONS,
        *_BATCHES,
        *_BOOKS,
        *_REPORTS,
        # SMS in full, each reading recorded with its reason; and everybody's readings.
        "orders.view_sms_text",
        "orders.view_smsreading",
        *_SUPPORT,
        "support.assign_ticket",
        "support.change_macro",
        "refunds.decide_escalated_refund",
        "refunds.grant_goodwill_refund",
        "refunds.resolve_dispute",
        "refunds.preview_policy",
        "wallet.request_goodwill",
        "wallet.request_adjustment",
        "wallet.confirm_correction",
        "wallet.freeze_wallet",
        "wallet.close_wallet",
        "wallet.request_payout",
        "wallet.approve_payout",
        "wallet.record_claim",
        "wallet.decide_claim",
        "wallet.request_termination",
        "wallet.confirm_termination",
        "wallet.view_rolelimit",
    ),
    FINANCE: (
        *_EVERYONE,
        *_DECISIONS,
        *_BATCHES,
        *_BOOKS,
        *_REPORTS,
        "refunds.preview_policy",
        "wallet.close_books",
        "wallet.record_holding",
        "wallet.request_adjustment",
        "wallet.request_reversal",
        "wallet.confirm_correction",
        "wallet.freeze_wallet",
        "wallet.close_wallet",
        "wallet.approve_payout",
        "wallet.batch_payout",
        "wallet.settle_payout",
        "wallet.refuse_address",
        "wallet.confirm_termination",
        "wallet.view_rolelimit",
        "wallet.view_export",
        "wallet.view_historicalexport",
        "wallet.export_data",
    ),
}

# USD: the most that one decision may move, and that one person may move a day. A first choice: an
# administrator changes the rows in the admin.
LIMITS: dict[str, dict[str, tuple[str, str]]] = {
    SUPPORT_AGENT: {"goodwill": ("5", "25"), "decided_refund": ("10", "100")},
    SENIOR_AGENT: {
        "goodwill": ("50", "250"),
        "adjustment": ("100", "500"),
        "reversal": ("500", "2000"),
        "decided_refund": ("50", "500"),
        "payout": ("200", "1000"),
    },
    FINANCE: {
        "goodwill": ("100", "1000"),
        "adjustment": ("1000", "5000"),
        "reversal": ("5000", "20000"),
        "payout": ("5000", "25000"),
    },
}


def permissions() -> dict[str, tuple[str, ...]]:
    """What each role may, by its name. An auditor may view every model that there is."""
    viewed = tuple(
        f"{app}.view_{model._meta.model_name}"
        for app in _AUDITED
        for model in apps.get_app_config(app).get_models()
    )
    return {**ROLES, AUDITOR: (*viewed, *_SET_UP, *_REPORTS)}


def sync() -> None:
    """Give each role's group exactly its permissions, making groups and permissions that lack.

    Running it again changes nothing. Raises LookupError for a permission that no model declares.
    """
    for config in apps.get_app_configs():
        create_permissions(config, verbosity=0)
    for role, names in permissions().items():
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set([_permission(name) for name in names])


def remove() -> None:
    """Remove the roles' groups; their members keep nothing of them."""
    Group.objects.filter(name__in=[*ROLES, AUDITOR]).delete()


def _permission(name: str) -> Permission:
    label, codename = name.split(".")
    try:
        return Permission.objects.get(content_type__app_label=label, codename=codename)
    except Permission.DoesNotExist:
        raise LookupError(f"No model declares the permission {name}.") from None
