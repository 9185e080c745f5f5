"""Client of the handler_api protocol, the de facto standard among wholesalers of numbers.

One endpoint, ``/stubs/handler_api.php``, asked by POST so that no URL ever carries the key.
Answers are words (``STATUS_WAIT_CODE``), words with a value (``STATUS_OK:123456``) or JSON; errors
are words with HTTP 200, or in the newer dialect 4xx with ``{title, details, info}``. All are read
alike, by their content; neither the status nor the content type decides what an answer is.

What is not understood is never guessed: a read raises UpstreamProtocolError (no information), a
purchase raises AllocationUnknown (it may have been bought).
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NoReturn

from orders.upstreams.base import (
    Activation,
    AllocationRefused,
    AllocationUnknown,
    CancelOutcome,
    CancelResult,
    Message,
    Number,
    UpstreamAccountBanned,
    UpstreamAuth,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamState,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from orders.upstreams.wire import NotSent, Reply, Timeouts, Wire

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

logger = logging.getLogger(__name__)

ENDPOINT = "/stubs/handler_api.php"
USD = "840"  # ISO 4217, as this protocol names a currency

READ_RETRIES = 2
PAGE = 100  # the most that getHistory and getActiveActivations give at once
PAGE_OVERLAP = 25
MAX_PAGES = 2_000
RENT_PAGE = 10
HISTORY_SLACK = timedelta(hours=1)
HISTORY_SPAN = timedelta(days=30)

OUR_ACCOUNT = frozenset(
    {"NO_BALANCE", "BANNED", "CHANNELS_LIMIT", "BAD_KEY", "NO_KEY", "ACCOUNT_INACTIVE"}
)
REFUSALS = OUR_ACCOUNT | {
    "NO_NUMBERS",
    "OUT_OF_STOCK",
    "WRONG_MAX_PRICE",
    "BAD_ACTION",
    "BAD_SERVICE",
    "WRONG_SERVICE",
    "SERVICE_NOT_AVAILABLE",
    "BAD_COUNTRY",
    "WRONG_COUNTRY",
    "WRONG_EXCEPTION_PHONE",
    "UNPROCESSABLE_ENTITY",
    "INVALID_TIME",
    "MAX_HOURS_EXCEED",
}
FAILED = ("error", "fail", "false", False)
SERVER_TROUBLE = frozenset({"ERROR_SQL", "SERVER_ERROR"})
THROTTLED = frozenset({"RATE_LIMIT", "TOO_MANY_REQUESTS"})
GONE = frozenset({"NO_ACTIVATION", "NOT_FOUND", "ACTIVATION_NOT_ACTIVE"})

CANCEL_OUTCOMES: Mapping[str, CancelOutcome] = {
    "ACCESS_CANCEL": CancelOutcome.CANCELLED,
    "EARLY_CANCEL_DENIED": CancelOutcome.TOO_EARLY,
    "FREE_CANCELLATION_EXPIRED": CancelOutcome.TOO_LATE,
    "OTP_RECEIVED": CancelOutcome.HAS_SMS,
    "NEW_OTP_RECEIVED": CancelOutcome.HAS_SMS,
    "STATUS_CANCEL": CancelOutcome.ALREADY_ENDED,
    "ALREADY_CANCEL": CancelOutcome.ALREADY_ENDED,
    "ALREADY_FINISH": CancelOutcome.ALREADY_ENDED,
    **dict.fromkeys(GONE, CancelOutcome.ALREADY_ENDED),
}
RENT_CANCEL_OUTCOMES: Mapping[str, CancelOutcome] = {
    "SUCCESS": CancelOutcome.CANCELLED,
    "CANT_CANCEL": CancelOutcome.TOO_LATE,
    "ALREADY_CANCEL": CancelOutcome.ALREADY_ENDED,
    "ALREADY_FINISH": CancelOutcome.ALREADY_ENDED,
    "RENT_DIE": CancelOutcome.ALREADY_ENDED,
}
RENT_STATES: Mapping[str, UpstreamState] = {
    "STATUS_WAIT_CODE": UpstreamState.WAITING,
    "STATUS_FINISH": UpstreamState.FINISHED,
    "ALREADY_FINISH": UpstreamState.FINISHED,
    "STATUS_REVOKE": UpstreamState.BROKEN,
    "STATUS_CANCEL": UpstreamState.BROKEN,
    "ALREADY_CANCEL": UpstreamState.BROKEN,
}
# Numbers and words of activationStatus in the active list and of status in the history.
# 2 ("received" at some, "asked again" at others) and whatever is not here stays UNKNOWN.
ROW_STATES: Mapping[str, UpstreamState] = {
    "1": UpstreamState.WAITING,
    "3": UpstreamState.WAITING,
    "4": UpstreamState.WAITING,
    "6": UpstreamState.FINISHED,
    "8": UpstreamState.ENDED_NO_SMS,
    "10": UpstreamState.BROKEN,
    "STATUS_WAIT_CODE": UpstreamState.WAITING,
    "STATUS_CANCEL": UpstreamState.ENDED_NO_SMS,
}

_WORD = re.compile(r"([A-Z][A-Z0-9_]{1,63})(?::(.*))?", re.DOTALL)
_REF = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PHONE = re.compile(r"\+?[0-9]{5,15}")
_PHONE_FILLING = str.maketrans("", "", " -()")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was understood: a word with its value, or data, or an error with its info."""

    status: int
    word: str = ""
    value: str = ""
    data: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    retry_after: timedelta | None = None

    def __repr__(self) -> str:  # the data holds SMS texts
        return f"Answer({self.status}, {self.word or 'data'})"


