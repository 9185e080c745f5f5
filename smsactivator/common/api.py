"""What the storefront API's parts share: the values they take and the problems they answer with."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import Header, Schema
from ninja.parser import Parser
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from smsactivator.common.errors import Refused

PROBLEM = "application/problem+json"
LARGEST_ID = 2**63 - 1
LARGEST_PAGE = 200
WHOLE = r"[0-9]{1,19}"
AMOUNT = r"^[0-9]{1,15}(\.[0-9]{1,4})?$"
KEY = r"^[\x21-\x2b\x2d-\x7e]{1,128}$"
# It stands in paths, which every log of requests keeps: no email address, no phone number's plus.
EXTERNAL_ID = r"^[A-Za-z0-9._:-]{1,64}$"


def _amount(value: Any) -> Decimal:
    # A JSON number has been through a float before anyone could look at it.
    if not isinstance(value, str):
        raise ValueError('an amount is a text like "12.50", never a JSON number')  # noqa: TRY004
    if not re.fullmatch(AMOUNT, value):
        raise ValueError(
            'an amount is a text like "12.50": not negative, up to 15 digits and 4 decimal places'
        )
    return Decimal(value)


def _whole(value: Any) -> Any:
    # "1_0", " 10" and "10.0" would be read as 10: one order must have one address.
    if isinstance(value, str) and not re.fullmatch(WHOLE, value):
        raise ValueError("not a whole number")
    return value


def _email(value: str) -> str:
    if value:
        try:
            validate_email(value)
        except ValidationError:
            raise ValueError("not an email address") from None
    return value


def _key(value: str) -> str:
    if not re.fullmatch(KEY, value):
        raise ValueError(
            "send one key, of 1 to 128 printable characters without spaces and commas (two headers "
            "arrive as one with a comma)"
        )
    return value


def _external_id(value: str) -> str:
    if not re.fullmatch(EXTERNAL_ID, value):
        raise ValueError(
            "use the storefront's own id, not an address: 1 to 64 of A-Z a-z 0-9 . _ : -"
        )
    return value


# USD as text, at most four places. Whether it may be zero is the verb's to say.
AmountIn = Annotated[
    Decimal,
    BeforeValidator(_amount),
    WithJsonSchema({"type": "string", "pattern": AMOUNT, "examples": ["12.50"]}),
]
AmountOut = Annotated[
    Decimal,
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": AMOUNT, "examples": ["12.5000"]}),
]
SIGNED = AMOUNT.replace("^", "^-?")
SignedAmountOut = Annotated[
    Decimal,
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SIGNED, "examples": ["-0.5000"]}),
]
Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
# The bounds stand before the validator, which the document of the API would not look through.
PathId = Annotated[int, Field(ge=1, le=LARGEST_ID), BeforeValidator(_whole)]
Limit = Annotated[int, Field(ge=1, le=LARGEST_PAGE), BeforeValidator(_whole)]
ExternalId = Annotated[
    str,
    AfterValidator(_external_id),
    WithJsonSchema({"type": "string", "pattern": EXTERNAL_ID, "examples": ["tg-1001"]}),
]
Reference = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
# Of two headers a server makes one, with a comma between: a key with a comma could be two.
Key = Annotated[
    str,
    AfterValidator(_key),
    WithJsonSchema({"type": "string", "pattern": KEY, "examples": ["order-1001"]}),
    Header(alias="Idempotency-Key"),
]
Email = Annotated[
    str,
    Field(max_length=254),
    AfterValidator(_email),
    WithJsonSchema(
        {"anyOf": [{"const": ""}, {"type": "string", "format": "email", "maxLength": 254}]}
    ),
]


class Body(Schema):
    """What a request's body may hold, and nothing else.

    A field that we do not know is refused, for it may say what we would not heed ("currency").
    """

    model_config = ConfigDict(extra="forbid")


class NotJson(Refused):
    """The body is not JSON that has one meaning."""

    code = "not_json"
    status = 400


class NotCalledJson(Refused):
    """The body's content type is not JSON."""

    code = "unsupported_media_type"
    status = 415


class OneMeaning(Parser):
    """Reads JSON strictly: UTF-8, each name once, no NaN."""

    def parse_body(self, request: HttpRequest) -> Any:
        """The body's value. Raises NotCalledJson and NotJson."""
        if request.content_type != "application/json":
            raise NotCalledJson("Send the body as application/json.")
        try:
            return json.loads(
                request.body.decode("utf-8"),
                object_pairs_hook=_each_name_once,
                parse_constant=_no_number,
            )
        except RecursionError:
            raise NotJson("The body is nested too deeply.") from None
        except ValueError as error:
            raise NotJson(f"The body is not JSON in UTF-8: {error}.") from None


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a field twice")
    return found


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


class Problem(Schema):
    """An error as application/problem+json (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str


def problem(status: int, code: str, detail: str, **more: Any) -> HttpResponse:
    """The answer to a request that was refused: what is wrong, and what can be done."""
    title = HttpResponse(status=status).reason_phrase
    content = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
    return JsonResponse(content, status=status, content_type=PROBLEM)
