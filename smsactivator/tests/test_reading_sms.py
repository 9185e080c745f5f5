"""Reading SMS in full: who may, that each reading is recorded, and that the text goes nowhere."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from orders import reading
from orders.locking import OrderUnknown
from orders.models import Order, Sms, SmsReading
from smsactivator.common.links import admin_url
from smsactivator.common.timeline import timeline
from smsactivator.tests import world
from wallet.tests.attack import (
    APPLICATION,
    CHECK,
    FOREIGN_KEY,
    NOT_NULL,
    RESTRICT,
    as_owner,
    assert_refused,
)

pytestmark = pytest.mark.django_db

SENIOR = "Senior agent"
TEXT, CODE = "Dear Ann, your code is 482915 for t.me", "482915"
OTHER, OTHER_CODE = "Second: 771204", "771204"
WHY = "Ticket 12: the customer reads another code"


def delivered(*, texts: int = 2) -> Order:
    order = world.place(world.customer())
    world.deliver(world.await_sms(order), text=TEXT, code=CODE)
    if texts > 1:
        world.sms(order, text=OTHER, code=OTHER_CODE)
    return order


def signed_in(role: str, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(world.person(role))
    return client


def form(order: Order) -> str:
    return admin_url("orders_order_read_sms", order.pk)


def readings() -> list[tuple[int, list[int], str, str]]:
    made = SmsReading.objects.order_by("pk").select_related("person")
    return [(one.order_id, one.shown, one.person.username, one.reason) for one in made]


# --- the verb -----------------------------------------------------------------------------------


def test_a_reading_returns_the_texts_and_leaves_who_which_when_and_why() -> None:
    order = delivered()
    first, second = Sms.objects.order_by("pk")
    before = timezone.now()

    texts = reading.read(world.person(SENIOR, name="sonia"), order.pk, reason=f"  {WHY} ")

    assert [(sms.text, sms.code) for sms in texts] == [(TEXT, CODE), (OTHER, OTHER_CODE)]
    assert readings() == [(order.pk, [first.pk, second.pk], "sonia", WHY)]
    assert before <= SmsReading.objects.get().read_at <= timezone.now()


def test_one_sms_is_read_alone() -> None:
    order = delivered()
    second = Sms.objects.latest("pk")

    [sms] = reading.read(world.person(SENIOR), order.pk, sms_id=second.pk, reason=WHY)

    assert sms.text == OTHER
    assert readings() == [(order.pk, [second.pk], "senior.agent", WHY)]


def test_reading_again_is_another_reading() -> None:
    order, sonia = delivered(), world.person(SENIOR)
    for _ in range(2):
        reading.read(sonia, order.pk, reason=WHY)
    assert len(readings()) == 2


@pytest.mark.parametrize("role", ["Support agent", "Finance"])
def test_who_may_not_read_gets_no_text_and_leaves_no_reading(role: str) -> None:
    order = delivered()
    with pytest.raises(PermissionDenied):
        reading.read(world.person(role), order.pk, reason=WHY)
    assert readings() == []


def test_somebody_who_left_reads_nothing() -> None:
    order, sonia = delivered(), world.person(SENIOR)
    sonia.is_active = False
    with pytest.raises(PermissionDenied):
        reading.read(sonia, order.pk, reason=WHY)


@pytest.mark.parametrize("reason", ["", "    ", "\n\t\n\t\n", "why", " abcd "])
def test_a_reading_without_a_reason_is_refused(reason: str) -> None:
    order = delivered()
    with pytest.raises(reading.ReadingWithoutReason, match="at least 5 characters"):
        reading.read(world.person(SENIOR), order.pk, reason=reason)
    assert readings() == []


def test_what_is_not_there_is_not_read() -> None:
    sonia, order, other = world.person(SENIOR), delivered(), delivered(texts=1)
    theirs = Sms.objects.get(order=other)

    with pytest.raises(OrderUnknown):
        reading.read(sonia, 987_654_321, reason=WHY)
    with pytest.raises(reading.NothingToRead, match=f"Order {order.pk} has no SMS {theirs.pk}"):
        reading.read(sonia, order.pk, sms_id=theirs.pk, reason=WHY)
    with pytest.raises(reading.NothingToRead, match="has no SMS"):
        reading.read(sonia, world.place(world.customer()).pk, reason=WHY)
    assert readings() == []


@pytest.mark.django_db(transaction=True)
def test_a_reading_is_committed_and_never_part_of_something_that_may_roll_back() -> None:
    order, sonia = delivered(), world.person(SENIOR)

    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        reading.read(sonia, order.pk, reason=WHY)
    assert readings() == []

    reading.read(sonia, order.pk, reason=WHY)
    assert len(readings()) == 1


def test_what_cannot_be_recorded_is_not_read() -> None:
    order = delivered()
    client = signed_in(SENIOR, raise_request_exception=False)
    with as_owner(), connection.cursor() as cursor:
        cursor.execute(f"REVOKE INSERT ON orders_smsreading FROM {APPLICATION}")

    answer = client.post(form(order), {"reason": WHY})

    assert answer.status_code == 500
    assert CODE not in answer.content.decode()
    assert readings() == []


# --- the database -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE orders_smsreading SET reason = 'Something else'",
        "UPDATE orders_smsreading SET person_id = person_id",
        "UPDATE orders_smsreading SET read_at = now()",
        "DELETE FROM orders_smsreading",
        "TRUNCATE orders_smsreading",
        "WITH gone AS (DELETE FROM orders_smsreading RETURNING id) SELECT count(*) FROM gone",
        "MERGE INTO orders_smsreading USING (VALUES (1)) AS v(n) ON true WHEN MATCHED THEN DELETE",
    ],
)
def test_a_reading_is_never_changed_or_deleted(attack: str) -> None:
    reading.read(world.person(SENIOR), delivered().pk, reason=WHY)
    assert_refused(RESTRICT, "append-only", attack)


def test_an_upsert_of_a_reading_is_refused() -> None:
    reading.read(world.person(SENIOR), delivered().pk, reason=WHY)
    assert_refused(
        RESTRICT,
        "append-only",
        "INSERT INTO orders_smsreading (id, order_id, shown, person_id, reason, read_at)"
        " SELECT id, order_id, shown, person_id, reason, read_at FROM orders_smsreading"
        " ON CONFLICT (id) DO UPDATE SET reason = 'Something else'",
    )


@pytest.mark.parametrize(
    ("changes", "sqlstate", "rule"),
    [
        ({"reason": "''"}, CHECK, "sms_reading_has_a_reason"),
        ({"reason": "'         '"}, CHECK, "sms_reading_has_a_reason"),
        ({"reason": "'  abcd  '"}, CHECK, "sms_reading_has_a_reason"),
        ({"reason": "NULL"}, NOT_NULL, "reason"),
        ({"shown": "'{}'"}, CHECK, "sms_reading_shows_some"),
        ({"shown": "NULL"}, NOT_NULL, "shown"),
        ({"shown": "ARRAY[NULL]::bigint[]"}, CHECK, "does not name SMS of its order"),
        ({"shown": "ARRAY[987654321]"}, CHECK, "does not name SMS of its order"),
        ({"shown": "(SELECT array_agg(id) FROM orders_sms)"}, CHECK, "SMS of its order"),
        ({"person_id": "NULL"}, NOT_NULL, "person_id"),
        ({"person_id": "987654321"}, FOREIGN_KEY, "person_id"),
        ({"read_at": "NULL"}, NOT_NULL, "read_at"),
    ],
)
def test_a_reading_names_a_person_a_reason_and_sms_of_its_order(
    changes: dict[str, str], sqlstate: str, rule: str
) -> None:
    order, _ = delivered(), delivered()
    values = {
        "order_id": str(order.pk),
        "shown": f"(SELECT array_agg(id) FROM orders_sms WHERE order_id = {order.pk})",
        "person_id": str(world.person(SENIOR).pk),
        "reason": f"'{WHY}'",
        "read_at": "now()",
        **changes,
    }
    attack = (
        f"INSERT INTO orders_smsreading ({', '.join(values)}) SELECT {', '.join(values.values())}"
    )
    assert_refused(sqlstate, rule, attack)


# --- the pages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["Support agent", "Finance"])
def test_who_may_not_read_is_offered_no_form(role: str) -> None:
    order = delivered()
    sms = Sms.objects.earliest("pk")
    client = signed_in(role)

    for url, page in (
        (form(order), admin_url("orders_order_change", order.pk)),
        (admin_url("orders_sms_read_sms", sms.pk), admin_url("orders_sms_change", sms.pk)),
    ):
        assert client.get(url).status_code == 403
        answer = client.post(url, {"reason": WHY})
        assert answer.status_code == 403
        assert CODE not in answer.content.decode()
        assert url not in client.get(page).content.decode()
    assert readings() == []


def test_who_may_read_texts_but_sees_no_orders_is_refused() -> None:
    from django.contrib.auth.models import Permission

    order, someone = delivered(), world.person(name="someone")
    someone.is_superuser = False
    someone.save()
    someone.user_permissions.add(Permission.objects.get(codename="view_sms_text"))
    client = Client()
    client.force_login(someone)

    assert client.get(form(order)).status_code == 403
    assert client.post(form(order), {"reason": WHY}).status_code == 403
    assert readings() == []


def test_a_stranger_is_sent_to_the_login() -> None:
    order = delivered()
    for answer in (Client().get(form(order)), Client().post(form(order), {"reason": WHY})):
        assert (answer.status_code, CODE in answer.content.decode()) == (302, False)
    assert readings() == []


@pytest.mark.parametrize("role", [SENIOR, ""])
def test_the_texts_are_in_the_answer_to_the_post_alone(role: str) -> None:
    order = delivered()
    client = signed_in(role)
    assert form(order) in client.get(admin_url("orders_order_change", order.pk)).content.decode()

    asked = client.get(form(order))
    answer = client.post(form(order), {"reason": WHY})

    assert asked.status_code == answer.status_code == 200
    assert CODE not in asked.content.decode()
    page = answer.content.decode()
    for shown in (TEXT, CODE, OTHER, OTHER_CODE):
        assert shown in page
    for one in (asked, answer):
        assert "no-store" in one["Cache-Control"]
    # Not afterwards: no message, no session, no cookie, no page.
    sessions = " ".join(str(session.get_decoded()) for session in Session.objects.all())
    assert CODE not in sessions + str(client.cookies)
    for url in (form(order), admin_url("orders_order_change", order.pk), "/admin/"):
        assert CODE not in client.get(url).content.decode()
    assert len(readings()) == 1


def test_the_page_of_one_sms_shows_that_one() -> None:
    order = delivered()
    first, _ = Sms.objects.order_by("pk")
    client = signed_in(SENIOR)
    url = admin_url("orders_sms_read_sms", first.pk)
    assert url in client.get(admin_url("orders_sms_change", first.pk)).content.decode()

    page = client.post(url, {"reason": WHY}).content.decode()

    assert TEXT in page
    assert OTHER_CODE not in page
    assert readings() == [(order.pk, [first.pk], "senior.agent", WHY)]


@pytest.mark.parametrize("reason", ["", "   ", "abcd", "abc\x00def", "x" * 2001])
def test_a_form_without_a_proper_reason_shows_nothing(reason: str) -> None:
    answer = signed_in(SENIOR).post(form(delivered()), {"reason": reason})
    assert answer.status_code == 422
    assert CODE not in answer.content.decode()
    assert readings() == []


def test_a_reason_with_markup_is_shown_as_text() -> None:
    page = signed_in(SENIOR).post(form(delivered()), {"reason": "<script>alert(1)</script>"})
    assert "<script>alert(1)" not in page.content.decode()
    assert "&lt;script&gt;alert(1)" in page.content.decode()


def test_a_double_click_is_two_readings() -> None:
    order = delivered()
    client = signed_in(SENIOR)
    for _ in range(2):
        assert client.post(form(order), {"reason": WHY}).status_code == 200
    assert [reason for *_, reason in readings()] == [WHY, WHY]


def test_neither_a_get_nor_another_method_reads() -> None:
    order = delivered()
    client = signed_in(SENIOR)

    assert CODE not in client.get(form(order), {"reason": WHY}).content.decode()
    assert client.head(form(order)).status_code == 200
    for method in (client.put, client.patch, client.delete):
        assert method(form(order), {"reason": WHY}).status_code == 403
    assert readings() == []


def test_a_reading_needs_a_csrf_token() -> None:
    order = delivered()
    client = signed_in(SENIOR, enforce_csrf_checks=True)
    assert client.post(form(order), {"reason": WHY}).status_code == 403
    assert readings() == []


def test_an_order_without_sms_and_one_that_is_not_there() -> None:
    empty = world.place(world.customer())
    client = signed_in(SENIOR)

    page = client.get(admin_url("orders_order_change", empty.pk)).content.decode()
    assert form(empty) not in page
    answer = client.post(form(empty), {"reason": WHY})
    assert (answer.status_code, "has no SMS" in answer.content.decode()) == (404, True)
    assert (
        client.post("/admin/orders/order/987654321/read-sms/", {"reason": WHY}).status_code == 404
    )
    assert readings() == []


def test_no_log_holds_a_text_or_a_code(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    order = delivered()
    client = signed_in(SENIOR, raise_request_exception=False)
    caplog.clear()

    client.post(form(order), {"reason": WHY})
    client.post(form(order), {"reason": ""})
    client.post("/admin/orders/order/987654321/read-sms/", {"reason": WHY})
    with as_owner(), connection.cursor() as cursor:
        cursor.execute(f"REVOKE INSERT ON orders_smsreading FROM {APPLICATION}")
    assert client.post(form(order), {"reason": WHY}).status_code == 500

    logged = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert "permission denied for table orders_smsreading" in logged
    for hidden in (TEXT, CODE, OTHER, OTHER_CODE):
        assert hidden not in logged


# --- who looks at the readings ------------------------------------------------------------------


def test_a_reading_is_part_of_the_order_s_history_and_of_the_sms_s() -> None:
    order = delivered()
    first, second = Sms.objects.order_by("pk")
    sonia = world.person(SENIOR, name="sonia")
    reading.read(sonia, order.pk, reason=WHY)
    reading.read(sonia, order.pk, sms_id=first.pk, reason="Once more, the first")

    def read(of: Any) -> list[tuple[str, str, str]]:
        entries, _ = timeline(of, sonia)
        return [(one.what, one.who, one.why) for one in entries if "in full" in one.what]

    both = ("2 SMS read in full", "sonia", WHY)
    one = ("SMS read in full", "sonia", "Once more, the first")
    assert read(order) == [one, both]
    assert read(first) == [one, both]
    assert read(second) == [both]
    agent = signed_in("Support agent")
    for of in (
        admin_url("orders_order_change", order.pk),
        admin_url("orders_sms_change", first.pk),
    ):
        page = agent.get(of).content.decode()
        assert WHY in page
        assert "/admin/orders/smsreading/" not in page


def test_readings_are_listed_and_found_by_order_person_and_day() -> None:
    order, other = delivered(), delivered()
    sonia, sam = (world.person(SENIOR, name=name) for name in ("sonia", "sam"))
    reading.read(sonia, order.pk, reason=WHY)
    reading.read(sam, other.pk, reason="Another reason")
    mine, theirs = SmsReading.objects.order_by("pk")
    client = Client()
    client.force_login(sonia)

    def listed(**query: str) -> set[int]:
        answer = client.get("/admin/orders/smsreading/", query)
        assert answer.status_code == 200
        return {row.pk for row in answer.context["cl"].result_list}

    assert listed() == {mine.pk, theirs.pk}
    assert listed(q=str(order.pk)) == {mine.pk}
    assert listed(person__id__exact=str(sam.pk)) == {theirs.pk}
    assert listed(read_at_from_0=f"{mine.read_at:%Y-%m-%d}") == {mine.pk, theirs.pk}
    assert listed(read_at_to_0="2026-01-01") == set()
    page = client.get(f"/admin/orders/smsreading/{mine.pk}/change/").content.decode()
    assert WHY in page
    assert CODE not in page
    assert client.get("/admin/orders/smsreading/", {"reason__contains": "a"}).status_code == 400


def test_a_reading_cannot_be_forged_through_its_page() -> None:
    order = delivered()
    reading.read(world.person(SENIOR, name="sonia"), order.pk, reason=WHY)
    [made] = SmsReading.objects.all()
    client = signed_in("")
    for url in (
        "/admin/orders/smsreading/add/",
        f"/admin/orders/smsreading/{made.pk}/change/",
        f"/admin/orders/smsreading/{made.pk}/delete/",
    ):
        data = {"order": order.pk, "reason": "Nothing to see", "key": str(uuid4())}
        assert client.post(url, data).status_code == 403
    assert readings() == [(order.pk, made.shown, "sonia", WHY)]
