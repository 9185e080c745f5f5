"""The addresses that nothing is paid out to, kept by finance."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import UnfoldAdminSelectWidget

from smsactivator.common.admin import ReasonedAdmin, ReasonedForm
from smsactivator.common.display import GOOD, QUIET, badge, mono
from wallet import refusing
from wallet.models import RefusedAddress


class RefusedAddressForm(ReasonedForm):
    """An address on one of the networks that payouts are made on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "network" in self.fields:
            self.fields["network"] = forms.ChoiceField(
                choices=[(name, name) for name in refusing.networks()],
                widget=UnfoldAdminSelectWidget,
            )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("why") == RefusedAddress.Why.OTHER and not given.get("note"):
            self.add_error("note", "Say why nothing is paid out to it.")
        return given


@admin.register(RefusedAddress)
class RefusedAddressAdmin(ReasonedAdmin):
    """Where nothing is paid out to. A row is never deleted; it is switched off."""

    form = RefusedAddressForm
    ordering = ("network", "id")
    list_display = ("shown", "network", "why", "note", "standing")
    list_filter = (("why", ChoicesDropdownFilter),)
    search_fields = ("address", "network", "note")

    @display(description="Address")
    def shown(self, row: RefusedAddress) -> SafeString:
        return mono(row.address)

    @display(description="State")
    def standing(self, row: RefusedAddress) -> SafeString:
        return badge("Refused", GOOD) if row.active else badge("Off", QUIET)

    def write(self, obj: Any, fields: list[str], *, person: Any, reason: str) -> None:
        """Through the list's verb."""
        refusing.save(obj, fields, person=person, reason=reason)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whether the person keeps the list."""
        return bool(request.user.has_perm(refusing.REFUSE))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the person keeps the list."""
        return self.has_add_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """A row stays the address that it is."""
        return refusing.FIXED if obj else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Why is asked of those who may change it."""
        sets: list[Any] = [(None, {"fields": (*refusing.FIXED, "why", "note", "active")})]
        if self.has_change_permission(request, obj):
            sets.append((None, {"fields": ("reason",)}))
        return sets
