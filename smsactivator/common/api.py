"""What the storefront API's parts share: the values they take and the problems they answer with."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpResponse, JsonResponse
from ninja import Schema
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

LARGEST_ID = 2**63 - 1
AMOUNT = r"^[0-9]{1,15}(\.[0-9]{1,4})?$"


def _amount(value: Any) -> Decimal:
    # A JSON number has been through a float before anyone could look at it.
    if not isinstance(value, str):
        raise ValueError('an amount is a text like "12.50", never a JSON number')  # noqa: TRY004
    if not re.fullmatch(AMOUNT, value):
        raise ValueError(
            'an amount is a text like "12.50": not negative, up to 15 digits and 4 decimal places'
        )
    return Decimal(value)


def _email(value: str) -> str:
    if value:
        try:
            validate_email(value)
        except ValidationError:
            raise ValueError("not an email address") from None
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
Id = Annotated[int, Field(strict=True, ge=1, le=LARGEST_ID)]
PathId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
ExternalId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@+-]{1,64}$")]
Reference = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,128}$")]
Email = Annotated[str, Field(max_length=254), AfterValidator(_email)]


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
    return JsonResponse(content, status=status, content_type="application/problem+json")
