"""New people are invited and can log in; what changes about them is kept with its reason."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.core import mail
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from time_machine import travel

from smsactivator import roles, staff
from smsactivator.common.moments import SKEW
from smsactivator.common.timeline import timeline
from smsactivator.models import Alarm, PasswordLink, StaffChange
from smsactivator.tests import world
from smsactivator.tests.test_admin_roles import AUDITOR, FINANCE, SENIOR, SUPPORT
from wallet.models import RoleLimit
from wallet.tests.attack import DENIED, _refusal
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db

PASSWORD = "tram-lantern-42-quay"


def seated(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def admin() -> User:
    return world.person(name="boss")


def role(name: str = SUPPORT) -> Group:
    return Group.objects.get(name=name)


def invited(by: User, email: str = "ann.lee@example.com", **fields: Any) -> User:
    typed = {"name": "Ann Lee", "roles": [role()], "reason": "Starts on Monday"}
    return staff.invite(by, email=email, **(typed | fields))


def link_in(message: Any) -> str:
    found = re.search(r"https?://[^/]+(/\S+)", message.body)
    assert found
    return found[1]


def chosen(link: str, password: str = PASSWORD) -> Any:
    """Open a link in a new browser and choose a password."""
    client = Client()
    form = client.get(link, follow=True)
    return client.post(
        form.request["PATH_INFO"], {"new_password1": password, "new_password2": password}
    )


def log_in(name: str) -> int:
    typed = {"username": name, "password": PASSWORD, "next": "/admin/"}
    return Client().post(reverse("admin:login"), typed).status_code


# --- invited ---


def test_an_administrator_invites_and_the_new_person_logs_in(admin: User) -> None:
    client = seated(admin)
    typed = {
        "key": "7c0b43f5-7aac-4b4a-8d3d-7e0e6d3f4a11",
        "name": "Ann Lee",
        "email": "ann.lee@example.com",
        "roles": [str(role().pk)],
        "reason": "Starts on Monday",
    }

    answer = client.post(reverse("admin:auth_user_add"), typed)

    ann = User.objects.get(email="ann.lee@example.com")
    assert answer.status_code == 302
    assert (ann.username, ann.is_staff, ann.is_superuser) == ("ann.lee", True, False)
    assert staff.send_links() == 1
    [message] = mail.outbox
    assert message.to == ["ann.lee@example.com"]
    assert "ann.lee" in message.body
    assert chosen(link_in(message)).status_code == 302
    assert log_in("ann.lee") == 302
    front = seated(User.objects.get(pk=ann.pk)).get(reverse("admin:support_ticket_changelist"))
    assert front.status_code == 200


def test_the_link_works_once(admin: User) -> None:
    invited(admin)
    staff.send_links()
    link = link_in(mail.outbox[0])
    chosen(link)

    again = Client().get(link, follow=True)

    assert "This link works no more" in again.content.decode()
    assert "new_password1" not in again.content.decode()


def test_the_link_works_for_three_days(admin: User) -> None:
    invited(admin)
    staff.send_links()
    link = link_in(mail.outbox[0])

    with travel(timezone.now() + timedelta(days=3, minutes=1), tick=False):
        assert "This link works no more" in Client().get(link, follow=True).content.decode()


def test_an_easy_password_is_refused_on_the_link_s_page(admin: User) -> None:
    invited(admin)
    staff.send_links()

    answer = chosen(link_in(mail.outbox[0]), "aaaaaaaaaaaa")

    assert answer.status_code == 200
    assert "different characters" in answer.content.decode()


def test_the_link_of_somebody_who_was_let_go_works_no_more(admin: User) -> None:
    ann = invited(admin)
    staff.send_links()
    staff.set_active(admin, ann.pk, active=False, reason="Did not come")

    page = Client().get(link_in(mail.outbox[0]), follow=True).content.decode()

    assert "This link works no more" in page


def test_the_mail_goes_out_once_and_is_found_when_it_was_not_queued(admin: User) -> None:
    invited(admin)
    invited(admin, "bob@example.com")

    assert (staff.send_links(), staff.send_links()) == (2, 0)
    assert len(mail.outbox) == 2


def test_a_mail_server_that_refuses_is_asked_again_later(
    admin: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    invited(admin)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1

    assert staff.send_links() == 0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert staff.send_links() == 0
    with travel(timezone.now() + staff.RETRY + timedelta(seconds=1), tick=False):
        assert staff.send_links() == 1


def refused_five_times(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    with travel(timezone.now(), tick=False) as clock:
        for _ in range(5):
            assert staff.send_links() == 0
            clock.shift(staff.RETRY + timedelta(seconds=1))
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
        assert (staff.send_links(), staff.send_links()) == (0, 0)


def test_a_link_that_is_given_up_is_told_once_and_without_the_address(
    admin: User, settings: Any
) -> None:
    ann = invited(admin)

    refused_five_times(settings)

    [alarm] = Alarm.objects.all()
    assert (alarm.cause, alarm.count) == ("A link to choose a password was not sent", 1)
    assert reverse("admin:auth_user_change", args=[ann.pk]) in alarm.text
    assert "ann.lee" not in alarm.text
    assert mail.outbox == []


def test_the_person_s_page_says_that_the_link_was_not_sent_until_another_is(
    admin: User, settings: Any
) -> None:
    ann = invited(admin)
    page = reverse("admin:auth_user_change", args=[ann.pk])
    assert "On its way" in seated(admin).get(page).content.decode()

    refused_five_times(settings)

    assert "Not sent" in seated(admin).get(page).content.decode()
    staff.send_link(admin, ann.pk, reason="The mail server is back")
    assert staff.send_links() == 1
    shown = seated(admin).get(page).content.decode()
    assert "Not sent" not in shown
    assert "On its way" not in shown


def test_who_dies_in_the_fifth_try_leaves_it_to_be_told(admin: User) -> None:
    invited(admin)
    PasswordLink.objects.update(attempts=5, tried_at=timezone.now() - staff.RETRY)

    assert staff.send_links() == 0

    assert Alarm.objects.get().count == 1
    assert mail.outbox == []


def test_a_try_of_a_clock_that_ran_ahead_is_no_try(admin: User) -> None:
    invited(admin)
    PasswordLink.objects.update(tried_at=timezone.now() + timedelta(hours=2))

    assert staff.send_links() == 1


def test_a_try_of_a_clock_that_is_a_little_ahead_is_one(admin: User) -> None:
    invited(admin)
    with travel(timezone.now(), tick=False) as clock:
        PasswordLink.objects.update(attempts=1, tried_at=timezone.now() + SKEW)
        assert staff.send_links() == 0
        clock.shift(staff.RETRY + SKEW)
        assert staff.send_links() == 1


def test_no_link_is_kept_or_logged(admin: User, caplog: pytest.LogCaptureFixture) -> None:
    invited(admin)
    staff.send_links()
    token = link_in(mail.outbox[0]).rstrip("/").rpartition("/")[2]

    assert token not in f"{list(PasswordLink.objects.values())} {caplog.text}"


def test_the_guide_s_proxy_logs_no_link() -> None:
    text = (Path(settings.BASE_DIR) / "docs" / "operations.md").read_text()
    logged_without = re.findall(r"location (\S+) \{[^}]*?\baccess_log off;[^}]*\}", text)

    link = reverse("choose_password", args=["uid", "token"])
    assert [place for place in logged_without if link.startswith(place)] == ["/admin/password/"]


def test_an_address_is_one_person_s(admin: User) -> None:
    invited(admin)
    with pytest.raises(staff.AddressTaken, match=r"ann\.lee has this address"):
        invited(admin, "Ann.Lee@example.com")


def test_two_people_of_one_name_have_two_logins(admin: User) -> None:
    assert invited(admin, "ann@one.example").username == "ann"
    assert invited(admin, "ann@two.example").username == "ann2"


@pytest.mark.parametrize(
    ("typed", "refusal"),
    [({"reason": " "}, staff.ReasonMissing), ({"roles": []}, staff.NoRole)],
)
def test_an_invitation_needs_a_role_and_a_reason(
    admin: User, typed: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        invited(admin, **typed)


@pytest.mark.parametrize("name", [SUPPORT, SENIOR, FINANCE, AUDITOR])
def test_nobody_else_invites_or_changes(name: str, admin: User) -> None:
    other, ann = world.person(name, name="other"), invited(admin)
    with pytest.raises(PermissionDenied):
        invited(other, "bob@example.com")
    with pytest.raises(PermissionDenied):
        changed(other, ann)
    with pytest.raises(PermissionDenied):
        staff.set_active(other, ann.pk, active=False, reason="x")
    with pytest.raises(PermissionDenied):
        staff.send_link(other, ann.pk, reason="x")
    with pytest.raises(PermissionDenied):
        staff.change_role(other, role(), [], reason="x")


# --- changed ---


def changed(by: User, person: User, **fields: Any) -> User:
    as_is = {
        "name": person.get_full_name(),
        "email": person.email,
        "roles": list(person.groups.all()),
        "administrator": person.is_superuser,
        "reason": "Moves to finance",
    }
    return staff.change(by, person.pk, **(as_is | fields))


def test_other_roles_end_the_sessions_and_are_kept_with_the_reason(admin: User) -> None:
    ann, other = invited(admin), world.person(SUPPORT, name="other")
    hers, another_s = seated(ann), seated(other)

    changed(admin, ann, roles=[role(FINANCE)])

    assert hers.get("/admin/").status_code == 302
    assert another_s.get("/admin/").status_code == 200
    entry = timeline(ann)[0][0]
    assert (entry.who, entry.what, entry.why) == ("boss", "Changed", "Moves to finance")
    assert [(c.label, c.old, c.new) for c in entry.changes] == [("Roles", SUPPORT, FINANCE)]


def test_the_address_before_hears_of_another_one_once(
    admin: User, caplog: pytest.LogCaptureFixture
) -> None:
    ann = invited(admin)
    staff.send_links()
    mail.outbox.clear()

    changed(admin, ann, email="boss.other@example.com")
    staff.send_link(admin, ann.pk, reason="Asked for")

    assert (staff.send_links(), staff.send_links()) == (2, 0)
    assert [message.to for message in mail.outbox] == [
        ["boss.other@example.com"],
        ["ann.lee@example.com"],
    ]
    notice = mail.outbox[1]
    assert notice.subject == "Your address was changed"
    assert "boss gave your login" in notice.body
    assert "boss.other" not in notice.body
    assert "example.com" not in caplog.text


@pytest.mark.parametrize("same", [{"name": "Ann Smith"}, {"email": "Ann.Lee@example.com"}])
def test_no_notice_when_the_address_is_the_same(admin: User, same: dict[str, Any]) -> None:
    ann = invited(admin)
    staff.send_links()

    changed(admin, ann, **same)

    assert staff.send_links() == 0


def test_a_notice_that_is_given_up_is_told(admin: User, settings: Any) -> None:
    ann = invited(admin)
    staff.send_links()
    mail.outbox.clear()
    changed(admin, ann, email="boss.other@example.com")

    refused_five_times(settings)

    assert Alarm.objects.get().cause == "The notice of another address was not sent"
    assert mail.outbox == []


def test_another_name_ends_no_session(admin: User) -> None:
    ann = invited(admin)
    hers = seated(ann)

    changed(admin, ann, name="Ann Smith")

    assert hers.get("/admin/").status_code == 200


def test_who_is_let_go_is_out_at_once(admin: User) -> None:
    ann = invited(admin)
    hers = seated(ann)

    staff.set_active(admin, ann.pk, active=False, reason="Left")
    staff.set_active(admin, ann.pk, active=True, reason="Came back")

    assert hers.get("/admin/").status_code == 302
    steps = [(entry.what, entry.why) for entry in timeline(ann)[0]]
    assert steps == [
        ("Activated", "Came back"),
        ("Deactivated", "Left"),
        ("Invited", "Starts on Monday"),
    ]


def test_a_role_given_to_somebody_who_could_not_log_in_lets_them(admin: User) -> None:
    bob = User.objects.create_user("bob", "bob@example.com", PASSWORD)

    changed(admin, bob, name="Bob", roles=[role()])

    assert log_in("bob") == 302


def test_nobody_changes_their_own_roles_or_lets_themselves_go(admin: User) -> None:
    with pytest.raises(staff.NotYourself):
        changed(admin, admin, administrator=False, roles=[role()])
    with pytest.raises(staff.NotYourself):
        staff.set_active(admin, admin.pk, active=False, reason="x")


def test_only_an_administrator_changes_one(admin: User) -> None:
    keeper = world.person(SUPPORT, name="keeper")
    keeper.user_permissions.add(Permission.objects.get(codename="change_user"))
    ann = invited(admin)

    for person, fields in ((admin, {"email": "mine@example.com"}), (ann, {"administrator": True})):
        with pytest.raises(PermissionDenied):
            changed(keeper, person, **fields)
    with pytest.raises(PermissionDenied):
        staff.set_active(keeper, admin.pk, active=False, reason="x")
    with pytest.raises(PermissionDenied):
        staff.send_link(keeper, admin.pk, reason="x")

    admin.refresh_from_db()
    assert (admin.email, admin.is_active) == ("", True)
    changed(keeper, ann, email="lee@example.com")


def test_who_was_let_go_meanwhile_changes_nobody(admin: User) -> None:
    ann, second = invited(admin), world.person(name="second")
    staff.set_active(second, admin.pk, active=False, reason="Left")

    with pytest.raises(PermissionDenied):
        changed(admin, ann, roles=[role(FINANCE)])


def test_a_change_of_nothing_is_none(admin: User) -> None:
    ann = invited(admin)
    with pytest.raises(staff.AlreadySo):
        changed(admin, ann)
    with pytest.raises(staff.AlreadySo):
        staff.set_active(admin, ann.pk, active=True, reason="x")


def test_a_new_link_unlocks_the_account_once_the_password_is_chosen(admin: User) -> None:
    invited(admin)
    for _ in range(5):
        assert log_in("ann.lee") in {200, 429}
    assert log_in("ann.lee") == 429
    staff.send_links()

    chosen(link_in(mail.outbox[0]))

    assert log_in("ann.lee") == 302


def test_a_role_s_change_is_kept_with_its_reason(admin: User) -> None:
    client = seated(admin)
    senior = role(SENIOR)
    kept = [p.pk for p in senior.permissions.exclude(codename="view_rolelimit")]
    address = reverse("admin:auth_group_change", args=[senior.pk])

    refused = client.post(address, {"name": SENIOR, "permissions": kept})
    assert "This field is required" in refused.content.decode()
    answer = client.post(
        address, {"name": SENIOR, "permissions": kept, "reason": "Limits are finance's"}
    )

    assert answer.status_code == 302
    entry = timeline(senior)[0][0]
    assert (entry.who, entry.why) == ("boss", "Limits are finance's")
    [may] = entry.changes
    assert "wallet.view_rolelimit" in may.old
    assert "wallet.view_rolelimit" not in may.new
    roles.sync()


def test_a_limit_s_change_is_kept_with_its_reason(admin: User) -> None:
    limit = RoleLimit.objects.get(role=role(), decision="goodwill")
    address = reverse("admin:wallet_rolelimit_change", args=[limit.pk])
    typed = {"role": limit.role_id, "decision": "goodwill", "each": "6", "daily": "30"}
    client = seated(admin)

    assert client.post(address, typed).status_code == 200
    answer = client.post(address, typed | {"reason": "A calmer month"})

    assert answer.status_code == 302
    entry = timeline(limit)[0][0]
    assert (entry.who, entry.what) == ("boss", "A calmer month")
    assert [(c.old, c.new) for c in entry.changes] == [
        ("5.0000 USD", "6.0000 USD"),
        ("25.0000 USD", "30.0000 USD"),
    ]


# --- on the page ---


def test_the_page_of_a_person_shows_steps_and_history(admin: User) -> None:
    ann = invited(admin)
    page = seated(admin).get(reverse("admin:auth_user_change", args=[ann.pk])).content.decode()

    for words in ("Change…", "Deactivate…", "Send a link for the password…", "Starts on Monday"):
        assert words in page
    assert "Activate…" not in page


def test_a_step_on_the_page_is_done(admin: User) -> None:
    ann = invited(admin)
    client = seated(admin)
    shown = client.get(reverse("admin:auth_user_do", args=[ann.pk, "change"])).content.decode()
    assert 'value="Ann Lee"' in shown
    typed = {"name": "Ann Lee", "email": ann.email, "roles": [str(role(FINANCE).pk)]}
    client.post(
        reverse("admin:auth_user_do", args=[ann.pk, "change"]),
        carried(ann, "change") | typed | {"reason": "Moves to finance"},
    )
    client.post(
        reverse("admin:auth_user_do", args=[ann.pk, "deactivate"]),
        carried(ann, "deactivate") | {"reason": "Left"},
    )

    ann.refresh_from_db()
    assert ([group.name for group in ann.groups.all()], ann.is_active) == ([FINANCE], False)


def test_a_form_that_was_opened_before_a_colleague_acted_changes_nobody(admin: User) -> None:
    ann = invited(admin)
    old = {name: carried(ann, name) for name in ("change", "link", "deactivate")}
    staff.send_link(admin, ann.pk, reason="Lost the first")
    typed = {"name": "Ann Lee", "email": ann.email, "roles": [str(role(FINANCE).pk)]}

    for name, form in old.items():
        answer = seated(admin).post(
            reverse("admin:auth_user_do", args=[ann.pk, name]), form | typed | {"reason": "Late"}
        )
        assert answer.status_code == 409
        assert "Sent a link to choose a password" in answer.content.decode()

    ann.refresh_from_db()
    assert ([group.name for group in ann.groups.all()], ann.is_active) == ([SUPPORT], True)
    assert StaffChange.objects.filter(row=ann.pk).count() == 2


def test_a_change_of_staff_is_never_changed() -> None:
    attack = "UPDATE smsactivator_staffchange SET reason = 'x'"
    assert _refusal(attack).sqlstate == DENIED
    assert _refusal("DELETE FROM smsactivator_staffchange").sqlstate == DENIED
    assert StaffChange.objects.count() == 0
