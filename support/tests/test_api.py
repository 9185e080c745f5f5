"""The storefront API of tickets over HTTP: what it answers, and to whom, and what it refuses."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from refunds.models import RefundRequest
from refunds.tests import world
from smsactivator.tests.test_api import HTTP, PROBLEM, Shop, assert_problem, name
from support import cases, replies, uploads
from support.api import MessageIn
from support.models import (
    LONGEST_BODY,
    LONGEST_SUBJECT,
    Attachment,
    Blob,
    Message,
    Ticket,
    TicketOrder,
    Wait,
)
from support.tests.world import (
    agent,
    ask,
    bounce,
    decide,
    deliver,
    delivered,
    denied,
    fail,
    fresh,
    refund,
    reply,
    senior,
    write,
)
from wallet import keys

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NOON_TEXT = "2026-06-01T12:00:00Z"
BOUNDARY = "line-between-parts"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


@pytest.fixture
def shop() -> Shop:
    return Shop(world.storefront())


@pytest.fixture
def noon():
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


def part(field: str, content: bytes | str, filename: str | bytes | None = None) -> bytes:
    """One part of a multipart body."""
    head = f'form-data; name="{field}"'.encode()
    if filename is not None:
        raw = filename if isinstance(filename, bytes) else filename.encode()
        head += b'; filename="' + raw + b'"\r\nContent-Type: image/png'
    data = content.encode() if isinstance(content, str) else content
    return b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), head, data)


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def form(*files: bytes, **fields: Any) -> bytes:
    """A multipart body of these fields; a list is a field for each value."""
    parts: list[bytes] = []
    for field, value in fields.items():
        parts += [part(field, str(one)) for one in (value if isinstance(value, list) else [value])]
    return body(*parts, *files)


def send(shop: Shop, path: str, content: bytes, key: str | None = "http-1", **extra: Any) -> Any:
    return shop.ask("POST", path, content, key=key, content_type=MULTIPART, **extra)


def written() -> dict[str, Any]:
    """How much of everything there is."""
    models = (Ticket, Message, Attachment, Blob, TicketOrder, Wait, RefundRequest)
    return {model.__name__: model.objects.count() for model in models} | {
        "tickets": list(Ticket.objects.order_by("pk").values_list("state", "version", "queue")),
        "history": Ticket.history.count(),
    }


# --- what each address answers ---


def test_a_ticket_is_opened_once_for_its_key_and_read(shop, noon):
    customer = world.customer()
    order = delivered(customer)
    path = f"/customers/{customer.external_id}/tickets"
    content = form(
        part("files", b"\x89PNG\r\n\x1a\n\x00\xff", "shot.png"),
        subject="No code",
        body="Nothing came.\nÄrger — 你好",
        orders=[order.pk],
    )

    opened = send(shop, path, content)
    again = send(shop, path, content)

    message = Message.objects.get()
    expected = {
        "id": message.pk,
        "ticket": message.ticket_id,
        "by": "customer",
        "entered": False,
        "body": "Nothing came.\nÄrger — 你好",
        "created_at": NOON_TEXT,
        "files": [
            {
                "name": "shot.png",
                "size": 10,
                "content_type": "image/png",
                "sha256": Blob.objects.get().sha256,
            }
        ],
    }
    assert (opened.status_code, opened.json()) == (201, expected)
    assert (again.status_code, again.json()) == (200, expected)
    assert bytes(Blob.objects.get().content) == b"\x89PNG\r\n\x1a\n\x00\xff"
    assert message.via == f"API key {shop.key.prefix}… of Shop"
    thread = shop.ask("GET", f"/tickets/{message.ticket_id}")
    assert (thread.status_code, thread.json()) == (
        200,
        {
            "id": message.ticket_id,
            "subject": "No code",
            "state": "new",
            "opened_at": NOON_TEXT,
            "follows": None,
            "customer": customer.external_id,
            "followed_by": None,
            "orders": [order.pk],
            "messages": [expected],
            "next": None,
            "refunds": [],
        },
    )


def test_a_ticket_without_files_may_come_as_json(shop):
    customer = world.customer()
    order = delivered(customer)
    path = f"/customers/{customer.external_id}/tickets"
    opened = shop.ask(
        "POST", path, {"subject": "Hi", "body": "Hello", "orders": [order.pk]}, key="k"
    )
    assert opened.status_code == 201
    # and the same as a form is the same
    again = send(shop, path, form(subject="Hi", body="Hello", orders=[order.pk]), key="k")
    assert (again.status_code, again.json()) == (200, opened.json())
    assert list(fresh(Ticket.objects.get()).orders.all()) == [order]


def test_a_message_is_added_once_and_reopens(shop, noon):
    ticket = ask()
    deliver(reply(agent(), ticket))
    path = f"/tickets/{ticket.pk}/messages"
    first = send(shop, path, form(part("files", b"log", "log.txt"), body="Still nothing"))
    again = send(shop, path, form(part("files", b"log", "log.txt"), body="Still nothing"))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["ticket"] == ticket.pk
    assert fresh(ticket).state == "open"
    conflict = assert_problem(
        send(shop, path, form(body="Something else")), 409, "idempotency_conflict"
    )
    assert "use a new key for a new message" in conflict["detail"]


def test_a_message_to_a_closed_ticket_names_the_one_that_follows(shop, noon, settings):
    ticket = ask()
    deliver(reply(agent(), ticket, then="resolved"))
    noon.shift(settings.TICKET_GRACE)
    sent = send(shop, f"/tickets/{ticket.pk}/messages", form(body="Again"))
    new = Ticket.objects.get(follows=ticket)
    assert (sent.status_code, sent.json()["ticket"]) == (201, new.pk)
    assert shop.ask("GET", f"/tickets/{ticket.pk}").json()["followed_by"] == new.pk
    assert shop.ask("GET", f"/tickets/{new.pk}").json()["follows"] == ticket.pk


def test_the_thread_shows_what_was_delivered_and_never_a_note(shop):
    ann = agent("ann")
    ticket = ask()
    replies.note(ann, ticket.pk, body="SECRET", key="n")
    sent = reply(ann, ticket, "Delivered", then="open")
    waiting = reply(ann, ticket, "QUEUED", then="open")
    failed = reply(ann, ticket, "FAILED", then="open")
    came_back = reply(ann, ticket, "BOUNCED", then="open")
    deliver(sent)
    fail(failed)
    deliver(came_back)
    bounce(came_back)
    asked = refund(ann, ticket, delivered(ticket.customer), reason="SECRET")
    decide(cases.escalate, ann, ticket, asked, reason="SECRET")

    answer = shop.ask("GET", f"/tickets/{ticket.pk}")

    assert [(one["by"], one["body"]) for one in answer.json()["messages"]] == [
        ("customer", "It did not work"),
        ("support", "Delivered"),
    ]
    everything = answer.content.decode() + "".join(
        shop.ask("GET", path).content.decode()
        for path in (f"/customers/{ticket.customer.external_id}/tickets",)
    )
    for hidden in ("SECRET", "QUEUED", "FAILED", "BOUNCED", "ann", "escalated", "seniors"):
        assert hidden not in everything
    deliver(waiting)
    shown = shop.ask("GET", f"/tickets/{ticket.pk}").json()["messages"]
    assert [one["body"] for one in shown] == ["It did not work", "Delivered", "QUEUED"]


def test_a_refund_is_told_by_its_clause_and_what_became_of_it(shop):
    ann, boss = agent("ann"), senior("boss")
    ticket = ask()
    order = delivered(ticket.customer)
    path = f"/tickets/{ticket.pk}"

    def told() -> Any:
        [one] = shop.ask("GET", path).json()["refunds"]
        return one

    unknown = {"clause": None, "clause_text": None, "amount": None, "goodwill": False}
    clause = {
        "clause": "ticket.service_rejected",
        "clause_text": "You received an SMS but the destination service rejected it (e.g. a "
        "region-block on the upstream carrier).",
    }
    taken_back = refund(ann, ticket, delivered(ticket.customer))
    decide(cases.withdraw, ann, ticket, taken_back)
    asked = refund(ann, ticket, order)
    assert told() == {"order": order.pk, "state": "in_review", "final": False, **unknown}
    decide(cases.deny, ann, ticket, asked, reply_body="No")
    no = {"order": order.pk, "final": False, **unknown, **clause}
    assert told() == {**no, "state": "denied"}
    send(shop, f"{path}/messages", form(part("files", b"x", "proof.txt"), body="Proof"))
    assert told() == {**no, "state": "in_dispute"}
    decide(cases.overturn, boss, ticket, asked, reply_body="Yes")
    assert told() == {**no, "state": "credited", "amount": "0.5000", "final": True}


def test_a_denial_that_is_disputed_on_another_ticket_is_told_on_both(shop, noon, settings):
    ticket, _ = denied()
    deliver(Message.objects.get(kind="reply"))
    noon.shift(settings.TICKET_GRACE)
    new = write(ticket).ticket
    for one in (ticket, new):
        [told] = shop.ask("GET", f"/tickets/{one.pk}").json()["refunds"]
        assert told["state"] == "in_dispute"


def test_tickets_are_paged_from_the_newest(shop, noon):
    customer = world.customer()
    tickets = [ask(customer, subject=f"No {number}") for number in range(3)]
    path = f"/customers/{customer.external_id}/tickets"

    page = shop.ask("GET", f"{path}?limit=2").json()
    rest = shop.ask("GET", f"{path}?limit=2&before={page['next']}").json()

    def line(ticket: Ticket) -> dict[str, Any]:
        return {
            "id": ticket.pk,
            "subject": ticket.subject,
            "state": "new",
            "opened_at": NOON_TEXT,
            "follows": None,
        }

    assert page == {"items": [line(tickets[2]), line(tickets[1])], "next": tickets[1].pk}
    assert rest == {"items": [line(tickets[0])], "next": None}


def test_messages_are_paged_from_the_oldest(shop):
    ticket = ask()
    for number in range(4):
        write(ticket, f"{number}")
    path = f"/tickets/{ticket.pk}?limit=3"
    page = shop.ask("GET", path).json()
    rest = shop.ask("GET", f"{path}&after={page['next']}").json()
    assert [one["body"] for one in page["messages"]] == ["It did not work", "0", "1"]
    assert [one["body"] for one in rest["messages"]] == ["2", "3"]
    assert rest["next"] is None


# --- to whom ---

ADDRESSES = [
    ("POST", "/customers/{customer}/tickets"),
    ("GET", "/customers/{customer}/tickets"),
    ("GET", "/tickets/{ticket}"),
    ("POST", "/tickets/{ticket}/messages"),
]


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_nobody_enters_without_a_live_key(shop, method, path):
    ticket = ask()
    path = path.format(customer=ticket.customer.external_id, ticket=ticket.pk)
    revoked, plain = keys.issue(shop.storefront, name="old", created_by="tester")
    keys.revoke(revoked.pk, revoked_by="tester")
    before = written()
    for header in (None, "", "Bearer", "Bearer sf_unknown", f"Bearer {plain}", f"Basic {plain}"):
        extra = {} if header is None else {"HTTP_AUTHORIZATION": header}
        response = HTTP.generic(method, f"/api/v1{path}", **extra)
        assert_problem(response, 401, "unauthenticated")
    assert written() == before


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_what_is_another_storefronts_looks_like_what_does_not_exist(shop, method, path):
    theirs = ask(world.customer(shop=world.storefront("Other")))
    before = written()

    def answer(customer: str, ticket: int) -> tuple[int, str]:
        content = form(subject="x", body="x") if "customers" in path else form(body="x")
        address = path.format(customer=customer, ticket=ticket)
        response = send(shop, address, content) if method == "POST" else shop.ask(method, address)
        assert response.headers["Content-Type"] == PROBLEM
        text = response.content.decode().replace(customer, "…").replace(f"ticket {ticket}", "…")
        return response.status_code, text

    mine = answer(theirs.customer.external_id, theirs.pk)
    assert mine == answer("nobody", theirs.pk + 1)
    assert mine[0] == 404
    assert written() == before


def test_an_order_of_another_customer_is_not_found(shop):
    customer, theirs = world.customer(), delivered()
    before = written()
    path = f"/customers/{customer.external_id}/tickets"
    for order in (theirs.pk, 2**63 - 1):
        answer = send(shop, path, form(subject="x", body="x", orders=[order]))
        assert_problem(answer, 404, "unknown_order")
    assert written() == before


# --- what it refuses ---


class Scene:
    """A ticket, and a right body for each address, so that one thing is wrong."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.ticket = ask()
        self.order = delivered(self.ticket.customer)
        customer = self.ticket.customer.external_id
        self.paths = {
            "ticket": f"/customers/{customer}/tickets",
            "message": f"/tickets/{self.ticket.pk}/messages",
        }
        self.bodies: dict[str, dict[str, Any]] = {
            "ticket": {"subject": "Hi", "body": "Hello", "orders": [self.order.pk]},
            "message": {"body": "Hello", "orders": [self.order.pk]},
        }
        self.before = written()

    def form(self, what: str, *files: bytes, key: str | None = "key", **changed: Any) -> Any:
        content = form(*files, **{**self.bodies[what], **changed})
        return send(self.shop, self.paths[what], content, key=key)

    def raw(self, what: str, content: bytes, **extra: Any) -> Any:
        extra = {"content_type": MULTIPART, **extra}
        return self.shop.ask("POST", self.paths[what], content, key="key", **extra)

    def json(self, what: str, **changed: Any) -> Any:
        return self.shop.ask("POST", self.paths[what], {**self.bodies[what], **changed}, key="key")

    def refused(self, answer: Any, status: int, code: str) -> dict[str, Any]:
        problem = assert_problem(answer, status, code)
        assert len(answer.content) < 2000
        assert written() == self.before
        return problem


