"""The storefront API: the floors' parts under one address, and its errors as problem+json."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema

from orders.api import router as orders
from refunds.api import router as refunds
from smsactivator.common.api import PROBLEM, OneMeaning, problem
from smsactivator.common.errors import Refused
from support.api import router as support
from wallet.api import StorefrontKey
from wallet.api import router as customers

PREFIX = "/api/v1/"
# What any address may answer, and what one that reads a body may answer too.
ANY = {400, 401, 422}
WITH_BODY = {413, 415}
NAMED = 20  # errors of one request that are named
LENGTH = r"[0-9]{1,15}"


class StorefrontAPI(NinjaAPI):
    """Its document also lists what any address may answer before its own code is asked."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """The OpenAPI document."""
        document = super().get_openapi_schema(**options)
        for methods in document["paths"].values():
            for operation in methods.values():
                answers = operation["responses"]
                statuses = ANY | WITH_BODY if "requestBody" in operation else ANY
                for status in statuses | {status for status in answers if status >= 400}:
                    answers[status] = _documented(status)
                operation["responses"] = dict(sorted(answers.items()))
                for parameter in operation.get("parameters", []):
                    parameter["schema"] = _without_null(parameter["schema"])
        return document


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is given or left out: no address can say null."""
    given = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(given) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **given[0]}


def _documented(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": HttpResponse(status=status).reason_phrase,
        "content": {PROBLEM: {"schema": schema}},
    }


api = StorefrontAPI(
    title="smsactivator storefront API",
    version="1",
    description=(
        "Customers hold a wallet in USD, order a number, and get an SMS or their money back. "
        "Amounts are text with up to four decimal places. Errors are application/problem+json."
    ),
    auth=StorefrontKey(),
    parser=OneMeaning(),
    urls_namespace="storefront",
)
api.add_router("", customers)
api.add_router("", orders)
api.add_router("", refunds)
api.add_router("", support)


@api.exception_handler(Refused)
def refused(request: HttpRequest, error: Refused) -> HttpResponse:
    return problem(error.status, error.code, error.message)


@api.exception_handler(ValidationError)
def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    errors = [
        {
            "where": _where(found["loc"]),
            "what": str(found["msg"]).removeprefix("Value error, "),
        }
        for found in error.errors[:NAMED]
    ]
    detail = "; ".join(f"{found['where']}: {found['what']}" for found in errors)
    return problem(422, "invalid", detail, errors=errors)


def _where(location: Sequence[str | int]) -> str:
    # Ninja names the body twice: once as the place, once as the parameter of our function.
    parts = location[1:] if tuple(location[:2]) == ("body", "body") else location
    return ".".join(str(part)[:64] for part in parts)


@api.exception_handler(AuthenticationError)
def unauthenticated(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    response = problem(
        401, "unauthenticated", "Send a live storefront key: Authorization: Bearer <key>."
    )
    response["WWW-Authenticate"] = "Bearer"
    return response


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    # Ninja answers whatever a parser raises with one sentence; the parser knew more.
    if isinstance(error.__cause__, Refused):
        return refused(request, error.__cause__)
    return problem(error.status_code, "bad_request", str(error))


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problem(413, "too_big", "The body is larger than this API takes.")


class ProblemsOnly:
    """Middleware: every error under /api/ is a problem, also those that Django answers itself.

    A request whose length is no number is refused at every address: Django could not read it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not re.fullmatch(LENGTH, str(length)):
            return problem(400, "bad_request", "Content-Length is not a number of bytes.")
        response = self.get_response(request)
        if not request.path.startswith("/api/"):
            return response
        # An SMS, a ticket, a balance: nothing between us and the storefront keeps it.
        response["Cache-Control"] = "no-store"
        if response.status_code < 400 or response.headers.get("Content-Type", "").startswith(
            PROBLEM
        ):
            return response
        answer = problem(response.status_code, "error", _details(response.status_code))
        answer["Cache-Control"] = "no-store"
        for name in ("Allow", "WWW-Authenticate"):
            if name in response.headers:
                answer[name] = response.headers[name]
        return answer


def _details(status: int) -> str:
    details: dict[int, Any] = {
        404: f"There is nothing here: {PREFIX}docs lists what there is.",
        405: "This address does not take this method: see the Allow header.",
        413: "The body is larger than this API takes.",
        500: "Something went wrong on our side; nothing is known to have changed. Try again.",
    }
    return str(details.get(status, "The request was refused."))