class HandlerApi:
    """An ``Upstream`` that speaks handler_api. One pooled client, safe to share between threads.

    ``name`` is how logs call this wholesaler. ``backoff`` is the wait in seconds before a read is
    asked again, doubled each time and jittered. Nothing raised or logged here carries the key or
    an SMS text.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        name: str = "",
        transport: httpx.BaseTransport | None = None,
        timeouts: Timeouts | None = None,
        backoff: float = 0.2,
    ) -> None:
        self.name = name
        self._key = api_key
        self._backoff = backoff
        self._has_status_v2 = True
        self._wire = Wire(
            base_url.rstrip("/") + ENDPOINT,
            timeouts=timeouts,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"HandlerApi(name={self.name!r})"

    def __enter__(self) -> HandlerApi:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._wire.close()

    # ------------------------------------------------------------------ buying

    def allocate(
        self, *, service: str, country: str, order_key: str, max_price: Decimal | None = None
    ) -> Number:
        """Buy a number for one SMS (getNumberV2). Asked once, within 50 s in all.

        A returned Number is bought. Its cost is USD; it is None where the wholesaler told none or
        told another currency: the number is ours all the same, so a warning is logged and the
        cost is left to accounting. For the same reason a price above ``max_price`` (USD) is
        returned as it is, with a warning.

        Raises AllocationRefused (certainly not bought: a documented refusal, no connection, or
        429, which is answered before anything is done) or AllocationUnknown (anything else,
        ORDER_ALREADY_EXISTS included: this order had bought before).
        """
        params = {"service": service, "country": country, "orderId": order_key}
        if max_price is not None:
            params["maxPrice"] = f"{max_price:f}"
        number = self._purchase("getNumberV2", params)
        if max_price is not None and number.cost is not None and number.cost > max_price:
            logger.warning(
                "%s: %s cost %s, above the %s asked for",
                self.name,
                number.ref,
                number.cost,
                max_price,
            )
        return number

    def rent(self, *, service: str, country: str, hours: int, order_key: str) -> Number:
        """Rent a number for ``hours`` (getRentNumber). Cost, errors and time as ``allocate``.

        Most wholesalers ignore the order key here, so a rental whose answer was lost is found
        by its time in the wholesaler's list only.
        """
        params = {
            "service": service,
            "country": country,
            "rent_time": str(hours),
            "orderId": order_key,
        }
        return self._purchase("getRentNumber", params)

    def _purchase(self, action: str, params: Mapping[str, str]) -> Number:
        outcome: UpstreamError
        try:
            answer = self._ask(action, params, purchase=True)
        except NotSent:
            outcome = AllocationRefused("UNREACHABLE")
        except UpstreamError as error:
            outcome = AllocationUnknown(f"{action}: {error}")
        else:
            number = self._bought(answer)
            if number is not None:
                return number
            outcome = _refusal(action, answer)
        raise outcome

    def _bought(self, answer: Answer) -> Number | None:
        if not 200 <= answer.status < 300:
            return None
        if answer.word == "ACCESS_NUMBER":
            ref, _, phone = answer.value.partition(":")
            row: Mapping[str, Any] = {"activationId": ref, "phoneNumber": phone}
        elif isinstance(answer.data, dict):
            row = answer.data
            if isinstance(row.get("phone"), dict):  # a rental nests its number
                row = {**row, **row["phone"]}
        else:
            return None
        ref = _ref(_first(row, "activationId", "id"))
        phone = _phone(_first(row, "phoneNumber", "number", "phone"))
        if not ref or not phone:
            return None
        currency = row.get("currency")
        if not _in_usd(currency):
            logger.warning("%s: %s was sold in currency %.8s, not USD", self.name, ref, currency)
        return Number(
            ref=ref,
            phone=phone,
            cost=_cost(row, "activationCost", "cost", "price"),
            upstream_time=_naive(_first(row, "activationTime", "date")),
            ends_at=_naive(_first(row, "activationEndTime", "endDate")),
        )

    # ------------------------------------------------------------------ looking

    def status(self, ref: str) -> Activation:
        """One activation (getStatusV2, or getStatus where the dialect has no V2).

        ENDED_NO_SMS means no more than "not live here": STATUS_CANCEL is said of completed
        activations too, so look in the history before money moves.
        """
        if self._has_status_v2:
            answer = self._read("getStatusV2", {"id": ref})
            if answer.word != "BAD_ACTION":
                return _status(ref, answer)
            self._has_status_v2 = False
        return _status(ref, self._read("getStatus", {"id": ref}))

    def list_active(self) -> Mapping[str, Activation]:
        """Every live activation by ref (getActiveActivations), complete, or it raises.

        Whole lists and lists in pages are read alike. Pages overlap, since activations that end
        while we read move the later ones up; a page that shares nothing with the one before
        raises UpstreamProtocolError. So does any error, also one dressed as an empty list
        (``{"status": "error", ...}``). The word NO_ACTIVATIONS is no error: it says that none live.
        """
        found: dict[str, Activation] = {}
        start = 0
        previous: set[str] = set()
        for _ in range(MAX_PAGES):
            params = {"start": str(start), "limit": str(PAGE)}
            answer = self._read("getActiveActivations", params)
            if answer.word == "NO_ACTIVATIONS" and not found:
                return {}
            rows = _active_rows(answer)
            page = _by_ref(rows)
            if page.keys() == previous and len(rows) >= PAGE:
                raise UpstreamProtocolError("getActiveActivations: the same page came twice")
            if previous and previous.isdisjoint(page):  # an empty page, too, lacks the overlap
                raise UpstreamProtocolError("getActiveActivations: the list moved while read")
            found.update(page)
            if len(rows) != PAGE:  # the last page, or a whole list from one that does not page
                return found
            previous = set(page)
            start += PAGE - PAGE_OVERLAP
        raise UpstreamProtocolError("getActiveActivations: too many pages")

    def history(self, *, since: datetime) -> Mapping[str, Activation]:
        """Activations bought since ``since`` (aware, at most 29 days ago), by ref (getHistory).

        Complete, or it raises; an hour before ``since`` is included, for clocks that differ. A
        state is FINISHED, BROKEN or ENDED_NO_SMS only where the wholesaler's number for it is
        documented, and never BROKEN or ENDED_NO_SMS when an SMS is shown: that is RECEIVED.

        Raises ValueError for a time without a zone or too long ago.
        """
        if since.tzinfo is None:
            raise ValueError("history needs an aware time")
        now = datetime.now(UTC)
        start, end = since - HISTORY_SLACK, now + HISTORY_SLACK
        if end - start > HISTORY_SPAN:
            raise ValueError("a wholesaler's history goes back 29 days at most")
        span = {"start": str(int(start.timestamp())), "end": str(int(end.timestamp()))}
        return self._history_pages(span)

    def _history_pages(self, span: Mapping[str, str]) -> Mapping[str, Activation]:
        found: dict[str, Activation] = {}
        offset = 0
        previous: set[str] = set()
        for _ in range(MAX_PAGES):
            # One dialect calls the page's length limit, another size.
            params = {**span, "offset": str(offset), "limit": str(PAGE), "size": str(PAGE)}
            rows = _history_rows(self._read("getHistory", params))
            if not rows:
                return found
            page = _by_ref(rows)
            if page.keys() == previous:
                raise UpstreamProtocolError("getHistory: the same page came twice")
            found.update(page)
            previous = set(page)
            offset += len(rows)
        raise UpstreamProtocolError("getHistory: too many pages")

    def rent_status(self, ref: str) -> Activation:
        """One rental with its SMS (getRentStatus).

        BROKEN is STATUS_REVOKE (the number is blocked) or STATUS_CANCEL (given back, by us or
        by the wholesaler), in both of which the wholesaler returned our money; ``signal`` tells
        which.
        """
        messages: list[Message] = []
        previous: list[Message] = []
        signal = ""
        for page in range(MAX_PAGES):
            params = {"id": ref, "page": str(page), "size": str(RENT_PAGE)}
            answer = self._read("getRentStatus", params)
            if page == 0 and answer.word in RENT_STATES:
                return Activation(ref=ref, state=RENT_STATES[answer.word], signal=answer.word)
            if page == 0 and (answer.word.startswith("STATUS_") or answer.word == "RENT_DIE"):
                return Activation(ref=ref, state=UpstreamState.UNKNOWN, signal=answer.word)
            rows, quantity = _rent_messages(answer)
            signal = _signal(answer)
            if rows != previous:
                messages += rows
            elif page > 1:  # page 1 may repeat page 0, where pages count from 1; no other may
                break
            previous = rows
            enough = len(rows) < RENT_PAGE if quantity is None else len(messages) >= quantity
            if enough or not rows:
                break
        state = UpstreamState.RECEIVED if messages else UpstreamState.WAITING
        return Activation(ref=ref, state=state, messages=tuple(messages), signal=signal)

    def balance(self) -> Decimal:
        """Our balance, USD (getBalance)."""
        answer = self._read("getBalance", {})
        amount = _decimal(answer.value) if answer.word == "ACCESS_BALANCE" else None
        if amount is None:
            _not_understood("getBalance", answer)
        return amount

    # ------------------------------------------------------------------ giving back

    def cancel(self, ref: str) -> CancelResult:
        """Give an activation back (setStatus 8). Asked once; asking again is harmless.

        TOO_EARLY carries how long the wholesaler's lock lasts from the purchase, which is the
        longest it can still last. Raises UpstreamUnavailable when the outcome is not known.
        """
        answer = self._once("setStatus", {"id": ref, "status": "8"})
        if answer.status == 204:
            return CancelResult(CancelOutcome.CANCELLED, signal="204")
        outcome = CANCEL_OUTCOMES.get(answer.word)
        if outcome is None:
            _not_understood("setStatus", answer)
        return CancelResult(
            outcome,
            retry_after=_seconds(answer.info.get("minActivationTime")),
            messages=_messages_of(answer.info.get("data")) or ()
            if outcome is CancelOutcome.HAS_SMS
            else (),
            signal=answer.word,
        )

    def rent_cancel(self, ref: str) -> CancelResult:
        """Give a rental back (setRentStatus 2), possible for 20 minutes. Errors as ``cancel``."""
        answer = self._once("setRentStatus", {"id": ref, "status": "2"})
        signal = answer.word or _signal(answer).upper()
        outcome = RENT_CANCEL_OUTCOMES.get(signal)
        if outcome is None:
            _not_understood("setRentStatus", answer)
        return CancelResult(outcome, signal=signal)

    # ------------------------------------------------------------------ asking

    def _read(self, action: str, params: Mapping[str, str]) -> Answer:
        """Ask a question that changes nothing; asked again when there was no information."""
        for attempt in range(READ_RETRIES):
            try:
                return self._once(action, params)
            except UpstreamUnavailable as error:
                logger.info("%s: %s will be asked again: %s", self.name, action, error)
            wait = self._backoff * 2**attempt
            time.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311  jitter
        return self._once(action, params)

    def _once(self, action: str, params: Mapping[str, str]) -> Answer:
        answer = self._ask(action, params)
        _raise_for_account(answer)
        return answer

    def _ask(self, action: str, params: Mapping[str, str], *, purchase: bool = False) -> Answer:
        form = {"api_key": self._key, "action": action, **params}
        reply = self._wire.post(form, purchase=purchase)
        if reply.status >= 500:
            raise UpstreamUnavailable(f"{action}: HTTP {reply.status}")
        if 300 <= reply.status < 400:
            raise UpstreamProtocolError(f"{action}: a redirect ({reply.status})")
        answer = understand(reply)
        if answer.word and self._key and self._key in answer.word:
            raise UpstreamProtocolError(f"{action}: the answer repeats our key")
        return answer


def understand(reply: Reply) -> Answer:
    """Read a body as a word, as data or as an error; raise UpstreamProtocolError if it is none.

    An HTTP status that says it all (401, 402, 429) stands for its word when the body has none.
    """
    implied = {401: "BAD_KEY", 402: "NO_BALANCE", 429: "RATE_LIMIT"}.get(reply.status, "")
    answer = _understand_body(reply)
    if answer is None or (implied and not answer.word):
        if implied:
            return Answer(reply.status, word=implied, retry_after=reply.retry_after)
        raise UpstreamProtocolError(f"an answer that cannot be read (HTTP {reply.status})")
    if reply.status >= 400 and not answer.word:
        raise UpstreamProtocolError(f"an error that cannot be read (HTTP {reply.status})")
    return answer


def _understand_body(reply: Reply) -> Answer | None:
    if reply.status == 204:
        return Answer(204)
    text = reply.body.decode("utf-8", "replace").lstrip("\ufeff").strip()
    if text[:1] in {"{", "[", '"'}:
        try:
            data = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
        except (ValueError, RecursionError, InvalidOperation):
            return None
        if not isinstance(data, str):
            return _understand_data(reply, data)
        text = data.strip()
    elif len(text) > 1 and text[0] == text[-1] == "'":
        text = text[1:-1].strip()
    match = _WORD.fullmatch(text)
    if match is None:
        return None
    return Answer(
        reply.status,
        word=match[1],
        value=(match[2] or "").strip(),
        retry_after=reply.retry_after,
    )


def _understand_data(reply: Reply, data: Any) -> Answer:
    """JSON is data, unless it says that it is an error and gives the error's word."""
    if not isinstance(data, dict):
        return Answer(reply.status, data=data)
    info = data.get("info")
    info = info if isinstance(info, dict) else {}
    retry_after = _seconds(info.get("retry_after_seconds"), reply.retry_after)
    failed = data.get("status") in FAILED
    sources = ("title", "error", "message", "msg", "errorMsg") if failed else ("title",)
    for source in sources:
        match = _WORD.fullmatch(str(data.get(source, "")))
        if match is not None:
            word, value = match[1], match[2] or ""
            return Answer(reply.status, word, value, data, info, retry_after)
    return Answer(reply.status, data=data, info=info, retry_after=retry_after)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _raise_for_account(answer: Answer) -> None:
    """What stops every question: a key refused, a ban, a throttle, a server in trouble."""
    word = answer.word
    if word in {"BAD_KEY", "NO_KEY", "ACCOUNT_INACTIVE"}:
        raise UpstreamAuth(f"our account is refused ({word})")
    if word == "BANNED":
        scope = "specific" if answer.info.get("scope") == "specific" else "global"
        raise UpstreamAccountBanned(scope, answer.retry_after)
    if word in THROTTLED:
        raise UpstreamThrottled(answer.retry_after)
    if word in SERVER_TROUBLE:
        raise UpstreamUnavailable(f"the upstream's server is in trouble ({word})")


