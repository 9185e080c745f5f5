"""Canned replies, kept by senior agents."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import display
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget

from smsactivator.common.admin import ReasonedAdmin, ReasonedForm
from smsactivator.common.display import GOOD, QUIET, badge
from smsactivator.common.errors import Refused
from support import macros
from support.models import Macro

GAPS = "It can name " + ", ".join(
    "{{" + name + "}} (" + variable.meaning + ")" for name, variable in macros.VARIABLES.items()
)


class MacroForm(ReasonedForm):
    """A canned reply, and why it is changed."""

    class Meta:
        model = Macro
        fields = ("title", "body", "active")
        widgets = {"body": UnfoldAdminTextareaWidget(attrs={"rows": 8})}
        help_texts = {"body": GAPS}

    def clean_body(self) -> str:
        """The text, if every gap in it is one that a case can fill."""
        body: str = self.cleaned_data["body"]
        try:
            macros.refuse_unknown(body)
        except Refused as refusal:
            raise ValidationError(refusal.message) from None
        return body


@admin.register(Macro)
class MacroAdmin(ReasonedAdmin):
    """Canned replies: text with gaps, and nothing else. One is switched off, never deleted."""

    form = MacroForm
    list_display = ("title", "standing")
    list_filter = ("active",)
    search_fields = ("title",)
    ordering = ("title",)

    @display(description="State")
    def standing(self, macro: Macro) -> SafeString:
        return badge("In use", GOOD) if macro.active else badge("Off", QUIET)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Who may change one may add one."""
        return bool(self.has_change_permission(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Through the verb, which checks the permission and records who and why."""
        saved = macros.save(
            request.user,
            obj.pk,
            title=obj.title,
            body=obj.body,
            active=obj.active,
            reason=form.cleaned_data["reason"],
        )
        obj.pk = saved.pk
