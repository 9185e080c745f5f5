"""The people who work here and their roles, in the admin's own style."""

from __future__ import annotations

# Its registrations come first, so that ours take their places.
import django.contrib.auth.admin as auth_admin
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.db.models import Model
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from smsactivator import finance as finance
from smsactivator import liabilities as liabilities
from smsactivator import logins as logins
from smsactivator.common.admin import NamedLookups

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(NamedLookups, auth_admin.UserAdmin, ModelAdmin):  # type: ignore[type-arg]
    """Administrators make users and put them into roles."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser", "groups")
    filter_horizontal = ()
    autocomplete_fields = ("groups",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never: the history names them. Who leaves is made inactive."""
        return False


@admin.register(Group)
class GroupAdmin(NamedLookups, auth_admin.GroupAdmin, ModelAdmin):
    """The roles; those of the house are made by migration."""

    completed = True  # in the form of a user