def _refusal(action: str, answer: Answer) -> UpstreamError:
    if answer.word in THROTTLED:
        return AllocationRefused("THROTTLED", ours=True)
    if answer.word in REFUSALS:
        return AllocationRefused(answer.word, ours=answer.word in OUR_ACCOUNT)
    return AllocationUnknown(f"{action}: {answer.word or 'no number in the answer'}")


def _not_understood(action: str, answer: Answer) -> NoReturn:
    raise UpstreamProtocolError(f"{action}: {answer.word or 'data'} (HTTP {answer.status})")


# ---------------------------------------------------------------------- states


def _status(ref: str, answer: Answer) -> Activation:
    """The answers of getStatus (words) and of getStatusV2 (data)."""
    state, messages = _state_and_messages(answer)
    return Activation(ref=ref, state=state, messages=messages, signal=_signal(answer))


def _state_and_messages(answer: Answer) -> tuple[UpstreamState, tuple[Message, ...]]:
    word = answer.word
    if word in {"STATUS_WAIT_CODE", "STATUS_WAIT_RESEND"}:
        return UpstreamState.WAITING, ()
    if word in {"STATUS_OK", "STATUS_WAIT_RETRY"}:
        code = _unquoted(answer.value)
        if code:  # the code before the one now waited for was delivered too
            return UpstreamState.RECEIVED, (Message(code=code),)
        waiting = word == "STATUS_WAIT_RETRY"
        return (UpstreamState.WAITING if waiting else UpstreamState.UNKNOWN), ()
    if word == "STATUS_CANCEL" or word in GONE:
        return UpstreamState.ENDED_NO_SMS, ()
    if word.startswith("STATUS_"):
        return UpstreamState.UNKNOWN, ()
    if word or not isinstance(answer.data, dict) or answer.data.get("status") in FAILED:
        _not_understood("getStatus", answer)
    parts = [answer.data[key] for key in ("sms", "data", "call") if key in answer.data]
    if not parts:
        _not_understood("getStatusV2", answer)
    read = [_messages_of(part) for part in parts]
    messages = tuple(message for part in read for message in part or ())
    if messages:
        return UpstreamState.RECEIVED, messages
    return (UpstreamState.UNKNOWN if None in read else UpstreamState.WAITING), ()


