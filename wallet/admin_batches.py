"""Batches of payouts and result files: gathering, files to take, plans to look at, reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery, Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from smsactivator.common import actions
from smsactivator.common.actions import Action, ActionForm, Done, KeyedForm, NoteForm, ReasonForm
from smsactivator.common.admin import Facts, ReadOnlyAdmin, Table
from smsactivator.common.display import (
    BAD,
    BUSY,
    GOOD,
    NOTHING,
    QUIET,
    WAITING,
    amount,
    badge,
    moment,
    money,
    mono,
    number,
)
from smsactivator.common.errors import Refused
from smsactivator.common.files import SAVED_ONLY
from smsactivator.common.links import Link, admin_url, anchor, source_for
from wallet import batches, profiles, results, resultsheets
from wallet.batches import BATCH, Selection
from wallet.models import (
    BatchLine,
    FileDownload,
    PayoutBatch,
    PayoutFile,
    ResultFile,
    ResultLine,
)
from wallet.pages import customer_link, payout_link
from wallet.payout_flags import flags_of
from wallet.results import Plan, Row, Verdict
from wallet.settlement import SETTLE

SHOWN = 200  # lines, downloads and rows on a page; files have all
TONES = {
    PayoutBatch.State.GATHERED: WAITING,
    PayoutBatch.State.EXPORTED: BUSY,
    PayoutBatch.State.SUBMITTED: GOOD,
    PayoutBatch.State.VOIDED: QUIET,
}
VERDICTS = {
    Verdict.REFUSED: BAD,
    Verdict.PAY: GOOD,
    Verdict.FAIL: WAITING,
    Verdict.ALREADY: QUIET,
    Verdict.PENDING: BUSY,
    Verdict.DONE: GOOD,
}


def batch_link(batch: PayoutBatch) -> Link:
    """A batch by its reference."""
    url = admin_url("wallet_payoutbatch_change", batch.pk)
    return Link(str(batch), url, "wallet.view_payoutbatch")


@source_for("wallet.Payout")
def batches_of_payouts(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The batches that these payouts were in, the newest first, and the files that settled them."""
    links: dict[int, list[Link]] = defaultdict(list)
    lines = BatchLine.objects.filter(payout__in=pks).select_related("batch").order_by("-pk")
    for line in lines:
        batch = batch_link(line.batch)
        if line.batch.state == PayoutBatch.State.VOIDED:
            batch = replace(batch, text=f"{batch.text} (voided)")
        links[line.payout_id].append(batch)
    files = ResultLine.objects.filter(payout__in=pks).order_by("-pk")
    for result in files:
        url = admin_url("wallet_resultfile_change", result.file_id)
        links[result.payout_id].append(
            Link(f"Result file {result.file_id}", url, "wallet.view_resultfile")
        )
    return links


# --- actions ---


def _batch_done(batch: PayoutBatch, words: str) -> Done:
    return Done(f"{batch} {words}")


actions.register(
    "wallet.PayoutBatch",
    Action(
        name="export",
        label="Export",
        explains="Its files are made now, once, and its payouts are exported: from here on they "
        "may be on their way, so whoever exports it or takes a file does not void it. Exported "
        "does not mean paid.",
        form=ActionForm,
        permission=BATCH,
        offered=lambda _person, batch: batch.state == PayoutBatch.State.GATHERED,
        why_not=batches.why_not_export,
        run=lambda person, batch, typed: _batch_done(
            batches.export(person, batch.pk, seen=typed["seen"]),
            "is exported: take its files below.",
        ),
    ),
    Action(
        name="submit",
        label="Submit",
        explains="Note that its files were handed to whoever sends the money. It cannot be voided "
        "after. Submitted does not mean paid: that comes with a result file, or by hand.",
        form=NoteForm,
        permission=BATCH,
        offered=lambda _person, batch: batch.state == PayoutBatch.State.EXPORTED,
        run=lambda person, batch, typed: _batch_done(
            batches.submit(person, batch.pk, reason=typed["reason"], seen=typed["seen"]),
            "is submitted.",
        ),
    ),
    Action(
        name="void",
        label="Void",
        explains="Give it up: its payouts are approved again, and can be gathered anew. Make sure "
        "that nobody has sent any of its files: what was sent would be sent twice. Once it was "
        "exported, the next files of its payouts are made and taken by somebody else than you.",
        form=ReasonForm,
        permission=BATCH,
        offered=lambda _person, batch: (
            batch.state in {PayoutBatch.State.GATHERED, PayoutBatch.State.EXPORTED}
        ),
        why_not=batches.why_not_void,
        run=lambda person, batch, typed: _batch_done(
            batches.void(person, batch.pk, reason=typed["reason"], seen=typed["seen"]),
            "is voided.",
        ),
        dangerous=True,
    ),
)


