"""Who may try a password: django-axes, with a limit of its own for each way of guessing.

The same number for all of them would let one clumsy person lock a whole office out, or somebody
with many addresses guess on.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from smsactivator.common.moments import SKEW

# Wrong passwords that lock, in multiples of LOGIN_FAILURES, which locks an account at an address:
ACCOUNT_TIMES = 5  # of one account, from wherever
ADDRESS_TIMES = 10  # from one address, to whatever account


def client_address(request: HttpRequest) -> str | None:
    """The address that a request comes from.

    A header tells it only when a setting names one, which the proxy in front must set itself: what
    the client claims is no evidence. Of a list the last counts, as the nearest proxy added it.
    """
    name = settings.CLIENT_ADDRESS_HEADER
    told = request.headers.get(name, "").rpartition(",")[2] if name else ""
    return _address(told) or _address(request.META.get("REMOTE_ADDR", ""))


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None


def account(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str:
    """The account that is tried: one in whatever letters it is written."""
    typed = (credentials or {}).get("username") or request.POST.get("username", "")
    return str(typed).lower()[:150]


class Limits(AxesDatabaseHandler):
    """Counts wrong passwords of an account at an address, of the account, and of the address."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """How many there were lately, of the kind that is nearest to its limit."""
        now = timezone.now()
        # What a clock that ran ahead wrote down is no evidence.
        lately = AccessAttempt.objects.filter(
            attempt_time__gt=now - settings.LOGIN_LOCK, attempt_time__lte=now + SKEW
        )
        by_account = lately.filter(username=account(request, credentials))
        of_account = _failures(by_account) // ACCOUNT_TIMES
        address = client_address(request)
        if address is None:
            # Over a Unix socket, say: those without an address have nothing else in common.
            return of_account
        by_address = lately.filter(ip_address=address)
        return max(
            _failures(by_account & by_address),
            of_account,
            _failures(by_address) // ADDRESS_TIMES,
        )

    def remove_out_of_limit_failure_logs(self, **_options: Any) -> int:
        """Nothing: the record is kept. The library would drop the newest of an account."""
        return 0


def _failures(attempts: Any) -> int:
    return attempts.aggregate(failures=Sum("failures_since_start"))["failures"] or 0


def locked(
    request: HttpRequest, response: HttpResponse, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """The page that says so, whatever was locked."""
    minutes = round(settings.LOGIN_LOCK.total_seconds() / 60)
    return render(request, "smsactivator/locked.html", {"minutes": minutes}, status=429)