WHAT = ["ticket", "message"]


@pytest.fixture
def scene(shop) -> Scene:
    return Scene(shop)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("way", ["form", "json"])
def test_the_right_bodies_of_the_scene_are_taken(scene, what, way):
    assert getattr(scene, way)(what).status_code == 201
    assert written() != scene.before


LONG = "x" * 100_000


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("body", value) for value in (None, 1, True, [], {}, "x" * (LONGEST_BODY + 1), LONG)],
        *[("orders", v) for v in (None, 1, "1", {}, ["1"], [1.5], [True], [0], [-1], [2**63])],
        ("orders", list(range(1, 22))),
        ("price", "1"),
        ("files", []),
    ],
    ids=name,
)
def test_a_bad_json_value_is_refused_by_name(scene, what, field, value):
    problem = scene.refused(scene.json(what, **{field: value}), 422, "invalid")
    assert problem["errors"][0]["where"].startswith(f"body.{field}")


@pytest.mark.parametrize("value", [None, 1, [], "", "x" * (LONGEST_SUBJECT + 1)], ids=name)
def test_a_bad_subject_is_refused_by_name(scene, value):
    problem = scene.refused(scene.json("ticket", subject=value), 422, "invalid")
    assert problem["errors"][0]["where"] == "body.subject"


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("text", ["", "  \n", "a\x00b", "\ud800"], ids=name)
def test_a_text_that_is_none_is_refused(scene, what, text):
    answer = scene.json(what, body=text)
    problem = answer.json()
    assert problem["code"] in {"text_refused", "invalid"}
    scene.refused(answer, 422, problem["code"])


