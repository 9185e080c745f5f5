"""Bodies that may bring files: multipart/form-data read strictly, or JSON without files.

Every byte of a file arrives as it was sent, or the request is refused: a body that was cut off, a
part that is none of ours and text that is not UTF-8 are errors and never guessed at.
"""

from __future__ import annotations

import io
import re
from typing import Any, NoReturn, TypeVar

import pydantic
from django.conf import settings
from django.core.exceptions import (
    RequestDataTooBig,
    SuspiciousMultipartForm,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.http import parse_header_parameters
from ninja.errors import ValidationError

from smsactivator.common.api import WHOLE, Body, OneMeaning
from smsactivator.common.errors import Refused
from smsactivator.common.files import FileRefused, Upload

FILES = "files"
MULTIPART = "multipart/form-data"
# Beside the files: the fields, and the lines between the parts.
_AROUND = 1024 * 1024
# What the verbs take (``inbound.checked_body``, ``checked_subject``), as the document says it.
_BLANK = r"\s\x1c-\x1f\x85"
STORABLE = r"^[^\x00]*$"
SAID = rf"^[^\x00]*[^\x00{_BLANK}][^\x00]*$"
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
ONE_LINE = rf"^[{_BLANK}]*[^{_BLANK}{_CONTROL}][^{_CONTROL}]*[{_BLANK}]*$"
# Bytes as text and back, so that what is not UTF-8 is noticed by us and not replaced.
_BYTES = "latin-1"
# Where a field is, as Ninja says it: as the place, and as the parameter of a function.
_IN_BODY = ("body", "body")

SomeBody = TypeVar("SomeBody", bound=Body)


class NotMultipart(Refused):
    """The body is not the multipart/form-data that it says it is."""

    code = "not_multipart"
    status = 400


class UnknownMediaType(Refused):
    """The body's content type is none that this address reads."""

    code = "unsupported_media_type"
    status = 415


def read(request: HttpRequest, schema: type[SomeBody]) -> tuple[SomeBody, list[Upload]]:
    """What the body says, and the files that came with it.

    In multipart/form-data the files are parts named ``files``; a field that is a list is named
    once for each value. Raises ValidationError, FileRefused, NotMultipart, NotJson,
    UnknownMediaType, RequestDataTooBig.
    """
    if request.content_type == MULTIPART:
        said, files = _multipart(request, schema)
    elif request.content_type == "application/json":
        said, files = (OneMeaning().parse_body(request) if request.body else {}), []
    else:
        raise UnknownMediaType(f"Send {MULTIPART}, or application/json for a text without files.")
    try:
        return schema.model_validate(said), files
    except pydantic.ValidationError as error:
        errors: Any = error.errors(include_url=False, include_context=False, include_input=False)
        raise ValidationError(
            [{**found, "loc": (*_IN_BODY, *found["loc"])} for found in errors]
        ) from None


def document(schema: type[Body]) -> dict[str, Any]:
    """The bodies that ``read`` takes, for the OpenAPI document."""
    plain = schema.model_json_schema()
    plain["properties"]["body"]["pattern"] = SAID
    if "subject" in plain["properties"]:
        plain["properties"]["subject"]["pattern"] = ONE_LINE
    files = {
        "type": "array",
        "items": {"type": "string", "format": "binary", "minLength": 1},
        "maxItems": settings.ATTACHMENTS_PER_MESSAGE,
        "description": f"Each of up to {settings.ATTACHMENT_BYTES} bytes, kept as it is.",
    }
    with_files = {**plain, "properties": {**plain["properties"], FILES: files}}
    # Beside a file the text may be empty.
    with_files["properties"]["body"] = {**plain["properties"]["body"], "pattern": STORABLE}
    with_files["anyOf"] = [
        {"properties": {"body": {"pattern": SAID}}},
        {"properties": {FILES: {"minItems": 1}}, "required": [FILES]},
    ]
    return {
        "requestBody": {
            "required": True,
            "content": {
                MULTIPART: {"schema": with_files},
                "application/json": {"schema": plain},
            },
        }
    }


def _multipart(request: HttpRequest, schema: type[Body]) -> tuple[dict[str, Any], list[Upload]]:
    most = settings.ATTACHMENTS_PER_MESSAGE * settings.ATTACHMENT_BYTES + _AROUND
    length = int(request.META.get("CONTENT_LENGTH") or 0)
    if length > most:
        raise RequestDataTooBig
    raw = request.read(length)
    _refuse_cut_off(request, raw, length)
    handler = _Keeping(request)
    try:
        fields, _ = _Strict(request.META, io.BytesIO(raw), [handler], _BYTES).parse()
    except TooManyFilesSent:
        _refuse_many()
    except (MultiPartParserError, SuspiciousMultipartForm, TooManyFieldsSent) as error:
        raise NotMultipart(f"The body is not {MULTIPART}: {error}") from None
    parts = len(handler.files) + sum(len(values) for _, values in fields.lists())
    if raw.count(_line(request)) != parts + 1:
        raise NotMultipart(
            "A part of the body has no name, or the line between the parts occurs within one."
        )
    if len(handler.files) > settings.ATTACHMENTS_PER_MESSAGE:
        _refuse_many()
    for field, _upload in handler.files:
        if field != FILES:
            raise ValidationError(
                [
                    {
                        "type": "extra_forbidden",
                        "loc": (*_IN_BODY, field),
                        "msg": f"Files are parts named {FILES!r}",
                    }
                ]
            )
    return _fields(fields.lists(), schema), [upload for _, upload in handler.files]


def _refuse_cut_off(request: HttpRequest, raw: bytes, length: int) -> None:
    # Django's parser takes a body without its last line for a whole one.
    end = _line(request) + b"--"
    if len(raw) != length or end not in raw[-len(end) - 16 :]:
        raise NotMultipart("The body was cut off: its last line is missing. Send it again.")


def _line(request: HttpRequest) -> bytes:
    """The line that stands before each part, and with two more dashes after the last one."""
    named = parse_header_parameters(request.META.get("CONTENT_TYPE", ""))[1].get("boundary", "")
    return f"--{named}".encode("ascii", "replace")


def _fields(lists: Any, schema: type[Body]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, values in lists:
        texts = [_text(value) for value in values]
        if _is_list(schema, name):
            said[name] = [int(text) if re.fullmatch(WHOLE, text) else text for text in texts]
        elif len(texts) > 1:
            raise NotMultipart(f"The body names the field {_text(name)[:64]} twice.")
        else:
            said[_text(name)] = texts[0]
    return said


def _is_list(schema: type[Body], name: str) -> bool:
    field = schema.model_fields.get(name)
    return field is not None and field.default_factory is list


def _text(value: str) -> str:
    try:
        return value.encode(_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise NotMultipart("The fields are text in UTF-8.") from None


def _refuse_many() -> NoReturn:
    raise FileRefused(f"A message has {settings.ATTACHMENTS_PER_MESSAGE} files at most.")


class _Strict(MultiPartParser):
    """Leaves names alone: Django drops a file whose name it does not like, without a word."""

    def sanitize_file_name(self, file_name: str) -> str:
        return _text(file_name)


class _Keeping(FileUploadHandler):
    """Keeps the bytes of each file. The length of the whole body was looked at before."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.files: list[tuple[str, Upload]] = []
        self._chunks: list[bytes] = []

    def new_file(self, field_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, *args, **kwargs)
        self._chunks = []

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        self._chunks.append(raw_data)
        return None

    def file_complete(self, file_size: int) -> UploadedFile[Any] | None:
        upload = Upload(self.file_name or "", b"".join(self._chunks))
        self.files.append((_text(str(self.field_name)), upload))
        return None