def _row(row: Mapping[str, Any]) -> Activation:
    """A row of the active list or of the history."""
    ref = _ref(_first(row, "activationId", "id"))
    if not ref:
        raise UpstreamProtocolError("a list with an entry that has no id")
    signal = str(_first(row, "activationStatus", "status") or "")
    messages = _row_messages(row)
    state = ROW_STATES.get(signal, UpstreamState.UNKNOWN)
    if messages is None:  # an SMS field that cannot be read may well be an SMS
        state, messages = UpstreamState.UNKNOWN, ()
    elif messages and state is not UpstreamState.FINISHED:
        state = UpstreamState.RECEIVED
    return Activation(
        ref=ref,
        state=state,
        phone=_phone(_first(row, "phoneNumber", "phone")),
        service=_text(_first(row, "serviceCode", "service")),
        country=_text(_first(row, "countryCode", "country")),
        cost=_cost(row, "activationCost", "cost"),
        messages=messages,
        upstream_time=_naive(_first(row, "activationTime", "date")),
        signal=signal if re.fullmatch(r"\w{1,64}", signal) else "",
    )


def _by_ref(rows: Iterable[Any]) -> dict[str, Activation]:
    found: dict[str, Activation] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise UpstreamProtocolError("a list with an entry that is none")
        activation = _row(row)
        found[activation.ref] = activation
    return found


