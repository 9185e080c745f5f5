"""The admin's looks and its sidebar (settings.UNFOLD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse, reverse_lazy
from django.utils.text import format_lazy


def environment(request: HttpRequest) -> list[str] | None:
    """The badge that tells a development copy from the shop itself."""
    return None if settings.PRODUCTION else ["development", "warning"]


def _sees(*permissions: str) -> Callable[[HttpRequest], bool]:
    def allowed(request: HttpRequest) -> bool:
        return request.user.has_perms(permissions)

    return allowed


def _page(title: str, icon: str, model: str) -> dict[str, Any]:
    """A sidebar entry for a model's list, for those who may view it."""
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": _sees(f"{app}.view_{name}"),
    }


def _waiting_in(name: str) -> Callable[[HttpRequest], str]:
    """How many tickets wait in a queue for whoever looks."""

    def count(request: HttpRequest) -> str:
        # Not before the apps are loaded: the settings read this module.
        from support import queues

        return queues.count(queues.BY_NAME[name], request.user)

    return count


# Named by the sidebar's entries below.
waiting_in_todo = _waiting_in("todo")
waiting_in_mine = _waiting_in("mine")
waiting_in_unassigned = _waiting_in("unassigned")
waiting_in_senior = _waiting_in("senior")
waiting_in_disputes = _waiting_in("disputes")
waiting_in_decided = _waiting_in("decided")


def _lists_tickets(request: HttpRequest) -> bool:
    return request.path == reverse("admin:support_ticket_changelist")


def _queue(name: str, title: str, icon: str) -> dict[str, Any]:
    """A sidebar entry for a queue of tickets, with how many wait in it."""
    return {
        "title": title,
        "icon": icon,
        "link": format_lazy("{}?queue={}", reverse_lazy("admin:support_ticket_changelist"), name),
        "permission": _sees("support.view_ticket"),
        "badge": f"smsactivator.unfold.waiting_in_{name}",
        "active": lambda request: _lists_tickets(request) and request.GET.get("queue") == name,
    }


