"""One step on many tickets: a plan to confirm, and a report of what became of each."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.forms import ActionForm as ListActionForm
from unfold.widgets import UnfoldAdminTextareaWidget

from smsactivator.common.actions import KeyedForm, ReasonForm
from smsactivator.common.display import amount
from smsactivator.common.errors import Refused
from smsactivator.common.links import admin_url, anchor
from support import bulk, macros
from support.bulk import Plan, Result, Row, Step, Words
from support.models import LONGEST_BODY, Ticket
from wallet.pages import customer_link


class DecisionForm(KeyedForm):
    """One reason and one reply for all."""

    reason = ReasonForm.base_fields["reason"]

    body = forms.CharField(
        label="Reply to each customer",
        max_length=LONGEST_BODY,
        required=False,
        initial="Thank you for your patience. We have looked at your case.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="The outcome and the clause in plain words are added to it. Without a reply, a "
        "ticket whose customer waits for an answer is left as it is.",
    )

    def clean_body(self) -> str:
        """The reply, if nothing in it is still to be filled in."""
        body: str = self.cleaned_data["body"]
        try:
            macros.refuse_gaps(body)
        except Refused as refusal:
            raise ValidationError(refusal.message) from None
        return body


def _action(step: Step) -> Any:
    @admin.action(description=step.label, permissions=[step.name])
    def choose(model_admin: Any, request: HttpRequest, queryset: QuerySet[Ticket]) -> HttpResponse:
        """Go on to the plan of what was chosen; nothing is changed here."""
        pks = list(queryset.order_by("pk").values_list("pk", flat=True)[: bulk.MOST + 1])
        ids = ",".join(str(pk) for pk in pks)
        return HttpResponseRedirect(admin_url("support_ticket_bulk", step.name, ids=ids))

    choose.__name__ = step.name
    return choose


ACTIONS = [_action(step) for step in bulk.STEPS.values()]


def view(model_admin: Any, request: HttpRequest, name: str) -> HttpResponse:
    """The plan of a step (GET), and the step with the report of what became of each (POST)."""
    step = bulk.STEPS.get(name)
    if step is None:
        raise Http404(f"There is no step {name}.")
    if not model_admin.has_view_permission(request) or not request.user.has_perm(step.permission):
        raise PermissionDenied
    kind: type[KeyedForm] = DecisionForm if step.decides else KeyedForm
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": step.label,
        "step": step,
        "back": admin_url("support_ticket_changelist"),
    }
    seen: dict[int, tuple[int, int]] = {}
    form: forms.Form = kind()
    try:
        if request.method == "POST":
            seen = _seen(request.POST.getlist("row"))
            form = kind(request.POST)
            if form.is_valid():
                typed = form.cleaned_data
                results = bulk.carry_out(
                    request.user,
                    step,
                    seen,
                    words=Words(typed.get("reason", ""), typed.get("body", "")),
                    key=typed["key"],
                )
                request.taken = True  # type: ignore[attr-defined]  # its draft is needed no more
                return TemplateResponse(request, "support/bulk.html", context | _report(results))
            plan = bulk.plan(request.user, step, list(seen))
        else:
            plan = bulk.plan(request.user, step, _ids(request.GET.get("ids", "")))
    except Refused as refusal:
        context["refusal"] = refusal.message
        return TemplateResponse(request, "support/bulk.html", context, status=refusal.status)
    return TemplateResponse(
        request,
        "support/bulk.html",
        context | _plan(plan, seen) | {"form": form},
        status=422 if form.is_bound else 200,
    )


def refuse_odd(request: HttpRequest) -> None:
    """Raise BadRequest for a choice of tickets that no page sends."""
    _ids(",".join(request.POST.getlist(ACTION_CHECKBOX_NAME)))
    _ids(request.POST.get("listed", ""))


class ChoosingForm(ListActionForm):  # type: ignore[misc]
    """A step for what is ticked, or for all that the list has found."""

    # What "all" means: a list is searched anew when it is sent, and may find more by then.
    listed = forms.CharField(label="", required=False, widget=forms.HiddenInput)


def tell_listed(context: dict[str, Any]) -> None:
    """Put the tickets of the whole list into its form, when "all" may be chosen there."""
    found, form = context.get("cl"), context.get("action_form")
    if found is None or form is None or not found.multi_page:
        return
    # One more than a step takes, for the plan to refuse.
    pks = found.queryset.values_list("pk", flat=True)[: bulk.MOST + 1]
    form.fields["listed"].initial = ",".join(str(pk) for pk in pks)


def as_listed(request: HttpRequest, queryset: QuerySet[Ticket]) -> QuerySet[Ticket]:
    """Of "all", what the page showed; of what was ticked, all of it."""
    if request.POST.get("select_across") != "1":
        return queryset
    ticked = ",".join(request.POST.getlist(ACTION_CHECKBOX_NAME))
    return queryset.filter(pk__in=_ids(request.POST.get("listed") or ticked))


def _ids(text: str) -> list[int]:
    parts = text.split(",") if text else []
    if not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in parts):
        raise BadRequest("The address names no tickets.")
    return [int(part) for part in parts]


def _seen(rows: list[str]) -> dict[int, tuple[int, int]]:
    """The tickets of the form, each with the version and the refund that the plan showed."""
    seen: dict[int, tuple[int, int]] = {}
    for row in rows:
        parts = _ids(row.replace(":", ","))
        if len(parts) != 3:
            raise BadRequest("The form names no tickets.")
        seen[parts[0]] = (parts[1], parts[2])
    if not seen:
        raise BadRequest("The form names no tickets.")
    return seen


def _link(ticket_id: int, words: str = "") -> Any:
    text = f"Ticket {ticket_id}: {words}" if words else f"Ticket {ticket_id}"
    return anchor(text, admin_url("support_ticket_change", ticket_id))


def _plan(plan: Plan, seen: dict[int, tuple[int, int]]) -> dict[str, Any]:
    return {
        "taken": [
            {
                "key": _key(row, seen),
                "link": _link(row.ticket.pk, row.ticket.subject),
                "customer": customer_link(row.ticket.customer),
                "amount": amount(row.amount),
            }
            for row in plan.taken
        ],
        "left_out": [_left_out(row) for row in plan.left_out],
        "total": amount(plan.total),
    }


def _key(row: Row, seen: dict[int, tuple[int, int]]) -> str:
    """What the form says of a row: as the person saw it first, when the form comes back."""
    shown = (row.ticket.version, row.request.pk if row.request else 0)
    version, request_id = seen.get(row.ticket.pk, shown)
    return f"{row.ticket.pk}:{version}:{request_id}"


def _left_out(row: Row) -> dict[str, Any]:
    return {"link": _link(row.ticket.pk, row.ticket.subject), "why": row.left_out}


def _report(results: list[Result]) -> dict[str, Any]:
    done = [result for result in results if not result.refused]
    return {
        "results": [
            {
                "link": _link(result.ticket_id),
                "amount": amount(result.amount),
                "words": f"Left as it was: {result.refused}" if result.refused else "Done",
            }
            for result in results
        ],
        "done": len(done),
        "moved": amount(sum((result.amount for result in done), Decimal(0))),
    }
