"""The pages of the people who work here and of their roles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.views import PasswordResetConfirmView
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse_lazy
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import BooleanRadioFilter, RelatedDropdownFilter
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminEmailInputWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from smsactivator import staff
from smsactivator.common import actions
from smsactivator.common.actions import Action, Done, ReasonForm
from smsactivator.common.admin import Facts, ReadOnlyAdmin, ReasonedAdmin
from smsactivator.common.display import BAD, GOOD, NOTHING, QUIET, badge, moment
from smsactivator.common.errors import Refused
from smsactivator.common.links import admin_url
from smsactivator.common.timeline import LONGEST, Change, Entry, Origin, entries_for, timeline
from smsactivator.models import StaffChange


class ChoosePasswordForm(SetPasswordForm):  # type: ignore[type-arg]
    """Twice the same."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field in self.fields.values():
            field.widget = UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"})


class RolesField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """The roles, each with a box to tick."""

    widget = UnfoldAdminCheckboxSelectMultipleWidget

    def __init__(self, **options: Any) -> None:
        super().__init__(Group.objects.order_by("name"), **options)


class InviteForm(ReasonForm):
    """Who is new, and what they will do."""

    name = forms.CharField(max_length=150, widget=UnfoldAdminTextInputWidget)
    email = forms.EmailField(
        max_length=150,
        widget=UnfoldAdminEmailInputWidget,
        help_text="The link to choose a password is sent there. The login is made of what stands"
        " before the @.",
    )
    roles = RolesField()
    field_order: Sequence[str] = ("key", "name", "email", "roles", "reason")


class ChangeForm(InviteForm):
    """Who somebody is, and what they may."""

    roles = RolesField(required=False)
    administrator = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="Sees everything and sets the shop up. Moves money only in a role.",
    )
    field_order = ("key", "name", "email", "roles", "administrator", "reason")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["email"].help_text = ""


def _as_is(user: User) -> dict[str, Any]:
    return {
        "name": user.get_full_name(),
        "email": user.email,
        "roles": list(user.groups.all()),
        "administrator": user.is_superuser,
    }


def _changed(person: Any, user: User, typed: dict[str, Any]) -> Done:
    fields = {name: typed[name] for name in CHANGED}
    staff.change(person, user.pk, **fields)
    return Done(f"{user} is changed.")


def _deactivated(person: Any, user: User, typed: dict[str, Any]) -> Done:
    staff.set_active(person, user.pk, active=False, reason=typed["reason"], seen=typed["seen"])
    return Done(f"{user} is inactive and logged out everywhere.")


def _activated(person: Any, user: User, typed: dict[str, Any]) -> Done:
    staff.set_active(person, user.pk, active=True, reason=typed["reason"], seen=typed["seen"])
    return Done(f"{user} can log in again.")


def _link_sent(person: Any, user: User, typed: dict[str, Any]) -> Done:
    staff.send_link(person, user.pk, reason=typed["reason"], seen=typed["seen"])
    return Done(f"A link to choose a password is on its way to {user.email}.")


def _not_oneself(person: Any, user: User) -> str:
    return "another administrator does that." if person == user else ""


actions.register(
    "auth.User",
    Action(
        name="change",
        label="Change",
        explains="The name, address and roles. Other roles log the person out everywhere.",
        form=ChangeForm,
        permission=staff.CHANGE,
        sees=staff.steps_of,
        offered=lambda _person, _user: True,
        run=_changed,
        initial=_as_is,
    ),
    Action(
        name="link",
        label="Send a link for the password",
        explains="They choose a new password by a link in a mail; it works once, for three days. "
        "The old password works until then.",
        form=ReasonForm,
        permission=staff.CHANGE,
        sees=staff.steps_of,
        offered=lambda _person, user: user.is_active and bool(user.email),
        run=_link_sent,
    ),
    Action(
        name="deactivate",
        label="Deactivate",
        explains="For who leaves: they are logged out everywhere and cannot log in. "
        "What they did stays.",
        form=ReasonForm,
        permission=staff.CHANGE,
        sees=staff.steps_of,
        dangerous=True,
        offered=lambda _person, user: user.is_active,
        why_not=_not_oneself,
        run=_deactivated,
    ),
    Action(
        name="activate",
        label="Activate",
        explains="They can log in again, in the roles that they have.",
        form=ReasonForm,
        permission=staff.CHANGE,
        sees=staff.steps_of,
        offered=lambda _person, user: not user.is_active,
        run=_activated,
    ),
)


# What the page of an invitation says, as an action's does.
INVITE = Action(
    name="invite",
    label="Invite",
    explains="They get a mail with a link to choose a password, which works once, for three days.",
    form=InviteForm,
    permission=staff.ADD,
    offered=lambda _person, _row: True,
    run=lambda _person, _row, _typed: Done(""),
)
LINK = {"Not sent": BAD, "On its way": QUIET}
INVITED = ("name", "email", "roles", "reason")
CHANGED = (*INVITED, "administrator", "seen")


