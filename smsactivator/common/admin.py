"""The ground of every admin page: read-only, bounded in cost, and written alike.

Lists cost the same at ten million rows as at ten thousand: they are ordered by an indexed column,
cannot be re-sorted by another, and are counted up to a limit only. They are narrowed by what their
filters and our own links name: any other lookup could ask for what the page does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path, unquote
from django.contrib.admin.views.main import ORDER_VAR
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.dateparse import parse_date, parse_time
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter, RangeDateTimeFilter
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from smsactivator.common import panels
from smsactivator.common.actions import Action, actions_on, warnings_of
from smsactivator.common.display import NOTHING
from smsactivator.common.errors import Refused
from smsactivator.common.links import Link, admin_url, collect
from smsactivator.common.seen import Outdated
from smsactivator.common.timeline import timeline

LISTED = 1000  # rows that a list reaches; older ones are found by search and filters


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts and reaches the first ``LISTED`` rows, so that no page reads more than those."""

    template_name = "smsactivator/pagination.html"

    object_list: QuerySet[Any]

    @cached_property
    def _counted(self) -> int:
        # In the order of the page itself, so that the count walks the index that the page walks.
        return self.object_list[: LISTED + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._counted, LISTED)

    def validate_number(self, number: Any) -> int:
        """The page, or the last one for what lies beyond it: the list may have become shorter."""
        try:
            asked = int(number)
        except (TypeError, ValueError):
            asked = 1
        return min(max(asked, 1), self.num_pages)

    @property
    def capped(self) -> bool:
        """Whether there are more rows than the list reaches."""
        return self._counted > LISTED


class BoundedChangeList(ChangeList):
    """A list in its own order, whatever the address asks for.

    It was not counted in full, so it has no total to offer beside its result.
    """

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        self.params.pop(ORDER_VAR, None)
        ordering: list[Any] = super().get_ordering(request, queryset)
        return ordering

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.page_num: int = self.paginator.validate_number(self.page_num)
        self.model_admin.read_beside(self.result_list)
        self.full_result_count = self.result_count
        # Instead of what the list would say when it is empty.
        self.nothing = self.model_admin.nothing_here(request)


class ChoiceFilter(DropdownFilter):
    """A filter that is no field of the rows: ``lookups`` and ``queryset`` say what it does.

    It is a field of the list's form. As a row of links it would not be, and what it had chosen
    would be dropped by whoever applies another filter.
    """


class TimeRangeFilter(RangeDateTimeFilter):
    """From a day, to a day, each with an optional time of day (UTC). A bare day means all of it."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since, until = self._moment("from"), self._moment("to")
        if since:
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": since})
        if until:
            queryset = queryset.filter(**{f"{self.parameter_name}__lt": until})
        return queryset

    def _moment(self, side: str) -> datetime | None:
        """The moment that was entered (on the far side, the one just after it), if it is one."""
        name = f"{self.parameter_name}_{side}"
        try:
            day = parse_date(self.used_parameters.get(f"{name}_0") or "")
            at = parse_time(self.used_parameters.get(f"{name}_1") or "")
            if day is None:
                return None
            moment = datetime.combine(day, at or time(), tzinfo=UTC)
            if side == "to":
                moment += timedelta(days=1) if at is None else timedelta(seconds=1)
        except (ValueError, OverflowError):
            return None
        return moment


@dataclass(frozen=True, slots=True)
class Facts:
    """A titled group of labelled values on a detail page."""

    title: str
    rows: Sequence[tuple[str, SafeString | str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table on a detail page. ``numeric`` names the columns that align to the right."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[SafeString | str]]
    empty: str
    numeric: frozenset[str] = field(default_factory=frozenset)


class NamedLookups:
    """Before a ModelAdmin: a list is narrowed by what its filters and our own links name.

    Django lets an address ask any field of the list's own model anything, as whether an SMS's code
    starts with 4: the answer is in the length of the list, whatever the page masks. A lookup that
    nobody named is answered with 400, and so is a NUL, which PostgreSQL does not take.
    """

    # Lookups of our own links that no filter of the list shows.
    linked_lookups: tuple[str, ...] = ()
    # Whether forms may offer these rows while somebody types (the admin's autocomplete).
    completed = False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Whether an address may narrow the list so."""
        return lookup in self.linked_lookups or lookup in self._filtered(request)

    def _filtered(self, request: HttpRequest | None) -> Iterator[str]:
        for item in self.get_list_filter(request):  # type: ignore[attr-defined]
            if isinstance(item, type):
                yield item.parameter_name  # type: ignore[attr-defined]
                continue
            path, kind = (item, None) if isinstance(item, str) else item
            if kind is TimeRangeFilter:
                yield from (f"{path}_{side}_{part}" for side in ("from", "to") for part in (0, 1))
                continue
            field: Any = get_fields_from_path(self.model, path)[-1]  # type: ignore[attr-defined]
            key = f"__{field.target_field.name}" if field.is_relation else ""
            yield f"{path}{key}__exact"
            # Offered by a row of links alone.
            if field.is_relation and kind is None:
                yield f"{path}__isnull"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list. Who changes nothing sends nothing to it."""
        if request.method not in {"GET", "HEAD"} and not self.may_send_to_list(request):
            raise PermissionDenied
        _refuse_nul(request)
        named = {"title": capfirst(self.opts.verbose_name_plural)}  # type: ignore[attr-defined]
        response: HttpResponse = super().changelist_view(  # type: ignore[misc]
            request, {**named, **(extra_context or {})}
        )
        return response

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list that the address asks for, or 400: the admin would answer with all rows."""
        try:
            return super().get_changelist_instance(request)  # type: ignore[misc]
        except IncorrectLookupParameters:
            raise BadRequest("The address asks for what this list cannot find.") from None

    def may_send_to_list(self, request: HttpRequest) -> bool:
        """Whether the list takes anything from them: it does from those who may change its rows."""
        return bool(self.has_change_permission(request))  # type: ignore[attr-defined]

    def get_search_fields(self, request: HttpRequest) -> list[str] | tuple[str, ...]:
        """None for the admin's autocomplete, unless these rows are completed."""
        asked_by = request.resolver_match
        if asked_by is not None and asked_by.url_name == "autocomplete":
            _refuse_nul(request)
            if not self.completed:
                return ()
        fields: list[str] | tuple[str, ...] = super().get_search_fields(request)  # type: ignore[misc]
        return fields

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """The row, or None: no key has a NUL."""
        if "\x00" in object_id:
            return None
        return super().get_object(request, object_id, from_field)  # type: ignore[misc]


