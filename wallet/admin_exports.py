"""Exports: the page they are asked for on, their progress, their files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import UnfoldAdminSelectWidget

from smsactivator.common import actions, exports
from smsactivator.common.actions import Action, ActionForm, Done, KeyedForm
from smsactivator.common.admin import Facts, ReadOnlyAdmin, Table, TimeRangeFilter
from smsactivator.common.display import (
    BAD,
    BUSY,
    GOOD,
    NOTHING,
    QUIET,
    WAITING,
    badge,
    moment,
    mono,
    number,
)
from smsactivator.common.errors import NotFound, Refused
from smsactivator.common.links import admin_url
from smsactivator.common.periods import LONGEST, Period, PeriodRefused, this_month
from wallet.exports import PERMISSION, ask, cancel, offered_to, take
from wallet.models import Export

State = Export.State
TONES = {
    State.QUEUED: WAITING,
    State.RUNNING: BUSY,
    State.DONE: GOOD,
    State.FAILED: BAD,
    State.CANCELLED: QUIET,
    State.EXPIRED: QUIET,
}
REFRESH = 3  # seconds between two looks of a page at an export that is being written
DOWNLOADS = 50  # that the page lists


class AskForm(KeyedForm):
    """Which rows, of which days (UTC, both included)."""

    dataset = forms.ChoiceField(label="What", widget=UnfoldAdminSelectWidget)
    since = forms.DateField(label="From", widget=forms.DateInput({"type": "date"}, "%Y-%m-%d"))
    until = forms.DateField(label="To", widget=forms.DateInput({"type": "date"}, "%Y-%m-%d"))

    def __init__(self, offered: Iterable[exports.Dataset], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        what: Any = self.fields["dataset"]
        what.choices = [(dataset.name, dataset.label) for dataset in offered]

    def clean(self) -> dict[str, Any]:
        """With ``period`` in it."""
        given = super().clean() or {}
        if "since" in given and "until" in given:
            try:
                given["period"] = Period(given["since"], given["until"])
            except PeriodRefused as refused:
                raise forms.ValidationError(refused.message) from None
        return given


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """What was exported, by whom, and who took it."""

    empty_list = "Finance asks for the rows of some days, with the + at the top."
    related = ("requested_by",)
    list_display = ("numbered", "what", "days", "state_shown", "rows", "asked_by", "asked")
    list_filter = (("state", ChoicesDropdownFilter), ("requested_at", TimeRangeFilter))
    detail_template = "wallet/export.html"
    history_permission = "wallet.view_historicalexport"

    @display(description="Export")
    def numbered(self, export: Export) -> SafeString:
        return mono(str(export.pk))

    @display(description="What")
    def what(self, export: Export) -> str:
        return export.label

    @display(description="Days (UTC)")
    def days(self, export: Export) -> str:
        return f"{export.since} to {export.until}"

    @display(description="State")
    def state_shown(self, export: Export) -> SafeString:
        return badge(State(export.state).label, TONES[State(export.state)])

    @display(description="Rows")
    def rows(self, export: Export) -> SafeString:
        return NOTHING if export.rows_expected is None else number(export.rows_done)

    @display(description="Asked for by")
    def asked_by(self, export: Export) -> str:
        return str(export.requested_by)

    @display(description="Asked for (UTC)")
    def asked(self, export: Export) -> SafeString:
        return moment(export.requested_at)

    def title_of(self, obj: Export) -> str:
        return f"Export {obj.pk}: {obj.label}"

    def facts(self, request: HttpRequest, obj: Export) -> Iterable[Facts]:
        yield Facts(
            "Export",
            [
                ("What", obj.label),
                ("Days (UTC)", self.days(obj)),
                ("State", self.state_shown(obj)),
                *([("Problem", obj.problem)] if obj.problem else []),
                ("Asked for by", str(obj.requested_by)),
                ("Asked for (UTC)", moment(obj.requested_at)),
                ("Rows as of (UTC)", moment(obj.read_at)),
                ("Finished (UTC)", moment(obj.finished_at)),
            ],
        )
        if obj.sha256:
            gone = "Was kept until (UTC)" if obj.state == State.EXPIRED else "Kept until (UTC)"
            yield Facts(
                "File",
                [
                    ("Name", mono(obj.filename)),
                    ("Rows", f"{obj.rows_done:,}, and the heading"),
                    ("Bytes", f"{obj.size:,}"),
                    ("SHA-256", mono(obj.sha256)),
                    (gone, moment(obj.expires_at)),
                ],
            )

    def tables(self, request: HttpRequest, obj: Export) -> Iterable[Table]:
        taken = list(obj.downloads.select_related("person").order_by("-pk")[: DOWNLOADS + 1])
        newest = f" (the newest {DOWNLOADS})" if len(taken) > DOWNLOADS else ""
        yield Table(
            title=f"Downloads{newest}",
            headers=("Taken (UTC)", "By"),
            rows=[(moment(one.at), str(one.person)) for one in taken[:DOWNLOADS]],
            empty="Nobody has taken the file.",
        )

    def detail_context(self, request: HttpRequest, obj: Export) -> dict[str, Any]:
        expected = obj.rows_expected
        offered = {dataset.name for dataset in offered_to(request.user)}
        return {
            "refresh_seconds": REFRESH if obj.is_open else None,
            "expected": expected,
            "percent": 100 * obj.rows_done // expected if expected else None,
            "size": filesizeformat(obj.size),
            "download_url": admin_url("wallet_export_download", obj.pk)
            if obj.state == State.DONE and obj.dataset in offered
            else None,
        }

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whether the user may ask for exports."""
        return bool(request.user.has_perm(PERMISSION))

    def get_urls(self) -> list[URLPattern]:
        download = path(
            "<int:export_id>/download/",
            self.admin_site.admin_view(self.download_view),
            name="wallet_export_download",
        )
        return [download, *super().get_urls()]

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Say what can be exported (GET), and ask for it (POST)."""
        offered = offered_to(request.user)
        if not offered:
            raise PermissionDenied
        month = this_month()
        status = 200
        if request.method == "POST":
            form = AskForm(offered, request.POST)
            status = 422
            if form.is_valid():
                given = form.cleaned_data
                try:
                    export = ask(request.user, given["dataset"], given["period"], key=given["key"])
                except Refused as refusal:
                    form.add_error(None, refusal.message)
                    status = refusal.status
                else:
                    return HttpResponseRedirect(admin_url("wallet_export_change", export.pk))
        else:
            form = AskForm(offered, initial={"since": month.since, "until": month.until})
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Ask for an export",
            "form": form,
            "offered": offered,
            "longest": LONGEST,
            "back": admin_url("wallet_export_changelist"),
        }
        return TemplateResponse(request, "wallet/ask_export.html", context, status=status)

    def download_view(self, request: HttpRequest, export_id: int) -> HttpResponseBase:
        """The file, streamed; that it was taken is written down first. A POST: it leaves a row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            export, content = take(request.user, export_id)
        except NotFound as unknown:
            raise Http404(unknown.message) from None
        except Refused as refusal:
            self.message_user(request, refusal.message, "WARNING")
            return HttpResponseRedirect(admin_url("wallet_export_change", export_id))
        response = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{export.filename}"'
        # A file that was cut short is seen to be.
        response["Content-Length"] = str(export.size)
        return response


def _cancel(person: Any, export: Export, given: dict[str, Any]) -> Done:
    cancel(person, export.pk, seen=given["seen"])
    return Done(f"{export} is cancelled.")


actions.register(
    "wallet.Export",
    Action(
        name="cancel",
        label="Cancel",
        explains="What was written of the file is deleted. It can be asked for again.",
        form=ActionForm,
        permission=PERMISSION,
        offered=lambda person, export: export.is_open,
        run=_cancel,
    ),
)
