"""The site's own pages in the admin: money's closes, who works here, and who logged in."""

from __future__ import annotations

# Its registrations come first, so that ours take their places.
import django.contrib.auth.admin as auth_admin
from django.contrib import admin
from django.contrib.auth.models import Group, User

from smsactivator import finance as finance
from smsactivator import liabilities as liabilities
from smsactivator import logins as logins

assert auth_admin  # noqa: S101 - imported for what it registers
admin.site.unregister(User)
admin.site.unregister(Group)

from smsactivator import staff_pages as staff_pages  # noqa: E402