def _refuse_nul(request: HttpRequest) -> None:
    for name, values in request.GET.lists():
        if any("\x00" in part for part in (name, *values)):
            raise BadRequest("The address holds a NUL.")


class BoundedAdmin(NamedLookups, ModelAdmin):
    """A list whose cost does not depend on the number of rows."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER  # they would count the whole table once for each choice
    empty_value_display = NOTHING
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    # When rows come that nobody makes here, said where there are none yet.
    empty_list = ""
    list_fullwidth = True
    sortable_by = ()
    actions: Any = None
    ordering: tuple[str, ...] = ("-id",)
    # The time column that a TimeRangeFilter narrows; an index of its own serves the narrowed list.
    time_field = ""
    # Read in the same query as the row, for lists and pages alike.
    related: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows, each with what is shown beside it."""
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.select_related(*self.related) if self.related else queryset

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """The list that knows no total."""
        return BoundedChangeList

    def get_ordering(self, request: HttpRequest) -> Sequence[str]:
        """By time when a time range is asked for: the index that finds the range also orders it."""
        if self.time_field and any(
            request.GET.get(f"{self.time_field}_{side}_0") for side in ("from", "to")
        ):
            return (f"-{self.time_field}", "-id")
        return self.ordering

    def read_beside(self, rows: Iterable[Any]) -> None:
        """Put beside the rows of a page what columns show of them, read for all rows at once."""

    def nothing_here(self, request: HttpRequest) -> str:
        """What the list says when it is empty, or "" for the usual words."""
        return ""

    def may_send_to_list(self, request: HttpRequest) -> bool:
        """Nobody: the list has no actions."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never: what other rows may point at is kept."""
        return False


