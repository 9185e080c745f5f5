"""The pages of who logged in, and of who did not."""

from __future__ import annotations

from typing import Any

from axes.models import AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.admin import display
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from smsactivator.common.admin import Facts, ReadOnlyAdmin, TimeRangeFilter
from smsactivator.common.display import NOTHING, badge, moment, mono


class _LoginAdmin(ReadOnlyAdmin):
    """One row each time; the newest first."""

    titled = ""
    search_fields = ("username__iexact", "ip_address__exact")
    search_help_text = "A whole name or address"
    time_field = "attempt_time"
    list_filter = (("attempt_time", TimeRangeFilter),)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, under the name that people have for it."""
        return super().changelist_view(request, {"title": self.titled, **(extra_context or {})})

    def nothing_here(self, request: HttpRequest) -> str:
        """In the same words."""
        return f"There are no {self.titled.lower()} to show."

    @display(description="When (UTC)")
    def when(self, login: AccessLog | AccessFailureLog) -> SafeString | str:
        """When it was tried."""
        return moment(login.attempt_time)

    @display(description="From")
    def address(self, login: AccessLog | AccessFailureLog) -> SafeString | str:
        """The address that it came from."""
        return mono(login.ip_address) if login.ip_address else NOTHING

    def title_of(self, obj: AccessLog | AccessFailureLog) -> str:
        """Who it was, or claimed to be."""
        return f"{obj.username or 'no name'}"

    def facts(self, request: HttpRequest, obj: AccessLog | AccessFailureLog) -> list[Facts]:
        """When, from where, and with what."""
        rows: list[tuple[str, SafeString | str]] = [
            ("When (UTC)", self.when(obj)),
            ("From", self.address(obj)),
            ("Browser", obj.user_agent or NOTHING),
        ]
        return [Facts("Log-in", [*rows, self.outcome(obj)])]

    def outcome(self, obj: AccessLog | AccessFailureLog) -> tuple[str, SafeString | str]:
        """What became of it."""
        raise NotImplementedError


@admin.register(AccessLog)
class LoginAdmin(_LoginAdmin):
    """Who came in."""

    list_display = ("username", "when", "address", "logged_out")
    titled = "Log-ins"

    @display(description="Logged out (UTC)")
    def logged_out(self, login: AccessLog) -> SafeString | str:
        """When they logged out; whose session ended by itself did not."""
        return moment(login.logout_time) if login.logout_time else NOTHING

    def outcome(self, obj: AccessLog) -> tuple[str, SafeString | str]:
        """When they left."""
        return "Logged out (UTC)", self.logged_out(obj)


@admin.register(AccessFailureLog)
class FailedLoginAdmin(_LoginAdmin):
    """Who did not."""

    list_display = ("username", "when", "address", "locked")
    titled = "Failed log-ins"

    @display(description="Then")
    def locked(self, login: AccessFailureLog) -> SafeString | str:
        """Whether the account was locked with it."""
        return badge("Locked", "bad") if login.locked_out else NOTHING

    def outcome(self, obj: AccessFailureLog) -> tuple[str, SafeString | str]:
        """Whether it locked."""
        return "Then", self.locked(obj)