def _to_look_at(file: ResultFile) -> list[str]:
    """What to think of before a file is applied."""
    found, plan = [], plan_of(file)
    if count := plan.shared:
        where = "is on payouts of other customers too, outside this file"
        found.append(f"The transaction of {_rows(count)} {where}. Make sure that it paid them all.")
    if count := plan.again:
        found.append(
            f"A payout that was sent again is paid by {_rows(count)}. Make sure that the report is "
            "not of an earlier attempt: then two transactions pay it."
        )
    return found


actions.register(
    "wallet.ResultFile",
    Action(
        name="apply",
        label="Apply",
        explains="Rows that say so are marked paid or failed now, and each customer is told. Rows "
        "that are refused or pending change nothing. Applied again it changes nothing twice.",
        form=ActionForm,
        permission=SETTLE,
        offered=lambda _person, _file: True,
        why_not=lambda _person, file: (
            "" if plan_of(file).to_apply else "No row is left that it would change."
        ),
        run=lambda person, file, typed: Done(
            f"{results.apply(person, file.pk, seen=typed['seen'])} is applied: below is what "
            "became of each row."
        ),
        sees=results.steps_of,
        warns=_to_look_at,
    ),
)


def plan_of(file: ResultFile) -> Plan:
    """The plan of a file, made once for each page."""
    found: Plan | None = file.__dict__.get("plan")
    if found is None:
        found = file.__dict__["plan"] = results.plan(file)
    return found


# --- batches ---


class ProfileForm(forms.Form):
    """Whose files, and which payouts: all that wait, or those that were chosen."""

    profile = forms.ChoiceField(
        choices=lambda: [(one.name, one.label) for one in profiles.PROFILES.values()]
    )
    ids = forms.RegexField(
        r"^\d{1,18}(,\d{1,18})*$", required=False, widget=forms.HiddenInput, max_length=200_000
    )

    def payouts(self) -> list[int] | None:
        """The ids that were chosen; None for all."""
        ids: str = self.cleaned_data["ids"]
        return sorted({int(pk) for pk in ids.split(",")}) if ids else None


class GatherForm(ProfileForm, ActionForm):
    """What the page showed, to be frozen as it was shown."""


