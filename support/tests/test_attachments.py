"""Evidence: the bytes as they were sent, never shown, and each reading written down."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest
from django.core.exceptions import PermissionDenied
from django.test import Client

from refunds.tests import world
from smsactivator.common.files import FileRefused, Upload, clean_name, prepare, sniff
from support import attachments, queries, replies
from support.attachments import AttachmentUnknown
from support.models import Attachment, AttachmentReading, Blob, Message
from support.tests.world import agent, ask, senior, write
from wallet.tests.together import at_once
from wallet.tests.world import person

pytestmark = pytest.mark.django_db


def zipped() -> bytes:
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("invoice.exe", b"MZ")
        return buffer.getvalue()


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
HOSTILE = {
    "page.html": (b"<!DOCTYPE html><script>alert(document.cookie)</script>", "text/html"),
    "shot.png": (b"<html><body onload=alert(1)>", "text/html"),
    "late.txt": (b"hello\n" * 50 + b"<script>alert(1)</script>", "text/html"),
    "logo.svg": (
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
        "image/svg+xml",
    ),
    "run.sh": (b"#!/bin/sh\nrm -rf /\n", "text/x-script"),
    "code.js": (b"alert(1)", "text/plain"),
    "evil.zip": (zipped(), "application/zip"),
    "photo.jpg": (b"MZ\x90\x00" + bytes(60), "application/vnd.microsoft.portable-executable"),
    "really.exe": (PNG, "image/png"),
    "noise": (bytes(range(1, 256)), "application/octet-stream"),
    "crlf.txt": (b"a\r\nb\rc\n\r\n", "text/plain"),
    "bom.txt": (b"\xef\xbb\xbfhello", "text/plain"),
    "one": (b"\x00", "application/octet-stream"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_it_is_its_bytes_are_kept_and_it_is_a_download(name):
    content, kind = HOSTILE[name]
    ticket = ask(files=[Upload(name, content)])
    attachment = Attachment.objects.get(message__ticket=ticket)

    client = Client()
    client.force_login(agent())
    response = client.get(f"/admin/support/attachment/{attachment.pk}/download")

    assert (attachment.name, attachment.content_type) == (name, kind)
    blob = Blob.objects.get()
    assert bytes(blob.content) == content == response.content
    assert blob.sha256 == hashlib.sha256(response.content).hexdigest()
    assert blob.size == len(content)
    assert response.status_code == 200
    headers = response.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == f'attachment; filename="{name}"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert headers["X-Frame-Options"] == "DENY"
    assert {"private", "no-store"} <= set(headers["Cache-Control"].split(", "))


def test_each_reading_is_written_down():
    ticket = ask(files=[Upload("a.txt", b"a")])
    attachment = Attachment.objects.get(message__ticket=ticket)
    ann, boss = agent("ann"), senior("boss")
    for by in (ann, boss, ann):
        assert attachments.read(by, attachment.pk) == attachment
    assert [
        (reading.attachment, reading.person) for reading in AttachmentReading.objects.order_by("pk")
    ] == [(attachment, ann), (attachment, boss), (attachment, ann)]


def test_only_who_may_see_evidence_takes_it():
    ticket = ask(files=[Upload("a.txt", b"a")])
    attachment = Attachment.objects.get(message__ticket=ticket)
    path = f"/admin/support/attachment/{attachment.pk}/download"
    clerk = Client()
    clerk.force_login(person("Finance"))
    allowed = Client()
    allowed.force_login(agent())

    assert Client().get(path).status_code == 302
    assert clerk.get(path).status_code == 403
    assert allowed.get(path.replace(str(attachment.pk), "999999")).status_code == 404
    assert allowed.get(path.replace(str(attachment.pk), "9" * 30)).status_code == 404
    for method in (allowed.post, allowed.head, allowed.put, allowed.delete):
        assert method(path).status_code == 405
    with pytest.raises(PermissionDenied):
        attachments.read(person("Finance"), attachment.pk)
    with pytest.raises(AttachmentUnknown):
        attachments.read(agent(), 999_999)
    assert not AttachmentReading.objects.exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([Upload("a.txt", b"")], "“a.txt” is empty"),
        ([Upload("a", b"1"), Upload("b", b"")], "“b” is empty"),
        ([Upload("big.bin", b"x" * 1025)], "“big.bin” has 1025 bytes, and 1024 are the most"),
        ([Upload(str(n), b"x") for n in range(4)], "3 files at most, and these are 4"),
    ],
)
def test_what_a_message_cannot_bring_is_refused_with_its_name(settings, files, words):
    settings.ATTACHMENT_BYTES, settings.ATTACHMENTS_PER_MESSAGE = 1024, 3
    with pytest.raises(FileRefused, match=words):
        ask(files=files)
    assert (Message.objects.count(), Blob.objects.count()) == (0, 0)


def test_what_is_just_small_and_few_enough_is_taken(settings):
    settings.ATTACHMENT_BYTES, settings.ATTACHMENTS_PER_MESSAGE = 1024, 3
    ask(files=[Upload(str(n), bytes([n + 65]) * 1024) for n in range(3)])
    assert Attachment.objects.count() == 3


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("shot.png", "shot.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\shot.png", "shot.png"),
        ("a\r\nContent-Type: x\r\n\r\n.png", "aContent-Type: x.png"),
        ("a\x00b.png", "ab.png"),
        ("", "file"),
        ("..", "file"),
        ("...", "file"),
        ("/", "file"),
        ("  ", "file"),
        ("скриншот.png", "скриншот.png"),
        ("e\u0301.png", "\u00e9.png"),
        ("photo\u202egnp.exe", "photognp.exe"),  # the mark that would show it as "photoexe.png"
        ("\u200b.png", ".png"),
        ("x" * 300 + ".png", "x" * 251 + ".png"),
        ("x" * 300, "x" * 255),
        ("ж" * 300 + ".jpeg", "ж" * 250 + ".jpeg"),
        ('a"; filename="b.html', 'a"; filename="b.html'),
        ("\ud800.png", ".png"),
    ],
)
def test_a_name_is_shown_and_saved_without_harm(sent, kept):
    assert clean_name(sent) == kept
    ticket = ask(files=[Upload(sent, b"1")])
    attachment = Attachment.objects.get(message__ticket=ticket)
    assert attachment.name == kept

    client = Client()
    client.force_login(agent())
    header = client.get(f"/admin/support/attachment/{attachment.pk}/download").headers[
        "Content-Disposition"
    ]
    assert header.startswith("attachment; filename")
    assert not set(header) & {"\r", "\n", "\x00"}


def test_the_same_file_twice_in_a_message_is_one():
    assert len(prepare([Upload("a", b"1"), Upload("a", b"1"), Upload("b", b"1")])) == 2
    ticket = ask(files=[Upload("a", b"1"), Upload("a", b"1"), Upload("b", b"1")])
    assert Attachment.objects.filter(message__ticket=ticket).count() == 2
    assert Blob.objects.count() == 1


def test_a_type_is_told_by_the_content_however_long():
    assert sniff(b"plain " * 100_000) == "text/plain"
    assert sniff(("я" * 100_000).encode()) == "text/plain"
    assert sniff(b"a" * 70_000 + b"\x00\xff") == "text/plain"  # by as much of it as is looked at
    assert sniff(b"") == "text/plain"


# --- the same file on another customer's ticket ---


def test_the_same_file_of_another_customer_is_flagged(django_assert_num_queries):
    first = ask(files=[Upload("mine.png", PNG), Upload("own.png", b"own")])
    again = ask(first.customer, files=[Upload("again.png", PNG)])
    other = ask(files=[Upload("theirs.png", PNG)])
    mine, theirs = (Attachment.objects.get(name=name) for name in ("mine.png", "theirs.png"))

    with django_assert_num_queries(1):
        found = queries.shared_files(first)

    assert found == {mine.pk: [queries.Elsewhere(theirs.pk, other.pk)]}
    assert {one.ticket_id for one in queries.shared_files(other)[theirs.pk]} == {
        first.pk,
        again.pk,
    }


def test_what_we_sent_ourselves_flags_nobody():
    ticket = ask(files=[Upload("mine.png", PNG)])
    other = ask()
    replies.note(agent(), other.pk, body="Seen before", key="n", files=[Upload("x", PNG)])
    assert queries.shared_files(ticket) == queries.shared_files(other) == {}


@pytest.mark.django_db(transaction=True)
def test_the_same_files_sent_at_once_are_kept_once():
    one, two = Upload("1", b"one" * 1000), Upload("2", b"two" * 1000)
    tickets = [ask(world.customer()) for _ in range(4)]
    at_once(
        lambda: write(tickets[0], files=[one, two]),
        lambda: write(tickets[1], files=[two, one]),
        lambda: write(tickets[2], files=[one, two]),
        lambda: write(tickets[3], files=[two, one]),
    )
    assert (Blob.objects.count(), Attachment.objects.count()) == (2, 8)
