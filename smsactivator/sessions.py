"""How a session ends: when nothing was done for a while, and after its longest time in any case."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import Resolver404, resolve
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

STARTED, SEEN = "started", "seen"  # seconds since 1970
WRITTEN_EVERY = 60  # seconds; a session is not written at each request
CLOCKS_DIFFER = 60  # seconds between our machines
# Pages ask for these by themselves: nobody need sit there.
UNATTENDED = {
    "admin:index",
    "admin:support_ticket_presence",
    "admin:wallet_export_change",
    "session",
}


@receiver(user_logged_in)
def begin(sender: Any, request: HttpRequest, **_more: Any) -> None:
    """From here on the session's time runs."""
    request.session[STARTED] = request.session[SEEN] = _now()


def _now() -> int:
    return int(timezone.now().timestamp())


def _left(session: Any) -> tuple[int, str]:
    """The seconds that a session has left, and by which of its two ends; 0 or less is over.

    A moment after now is no evidence of anything: such a session is over too.
    """
    now = _now()
    idle, longest = (
        _remaining(now, session.get(SEEN), settings.SESSION_IDLE),
        _remaining(now, session.get(STARTED), settings.SESSION_LONGEST),
    )
    return (idle, "idle") if idle <= longest else (longest, "length")


def _remaining(now: int, since: Any, limit: timedelta) -> int:
    if not isinstance(since, int) or since > now + CLOCKS_DIFFER:
        return 0
    return int(limit.total_seconds()) - max(now - since, 0)


class EndOfSession:
    """Middleware: ends a session in its time, and notes that it is in use."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        session = request.session
        if settings.SESSION_COOKIE_NAME in request.COOKIES and SESSION_KEY in session:
            left, _ = _left(session)
            if left <= 0:
                # Not a log-out: nobody did that, and nobody knows when they left.
                session.flush()
                request.user = AnonymousUser()
            elif _is_attended(request) and _now() - session[SEEN] >= WRITTEN_EVERY:
                session[SEEN] = _now()
        return self.get_response(request)


def _is_attended(request: HttpRequest) -> bool:
    """Whether somebody did this, and not the page by itself."""
    try:
        found = resolve(request.path_info)
    except Resolver404:
        return False
    return found.view_name not in UNATTENDED


@never_cache
@require_http_methods(["GET", "POST"])
def session(request: HttpRequest) -> JsonResponse:
    """How many seconds this session has left, and what ends it; a POST is somebody who stays."""
    if not request.user.is_authenticated:
        return JsonResponse({}, status=401)
    if request.method == "POST":
        request.session[SEEN] = _now()
    left, by = _left(request.session)
    return JsonResponse({"left": left, "by": by})