def _active_rows(answer: Answer) -> list[Any]:
    """The rows, in every documented shape; an error or an unknown shape raises."""
    data = answer.data
    if answer.word:
        _not_understood("getActiveActivations", answer)
    if isinstance(data, list):
        return data
    if not isinstance(data, dict) or data.get("status", "success") not in ("success", True):
        raise UpstreamProtocolError("getActiveActivations: an error in place of the list")
    active = data.get("activeActivations")
    nested = active.get("rows") if isinstance(active, dict) else active
    shapes = [rows for rows in (data.get("data"), nested) if isinstance(rows, list)]
    if not shapes:
        raise UpstreamProtocolError("getActiveActivations: no list in the answer")
    return max(shapes, key=len)  # one dialect sends two lists of which one may stay empty


def _history_rows(answer: Answer) -> list[Any]:
    data = answer.data
    if isinstance(data, dict) and data.get("status", "success") in ("success", True):
        data = data.get("data")
    if answer.word or not isinstance(data, list):
        _not_understood("getHistory", answer)
    return data


def _rent_messages(answer: Answer) -> tuple[list[Message], int | None]:
    data = answer.data
    if answer.word or not isinstance(data, dict) or data.get("status") != "success":
        _not_understood("getRentStatus", answer)
    values = data.get("values")
    if isinstance(values, dict):
        values = list(values.values())
    if not isinstance(values, list):
        _not_understood("getRentStatus", answer)
    rows: list[Message] = []
    for value in values:
        read = _messages_of(value)
        if read is None:
            _not_understood("getRentStatus", answer)
        rows += read
    quantity = _text(data.get("quantity"))
    return rows, int(quantity) if quantity.isdecimal() and len(quantity) < 10 else None