@pytest.mark.parametrize("subject", ["  ", "a\nb", "a\r\nBcc: x@example.com", "a\x00", "a\u2028b"])
def test_a_subject_of_more_than_a_line_is_refused(scene, subject):
    scene.refused(scene.json("ticket", subject=subject), 422, "text_refused")


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("orders", ["", "abc", "1.0", "1_0", "+1", "٣", "0", str(2**63), "9" * 500])
def test_what_is_no_order_number_in_a_form_is_refused(scene, what, orders):
    problem = scene.refused(scene.form(what, orders=[orders]), 422, "invalid")
    assert problem["errors"][0]["where"] == "body.orders.0"


def test_a_missing_field_is_refused_by_name(scene):
    for content, missing in (
        (form(body="x"), ["body.subject"]),
        (form(subject="x"), ["body.body"]),
        (body(), ["body.body", "body.subject"]),
    ):
        problem = scene.refused(scene.raw("ticket", content), 422, "invalid")
        assert [error["where"] for error in problem["errors"]] == missing


MALFORMED: dict[str, bytes] = {
    "blank": b"\r\n",
    "a part without a name": body(part("body", "x"), b"--%s\r\n\r\ny\r\n" % BOUNDARY.encode()),
    "a name that is not UTF-8": body(part("body", "x"), part("files", b"y", b"\xff\xfe.png")),
    "its own line within a file": body(
        part("body", "x"), part("files", b"y\r\n--%s?\r\nz" % BOUNDARY.encode(), "a")
    ),
    "no multipart": b"{}",
    "another boundary": form(body="x").replace(b"line-between", b"line-beneath"),
    "cut off": form(body="x")[:-8],
    "cut off in a file": body(part("body", "x"), part("files", b"y" * 99, "a"))[:-50],
    "a field twice": body(part("body", "x"), part("body", "y")),
    "latin-1": body(part("body", b"\xe9")),
    "UTF-16": body(part("body", "x".encode("utf-16"))),
    "endless headers": body(part("body" + "y" * 2000, "x")),
}


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_form_is_refused(scene, what, malformed):
    scene.refused(scene.raw(what, MALFORMED[malformed]), 400, "not_multipart")


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"body": "x", "body": "y"}', b"\xff"])
def test_malformed_json_is_refused(scene, what, content):
    answer = scene.raw(what, content, content_type="application/json")
    scene.refused(answer, 400, "not_json")


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 300}", "; boundary=é"])
def test_a_form_without_a_boundary_is_refused(scene, what, boundary):
    answer = scene.raw(what, form(body="x"), content_type=f"multipart/form-data{boundary}")
    scene.refused(answer, 400, "not_multipart")


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed", ""]
)
def test_another_media_type_is_refused(scene, what, content_type):
    answer = scene.raw(what, b"body=x", content_type=content_type)
    problem = scene.refused(answer, 415, "unsupported_media_type")
    assert "multipart/form-data" in problem["detail"]


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("field", ["price", "subject ", "Body", "files", "_charset_"])
def test_a_field_that_we_do_not_know_is_refused(scene, what, field):
    if field == "subject ":
        field = "subject" if what == "message" else "title"
    problem = scene.refused(scene.form(what, **{field: "x"}), 422, "invalid")
    assert problem["errors"][0]["where"] == f"body.{field}"


