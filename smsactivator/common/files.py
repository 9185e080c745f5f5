"""Files that people send: looked at before they are kept, and never believed in what they say."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import puremagic
from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from smsactivator.common.errors import Invalid

LONGEST_NAME = 255
UNKNOWN_TYPE = "application/octet-stream"
_SAMPLE = 64 * 1024  # bytes that tell text from anything else
_NAMELESS = "file"
# Whatever a file holds, no browser of ours runs it, frames it or keeps it.
SAVED_ONLY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}


class FilesInput(forms.ClearableFileInput):
    """Several files in one field."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Any number of files, as a list. What they may be is the verb's to say."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[Any]]:
        """The files that were sent; an empty one is left to the verb, which says what is wrong."""
        return [file for file in data or [] if file]


class FileRefused(Invalid):
    """A file, or the number of files, is not one that is kept."""

    code = "file_refused"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was sent. Its name is the sender's word and proves nothing."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was looked at and may be kept."""

    name: str
    content: bytes
    sha256: str
    content_type: str


def prepare(files: Sequence[Upload], of: str = "message") -> list[Prepared]:
    """The files, hashed, named and typed; the same file sent twice is one.

    Changes no byte. Raises FileRefused, which names the file, for one that is empty or too large,
    and for too many.
    """
    most = settings.ATTACHMENTS_PER_MESSAGE
    if len(files) > most:
        raise FileRefused(f"A {of} has {most} files at most, and these are {len(files)}.")
    prepared: dict[tuple[str, str], Prepared] = {}
    for file in files:
        name = clean_name(file.name)
        size, largest = len(file.content), settings.ATTACHMENT_BYTES
        if not size:
            raise FileRefused(f"The file “{name}” is empty.")
        if size > largest:
            raise FileRefused(f"The file “{name}” has {size} bytes, and {largest} are the most.")
        sha256 = hashlib.sha256(file.content).hexdigest()
        prepared[sha256, name] = Prepared(name, file.content, sha256, sniff(file.content))
    return list(prepared.values())


def clean_name(name: str) -> str:
    """A name that can be shown and saved: no path, nothing that is not seen, 255 characters.

    What cannot be printed includes the marks that turn the direction of text, with which a program
    is made to look like a picture. The end of a long name, where its kind is told, stays.
    """
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(char for char in unicodedata.normalize("NFC", base) if char.isprintable())
    seen = seen.strip()
    if seen.strip(".") == "":
        return _NAMELESS
    if len(seen) <= LONGEST_NAME:
        return seen
    stem, dot, kind = seen.rpartition(".")
    if not dot or len(kind) > 20:
        return seen[:LONGEST_NAME]
    return f"{stem[: LONGEST_NAME - len(kind) - 1]}.{kind}"


def sniff(content: bytes) -> str:
    """What the content shows the file to be, as a media type, whatever the sender called it."""
    try:
        kind = puremagic.from_string(content, mime=True)
    except (puremagic.PureError, ValueError, LookupError):
        kind = ""
    if content.startswith(b"PK\x03\x04") and b"[Content_Types].xml" not in content[:_SAMPLE]:
        # An archive of anything, and not the first kind of document that is one too.
        kind = "application/zip"
    text = _is_text(content)
    if text and (told := _marked_up(content)):
        return told
    if kind and not (text and not kind.startswith("text/")):
        return str(kind)[:100]
    return "text/plain" if text else UNKNOWN_TYPE


def _is_text(content: bytes) -> bool:
    """Whether it reads as text in UTF-8, as far as we look."""
    sample = content[:_SAMPLE]
    try:
        text = sample.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The sample may end within a character.
        if len(sample) == len(content) or error.start < len(sample) - 3:
            return False
        text = sample[: error.start].decode("utf-8-sig")
    return not any(unicodedata.category(char) == "Cc" and char not in "\t\n\r\f" for char in text)


def _marked_up(content: bytes) -> str:
    """The type of a text that a browser would run, by its beginning, or ""."""
    head = content[:_SAMPLE].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in head and head.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")):
        return "image/svg+xml"
    if head.startswith((b"<!doctype html", b"<html", b"<script", b"<head", b"<body", b"<iframe")):
        return "text/html"
    if b"<script" in head or b"<html" in head:
        return "text/html"
    if head.startswith(b"#!"):
        return "text/x-script"
    return ""