# ---------------------------------------------------------------------- values


def _row_messages(row: Mapping[str, Any]) -> tuple[Message, ...] | None:
    codes = _strings(_first(row, "smsCode", "moreCodes"))
    texts = _strings(_first(row, "smsText"))
    history = row.get("sms")
    if codes is None or texts is None:
        return None
    if codes or texts:
        length = max(len(codes), len(texts))
        codes += [""] * (length - len(codes))
        texts += [""] * (length - len(texts))
        return tuple(Message(code=c, text=t) for c, t in zip(codes, texts, strict=True))
    return _messages_of(history)


def _messages_of(part: Any) -> tuple[Message, ...] | None:
    """The messages in one value, whatever its shape; None when it is a shape we do not know."""
    if isinstance(part, dict):
        code, text = _text(part.get("code")), _text(part.get("text"))
        if not code and not text:
            return () if not part or {"code", "text"} & part.keys() else None
        return (
            Message(
                code=code,
                text=text,
                sender=_text(_first(part, "phoneFrom", "from")),
                upstream_time=_naive(_first(part, "dateTime", "date")),
            ),
        )
    if isinstance(part, list):
        found: list[Message] = []
        for item in part:
            read = _messages_of(item)
            if read is None:
                return None
            found += read
        return tuple(found)
    texts = _strings(part)
    if texts is None:
        return None
    # A bare code in one dialect, a whole sentence in another.
    return tuple(Message(code="", text=t) if " " in t else Message(code=t) for t in texts)