def _report(title: str, icon: str, name: str) -> dict[str, Any]:
    """A sidebar entry for a report."""
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy("reports:page", args=[name]),
        "permission": _sees("support.view_reports"),
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "smsactivator",
    "SITE_HEADER": "smsactivator",
    "SITE_SUBHEADER": "Back-office",
    "SITE_SYMBOL": "sms",
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "ENVIRONMENT": "smsactivator.unfold.environment",
    "DASHBOARD_CALLBACK": "smsactivator.dashboard.fill",
    "STYLES": [
        lambda request: static("smsactivator/admin.css"),
        lambda request: static("support/case.css"),
        lambda request: static("smsactivator/session.css"),
    ],
    "SCRIPTS": [
        lambda request: static("smsactivator/session.js"),
        lambda request: static("smsactivator/names.js"),
    ],
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("smsactivator/favicon.svg"),
        }
    ],
    "BORDER_RADIUS": "6px",
    "COLORS": {
        "primary": {
            "50": "oklch(97.0% .014 254.6)",
            "100": "oklch(93.2% .032 255.6)",
            "200": "oklch(88.2% .059 254.1)",
            "300": "oklch(80.9% .105 251.8)",
            "400": "oklch(70.7% .165 254.6)",
            "500": "oklch(62.3% .188 259.8)",
            "600": "oklch(54.6% .215 262.9)",
            "700": "oklch(48.8% .217 264.4)",
            "800": "oklch(42.4% .180 265.6)",
            "900": "oklch(37.9% .146 265.5)",
            "950": "oklch(28.2% .091 267.9)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "items": [
                    {"title": "Now", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                ],
            },
            {
                "title": "Orders",
                "separator": True,
                "items": [
                    _page("Orders", "shopping_bag", "orders.order"),
                    _page("SMS", "sms", "orders.sms"),
                    _page("SMS readings", "visibility", "orders.smsreading"),
                    {
                        **_page("Refunds", "undo", "refunds.refund"),
                        # The preview's address is below theirs.
                        "active": lambda request: (
                            request.path.startswith(reverse("admin:refunds_refund_changelist"))
                            and request.path != reverse("admin:refunds_policy_preview")
                        ),
                    },
                    _page("Refund requests", "assignment_return", "refunds.refundrequest"),
                    {
                        "title": "Policy preview",
                        "icon": "policy",
                        "link": reverse_lazy("admin:refunds_policy_preview"),
                        "permission": _sees("refunds.preview_policy"),
                    },
                ],
            },
            {
                "title": "Support",
                "separator": True,
                "items": [
                    _queue("todo", "To answer", "mark_email_unread"),
                    _queue("mine", "Mine", "person_check"),
                    _queue("unassigned", "Unassigned", "person_off"),
                    _queue("senior", "Waiting for a senior", "escalator_warning"),
                    _queue("disputes", "Disputes", "gavel"),
                    _queue("decided", "Decided today", "task_alt"),
                    {
                        **_page("Tickets", "inbox", "support.ticket"),
                        "active": lambda request: (
                            request.path.startswith(reverse("admin:support_ticket_changelist"))
                            and "queue" not in request.GET
                        ),
                    },
                    _page("Deliveries", "outgoing_mail", "support.outbound"),
                    _page("Canned replies", "quickreply", "support.macro"),
                ],
            },
            {
                "title": "Money",
                "separator": True,
                "items": [
                    _page("Customers", "person", "wallet.customer"),
                    _page("Wallets", "account_balance_wallet", "wallet.wallet"),
                    _page("Deposits", "download", "wallet.deposit"),
                    _page("Transfers", "swap_horiz", "wallet.transfer"),
                    _page("Corrections", "balance", "wallet.correction"),
                    _page("Chargeback claims", "gavel", "wallet.claim"),
                    _page("Terminations", "block", "wallet.termination"),
                    _page("Reinstatements", "restart_alt", "wallet.reinstatement"),
                    _page("Audits", "fact_check", "wallet.auditrun"),
                    _page("Seals", "lock", "wallet.seal"),
                ],
            },
            {
                "title": "Finance",
                "separator": True,
                "items": [
                    {
                        "title": "Payout board",
                        "icon": "space_dashboard",
                        "link": reverse_lazy("admin:wallet_payout_board"),
                        "permission": _sees("wallet.view_payout", "wallet.view_auditrun"),
                    },
                    {
                        **_page("Payouts", "payments", "wallet.payout"),
                        # The board's address is below theirs.
                        "active": lambda request: (
                            request.path.startswith(reverse("admin:wallet_payout_changelist"))
                            and request.path != reverse("admin:wallet_payout_board")
                        ),
                    },
                    _page("Payout batches", "inventory_2", "wallet.payoutbatch"),
                    _page("Result files", "task", "wallet.resultfile"),
                    _page("Payout methods", "currency_exchange", "wallet.payoutmethod"),
                    _page("Refused addresses", "block", "wallet.refusedaddress"),
                    _page("Closes", "event_available", "wallet.close"),
                    _page("Liabilities checks", "verified_user", "wallet.liabilitycheck"),
                    _page("Holdings", "account_balance", "wallet.holding"),
                    _page("Exports", "file_download", "wallet.export"),
                ],
            },
            {
                "title": "Reports",
                "separator": True,
                "items": [
                    _report("Refunds in a period", "bar_chart", "refunds"),
                    _report("Decisions", "rule", "decisions"),
                    _report("Answered in time", "schedule", "answers"),
                    _page("Waits", "hourglass", "support.wait")
                    | {"permission": _sees("support.view_reports")},
                ],
            },
            {
                "title": "Set-up",
                "separator": True,
                "items": [
                    _page("Offers", "sell", "orders.offer"),
                    _page("Upstreams", "cell_tower", "orders.upstream"),
                    _page("Storefronts", "storefront", "wallet.storefront"),
                    _page("API keys", "key", "wallet.apikey"),
                    _page("Sweeps", "timer", "refunds.sweep"),
                    _page("Users", "group", "auth.user"),
                    _page("Roles", "badge", "auth.group"),
                    _page("Limits", "speed", "wallet.rolelimit"),
                    _page("Log-ins", "login", "axes.accesslog"),
                    _page("Failed log-ins", "lock_person", "axes.accessfailurelog"),
                    _page("Business calendar", "calendar_month", "support.calendar"),
                    _page("Calendar exceptions", "event_busy", "support.calendarexception"),
                ],
            },
        ],
    },
}