@pytest.mark.parametrize("what", WHAT)
def test_a_file_under_another_name_is_refused(scene, what):
    answer = scene.form(what, part("attachment", b"x", "a.txt"))
    problem = scene.refused(answer, 422, "invalid")
    assert problem["errors"][0]["where"] == "body.attachment"


@pytest.mark.parametrize("what", WHAT)
def test_files_that_are_too_many_too_large_or_empty_are_refused_by_name(scene, what, settings):
    settings.ATTACHMENT_BYTES, settings.ATTACHMENTS_PER_MESSAGE = 2048, 2
    for files, words in (
        ([part("files", b"", "a.txt")], "“a.txt” is empty"),
        ([part("files", b"x" * 2049, "a.txt")], "“a.txt” has 2049 bytes, and 2048 are the most"),
        ([part("files", b"x", f"{n}") for n in range(3)], "2 files at most"),
        ([part("files", b"x", f"{n}") for n in range(101)], "2 files at most"),
    ):
        problem = scene.refused(scene.form(what, *files), 422, "file_refused")
        assert words in problem["detail"]


@pytest.mark.parametrize("what", WHAT)
def test_a_body_that_is_far_too_large_is_not_even_read(scene, what, settings):
    settings.ATTACHMENT_BYTES, settings.ATTACHMENTS_PER_MESSAGE = 1024, 1
    scene.refused(scene.form(what, part("files", b"x" * 2 * 1024**2, "a")), 413, "too_big")
    scene.refused(scene.raw(what, form(body="x"), CONTENT_LENGTH="9" * 15), 413, "too_big")
    scene.refused(scene.form(what, body="x" * 300_000), 413, "too_big")


