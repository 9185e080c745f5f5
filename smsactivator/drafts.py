"""What people typed and have not sent: kept for them, and shown to nobody else.

A form's page names its reader, its address and when it was opened, signed (``page_by``). So what is
typed into it is known to be theirs, also when the session has ended meanwhile or another person has
logged in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.views import redirect_to_login
from django.core import signing
from django.db import connection
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    QueryDict,
    UnreadablePostError,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from smsactivator.models import Draft

FIELD = "_page"  # what a form's page adds to what it sends
COOKIE = "sent"  # tells the browser which of its copies it needs no more
KEPT = timedelta(days=7)
MOST = 50  # drafts of a person
_SALT = "smsactivator.drafts"
_LONGEST = {"at": 300, "form": 200, "page": 40}
_LONGEST_TOLD = 4_000  # characters that a page says of itself
# Never kept, whatever their form.
_SECRET = ("password", "csrfmiddlewaretoken", FIELD)


@dataclass(frozen=True, slots=True)
class Page:
    """One opening of a page with a form, and whose it is."""

    by: int
    at: str
    form: str
    page: str
    # The fields that differ from what the page showed; what was left alone is not kept.
    typed: frozenset[str] | None
    opened: datetime


def page_by(request: HttpRequest) -> dict[str, Any]:
    """A template's ``page_at`` and ``page_by``: its address, and who reads it there, signed.

    A page that is an answer from another address says so: ``request.page_at``.
    """
    at = getattr(request, "page_at", "") or _address(request)
    return {"page_at": at, "page_by": SimpleLazyObject(lambda: signed(request.user.pk, at))}


def signed(by: int | None, at: str) -> str:
    """That this person opened this page now."""
    return signing.dumps([by, at, timezone.now().timestamp()], salt=_SALT)


def _address(request: HttpRequest) -> str:
    """Under which a page's drafts are kept: without the list it came from, and never long."""
    path = request.get_full_path().partition("?")[0]
    asked = request.GET.copy()
    asked.pop("_changelist_filters", None)
    at = f"{path}?{asked.urlencode()}" if asked else path
    if len(at) <= _LONGEST["at"]:
        return at
    return f"{path[:200]}?{sha256(at.encode()).hexdigest()}"


def _back(request: HttpRequest, page: Page) -> str:
    """Where the form is: a page that sends to itself is gone back to with all it was asked."""
    whole = request.get_full_path()
    return whole if whole.partition("?")[0] == page.at.partition("?")[0] else page.at


def page_of(told: str) -> Page | None:
    """The page that a request says it came from, if it was made for somebody by us."""
    if len(told) > _LONGEST_TOLD:
        return None
    try:
        said = json.loads(told)
        if not isinstance(said, dict) or not isinstance(said["by"], str):
            return None
        by, at, opened = signing.loads(said["by"], salt=_SALT, max_age=KEPT)
        form, page = (_whole(str(said[name])) for name in ("form", "page"))
        typed = frozenset(map(str, said["typed"])) if "typed" in said else None
    except (ValueError, TypeError, KeyError, RecursionError, signing.BadSignature):
        return None
    here = url_has_allowed_host_and_scheme(at, allowed_hosts=None) and at.startswith("/admin/")
    short = all(
        len(value) <= _LONGEST[name] and "\x00" not in value
        for name, value in (("at", at), ("form", form), ("page", page))
    )
    if not here or not short or not isinstance(by, int):
        return None
    return Page(by, at, form, page, typed, datetime.fromtimestamp(opened, UTC))


def _whole(text: str) -> str:
    """Half a character, which JSON can say and the database cannot keep, is a question mark."""
    return text.encode("utf-8", "replace").decode()


def _posted(request: HttpRequest) -> QueryDict:
    """The form that was sent; nothing of one that broke off."""
    try:
        return request.POST
    except UnreadablePostError:
        return QueryDict()


def keep(page: Page, fields: dict[str, list[str]], *, known: bool) -> None:
    """Keep what was typed; not what this opening of the page has sent already.

    Who is not ``known`` to be the page's reader puts nothing over what another opening of the page
    kept since this one was opened.
    """
    kept = {
        name: [value.replace("\x00", "") for value in values]
        for name, values in fields.items()
        if (page.typed is None or name in page.typed)
        and "\x00" not in name
        and not any(secret in name for secret in _SECRET)
    }
    if kept:
        _write(page, kept, sent=False, known=known)


def sent(page: Page) -> None:
    """It arrived: nothing of it is kept."""
    _write(page, {}, sent=True, known=True)


def forget(user: Any, at: str, form: str) -> None:
    """Throw away what was typed."""
    Draft.objects.filter(user=user, at=at, form=form).delete()


def found(user: Any, at: str) -> list[Draft]:
    """What this person typed on a page and has not sent."""
    lately = timezone.now() - KEPT
    return list(Draft.objects.filter(user=user, at=at, sent=False, saved_at__gt=lately))