@admin.register(PayoutBatch)
class PayoutBatchAdmin(ReadOnlyAdmin):
    """What finance sends together."""

    related = ("made_by", "exported_by", "submitted_by", "voided_by")
    list_display = (
        "named",
        "made",
        "profile_label",
        "state_badge",
        "payouts",
        "total_usd",
        "made_by",
        "exported_by",
    )
    list_display_links = ("named",)
    list_filter = (("state", ChoicesDropdownFilter),)
    list_before_template = "wallet/batch_buttons.html"
    detail_template = "wallet/batch.html"
    history_permission = "wallet.view_historicalpayoutbatch"

    @display(description="Batch")
    def named(self, batch: PayoutBatch) -> SafeString:
        return mono(batch.reference)

    @display(description="Gathered (UTC)")
    def made(self, batch: PayoutBatch) -> SafeString:
        return moment(batch.made_at)

    @display(description="Profile")
    def profile_label(self, batch: PayoutBatch) -> str:
        return profiles.named(batch.profile).label

    @display(description="State")
    def state_badge(self, batch: PayoutBatch) -> SafeString:
        state = PayoutBatch.State(batch.state)
        return badge(state.label, TONES[state])

    @display(description="Payouts")
    def payouts(self, batch: PayoutBatch) -> SafeString:
        return number(batch.count)

    @display(description="Total, USD")
    def total_usd(self, batch: PayoutBatch) -> SafeString:
        return money(batch.total)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with the way to the next batch."""
        gathers = request.user.has_perm(BATCH)
        url = admin_url("wallet_payoutbatch_gather") if gathers else ""
        return super().changelist_view(request, {**(extra_context or {}), "gather_url": url})

    def facts(self, request: HttpRequest, obj: PayoutBatch) -> Iterable[Facts]:
        yield Facts(
            "Batch",
            [
                ("State", self.state_badge(obj)),
                ("Profile", self.profile_label(obj)),
                ("Payouts", number(obj.count)),
                ("Total, USD", money(obj.total)),
            ],
        )
        # Said where it keeps somebody from the next step.
        why = gone = ""
        if obj.state != PayoutBatch.State.VOIDED and request.user.has_perm(BATCH):
            why = batches.why_no_files(request.user, obj)
            gone = "" if why else batches.why_not_download(request.user, obj)
        yield Facts(
            "Steps",
            [
                (name, _step(at, by))
                for name, at, by in (
                    ("Gathered (UTC)", obj.made_at, obj.made_by),
                    ("Exported (UTC)", obj.exported_at, obj.exported_by),
                    ("Submitted (UTC)", obj.submitted_at, obj.submitted_by),
                    ("Voided (UTC)", obj.voided_at, obj.voided_by),
                )
            ]
            + ([("Because", obj.void_reason)] if obj.void_reason else [])
            + ([("Not by you", why)] if why else [])
            + ([("No files any more", gone)] if gone else [])
            + self._goes_on(request.user, obj),
        )

    @staticmethod
    def _goes_on(person: Any, obj: PayoutBatch) -> list[tuple[str, SafeString | str]]:
        """Who goes on where this person does not, or where it goes on."""
        if (
            obj.state == PayoutBatch.State.EXPORTED
            and person.has_perm(BATCH)
            and batches.why_not_voider(person, obj)
        ):
            others = "Somebody in finance who neither exported it nor has taken a file of it"
            return [("Can be voided by", others)]
        if obj.state == PayoutBatch.State.SUBMITTED and person.has_perm(SETTLE):
            url = admin_url("wallet_resultfile_upload")
            return [("What became of it", anchor("Upload a result file", url))]
        return []

    def tables(self, request: HttpRequest, obj: PayoutBatch) -> Iterable[Table]:
        coins = (
            obj.lines.values_list("currency", "network")
            .annotate(count=Count("pk"), sum=Sum("amount"))
            .order_by("currency", "network")
        )
        yield _coins(
            [(f"{coin} on {network}", count, sum_) for coin, network, count, sum_ in coins]
        )
        yield self._lines(request, obj)
        if obj.left_out:
            yield _left_out(obj.left_out)
        if obj.exported_by_id:
            yield self._downloads(obj)

    @staticmethod
    def _lines(request: HttpRequest, obj: PayoutBatch) -> Table:
        lines = obj.lines.select_related("payout").order_by("position")[:SHOWN]
        more = f", the first {SHOWN} of {obj.count}" if obj.count > SHOWN else ""
        return Table(
            f"Payouts{more}",
            ("", "Payout", "Address", "Memo", "Coin", "Amount, USD", "Now"),
            [
                (
                    str(line.position),
                    payout_link(line.payout).html(request.user),
                    mono(line.address),
                    mono(line.memo),
                    mono(line.code),
                    money(line.amount),
                    line.payout.get_state_display()
                    if line.live or obj.state == PayoutBatch.State.VOIDED
                    else f"Let go; {line.payout.get_state_display().lower()}",
                )
                for line in lines
            ],
            "None.",
            frozenset({"Amount, USD"}),
        )

    @staticmethod
    def _downloads(obj: PayoutBatch) -> Table:
        taken = (
            FileDownload.objects.filter(file__batch=obj)
            .select_related("person")
            .order_by("-pk")
            .values_list("at", "person__username", "file__name")[:SHOWN]
        )
        return Table(
            "Downloads",
            ("When (UTC)", "Who", "File"),
            [(moment(at), who, mono(name)) for at, who, name in taken],
            "Nobody has taken a file yet.",
        )

    def detail_context(self, request: HttpRequest, obj: PayoutBatch) -> dict[str, Any]:
        voided = obj.state == PayoutBatch.State.VOIDED
        takes = request.user.has_perm(BATCH) and not batches.why_not_download(request.user, obj)
        files = obj.files.defer("content").order_by("format", "number")
        return {
            "files": [
                {
                    "name": file.name,
                    "rows": number(file.rows),
                    "total": money(file.total),
                    "size": number(file.size),
                    "sha256": mono(file.sha256),
                    "url": admin_url("wallet_payoutbatch_file", file.pk) if takes else "",
                }
                for file in files
            ],
            "voided": voided,
        }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("gather/", view(self.gather_view), name="wallet_payoutbatch_gather"),
            path("file/<int:pk>/", view(self.file_view), name="wallet_payoutbatch_file"),
            *super().get_urls(),
        ]

    def file_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A file to save (POST, as the taking is written down)."""
        if not request.user.has_perm(BATCH):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            file = batches.download(request.user, pk)
        except batches.FileUnknown as refusal:
            raise Http404(refusal.message) from None
        except Refused as refusal:
            return HttpResponse(
                refusal.message, content_type="text/plain; charset=utf-8", status=refusal.status
            )
        kind = (
            "text/csv; charset=utf-8"
            if file.format == PayoutFile.Format.CSV
            else "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        )
        response = HttpResponse(bytes(file.content), content_type=kind, headers=SAVED_ONLY)
        response["Content-Disposition"] = str(
            content_disposition_header(as_attachment=True, filename=file.name)
        )
        return response

    def gather_view(self, request: HttpRequest) -> HttpResponse:
        """What a batch would hold and leave out (GET), and the batch as it was shown (POST)."""
        if not request.user.has_perm(BATCH):
            raise PermissionDenied
        status, refusal = 200, ""
        if request.method == "POST":
            form = GatherForm(request.POST)
            if form.is_valid():
                typed = form.cleaned_data
                try:
                    batch = batches.gather(
                        request.user,
                        profile=typed["profile"],
                        payout_ids=form.payouts(),
                        key=typed["key"],
                        seen=typed["seen"],
                    )
                except Refused as refused:
                    status, refusal = refused.status, refused.message
                else:
                    return HttpResponseRedirect(batch_link(batch).url)
            else:
                status, refusal = 422, "The form is not whole: look at the payouts again."
        asked = ProfileForm(
            {
                "profile": request.GET.get("profile") or next(iter(profiles.PROFILES)),
                "ids": request.GET.get("ids", ""),
            }
        )
        selection = None
        if asked.is_valid():
            try:
                selection = batches.preview(asked.cleaned_data["profile"], asked.payouts())
            except Refused as refused:
                status, refusal = refused.status, refused.message
        else:
            status, refusal = 422, "There is no such profile, or the choice of payouts is none."
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Gather a batch",
            "asked": asked,
            "refusal": refusal,
            "back": admin_url("wallet_payoutbatch_changelist"),
            **(self._gathered(request, asked, selection) if selection else {}),
        }
        return TemplateResponse(request, "wallet/gather.html", context, status=status)

    @staticmethod
    def _gathered(request: HttpRequest, asked: ProfileForm, selection: Selection) -> dict[str, Any]:
        found = selection.payouts
        flags = flags_of(found[:SHOWN])
        ids = ",".join(str(payout.pk) for payout in found)
        more = f", the first {SHOWN} of {len(found)}" if len(found) > SHOWN else ""
        listed = Table(
            f"Payouts{more}",
            (
                *("Payout", "Customer", "Address", "Memo", "Coin", "Amount, USD"),
                *("Approved (UTC)", "Look closely"),
            ),
            [
                (
                    payout_link(payout).html(request.user),
                    customer_link(payout.customer),
                    mono(payout.address),
                    mono(payout.memo),
                    str(payout.method),
                    money(payout.amount),
                    moment(payout.approved_at),
                    flags[payout.pk],
                )
                for payout in found[:SHOWN]
            ],
            "No approved payout waits to be gathered.",
            frozenset({"Amount, USD"}),
        )
        tables = [_coins(selection.totals), listed] if found else [listed]
        if selection.left_out:
            tables.insert(-1, _left_out(selection.left_out))
        return {
            "form": GatherForm(
                initial={
                    "profile": asked.cleaned_data["profile"],
                    "ids": ids,
                    "seen": selection.steps,
                },
                auto_id=False,
            ),
            "profile": profiles.named(asked.cleaned_data["profile"]).label,
            "count": len(found),
            "total": amount(selection.total),
            "left_out": len(selection.left_out),
            "more": selection.more,
            "most": batches.MOST,
            "tables": tables,
        }


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _step(at: Any, by: Any) -> SafeString | str:
    if at is None:
        return NOTHING
    return format_html("{} by {}", moment(at), by)


