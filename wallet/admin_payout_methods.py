"""The coins and networks that payouts are made in, edited by administrators."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.safestring import SafeString

from smsactivator.common.admin import ReasonedAdmin, ReasonedForm
from smsactivator.common.display import GOOD, QUIET, badge
from wallet import methods
from wallet.models import PayoutMethod

PLAIN = {
    "code": (r"[A-Z0-9][A-Z0-9_-]*", "Capital letters, digits, - and _, as USDT-TRON."),
    "currency": (r"[A-Z0-9]+", "Capital letters and digits, as USDT."),
    "network": (r"[A-Z0-9][A-Z0-9_-]*", "Capital letters, digits, - and _, as TRON."),
    "coinspaid_code": (r"[A-Z0-9][A-Z0-9_-]*", "Capital letters, digits, - and _, as USDTT."),
    "inqud_code": (r"[A-Z0-9][A-Z0-9_-]*", "Capital letters, digits, - and _, as TRON_USDT."),
}


class PayoutMethodForm(ReasonedForm):
    """What goes into files for others is plain, so that no spreadsheet takes it for a formula."""

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        for name, (pattern, words) in PLAIN.items():
            if given.get(name) and not re.fullmatch(pattern, given[name]):
                self.add_error(name, words)
        return given


@admin.register(PayoutMethod)
class PayoutMethodAdmin(ReasonedAdmin):
    """The coins and networks of payouts. One is never deleted; it is switched off."""

    form = PayoutMethodForm
    ordering = ("code",)
    list_display = (
        *("code", "currency", "network", "address_format", "memo_rule"),
        *("coinspaid_code", "inqud_code", "standing"),
    )
    search_fields = ("code", "currency", "network")

    @display(description="State")
    def standing(self, method: PayoutMethod) -> SafeString:
        return badge("In use", GOOD) if method.enabled else badge("Off", QUIET)

    def write(self, obj: Any, fields: list[str], *, person: Any, reason: str) -> None:
        """Through the methods' verb."""
        methods.save(obj, fields, person=person, reason=reason)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Payouts were asked for in it: another coin or network is another method."""
        return methods.FIXED if obj else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Why is asked of those who may change it."""
        sets: list[Any] = [
            ("Coin and network", {"fields": methods.FIXED}),
            (
                "How it is sent",
                {"fields": ("memo_rule", "contract", "coinspaid_code", "inqud_code", "enabled")},
            ),
        ]
        if self.has_change_permission(request, obj):
            sets.append((None, {"fields": ("reason",)}))
        return sets
