"""The admin's looks and its sidebar (settings.UNFOLD)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def environment(request: HttpRequest) -> list[str] | None:
    """The badge that tells a development copy from the shop itself."""
    return None if settings.PRODUCTION else ["development", "warning"]


def _sees(permission: str) -> Callable[[HttpRequest], bool]:
    def allowed(request: HttpRequest) -> bool:
        return request.user.has_perm(permission)

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
    "STYLES": [lambda request: static("smsactivator/admin.css")],
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
                    _page("Refunds", "undo", "refunds.refund"),
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
                    _page("Audits", "fact_check", "wallet.auditrun"),
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
                ],
            },
        ],
    },
}