def _strings(value: Any) -> list[str] | None:
    """A value that is one string or number, or a list of them; None when it is neither."""
    values = value if isinstance(value, list) else [value]
    if not all(
        item is None or (isinstance(item, (str, int)) and not isinstance(item, bool))
        for item in values
    ):
        return None
    return [text for item in values if (text := _text(item))]


def _signal(answer: Answer) -> str:
    if answer.word or not isinstance(answer.data, dict):
        return answer.word
    status = str(answer.data.get("status", "data"))
    return status if re.fullmatch(r"\w{1,64}", status) else "data"


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1].strip() if quoted else value


def _ref(value: Any) -> str:
    text = _text(value)
    return text if _REF.fullmatch(text) else ""


def _phone(value: Any) -> str:
    """The number as "+digits", or "" where it is none (some lists mask it with stars)."""
    text = _text(value).translate(_PHONE_FILLING)
    return "+" + text.removeprefix("+") if _PHONE.fullmatch(text) else ""


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount) < Decimal("1e9") else None


def _in_usd(currency: Any) -> bool:
    """The currency is USD; dialects that sell in USD only do not name it."""
    return currency is None or _text(currency) in {"", USD, "USD"}


def _cost(row: Mapping[str, Any], *names: str) -> Decimal | None:
    """A cost in USD, or None when it is not told, not readable or in another currency."""
    amount = _decimal(_first(row, *names))
    if amount is None or amount < 0 or not _in_usd(row.get("currency")):
        return None
    return amount


def _seconds(value: Any, otherwise: timedelta | None = None) -> timedelta | None:
    amount = _decimal(value)
    if amount is None or not 0 <= amount <= HISTORY_SPAN.total_seconds():
        return otherwise
    return timedelta(seconds=int(amount))


def _naive(value: Any) -> datetime | None:
    """A wholesaler's time without zone. One with a zone cannot be compared with those: None."""
    try:
        moment = datetime.fromisoformat(_text(value))
    except ValueError:
        return None
    return moment if moment.tzinfo is None else None