def test_a_body_shorter_than_it_says_is_refused():
    # the test client cannot send one
    content = form(body="x")
    request = WSGIRequest(
        {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": MULTIPART,
            "CONTENT_LENGTH": str(len(content) + 1),
            "wsgi.input": io.BytesIO(content),
        }
    )
    with pytest.raises(uploads.NotMultipart, match="was cut off"):
        uploads.read(request, MessageIn)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("shot.png", "shot.png"),
        ("../../etc/passwd", "passwd"),
        ("..", "file"),
        (".", "file"),
        ("C:\\\\dir\\\\shot.png", "shot.png"),
        ("скриншот.png", "скриншот.png"),
        ("a&amp;b.png", "a&amp;b.png"),
        ("x" * 500 + ".png", "x" * 251 + ".png"),
        ("é.png", "é.png"),
    ],
)
def test_no_file_is_lost_for_its_name(scene, sent, kept):
    answer = scene.form("message", part("files", b"proof", sent))
    assert answer.status_code == 201
    assert [file["name"] for file in answer.json()["files"]] == [kept]
    assert bytes(Blob.objects.get().content) == b"proof"


def test_every_byte_arrives(scene):
    content = bytes(range(256)) * 400 + b"\r\n--line-between\r\n--\r\n\r\n"
    answer = scene.form("message", part("files", content, "all"))
    assert answer.status_code == 201
    assert bytes(Blob.objects.get().content) == content


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("key", [None, "", " ", "a b", "ключ", "a\x00", "x" * 129], ids=name)
def test_it_needs_an_idempotency_key_in_printable_ascii(scene, what, key):
    problem = scene.refused(scene.form(what, key=key), 422, "invalid")
    assert problem["errors"][0]["where"] == "header.Idempotency-Key"