class ReadOnlyAdmin(BoundedAdmin):
    """Rows that people look at and only verbs write: nobody adds, changes or deletes one here."""

    detail_template = "smsactivator/detail.html"
    # Shown on the page as its history, to users with this permission.
    history_permission = ""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def title_of(self, obj: Any) -> str:
        """The page's heading."""
        return str(obj)

    def facts(self, request: HttpRequest, obj: Any) -> Iterable[Facts]:
        """The labelled values of one row, in groups."""
        return ()

    def all_facts(self, request: HttpRequest, obj: Any) -> list[Facts]:
        """These, and what the floors above know of the row."""
        return [*self.facts(request, obj), *panels.collect(self.opts.label, obj, request.user)]

    def tables(self, request: HttpRequest, obj: Any) -> Iterable[Table]:
        """The rows that belong to this one."""
        return ()

    def links(self, request: HttpRequest, obj: Any) -> list[Link]:
        """Where this row leads, on this floor and on those above it."""
        return collect(self.opts.label, [obj.pk])[obj.pk]

    def detail_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """What a page adds to the common parts."""
        return {}

    def get_urls(self) -> list[URLPattern]:
        act = path(
            "<path:object_id>/do/<slug:name>/",
            self.admin_site.admin_view(self.action_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_do",
        )
        return [act, *super().get_urls()]

    def actions_of(self, request: HttpRequest, obj: Any) -> list[tuple[Action, str]]:
        """What this person can do on this row's page, each with the address of its form."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_do"
        return [
            (action, admin_url(name, obj.pk, action.name))
            for action in actions_on(self.opts.label)
            if action.allowed(request.user) and action.is_open_to(request.user, obj)
        ]

    def action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        """Show what an action will do and ask for what it needs (GET), and do it (POST).

        What the verb refuses is said above the form, which keeps what was typed, beside the row as
        it is now.
        """
        action = next((a for a in actions_on(self.opts.label) if a.name == name), None)
        if action is None:
            raise Http404(f"There is no action {name}.")
        if not self.has_view_permission(request) or not action.allowed(request.user):
            raise PermissionDenied
        obj, shown = self._look(request, object_id, action)
        back = admin_url(f"{self.opts.app_label}_{self.opts.model_name}_change", obj.pk)
        sent = (request.POST, request.FILES) if request.method == "POST" else (None, None)
        given = action.initial(obj)
        options: dict[str, Any] = {"initial": given} if given else {}
        form = action.form(*sent, **options)
        status, over = 200, False
        if request.method == "POST":
            if form.is_valid():
                try:
                    done = action.run(request.user, obj, form.cleaned_data)
                except Refused as refusal:
                    obj, shown = self._look(request, object_id, action)
                    form.show(obj, shown)
                    form.refuse(refusal)
                    status = refusal.status
                    over = isinstance(refusal, Outdated) and not action.is_open_to(
                        request.user, obj
                    )
                else:
                    messages.success(request, done.message)
                    return HttpResponseRedirect(done.url or back)
            else:
                form.show(obj, shown)
                status = 422
        elif not action.is_open_to(request.user, obj):
            why = action.why_not(request.user, obj) if action.offered(request.user, obj) else ""
            why = why or "see below how things stand."
            messages.warning(request, f"“{action.label}” is not open to you here: {why}")
            return HttpResponseRedirect(back)
        else:
            form.show(obj, shown)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": action.label,
            "object": obj,
            "subject": self.title_of(obj),
            "action": action,
            "warnings": warnings_of(self.opts.label, action, obj),
            "form": form,
            # Nothing is left to send: it was for what the row is no more.
            "over": over,
            "back": back,
            "facts": self.all_facts(request, obj),
        }
        return TemplateResponse(request, "smsactivator/action.html", context, status=status)

    def _look(self, request: HttpRequest, object_id: str, action: Action) -> tuple[Any, int]:
        """The row, and how many steps its page knows of, which are counted before it is read."""
        obj = self.get_object(request, unquote(object_id))
        shown = action.sees(obj) if obj is not None else 0
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id}.")
        return obj, shown

    def buttons(self, request: HttpRequest, obj: Any) -> list[Link]:
        """Beside the actions: forms with a page of their own, each for those who may open it."""
        return []

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of one row, with its links, its tables and its history."""
        if request.method not in {"GET", "HEAD"} or object_id is None:
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        if obj is None:
            raise Http404(f"There is no {self.opts.verbose_name} {object_id}.")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.title_of(obj),
            "object": obj,
            "links": [link for link in self.links(request, obj) if link.allowed(request.user)],
            "actions": self.actions_of(request, obj),
            "buttons": [link for link in self.buttons(request, obj) if link.allowed(request.user)],
            "facts": self.all_facts(request, obj),
            "tables": list(self.tables(request, obj)),
            **self.detail_context(request, obj),
            **(extra_context or {}),
        }
        if self.history_permission and request.user.has_perm(self.history_permission):
            context["timeline"], context["timeline_is_longer"] = timeline(obj, request.user)
        return TemplateResponse(request, self.detail_template, context)


class ReasonedForm(forms.ModelForm):  # type: ignore[type-arg]
    """A row that people edit, and why it is changed."""

    reason = forms.CharField(
        max_length=200,
        label="Reason for this change",
        help_text="Kept in the history.",
        widget=UnfoldAdminTextInputWidget,
    )
    # What the verb said of what was sent.
    refusal = ""

    def full_clean(self) -> None:
        """With what the verb refused, unless the form itself knows better what is wrong."""
        super().full_clean()
        if self.refusal and self.is_bound and not self.errors:
            self.add_error(None, self.refusal)


class ReasonedAdmin(BoundedAdmin):
    """Rows that people edit through a verb, each change with its reason and history.

    What the verb refuses is said above the form, which keeps what was typed.
    """

    form = ReasonedForm
    change_form_outer_after_template = "smsactivator/timeline.html"

    def write(self, obj: Any, fields: list[str], *, person: Any, reason: str) -> None:
        """Write a new row, or these fields of it, by the verb that checks the permission."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Through the verb, which records who and why."""
        fields = [name for name in form.changed_data if name != "reason"]
        self.write(obj, fields, person=request.user, reason=form.cleaned_data["reason"])

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[Any]]:
        """The form, which knows what was refused in this request."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.refusal = getattr(request, "refusal", "")
        return form  # type: ignore[no-any-return]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The form, and below it the row's history."""
        context = dict(extra_context or {})
        obj = self.get_object(request, unquote(object_id)) if object_id else None
        if obj is not None and self.has_view_permission(request, obj):
            context["timeline"], context["timeline_is_longer"] = timeline(obj, request.user)
        response: HttpResponse
        try:
            response = super().changeform_view(request, object_id, form_url, context)
        except Refused as refusal:
            request.refusal = refusal.message  # type: ignore[attr-defined]
            response = super().changeform_view(request, object_id, form_url, context)
            response.status_code = refusal.status
        return response
