"""The people who work here: invited, given roles, and let go; each step with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from axes.utils import reset
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.tokens import default_token_generator
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.core.mail import send_mail
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from smsactivator import alarms
from smsactivator.common.errors import Invalid, Refused
from smsactivator.common.links import admin_url
from smsactivator.common.moments import SKEW
from smsactivator.common.queueing import queue
from smsactivator.common.seen import TOLD, in_words, outdated
from smsactivator.models import AddressNotice, PasswordLink, StaffChange

ADD, CHANGE, CHANGE_ROLE = "auth.add_user", "auth.change_user", "auth.change_group"
Changes = list[list[str]]
Waiting = TypeVar("Waiting", PasswordLink, AddressNotice)
ADDRESSES = 0x73746166  # any number that nothing else locks: "staf"
TRIES = 5
RETRY = timedelta(minutes=2)  # longer than a mail server's answers together
PERSON, ROLE = StaffChange.About.PERSON, StaffChange.About.ROLE


class ReasonMissing(Invalid):
    """A step that is kept for good says why."""

    code = "reason_missing"


class AddressTaken(Refused):
    """Another of our people has this address."""

    code = "address_taken"


class NoRole(Invalid):
    """Somebody without a role sees nothing."""

    code = "no_role"


class NotYourself(Refused):
    """Nobody changes their own roles."""

    code = "not_yourself"


class AlreadySo(Refused):
    """Nothing would change."""

    code = "already_so"


class Inactive(Refused):
    """Who is inactive cannot log in, by a link or otherwise."""

    code = "inactive"


def invite(by: Any, *, name: str, email: str, roles: Sequence[Group], reason: str) -> User:
    """Make one of our people, who can log in once they have chosen a password by the mailed link.

    Raises PermissionDenied, ReasonMissing, NoRole, AddressTaken.
    """
    _require(by, ADD)
    reason = _given(reason)
    if not roles:
        raise NoRole("Choose a role: without one a person sees nothing.")
    with transaction.atomic():
        by = _locked(by.pk)[0]
        _refuse_taken(email)
        first, _, last = name.strip().partition(" ")
        user = User(
            username=_free_name(email), email=email, first_name=first, last_name=last, is_staff=True
        )
        user.set_unusable_password()
        user.save()
        user.groups.set(roles)
        changes = _differences({}, _state(user))
        _record(PERSON, user.pk, by, "Invited", reason, changes)
        _ask_for_link(by, user)
    return user


def change(
    by: Any,
    user_id: int,
    *,
    name: str,
    email: str,
    roles: Sequence[Group],
    administrator: bool,
    reason: str,
    seen: int | None = None,
) -> User:
    """Change who somebody is and what they may; other rights end their sessions.

    Raises PermissionDenied, ReasonMissing, Outdated, NotYourself, NoRole, AddressTaken, AlreadySo.
    """
    _require(by, CHANGE)
    reason = _given(reason)
    if not roles and not administrator:
        raise NoRole("Choose a role: without one a person sees nothing.")
    with transaction.atomic():
        by, user = _locked(by.pk, user_id)
        _refuse_outdated(user, seen)
        before = _state(user)
        if email.lower() != user.email.lower():
            _refuse_taken(email)
        rights = (user.is_superuser, set(user.groups.all())) != (administrator, set(roles))
        if rights and user == by:
            raise NotYourself("Your own roles are changed by another administrator.")
        if (user.is_superuser or administrator) and not by.is_superuser:
            raise PermissionDenied
        user.first_name, _, user.last_name = name.strip().partition(" ")
        user.email, user.is_superuser = email, administrator
        # Whoever has a role works here: without this they could not log in.
        user.is_staff = True
        user.save()
        user.groups.set(roles)
        changes = _differences(before, _state(user))
        if not changes:
            raise AlreadySo("Nothing was changed: this is how things stand.")
        step = _record(PERSON, user.pk, by, "Changed", reason, changes)
        # Else whoever changes it has the next link for a password, and its owner hears nothing.
        if _old_address(step):
            AddressNotice.objects.create(change=step)
            transaction.on_commit(_queue, robust=True)
        if rights:
            end_sessions(user)
    return user


def set_active(
    by: Any, user_id: int, *, active: bool, reason: str, seen: int | None = None
) -> User:
    """Let somebody go, whose sessions end at once, or take them back.

    Raises PermissionDenied, ReasonMissing, Outdated, NotYourself, AlreadySo.
    """
    _require(by, CHANGE)
    reason = _given(reason)
    with transaction.atomic():
        by, user = _locked(by.pk, user_id)
        _refuse_outdated(user, seen)
        if user == by:
            raise NotYourself("You cannot deactivate yourself: another administrator does.")
        if user.is_active == active:
            raise AlreadySo(f"{user} is {'active' if active else 'inactive'} already.")
        if user.is_superuser and not by.is_superuser:
            raise PermissionDenied
        before = _state(user)
        user.is_active = active
        user.save(update_fields=["is_active"])
        what = "Activated" if active else "Deactivated"
        _record(PERSON, user.pk, by, what, reason, _differences(before, _state(user)))
        end_sessions(user)
    return user


def send_link(by: Any, user_id: int, *, reason: str, seen: int | None = None) -> User:
    """Mail somebody a link by which they choose a new password.

    Raises PermissionDenied, ReasonMissing, Outdated, Inactive.
    """
    _require(by, CHANGE)
    reason = _given(reason)
    with transaction.atomic():
        by, user = _locked(by.pk, user_id)
        _refuse_outdated(user, seen)
        if not user.is_active:
            raise Inactive(f"{user} is inactive: activate them first.")
        if user.is_superuser and not by.is_superuser:
            raise PermissionDenied
        _record(PERSON, user.pk, by, "Sent a link to choose a password", reason, [])
        _ask_for_link(by, user)
    return user


def password_chosen(user: User) -> None:
    """Somebody chose a password by a link: what was wrong before counts no more."""
    _record(PERSON, user.pk, user, "Chose a password by the link", "", [])
    reset(username=user.username.lower())


def change_role(by: Any, role: Group, permissions: Iterable[Permission], *, reason: str) -> None:
    """Write a new role, or the name and permissions of one.

    Raises PermissionDenied, ReasonMissing.
    """
    new = role._state.adding
    _require(by, "auth.add_group" if new else CHANGE_ROLE)
    reason = _given(reason)
    with transaction.atomic():
        before = {} if new else _role(Group.objects.select_for_update(no_key=True).get(pk=role.pk))
        role.save()
        role.permissions.set(permissions)
        changes = _differences(before, _role(role))
        if new or changes:
            _record(ROLE, role.pk, by, "Created" if new else "Changed", reason, changes)


def end_sessions(user: User) -> None:
    """Log somebody out everywhere."""
    gone = [
        session.pk
        for session in Session.objects.filter(expire_date__gt=timezone.now())
        if session.get_decoded().get(SESSION_KEY) == str(user.pk)
    ]
    Session.objects.filter(pk__in=gone).delete()


# --- links ---


def send_links() -> int:
    """Mail what waits, each claimed first: no network under a lock. Returns how many."""
    return _send(PasswordLink, _mail) + _send(AddressNotice, _mail_notice)


def _send(kind: type[Waiting], mail: Callable[[Waiting], None]) -> int:
    done = 0
    while row := _claim(kind):
        if row.attempts > TRIES:
            continue
        try:
            mail(row)
        except OSError:  # a mail server's refusals are too
            # Tried again later, whatever happens to the others.
            continue
        kind._default_manager.filter(pk=row.pk).update(sent_at=timezone.now())
        done += 1
    return done


def _claim(kind: type[Waiting]) -> Waiting | None:
    now = timezone.now()
    with transaction.atomic():
        # A moment well after now is no evidence of a try.
        waiting = kind._default_manager.filter(sent_at=None, attempts__lte=TRIES).exclude(
            tried_at__gt=now - RETRY, tried_at__lte=now + SKEW
        )
        row = waiting.select_for_update(no_key=True, skip_locked=True, of=("self",)).first()
        if row is None:
            return None
        row.attempts, row.tried_at = row.attempts + 1, now
        row.save(update_fields=["attempts", "tried_at"])
        # One that died in the last try is found here too, so each that is given up is told once.
        if row.attempts > TRIES:
            _give_up(row)
    return row


def _give_up(row: PasswordLink | AddressNotice) -> None:
    if isinstance(row, PasswordLink):
        what, user_id = "A link to choose a password", row.user_id
        then = "Is the address right, and does the mail server answer? Then send another link."
    else:
        what, user_id = "The notice of another address", row.change.row
        then = "Ask the person, by another way, whether the change is right."
    alarms.keep(
        f"{what} was not sent",
        f"The mail was given up after {TRIES} tries. For whom: "
        f"{admin_url('auth_user_change', user_id)}\n  {then}",
    )


def not_sent(user: User) -> str:
    """What became of the newest link of somebody, unless it was sent."""
    link = user.password_links.order_by("-pk").first()
    if link is None or link.sent_at is not None:
        return ""
    return "Not sent" if link.attempts > TRIES else "On its way"


def _mail(link: PasswordLink) -> None:
    user = link.user
    if not user.is_active:
        return
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    address = settings.SITE_ADDRESS + reverse("choose_password", args=[uid, token])
    days = settings.PASSWORD_RESET_TIMEOUT // 86_400
    send_mail(
        "Choose your password",
        f"Hello {user.first_name or user.username},\n\n"
        f"your login for the back-office is: {user.username}\n\n"
        f"Choose your password here, within {days} days; the link works once:\n\n"
        f"{address}\n\n"
        "If you expected no such mail, tell your administrator.\n",
        settings.SERVER_EMAIL,
        [user.email],
    )


def _mail_notice(notice: AddressNotice) -> None:
    step = notice.change
    send_mail(
        "Your address was changed",
        f"Hello,\n\n{step.actor} gave your login for the back-office another address, at "
        f"{step.at:%Y-%m-%d %H:%M} UTC. Mails about it, and links to choose its password, go "
        "there from now on.\n\n"
        f"If you did not expect this, tell an administrator other than {step.actor} at once.\n",
        settings.SERVER_EMAIL,
        [_old_address(step)],
    )


def _old_address(step: StaffChange) -> str:
    """The address that this step took away, or ""."""
    return next(
        (
            old
            for label, old, new in step.changes
            if label == "Email" and old.lower() != new.lower()
        ),
        "",
    )


def _ask_for_link(by: User, user: User) -> None:
    PasswordLink.objects.create(user=user, asked_by=by, asked_at=timezone.now())
    transaction.on_commit(_queue, robust=True)


def _queue() -> None:
    from smsactivator.tasks import send_password_links

    queue(send_password_links)


# --- what the verbs share ---


def _require(person: Any, permission: str) -> None:
    if not person.has_perm(permission):
        raise PermissionDenied


def _given(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise ReasonMissing("Say why: whoever reads this in years will ask.")
    return reason


def _locked(*pks: int) -> list[User]:
    """These people, locked in the order of their keys; the first is who acts, and still may."""
    rows = {
        user.pk: user
        for user in User.objects.select_for_update(no_key=True).filter(pk__in=pks).order_by("pk")
    }
    if not rows[pks[0]].is_active:
        raise PermissionDenied
    return [rows[pk] for pk in pks]


def steps_of(user: User) -> int:
    """How many steps there are in the history of this person."""
    return StaffChange.objects.filter(about=PERSON, row=user.pk).count()


def _refuse_outdated(user: User, seen: int | None) -> None:
    """Raise Outdated unless the locked person is as the page showed them."""
    if seen is None or steps_of(user) == seen:
        return
    newest = StaffChange.objects.filter(about=PERSON, row=user.pk).order_by("-pk")
    steps = [(step.actor, step.what, step.at) for step in newest[: TOLD + 1]]
    raise outdated(user, in_words(steps[: max(steps_of(user) - seen, 1)]))


def _refuse_taken(email: str) -> None:
    # Two administrators at once: Django's table does not hold an address unique.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADDRESSES])
    taken = User.objects.filter(email__iexact=email).first()
    if taken is not None:
        raise AddressTaken(f"{taken} has this address: change that person, or send them a link.")


def _free_name(email: str) -> str:
    """A login that nobody has, after the address."""
    plain = re.sub(r"[^a-z0-9._-]", "", email.partition("@")[0].lower())[:100] or "person"
    name, number = plain, 1
    while User.objects.filter(username__iexact=name).exists():
        number += 1
        name = f"{plain}{number}"
    return name


def _state(user: User) -> dict[str, str]:
    return {
        "Name": user.get_full_name(),
        "Email": user.email,
        "Roles": ", ".join(user.groups.order_by("name").values_list("name", flat=True)),
        "Administrator": "Yes" if user.is_superuser else "No",
        "Active": "Yes" if user.is_active else "No",
        "May log in": "Yes" if user.is_staff else "No",
    }


def _role(role: Group) -> dict[str, str]:
    held = role.permissions.order_by("content_type__app_label", "codename").values_list(
        "content_type__app_label", "codename"
    )
    return {"Name": role.name, "May": ", ".join(f"{app}.{name}" for app, name in held)}


def _differences(before: dict[str, str], after: dict[str, str]) -> Changes:
    return [
        [label, before.get(label, ""), value]
        for label, value in after.items()
        if before.get(label, "") != value
    ]


def _record(
    about: StaffChange.About, row: int, by: User, what: str, reason: str, changes: Changes
) -> StaffChange:
    return StaffChange.objects.create(
        about=about,
        row=row,
        at=timezone.now(),
        actor=by.get_username(),
        actor_user=by,
        what=what,
        reason=reason,
        changes=changes,
    )