@pytest.mark.parametrize("number", ["0", "-1", str(2**63), "abc", "1.0", "1_0", "%00"])
@pytest.mark.parametrize(("method", "path"), ADDRESSES[2:])
def test_what_is_no_ticket_number_is_refused(scene, method, path, number):
    answer = scene.shop.ask(method, path.format(ticket=number), {"body": "x"}, key="k")
    problem = scene.refused(answer, 422, "invalid")
    assert problem["errors"][0]["where"] == "path.ticket_id"


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/customers/{customer}/tickets?before=0", "query.before"),
        ("/customers/{customer}/tickets?limit=201", "query.limit"),
        ("/tickets/{ticket}?after=abc", "query.after"),
        ("/tickets/{ticket}?limit=0", "query.limit"),
    ],
)
def test_a_bad_query_is_refused_by_name(scene, path, where):
    customer = scene.ticket.customer.external_id
    answer = scene.shop.ask("GET", path.format(customer=customer, ticket=scene.ticket.pk))
    assert scene.refused(answer, 422, "invalid")["errors"][0]["where"] == where


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/customers/{customer}/tickets", "POST, GET"),
        ("/tickets/{ticket}", "GET"),
        ("/tickets/{ticket}/messages", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(scene, path, allowed):
    address = path.format(customer=scene.ticket.customer.external_id, ticket=scene.ticket.pk)
    methods = set(re.findall(r"\w+", allowed))
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
        response = scene.shop.ask(method, address)
        scene.refused(response, 405, "error")
        assert set(re.findall(r"\w+", response.headers["Allow"])) == methods


# --- its documentation, and what it costs ---


def test_the_document_tells_of_both_bodies_and_their_limits():
    document = HTTP.get("/api/v1/openapi.json").json()
    for path, fields in (
        ("/api/v1/customers/{external_id}/tickets", {"subject", "body", "orders"}),
        ("/api/v1/tickets/{ticket_id}/messages", {"body", "orders"}),
    ):
        operation = document["paths"][path]["post"]
        content = operation["requestBody"]["content"]
        assert set(content["application/json"]["schema"]["properties"]) == fields
        multipart = content["multipart/form-data"]["schema"]["properties"]
        assert set(multipart) == {*fields, "files"}
        assert (multipart["files"]["maxItems"], multipart["files"]["items"]["format"]) == (
            5,
            "binary",
        )
        assert {"400", "401", "404", "409", "413", "415", "422"} <= set(operation["responses"])
        [header] = [one for one in operation["parameters"] if one["in"] == "header"]
        assert (header["name"], header["required"]) == ("Idempotency-Key", True)
    assert "note" not in json.dumps(document["components"]["schemas"]["ThreadOut"]).lower()


def queries(shop: Shop, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert shop.ask("GET", path).status_code == 200
    assert not any("blob.content" in q["sql"].replace('"', "") for q in captured.captured_queries)
    return len(captured)


def test_a_thread_costs_the_same_with_many_messages_files_and_refunds(shop):
    ann = agent()
    ticket = ask(world.customer("50"))
    path = f"/tickets/{ticket.pk}"

    def grow() -> None:
        from smsactivator.common.files import Upload

        write(ticket, files=[Upload("a", b"1"), Upload("b", b"2")])
        deliver(reply(ann, ticket, then="open"))
        refund(ann, ticket, delivered(ticket.customer))

    grow()
    few = queries(shop, path)
    for _ in range(8):
        grow()
    assert len(shop.ask("GET", path).json()["messages"]) == 19
    assert queries(shop, path) == few == 7


def test_a_list_of_tickets_costs_the_same_however_many_there_are(shop):
    customer = world.customer()
    path = f"/customers/{customer.external_id}/tickets"
    ask(customer)
    few = queries(shop, path)
    for _ in range(10):
        ask(customer)
    assert queries(shop, path) == few == 3