def _coins(totals: Iterable[tuple[str, int, Decimal]]) -> Table:
    return Table(
        "Totals",
        ("Coin", "Payouts", "Amount, USD"),
        [(coin, number(count), money(sum_)) for coin, count, sum_ in totals],
        "None.",
        frozenset({"Payouts", "Amount, USD"}),
    )


def _left_out(left_out: Sequence[Sequence[str]]) -> Table:
    more = f", the first {SHOWN} of {len(left_out)}" if len(left_out) > SHOWN else ""
    return Table(
        f"Left out{more}",
        ("Payout", "Why"),
        [(mono(name), why) for name, why in left_out[:SHOWN]],
        "None.",
    )


# --- result files ---


class UploadForm(KeyedForm):
    """A file, as the provider gave it."""

    file = forms.FileField(
        label="Result file",
        widget=forms.FileInput(attrs={"accept": ".csv,.xlsx"}),
        help_text=f"CSV or XLSX, at most {resultsheets.MOST_BYTES // 1_000_000} MB and "
        f"{resultsheets.MOST_ROWS} rows below a header.",
    )


def _uploaded_before(file: ResultFile, url: str) -> SafeString:
    return format_html(
        "This file was uploaded before, at {} UTC by {}: it is {}, and below is how it stands.",
        f"{file.uploaded_at:%Y-%m-%d %H:%M:%S}",
        file.uploaded_by,
        anchor(file, url),
    )