@admin.register(User)
class UserAdmin(ReadOnlyAdmin):
    """The people who work here. Whoever leaves is made inactive: the history names them."""

    list_display = ("username", "full_name", "email", "standing", "roles", "last_in")
    list_filter = (
        ("is_active", BooleanRadioFilter),
        ("is_superuser", BooleanRadioFilter),
        ("groups", RelatedDropdownFilter),
    )
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Each with their roles, read for the page at once."""
        return super().get_queryset(request).prefetch_related("groups")

    @display(description="Name")
    def full_name(self, user: User) -> str:
        return user.get_full_name() or NOTHING

    @display(description="State")
    def standing(self, user: User) -> SafeString:
        if not user.is_active:
            return badge("Inactive", QUIET)
        if not user.is_staff:
            return badge("Cannot log in", BAD)
        return badge("Active", GOOD)

    @display(description="Roles")
    def roles(self, user: User) -> str:
        named = [group.name for group in user.groups.all()]
        return ", ".join([*(["Administrator"] if user.is_superuser else []), *named]) or NOTHING

    @display(description="Last log-in (UTC)")
    def last_in(self, user: User) -> SafeString | str:
        return moment(user.last_login) if user.last_login else NOTHING

    def facts(self, request: HttpRequest, obj: User) -> Iterator[Facts]:
        """Who they are and what they may."""
        link = staff.not_sent(obj)
        yield Facts(
            "Person",
            [
                ("Login", obj.username),
                ("Name", self.full_name(obj)),
                ("Email", obj.email or NOTHING),
                ("State", self.standing(obj)),
                ("Roles", self.roles(obj)),
                ("Password", "Chosen" if obj.has_usable_password() else "None yet"),
                *([("Link for it", badge(link, LINK[link]))] if link else []),
                ("Last log-in (UTC)", self.last_in(obj)),
            ],
        )

    def detail_context(self, request: HttpRequest, obj: User) -> dict[str, Any]:
        """What was changed about them; whoever sees this page sees it."""
        shown, longer = timeline(obj, request.user)
        return {"timeline": shown, "timeline_is_longer": longer}

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Administrators invite."""
        return bool(request.user.has_perm(staff.ADD))

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The form to invite somebody; what is refused is said above it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = InviteForm(request.POST if request.method == "POST" else None)
        del form.fields["seen"]  # there is nobody yet who could have changed
        status = 200
        if request.method == "POST":
            status = 422
            if form.is_valid():
                try:
                    user = staff.invite(
                        request.user,
                        **{name: form.cleaned_data[name] for name in INVITED},
                    )
                except Refused as refusal:
                    form.refuse(refusal)
                    status = refusal.status
                else:
                    messages.success(request, f"{user} is invited: a mail is on its way.")
                    return HttpResponseRedirect(admin_url("auth_user_change", user.pk))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Invite somebody",
            "action": INVITE,
            "form": form,
            "back": admin_url("auth_user_changelist"),
        }
        return TemplateResponse(request, "smsactivator/action.html", context, status=status)

    def get_urls(self) -> list[URLPattern]:
        closed = path("<path:object_id>/password/", self.admin_site.admin_view(_refuse))
        return [closed, *super().get_urls()]


def _refuse(request: HttpRequest, object_id: str) -> HttpResponse:
    """Nobody chooses the password of another: a link is sent."""
    raise PermissionDenied


@admin.register(Group)
class GroupAdmin(ReasonedAdmin):
    """The roles; those of the house are made by migration. None is deleted: its history stays."""

    completed = True  # in what narrows a list of people
    search_fields = ("name",)
    list_display = ("name",)
    ordering = ("name",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Why is asked of those who may change it."""
        reason = ("reason",) if self.has_change_permission(request, obj) else ()
        return ("name", "permissions", *reason)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """The permissions, each named with its model in one query."""
        options["queryset"] = Permission.objects.select_related("content_type").order_by(
            "content_type__app_label", "codename"
        )
        return super().formfield_for_manytomany(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Through the verb, which records who and why."""
        typed = form.cleaned_data
        staff.change_role(request.user, obj, typed["permissions"], reason=typed["reason"])

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the verb wrote the permissions too."""


@entries_for("auth.User")
def changes_of_people(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What was changed about our people."""
    return _changes(StaffChange.About.PERSON, pks)


@entries_for("auth.Group")
def changes_of_roles(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """What was changed about roles."""
    return _changes(StaffChange.About.ROLE, pks)


def _changes(about: StaffChange.About, pks: Sequence[int]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {pk: [] for pk in pks}
    rows = StaffChange.objects.filter(about=about, row__in=pks).order_by("-pk")
    for row in rows[: LONGEST + 1]:
        found[row.row].append(
            Entry(
                at=row.at,
                key=f"smsactivator.staffchange:{row.pk}",
                what=row.what,
                who=row.actor,
                origin=Origin.PERSON,
                why=row.reason,
                changes=tuple(
                    Change(label, old or "—", new or "—") for label, old, new in row.changes
                ),
            )
        )
    return found


class ChoosePassword(PasswordResetConfirmView):
    """Where a mailed link leads: a password is chosen, once."""

    template_name = "smsactivator/choose_password.html"
    success_url = reverse_lazy("admin:login")
    form_class = ChoosePasswordForm

    def get_user(self, uidb64: str) -> User | None:
        """Whose link it is, while they are active."""
        user: User | None = super().get_user(uidb64)
        return user if user is not None and user.is_active else None

    def form_valid(self, form: Any) -> HttpResponse:
        """Kept in the person's history; then they log in."""
        with transaction.atomic():
            response = super().form_valid(form)
            staff.password_chosen(form.user)
        messages.success(self.request, f"Your password is set: log in as {self.user}.")
        return response