def _write(page: Page, fields: dict[str, list[str]], *, sent: bool, known: bool) -> None:
    if not get_user_model().objects.filter(pk=page.by).exists():
        return
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO smsactivator_draft (user_id, at, form, page, fields, sent, saved_at)
            VALUES (%s, %s, %s, %s, %s::jsonb, %s, %s)
            ON CONFLICT (user_id, at, form) DO UPDATE SET
                page = excluded.page, fields = excluded.fields, sent = excluded.sent,
                saved_at = excluded.saved_at
            WHERE excluded.sent OR NOT (smsactivator_draft.sent
                AND smsactivator_draft.page = excluded.page)
                AND (%s OR smsactivator_draft.page = excluded.page
                    OR smsactivator_draft.saved_at <= %s)
            """,
            [
                *(page.by, page.at, page.form, page.page, json.dumps(fields), sent, now),
                *(known, page.opened),
            ],
        )
        cursor.execute(
            """
            DELETE FROM smsactivator_draft WHERE id IN (
                SELECT id FROM smsactivator_draft WHERE user_id = %s
                ORDER BY saved_at DESC, id DESC OFFSET %s)
            """,
            [page.by, MOST],
        )
        # Everybody's: who never writes again deletes none of their own.
        cursor.execute(
            """
            DELETE FROM smsactivator_draft WHERE id IN (
                SELECT id FROM smsactivator_draft WHERE saved_at < %s
                ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)
            """,
            [now - KEPT, MOST],
        )


class KeepWhatWasTyped:
    """Middleware: a form that comes too late, or from another's page, is kept and not lost."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method != "POST" or not request.path.startswith("/admin/"):
            return self.get_response(request)
        response = self.get_response(request)
        page: Page | None = getattr(request, "opened_page", None)
        # A verb that answers with a page of its own says so itself.
        taken = response.status_code in {302, 303} or getattr(request, "taken", False)
        if page is not None and taken:
            sent(page)
            _tell_browser(response, page)
        return response

    def process_view(self, request: HttpRequest, *_view: Any) -> HttpResponse | None:
        """Look whose page it is from. The form's token is good: Django has looked before."""
        if request.method != "POST" or not request.path.startswith("/admin/"):
            return None
        page = page_of(_posted(request).get(FIELD, ""))
        if page is None:
            return None
        person = request.user
        if not person.is_authenticated:
            keep(page, dict(request.POST.lists()), known=False)
            messages.warning(
                request,
                "You were logged out before this was sent. Nothing was changed, and what you typed"
                " is kept: log in again, and it is there.",
            )
            return redirect_to_login(_back(request, page), reverse("admin:login"))
        if page.by != person.pk:
            keep(page, dict(request.POST.lists()), known=False)
            return render(request, "smsactivator/another.html", status=409)
        request.opened_page = page  # type: ignore[attr-defined]
        return None


def _tell_browser(response: HttpResponseBase, page: Page) -> None:
    copy = f"{page.by}:{page.at}:{page.form}"
    response.set_cookie(
        # One for each form: what two tabs send in one moment is told of both.
        f"{COOKIE}-{sha256(copy.encode()).hexdigest()[:16]}",
        quote(copy, safe=""),  # nothing that a cookie would quote
        max_age=600,
        path="/admin/",
        secure=settings.PRODUCTION,
        samesite="Strict",
    )


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page for a form whose token is of before the last log-in: what was typed is kept."""
    page = page_of(_posted(request).get(FIELD, ""))
    # Without a token and without a session nothing is kept: anybody can send that.
    if not request.user.is_authenticated:
        page = None
    if page is not None:
        keep(page, dict(request.POST.lists()), known=False)
    mine = page is not None and page.by == request.user.pk
    context = {"kept": page is not None, "at": _back(request, page) if page and mine else ""}
    return render(request, "smsactivator/stale.html", context, status=403)


@never_cache
@require_http_methods(["GET", "POST"])
def drafts(request: HttpRequest) -> JsonResponse:
    """What this person typed on a page (GET), and what is being typed there (POST).

    What is typed on a page is kept for its reader, whose session may have ended.
    """
    if request.method == "GET":
        if not request.user.is_authenticated:
            return JsonResponse({}, status=401)
        at = request.GET.get("at", "").replace("\x00", "")
        kept = [
            {"form": draft.form, "fields": draft.fields, "at": f"{draft.saved_at:%Y-%m-%d %H:%M}"}
            for draft in found(request.user, at)
        ]
        return JsonResponse({"drafts": kept})
    page = page_of(_posted(request).get("page", ""))
    if page is None:
        return JsonResponse({}, status=422)
    if _posted(request).get("forget"):
        if page.by != request.user.pk:
            return JsonResponse({}, status=409)
        forget(request.user, page.at, page.form)
        return JsonResponse({})
    fields = _fields(_posted(request).get("fields", ""))
    if fields is None:
        return JsonResponse({}, status=422)
    keep(page, fields, known=page.by == request.user.pk)
    return JsonResponse({})


def _fields(text: str) -> dict[str, list[str]] | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    if not all(isinstance(v, list) and all(isinstance(x, str) for x in v) for v in told.values()):
        return None
    return {_whole(name): [_whole(value) for value in values] for name, values in told.items()}