@admin.register(ResultFile)
class ResultFileAdmin(ReadOnlyAdmin):
    """What providers say became of payouts."""

    empty_list = "Finance uploads here what a provider reports of a batch that was submitted."
    related = ("uploaded_by",)
    list_display = ("id", "uploaded", "name", "uploaded_by", "bytes", "applied")
    list_before_template = "wallet/result_buttons.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ResultFile]:
        applied = (
            ResultLine.objects.filter(file=OuterRef("pk"))
            .order_by()
            .values("file")
            .annotate(count=Count("pk"))
        )
        files: QuerySet[ResultFile] = super().get_queryset(request)
        return files.annotate(applied_rows=Subquery(applied.values("count"))).defer("content")

    @display(description="Uploaded (UTC)")
    def uploaded(self, file: ResultFile) -> SafeString:
        return moment(file.uploaded_at)

    @display(description="Bytes")
    def bytes(self, file: ResultFile) -> SafeString:
        return number(file.size)

    @display(description="Rows applied")
    def applied(self, file: Any) -> SafeString:
        return number(file.applied_rows or 0)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with the way to upload one."""
        url = admin_url("wallet_resultfile_upload") if request.user.has_perm(SETTLE) else ""
        return super().changelist_view(request, {**(extra_context or {}), "upload_url": url})

    def facts(self, request: HttpRequest, obj: ResultFile) -> Iterable[Facts]:
        plan = plan_of(obj)
        yield Facts(
            "What applying it does now" if plan.to_apply else "How it stands",
            [
                (verdict.value, f"{_rows(count)}, {amount(sum_)} USD" if count else NOTHING)
                for verdict, count, sum_ in plan.totals
            ]
            + [("Look closely", warning) for warning in _to_look_at(obj)],
        )
        yield Facts(
            "File",
            [
                ("Name", obj.name),
                ("Uploaded (UTC)", moment(obj.uploaded_at)),
                ("Uploaded by", str(obj.uploaded_by)),
                ("Bytes", number(obj.size)),
                ("SHA-256", mono(obj.sha256)),
                ("Columns not read", ", ".join(plan.ignored) or NOTHING),
            ],
        )

    def tables(self, request: HttpRequest, obj: ResultFile) -> Iterable[Table]:
        rows = plan_of(obj).rows
        more = f", {SHOWN} of {len(rows)}" if len(rows) > SHOWN else ""
        yield Table(
            f"Rows{more}",
            ("Row", "Payout", "Amount, USD", "What comes of it", "", "By", "When (UTC)"),
            [self._row(row, request.user) for row in rows[:SHOWN]],
            "None.",
            frozenset({"Amount, USD"}),
        )

    @staticmethod
    def _row(row: Row, user: Any) -> tuple[SafeString | str, ...]:
        said: SafeString | str = row.why
        if row.line is not None:
            said = f"{row.why}: {row.line.detail}" if row.line.detail else row.why
        elif row.transaction_hash:
            said = format_html("{} {}", mono(row.transaction_hash), row.why)
        if row.remark:
            said = format_html("{} {} {}", said, badge("Look closely", WAITING), row.remark)
        return (
            str(row.number),
            payout_link(row.payout).html(user) if row.payout else row.cells["reference"],
            money(row.amount),
            badge(row.verdict.value, VERDICTS[row.verdict]),
            said,
            str(row.line.applied_by) if row.line else NOTHING,
            moment(row.line.applied_at) if row.line else NOTHING,
        )

    def get_urls(self) -> list[URLPattern]:
        upload = self.admin_site.admin_view(self.upload_view)
        return [path("upload/", upload, name="wallet_resultfile_upload"), *super().get_urls()]

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """The form of a file (GET), and the file with its plan (POST): nothing is applied."""
        if not request.user.has_perm(SETTLE):
            raise PermissionDenied
        form, status = UploadForm(), 200
        if request.method == "POST":
            form, status = UploadForm(request.POST, request.FILES), 422
            if form.is_valid():
                sent = form.cleaned_data["file"]
                try:
                    file = results.upload(
                        request.user,
                        name=sent.name,
                        content=sent.read(resultsheets.MOST_BYTES + 1),
                        key=form.cleaned_data["key"],
                    )
                except Refused as refusal:
                    form.add_error(None, refusal.message)
                    status = refusal.status
                else:
                    url = admin_url("wallet_resultfile_change", file.pk)
                    # Kept by another form than this one, which may have been sent twice.
                    if file.request_key != form.cleaned_data["key"]:
                        messages.warning(request, _uploaded_before(file, url))
                    return HttpResponseRedirect(url)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Upload a result file",
            "form": form,
            "columns": resultsheets.COLUMNS,
            "back": admin_url("wallet_resultfile_changelist"),
        }
        return TemplateResponse(request, "wallet/upload_results.html", context, status=status)
