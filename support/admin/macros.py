"""Canned replies, kept by senior agents."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from smsactivator.common.admin import BoundedAdmin
from smsactivator.common.display import GOOD, QUIET, badge
from smsactivator.common.errors import Refused
from smsactivator.common.timeline import timeline
from support import macros
from support.models import Macro

GAPS = "It can name " + ", ".join(
    "{{" + name + "}} (" + variable.meaning + ")" for name, variable in macros.VARIABLES.items()
)


class MacroForm(forms.ModelForm):  # type: ignore[type-arg]
    """A canned reply, and why it is changed."""

    reason = forms.CharField(
        max_length=200,
        label="Reason for this change",
        help_text="Kept in the history.",
        widget=UnfoldAdminTextInputWidget,
    )

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
class MacroAdmin(BoundedAdmin):
    """Canned replies: text with gaps, and nothing else. One is switched off, never deleted."""

    form = MacroForm
    list_display = ("title", "standing")
    list_filter = ("active",)
    search_fields = ("title",)
    ordering = ("title",)
    change_form_outer_after_template = "smsactivator/timeline.html"

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

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = dict(extra_context or {})
        obj = self.get_object(request, object_id) if object_id else None
        if obj is not None and self.has_view_permission(request, obj):
            context["timeline"], context["timeline_is_longer"] = timeline(obj, request.user)
        response: HttpResponse = super().changeform_view(request, object_id, form_url, context)
        return response
