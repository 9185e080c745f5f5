"""The handler_api client against a real HTTP server on loopback."""

from __future__ import annotations

import json
import logging
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orders.upstreams import handler_api
from orders.upstreams.base import (
    AllocationRefused,
    AllocationUnknown,
    CancelOutcome,
    CancelResult,
    Message,
    Upstream,
    UpstreamAccountBanned,
    UpstreamAuth,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamState,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from orders.upstreams.handler_api import HandlerApi
from orders.upstreams.simulator import Dialect, Fault, Simulator
from orders.upstreams.wire import MAX_BODY_BYTES, Timeouts

KEY = "Key0f5ecret0123456789abcdef"
NOW = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
# For the faults that are only about time; every other test may wait for a busy machine.
# Soon over, and still enough to send a request from a busy machine.
HASTY = Timeouts(connect=5.0, read=0.3, total=0.4, purchase_read=0.4, purchase_total=0.5)


class Clock:
    """Seconds of UTC that only move when a test says so."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sim(clock: Clock) -> Iterator[Simulator]:
    with Simulator(api_key=KEY, clock=clock) as simulator:
        yield simulator


@pytest.fixture
def api(sim: Simulator) -> Iterator[HandlerApi]:
    with HandlerApi(sim.url, KEY, name="sim", backoff=0) as client:
        yield client


@pytest.fixture
def hasty(sim: Simulator) -> Iterator[HandlerApi]:
    with HandlerApi(sim.url, KEY, name="sim", timeouts=HASTY, backoff=0) as client:
        yield client


@pytest.fixture
def speaking(clock: Clock) -> Iterator[Callable[..., tuple[Simulator, HandlerApi]]]:
    """Make a simulator of another dialect, and a client to it."""
    open_ones: list[tuple[Simulator, HandlerApi]] = []

    def make(**dialect: object) -> tuple[Simulator, HandlerApi]:
        simulator = Simulator(api_key=KEY, clock=clock, dialect=Dialect(**dialect)).start()
        client = HandlerApi(simulator.url, KEY, name="sim", backoff=0)
        open_ones.append((simulator, client))
        return simulator, client

    yield make
    for simulator, client in open_ones:
        client.close()
        simulator.stop()


def buy(api: HandlerApi, order_key: str = "order-1") -> str:
    return api.allocate(service="tg", country="6", order_key=order_key).ref


def rent(api: HandlerApi) -> str:
    return api.rent(service="tg", country="6", hours=24, order_key="order-1").ref


# ---------------------------------------------------------------------- buying


def test_a_bought_number_is_told_whole(api: HandlerApi, sim: Simulator) -> None:
    number = api.allocate(service="tg", country="6", order_key="o", max_price=Decimal("0.30"))

    line = sim.line(number.ref)
    assert number.phone == "+" + line.phone
    assert number.cost == Decimal("0.25")
    assert number.upstream_time == datetime(2030, 5, 1, 15, 0)  # noqa: DTZ001  their zone
    assert (line.service, line.country, line.order_key) == ("tg", "6", "o")
    assert sim.requests == {"getNumberV2": 1}
    assert sim.market.balance == Decimal("999.75")


def test_the_client_is_an_upstream(api: HandlerApi) -> None:
    upstream: Upstream = api
    for verb in (name for name in vars(Upstream) if not name.startswith("_")):
        assert callable(getattr(upstream, verb))


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        ("NO_NUMBERS", False),
        ("OUT_OF_STOCK", False),
        ("WRONG_MAX_PRICE", False),
        ("BAD_SERVICE", False),
        ("WRONG_SERVICE", False),
        ("BAD_COUNTRY", False),
        ("BAD_ACTION", False),
        ("NO_BALANCE", True),
        ("BANNED", True),
        ("CHANNELS_LIMIT", True),
        ("BAD_KEY", True),
        ("NO_KEY", True),
        ("ACCOUNT_INACTIVE", True),
    ],
)
@pytest.mark.parametrize("form", ["word", "value", "quoted", "title", "message"])
@pytest.mark.parametrize("verb", [buy, rent])
def test_a_documented_refusal_is_certainly_not_bought(
    api: HandlerApi,
    sim: Simulator,
    word: str,
    ours: bool,
    form: str,
    verb: Callable[[HandlerApi], str],
) -> None:
    fault = {
        "word": Fault.says(word),
        "value": Fault.says(f"{word}:'0.30'"),
        "quoted": Fault.says(f'"{word}"'),
        "title": Fault.title(word, 403),
        "message": Fault.says(json.dumps({"status": "error", "message": word})),
    }[form]
    sim.inject("getNumberV2", fault)
    sim.inject("getRentNumber", fault)

    with pytest.raises(AllocationRefused) as caught:
        verb(api)

    assert (caught.value.code, caught.value.ours) == (word, ours)
    assert sim.requests.total() == 1


@pytest.mark.parametrize(
    ("fault", "code", "ours"),
    [
        (Fault.throttled(), "THROTTLED", True),
        (Fault.throttled("7"), "THROTTLED", True),
        (Fault.html(429), "THROTTLED", True),
        (Fault.html(401), "BAD_KEY", True),
        (Fault.html(402), "NO_BALANCE", True),
    ],
)
def test_a_status_that_says_it_all_is_certainly_not_bought(
    api: HandlerApi, sim: Simulator, fault: Fault, code: str, ours: bool
) -> None:
    sim.inject("getNumberV2", fault)

    with pytest.raises(AllocationRefused) as caught:
        buy(api)

    assert (caught.value.code, caught.value.ours) == (code, ours)


UNKNOWN_PURCHASES = {
    "silence after the purchase": (Fault.silence(0.8, commit=True), 1),
    "silence before the purchase": (Fault.silence(0.8, commit=False), 0),
    "bought but the answer lost": (Fault.lost(), 1),
    "reset midway": (Fault.reset_midway(), 1),
    "body dripped": (Fault.dripped(0.05), 1),
    "headers dripped": (Fault.dripped(0.05, "headers"), 1),
    "500": (Fault.html(500), 0),
    "502 after the purchase": (Fault.html(502, commit=True), 1),
    "503": (Fault.html(503), 0),
    "403 page": (Fault.html(403), 0),
    "HTML at 200": (Fault.html(200), 0),
    "empty 200": (Fault.empty(commit=True), 1),
    "204": (Fault(status=204), 0),
    "cut JSON": (Fault.truncated(), 1),
    "redirect": (Fault.redirect("/elsewhere"), 0),
    "unknown word": (Fault.says("SOMETHING_NEW"), 0),
    "server trouble": (Fault.says("ERROR_SQL"), 0),
    "key of an order known": (Fault.says("ORDER_ALREADY_EXISTS"), 0),
    "no id": (Fault.patched(activationId=...), 1),
    "null id": (Fault.patched(activationId=None), 1),
    "no phone": (Fault.patched(phoneNumber=...), 1),
    "masked phone": (Fault.patched(phoneNumber="7*****12"), 1),
    "a list": (Fault.says("[]"), 0),
    "too deep": (Fault.says("[" * 100_000), 0),
    "too long": (Fault.says("A" * (MAX_BODY_BYTES + 1)), 0),
    "compressed": (Fault(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b"), 0),
}


@pytest.mark.parametrize("name", UNKNOWN_PURCHASES)
def test_any_other_answer_to_a_purchase_may_be_bought(
    api: HandlerApi, hasty: HandlerApi, sim: Simulator, name: str
) -> None:
    fault, bought = UNKNOWN_PURCHASES[name]
    sim.inject("getNumberV2", fault)
    started = time.monotonic()

    with pytest.raises(AllocationUnknown):
        buy(hasty if fault.delay or fault.drip else api)

    # A byte at a time, all of it would take longer than this.
    assert time.monotonic() - started < 5
    assert sim.requests == {"getNumberV2": 1}
    assert sim.live_of_order("order-1") == bought


def test_an_order_is_never_sold_to_twice(api: HandlerApi, sim: Simulator) -> None:
    buy(api)

    with pytest.raises(AllocationUnknown, match="ORDER_ALREADY_EXISTS"):
        buy(api)

    assert sim.bought_for_order("order-1") == 1
    assert sim.live_of_order("order-1") == 1


def test_an_unreachable_wholesaler_sold_nothing(api: HandlerApi, sim: Simulator) -> None:
    sim.stop()

    with pytest.raises(AllocationRefused) as caught:
        buy(api)

    assert (caught.value.code, caught.value.ours) == ("UNREACHABLE", False)
    sim.start()
    assert buy(api) == "100000001"


def test_a_connect_timeout_sold_nothing() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            timeouts = Timeouts(connect=0.1, purchase_read=0.1, purchase_total=5)
            url = f"http://127.0.0.1:{address[1]}"
            with (
                HandlerApi(url, KEY, timeouts=timeouts) as api,
                pytest.raises(AllocationRefused, match="UNREACHABLE"),
            ):
                buy(api)


@pytest.mark.parametrize("body_fault", [Fault.bom(), Fault.typed("text/html"), Fault.patched()])
def test_a_purchase_is_read_whatever_it_is_wrapped_in(
    api: HandlerApi, sim: Simulator, body_fault: Fault
) -> None:
    sim.inject("getNumberV2", body_fault)

    assert buy(api) == "100000001"


@pytest.mark.parametrize(
    ("answer", "ref", "phone", "cost"),
    [
        ({"activationId": 7, "phoneNumber": 79001234567}, "7", "+79001234567", None),
        ({"activationId": "7", "phoneNumber": "+7 900 123-45-67"}, "7", "+79001234567", None),
        (
            {"activationId": "a-7", "phoneNumber": "79001234567", "activationCost": "0.10"},
            "a-7",
            "+79001234567",
            Decimal("0.10"),
        ),
    ],
)
def test_ids_phones_and_costs_come_in_several_types(
    api: HandlerApi,
    sim: Simulator,
    answer: dict[str, object],
    ref: str,
    phone: str,
    cost: Decimal | None,
) -> None:
    sim.inject("getNumberV2", Fault.says(json.dumps(answer)))

    number = api.allocate(service="tg", country="6", order_key="o")

    assert (number.ref, number.phone, number.cost) == (ref, phone, cost)


def test_a_cost_never_passes_through_a_float(api: HandlerApi, sim: Simulator) -> None:
    body = '{"activationId": 1, "phoneNumber": "79001234567", "activationCost": 0.1000000000000001}'
    sim.inject("getNumberV2", Fault.says(body))

    number = api.allocate(service="tg", country="6", order_key="o")

    assert number.cost == Decimal("0.1000000000000001")


@pytest.mark.parametrize("cost", ["-1", "NaN", "abc", "1e30", True, [], None])
def test_a_cost_that_is_none_is_not_told(api: HandlerApi, sim: Simulator, cost: object) -> None:
    sim.inject("getNumberV2", Fault.patched(activationCost=cost))

    assert api.allocate(service="tg", country="6", order_key="o").cost is None


@pytest.mark.parametrize("currency", [643, "643", "RUB"])
def test_a_number_sold_in_another_currency_is_ours_at_no_known_cost(
    api: HandlerApi, sim: Simulator, caplog: pytest.LogCaptureFixture, currency: object
) -> None:
    sim.inject("getNumberV2", Fault.patched(currency=currency))

    number = api.allocate(service="tg", country="6", order_key="o")

    assert (number.ref, number.cost) == ("100000001", None)
    warning = f"sim: 100000001 was sold in currency {currency}, not USD"
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [warning]


def test_a_price_above_the_limit_is_told_as_it_is(
    api: HandlerApi, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.market.keeps_max_price = False

    number = api.allocate(service="tg", country="6", order_key="o", max_price=Decimal("0.10"))

    assert number.cost == Decimal("0.25")
    assert "sim: 100000001 cost 0.25, above the 0.10 asked for" in caplog.messages


def test_a_price_limit_refused_is_certainly_not_bought(api: HandlerApi, sim: Simulator) -> None:
    with pytest.raises(AllocationRefused, match="WRONG_MAX_PRICE"):
        api.allocate(service="tg", country="6", order_key="o", max_price=Decimal("0.10"))

    assert sim.market.charged == 0


def test_a_rental_is_told_with_its_end(api: HandlerApi, sim: Simulator) -> None:
    number = api.rent(service="full", country="16", hours=24, order_key="o")

    assert number.ref == "100000001"
    assert number.phone == "+" + sim.line(number.ref).phone
    assert number.ends_at == datetime(2030, 5, 2, 15, 0)  # noqa: DTZ001  their zone
    assert number.cost is None


# ---------------------------------------------------------------------- looking


def test_an_activation_waits_then_receives_then_ends(
    api: HandlerApi, sim: Simulator, clock: Clock
) -> None:
    ref = buy(api)
    assert api.status(ref).state is UpstreamState.WAITING

    clock.forward(60)
    sim.deliver_sms(ref, "123456", "Your code is 123456")
    received = api.status(ref)
    assert received.state is UpstreamState.RECEIVED
    at = datetime(2030, 5, 1, 15, 1)  # noqa: DTZ001  their zone
    assert received.messages == (Message("123456", "Your code is 123456", "", at),)

    clock.forward(1200)
    ended = api.status(ref)
    assert (ended.state, ended.signal) == (UpstreamState.ENDED_NO_SMS, "STATUS_CANCEL")


def test_the_older_dialect_is_asked_in_its_own_words(
    speaking: Callable[..., tuple[Simulator, HandlerApi]],
) -> None:
    sim, api = speaking(status_v2=False)
    ref = buy(api)
    sim.deliver_sms(ref, "12:34:56")

    assert api.status(ref).messages == (Message("12:34:56"),)
    assert api.status(ref).state is UpstreamState.RECEIVED
    assert (sim.requests["getStatusV2"], sim.requests["getStatus"]) == (1, 2)


STATUS_ANSWERS: dict[str, tuple[UpstreamState, tuple[Message, ...]]] = {
    "STATUS_WAIT_CODE": (UpstreamState.WAITING, ()),
    "STATUS_WAIT_RESEND": (UpstreamState.WAITING, ()),
    "STATUS_WAIT_RETRY": (UpstreamState.WAITING, ()),
    "STATUS_WAIT_RETRY:111": (UpstreamState.RECEIVED, (Message("111"),)),
    "STATUS_OK:123456": (UpstreamState.RECEIVED, (Message("123456"),)),
    "STATUS_OK:'123456'": (UpstreamState.RECEIVED, (Message("123456"),)),
    "STATUS_OK:12:34": (UpstreamState.RECEIVED, (Message("12:34"),)),
    '"STATUS_OK:123456"': (UpstreamState.RECEIVED, (Message("123456"),)),
    "\ufeffSTATUS_OK:123456\r\n": (UpstreamState.RECEIVED, (Message("123456"),)),
    "STATUS_OK": (UpstreamState.UNKNOWN, ()),
    "STATUS_OK:": (UpstreamState.UNKNOWN, ()),
    "STATUS_OK:''": (UpstreamState.UNKNOWN, ()),
    "STATUS_SOMETHING_NEW": (UpstreamState.UNKNOWN, ()),
    "STATUS_CANCEL": (UpstreamState.ENDED_NO_SMS, ()),
    "NO_ACTIVATION": (UpstreamState.ENDED_NO_SMS, ()),
    '{"title": "NOT_FOUND"}': (UpstreamState.ENDED_NO_SMS, ()),
    '{"title": "ACTIVATION_NOT_ACTIVE"}': (UpstreamState.ENDED_NO_SMS, ()),
    '{"verificationType": 0, "sms": null}': (UpstreamState.WAITING, ()),
    '{"sms": {"dateTime": null, "code": null, "text": null}}': (UpstreamState.WAITING, ()),
    '{"sms": {"code": 4242, "text": null}}': (UpstreamState.RECEIVED, (Message("4242"),)),
    '{"sms": null, "call": {"from": "1", "code": "77"}}': (
        UpstreamState.RECEIVED,
        (Message("77", sender="1"),),
    ),
    '{"data": {"code": "1", "text": "t", "phoneFrom": "WA", "date": "0000-00-00 00:00:00"}}': (
        UpstreamState.RECEIVED,
        (Message("1", "t", "WA"),),
    ),
    '{"sms": {"otp": "1234"}}': (UpstreamState.UNKNOWN, ()),
    '{"sms": true}': (UpstreamState.UNKNOWN, ()),
}


@pytest.mark.parametrize("body", STATUS_ANSWERS)
def test_each_status_answer_means_one_state(api: HandlerApi, sim: Simulator, body: str) -> None:
    sim.inject("getStatusV2", Fault.says(body))

    activation = api.status("1")

    assert (activation.state, activation.messages) == STATUS_ANSWERS[body]


READS: dict[str, Callable[[HandlerApi], object]] = {
    "getStatusV2": lambda api: api.status("1"),
    "getActiveActivations": lambda api: api.list_active(),
    "getHistory": lambda api: api.history(since=datetime.now(UTC) - timedelta(hours=1)),
    "getRentStatus": lambda api: api.rent_status("1"),
    "getBalance": lambda api: api.balance(),
}
CANCELS: dict[str, Callable[[HandlerApi], object]] = {
    "setStatus": lambda api: api.cancel("1"),
    "setRentStatus": lambda api: api.rent_cancel("1"),
}
NO_INFORMATION: dict[str, tuple[Fault, type[UpstreamError]]] = {
    "silence": (Fault.silence(0.6, commit=False), UpstreamUnavailable),
    "lost": (Fault.lost(), UpstreamUnavailable),
    "reset midway": (Fault.reset_midway(), UpstreamUnavailable),
    "body dripped": (Fault(body=b"A" * 50, drip=0.05), UpstreamUnavailable),
    "headers dripped": (Fault.dripped(0.05, "headers"), UpstreamUnavailable),
    "500": (Fault.html(500), UpstreamUnavailable),
    "500 title": (Fault.title("SERVER_ERROR", 500), UpstreamUnavailable),
    "502": (Fault.html(502), UpstreamUnavailable),
    "503": (Fault.html(503), UpstreamUnavailable),
    "server trouble": (Fault.says("ERROR_SQL"), UpstreamUnavailable),
    "403 page": (Fault.html(403), UpstreamProtocolError),
    "404 page": (Fault.html(404), UpstreamProtocolError),
    "HTML at 200": (Fault.html(), UpstreamProtocolError),
    "empty 200": (Fault.empty(), UpstreamProtocolError),
    "cut JSON": (Fault.says('{"status": "succ'), UpstreamProtocolError),
    "NaN": (Fault.says('{"sms": NaN}'), UpstreamProtocolError),
    "redirect": (Fault.redirect("/elsewhere"), UpstreamProtocolError),
    "unknown word": (Fault.says("SOMETHING_NEW"), UpstreamProtocolError),
    "wrong id": (Fault.says("WRONG_ACTIVATION_ID"), UpstreamProtocolError),
    "error object": (Fault.says('{"status": "error", "sms": null}'), UpstreamProtocolError),
    "sentence": (Fault.says("Please come back later"), UpstreamProtocolError),
    "number": (Fault.says("12"), UpstreamProtocolError),
    "key refused": (Fault.says("BAD_KEY"), UpstreamAuth),
    "no key": (Fault.title("NO_KEY", 401), UpstreamAuth),
    "401 page": (Fault.html(401), UpstreamAuth),
    "inactive": (Fault.title("ACCOUNT_INACTIVE", 403), UpstreamAuth),
    "429": (Fault.throttled(), UpstreamThrottled),
    "429 page": (Fault.html(429), UpstreamThrottled),
    "banned": (Fault.says("BANNED:'2030-01-01 00-00-00'"), UpstreamAccountBanned),
}


@pytest.mark.parametrize("action", [*READS, *CANCELS])
@pytest.mark.parametrize("name", NO_INFORMATION)
def test_an_answer_without_information_raises(
    api: HandlerApi, hasty: HandlerApi, sim: Simulator, name: str, action: str
) -> None:
    fault, error = NO_INFORMATION[name]
    sim.inject(action, fault, times=3)

    with pytest.raises(error) as caught:
        (READS | CANCELS)[action](hasty if fault.delay or fault.drip else api)

    assert type(caught.value) is error
    retried = error is UpstreamUnavailable and action in READS
    assert sim.requests == {action: 3 if retried else 1}


def test_a_read_survives_two_failures(api: HandlerApi, sim: Simulator) -> None:
    sim.inject("getBalance", Fault.html(502), times=2)

    assert api.balance() == Decimal("1000")
    assert sim.requests["getBalance"] == 3


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", timedelta(seconds=7)), ("", None), ("soon", None), ("999999999", timedelta(days=30))],
)
def test_a_throttle_tells_how_long(
    api: HandlerApi, sim: Simulator, header: str, wait: timedelta | None
) -> None:
    sim.inject("getBalance", Fault.throttled(header))

    with pytest.raises(UpstreamThrottled) as caught:
        api.balance()

    assert caught.value.retry_after == wait


def test_a_ban_tells_its_scope_and_length(
    speaking: Callable[..., tuple[Simulator, HandlerApi]],
) -> None:
    sim, api = speaking(errors="json")
    sim.ban("specific", seconds=90)

    with pytest.raises(UpstreamAccountBanned) as caught:
        api.balance()

    assert (caught.value.scope, caught.value.retry_after) == ("specific", timedelta(seconds=90))


@pytest.mark.parametrize(
    ("body", "amount"),
    [("ACCESS_BALANCE:12.34", "12.34"), ('"ACCESS_BALANCE:0"', "0"), ("ACCESS_BALANCE:-1", "-1")],
)
def test_the_balance_is_exact(api: HandlerApi, sim: Simulator, body: str, amount: str) -> None:
    sim.inject("getBalance", Fault.says(body))

    assert api.balance() == Decimal(amount)


@pytest.mark.parametrize("shape", ["activeActivations", "data", "rows", "bare"])
@pytest.mark.parametrize("ids", ["str", "int"])
def test_every_shape_of_the_active_list_is_read(
    speaking: Callable[..., tuple[Simulator, HandlerApi]], shape: str, ids: str
) -> None:
    sim, api = speaking(active_list=shape, ids=ids)
    waiting, received, ended = (buy(api, f"order-{n}") for n in range(3))
    sim.deliver_sms(received, "42", "Code: 42")
    sim.end(ended)

    active = api.list_active()

    assert active.keys() == {waiting, received}
    assert active[waiting].state is UpstreamState.WAITING
    assert active[waiting].phone == "+" + sim.line(waiting).phone
    assert (active[waiting].service, active[waiting].country) == ("tg", "6")
    assert active[waiting].cost == Decimal("0.25")
    assert active[waiting].upstream_time == datetime(2030, 5, 1, 15, 0)  # noqa: DTZ001
    assert active[received].state is UpstreamState.RECEIVED
    assert active[received].messages == (Message("42", "Code: 42"),)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 230])
def test_a_paged_list_is_read_to_its_end(
    speaking: Callable[..., tuple[Simulator, HandlerApi]], count: int
) -> None:
    sim, api = speaking(page_limit=100)
    bought = {sim.market.buy("tg", "6", f"o{n}").ref for n in range(count)}

    assert api.list_active().keys() == bought


def test_a_list_of_ten_thousand_is_read_at_once(sim: Simulator) -> None:
    sim.market.opening_balance = Decimal(10_000)
    bought = {sim.market.buy("tg", "6", f"o{n}").ref for n in range(10_000)}

    with HandlerApi(sim.url, KEY) as patient:
        assert patient.list_active().keys() == bought

    assert sim.requests["getActiveActivations"] == 1


def rows(start: int, count: int) -> Fault:
    listed = [
        {"activationId": n, "phoneNumber": "79001234567"} for n in range(start, start + count)
    ]
    return Fault.says(json.dumps(listed))


def test_a_page_that_comes_twice_is_no_complete_list(api: HandlerApi, sim: Simulator) -> None:
    sim.inject("getActiveActivations", rows(0, 100), times=2)

    with pytest.raises(UpstreamProtocolError, match="twice"):
        api.list_active()


@pytest.mark.parametrize("second", [rows(101, 3), rows(0, 0)])
def test_a_list_that_moved_between_pages_is_not_complete(
    api: HandlerApi, sim: Simulator, second: Fault
) -> None:
    sim.inject("getActiveActivations", rows(0, 100))
    sim.inject("getActiveActivations", second)

    with pytest.raises(UpstreamProtocolError, match="moved"):
        api.list_active()


@pytest.mark.parametrize(
    "body",
    [
        '{"status": "error", "activeActivations": []}',
        '{"status": "false", "data": []}',
        '{"status": false, "data": []}',
        '{"status": "success"}',
        '{"status": "success", "activeActivations": {"rows": null}}',
        '{"data": [{"phoneNumber": "79001234567"}]}',
        '{"data": [{"activationId": null}]}',
        '{"data": ["100000001"]}',
        "NO_ACTIVATION",
    ],
)
def test_an_error_is_never_an_empty_list(api: HandlerApi, sim: Simulator, body: str) -> None:
    sim.inject("getActiveActivations", Fault.says(body))

    with pytest.raises(UpstreamProtocolError):
        api.list_active()


@pytest.mark.parametrize(
    "body", ["NO_ACTIVATIONS", '{"status": "error", "error": "NO_ACTIVATIONS"}']
)
def test_no_activations_is_a_complete_list_of_none(
    api: HandlerApi, sim: Simulator, body: str
) -> None:
    sim.inject("getActiveActivations", Fault.says(body))

    assert api.list_active() == {}


ROWS: dict[str, tuple[dict[str, object], UpstreamState, tuple[Message, ...]]] = {
    "waiting": ({"status": "4"}, UpstreamState.WAITING, ()),
    "waiting as a number": ({"status": 4, "sms": ""}, UpstreamState.WAITING, ()),
    "cancelled": ({"status": "8", "sms": None}, UpstreamState.ENDED_NO_SMS, ()),
    "blocked": ({"status": "10", "sms": []}, UpstreamState.BROKEN, ()),
    "finished": ({"status": "6", "sms": "1234"}, UpstreamState.FINISHED, (Message("1234"),)),
    "blocked after a code": ({"status": "10", "sms": "1"}, UpstreamState.RECEIVED, (Message("1"),)),
    "cancelled after a code": (
        {"status": "8", "sms": 12},
        UpstreamState.RECEIVED,
        (Message("12"),),
    ),
    "a sentence": (
        {"status": "4", "sms": "Your code is 1"},
        UpstreamState.RECEIVED,
        (Message("", "Your code is 1"),),
    ),
    "two messages": (
        {"status": "4", "smsCode": ["1", "2"], "smsText": ["a 1"]},
        UpstreamState.RECEIVED,
        (Message("1", "a 1"), Message("2")),
    ),
    "word": ({"status": "STATUS_CANCEL"}, UpstreamState.ENDED_NO_SMS, ()),
    "unknown number": ({"status": "2"}, UpstreamState.UNKNOWN, ()),
    "no status": ({}, UpstreamState.UNKNOWN, ()),
    "an SMS that cannot be read": ({"status": "8", "sms": {"x": 1}}, UpstreamState.UNKNOWN, ()),
    "a yes for an SMS": ({"status": "8", "sms": True}, UpstreamState.UNKNOWN, ()),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_history_row_means_one_state(api: HandlerApi, sim: Simulator, name: str) -> None:
    row, state, messages = ROWS[name]
    sim.inject("getHistory", Fault.says(json.dumps([{"id": 5, **row}])))
    sim.inject("getHistory", Fault.says("[]"))

    history = api.history(since=datetime.now(UTC) - timedelta(hours=1))

    assert list(history) == ["5"]
    assert (history["5"].state, history["5"].messages) == (state, messages)


def test_a_history_in_another_currency_has_no_costs(api: HandlerApi, sim: Simulator) -> None:
    sim.inject("getHistory", Fault.says('[{"id": 5, "cost": 1.5, "currency": 643}]'))
    sim.inject("getHistory", Fault.says("[]"))

    assert api.history(since=datetime.now(UTC))["5"].cost is None


@pytest.mark.parametrize("count", [0, 1, 100, 250])
def test_the_history_is_read_to_its_end(sim: Simulator, count: int) -> None:
    sim.market.clock = time.time
    bought = {sim.market.buy("tg", "6", f"o{n}").ref for n in range(count)}

    with HandlerApi(sim.url, KEY) as api:
        assert api.history(since=datetime.now(UTC) - timedelta(minutes=5)).keys() == bought


@pytest.mark.parametrize(
    ("body", "times"),
    [
        ('[{"id": 5}]', 2),
        ('{"status": "error", "data": []}', 1),
        ('{"status": "success"}', 1),
        ('[{"phone": "79001234567"}]', 1),
    ],
)
def test_a_history_that_is_not_complete_raises(
    api: HandlerApi, sim: Simulator, body: str, times: int
) -> None:
    sim.inject("getHistory", Fault.says(body), times)

    with pytest.raises(UpstreamProtocolError):
        api.history(since=datetime.now(UTC))


def test_a_history_without_end_is_given_up(
    api: HandlerApi, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler_api, "MAX_PAGES", 20)
    for n in range(21):
        sim.inject("getHistory", Fault.says(json.dumps([{"id": n}])))

    with pytest.raises(UpstreamProtocolError, match="too many pages"):
        api.history(since=datetime.now(UTC))

    assert sim.requests["getHistory"] == 20


@pytest.mark.parametrize("since", [datetime(2030, 1, 1), NOW - timedelta(days=36500)])  # noqa: DTZ001
def test_a_history_needs_a_time_it_can_answer(
    api: HandlerApi, sim: Simulator, since: datetime
) -> None:
    with pytest.raises(ValueError, match=r"aware|29 days"):
        api.history(since=since)

    assert sim.requests.total() == 0


def test_a_rental_waits_then_receives_all_its_messages(
    api: HandlerApi, sim: Simulator, clock: Clock
) -> None:
    ref = rent(api)
    assert api.rent_status(ref).state is UpstreamState.WAITING

    for n in range(12):
        clock.forward(1)
        sim.deliver_sms(ref, "", f"text {n}", "WhatsApp")
    status = api.rent_status(ref)

    assert status.state is UpstreamState.RECEIVED
    assert [message.text for message in status.messages] == [f"text {n}" for n in range(12)]
    assert status.messages[0].sender == "WhatsApp"
    assert status.messages[0].upstream_time == datetime(2030, 5, 1, 15, 0, 1)  # noqa: DTZ001


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("STATUS_WAIT_CODE", UpstreamState.WAITING),
        ("STATUS_FINISH", UpstreamState.FINISHED),
        ("STATUS_REVOKE", UpstreamState.BROKEN),
        ("STATUS_CANCEL", UpstreamState.BROKEN),
        ("STATUS_SOMETHING_NEW", UpstreamState.UNKNOWN),
        ("RENT_DIE", UpstreamState.UNKNOWN),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_each_rental_answer_means_one_state(
    api: HandlerApi, sim: Simulator, answer: str, state: UpstreamState, as_json: bool
) -> None:
    body = json.dumps({"status": "error", "message": answer}) if as_json else answer
    sim.inject("getRentStatus", Fault.says(body))

    status = api.rent_status("1")

    assert (status.state, status.signal, status.messages) == (state, answer, ())


def test_a_rental_list_that_counts_pages_from_one_is_read_once(
    api: HandlerApi, sim: Simulator
) -> None:
    values = [{"text": f"t {n}", "phoneFrom": "A"} for n in range(13)]
    for page in (values[:10], values[:10], values[10:]):
        body = {"status": "success", "quantity": 13, "values": page}
        sim.inject("getRentStatus", Fault.says(json.dumps(body)))

    assert [m.text for m in api.rent_status("1").messages] == [f"t {n}" for n in range(13)]


def test_a_rental_list_that_does_not_page_ends(api: HandlerApi, sim: Simulator) -> None:
    body = {"status": "success", "quantity": 13, "values": [{"text": "t", "phoneFrom": "A"}]}
    sim.inject("getRentStatus", Fault.says(json.dumps(body)), times=3)

    assert api.rent_status("1").messages == (Message("", "t", "A"),)
    assert sim.requests["getRentStatus"] == 3


KEYS = [
    "status",
    "title",
    "error",
    "message",
    "info",
    "data",
    "activeActivations",
    "rows",
    "activationId",
    "id",
    "phone",
    "number",
    "sms",
    "phoneNumber",
    "activationStatus",
    "smsCode",
    "code",
    "text",
    "call",
    "values",
    "quantity",
    "cost",
    "currency",
    "date",
]
WORDS = ["success", "error", "NO_NUMBERS", "STATUS_OK:1", "8", "79001234567", "2030-05-01", ""]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=VALUES.map(json.dumps) | st.text() | st.sampled_from(WORDS))
def test_no_answer_whatever_raises_anything_but_our_errors(
    api: HandlerApi, sim: Simulator, body: str
) -> None:
    for action, ask in {"getNumberV2": buy, "getRentNumber": rent, **READS, **CANCELS}.items():
        sim.inject(action, Fault(body=body.encode("utf-8", "replace")))
        try:
            ask(api)
        except UpstreamError as error:
            assert isinstance(error, AllocationUnknown | AllocationRefused) or action not in {
                "getNumberV2",
                "getRentNumber",
            }


# ---------------------------------------------------------------------- giving back

CANCEL_ANSWERS: dict[str, tuple[Fault, CancelResult]] = {
    "done": (Fault.says("ACCESS_CANCEL"), CancelResult(CancelOutcome.CANCELLED)),
    "done, quoted": (Fault.says('"ACCESS_CANCEL"'), CancelResult(CancelOutcome.CANCELLED)),
    "early as a word": (Fault.says("EARLY_CANCEL_DENIED"), CancelResult(CancelOutcome.TOO_EARLY)),
    "early as JSON": (
        Fault.title("EARLY_CANCEL_DENIED", minActivationTime=120),
        CancelResult(CancelOutcome.TOO_EARLY, timedelta(seconds=120)),
    ),
    "early for an absurd time": (
        Fault.title("EARLY_CANCEL_DENIED", minActivationTime=-5),
        CancelResult(CancelOutcome.TOO_EARLY),
    ),
    "too late": (
        Fault.title("FREE_CANCELLATION_EXPIRED"),
        CancelResult(CancelOutcome.TOO_LATE),
    ),
    "has an SMS": (Fault.title("OTP_RECEIVED"), CancelResult(CancelOutcome.HAS_SMS)),
    "has a new SMS": (
        Fault.title("NEW_OTP_RECEIVED", data={"code": "11", "text": "Code 11"}),
        CancelResult(CancelOutcome.HAS_SMS, messages=(Message("11", "Code 11"),)),
    ),
    "has a new bare code": (
        Fault.title("NEW_OTP_RECEIVED", data="11"),
        CancelResult(CancelOutcome.HAS_SMS, messages=(Message("11"),)),
    ),
    "not active": (
        Fault.title("ACTIVATION_NOT_ACTIVE"),
        CancelResult(CancelOutcome.ALREADY_ENDED),
    ),
    "unknown": (Fault.says("NO_ACTIVATION"), CancelResult(CancelOutcome.ALREADY_ENDED)),
    "cancelled before": (Fault.says("STATUS_CANCEL"), CancelResult(CancelOutcome.ALREADY_ENDED)),
}


@pytest.mark.parametrize("name", CANCEL_ANSWERS)
def test_each_answer_to_a_cancel_means_one_outcome(
    api: HandlerApi, sim: Simulator, name: str
) -> None:
    fault, expected = CANCEL_ANSWERS[name]
    sim.inject("setStatus", fault)

    result = api.cancel("1")

    assert (result.outcome, result.retry_after, result.messages) == (
        expected.outcome,
        expected.retry_after,
        expected.messages,
    )


def test_no_content_means_cancelled(api: HandlerApi, sim: Simulator) -> None:
    sim.inject("setStatus", Fault(status=204))

    assert api.cancel("1").outcome is CancelOutcome.CANCELLED


def test_a_cancel_brings_our_money_back_once(api: HandlerApi, sim: Simulator, clock: Clock) -> None:
    ref = buy(api)
    assert api.cancel(ref).outcome is CancelOutcome.TOO_EARLY

    clock.forward(120)
    assert api.cancel(ref).outcome is CancelOutcome.CANCELLED
    assert api.cancel(ref).outcome is CancelOutcome.ALREADY_ENDED
    assert (sim.market.charged, sim.market.refunded) == (Decimal("0.25"), Decimal("0.25"))


def test_a_cancel_whose_answer_was_lost_is_not_repeated_and_may_be_asked_again(
    api: HandlerApi, sim: Simulator, clock: Clock
) -> None:
    ref = buy(api)
    clock.forward(120)
    sim.inject("setStatus", Fault.lost())

    with pytest.raises(UpstreamUnavailable):
        api.cancel(ref)
    assert sim.requests["setStatus"] == 1

    assert api.cancel(ref).outcome is CancelOutcome.ALREADY_ENDED
    assert sim.market.refunded == Decimal("0.25")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("CANT_CANCEL", CancelOutcome.TOO_LATE),
        ("ALREADY_CANCEL", CancelOutcome.ALREADY_ENDED),
        ("ALREADY_FINISH", CancelOutcome.ALREADY_ENDED),
        ("RENT_DIE", CancelOutcome.ALREADY_ENDED),
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_each_answer_to_a_rental_cancel_means_one_outcome(
    api: HandlerApi, sim: Simulator, answer: str, outcome: CancelOutcome, as_json: bool
) -> None:
    body = json.dumps({"status": "error", "message": answer}) if as_json else answer
    sim.inject("setRentStatus", Fault.says(body))

    assert api.rent_cancel("1") == CancelResult(outcome, signal=answer)


@pytest.mark.parametrize("answer", ["NO_ID_RENT", "INVALID_PHONE", "INCORECT_STATUS"])
def test_a_rental_cancel_of_nothing_raises(api: HandlerApi, sim: Simulator, answer: str) -> None:
    sim.inject("setRentStatus", Fault.says(answer))

    with pytest.raises(UpstreamProtocolError, match=answer):
        api.rent_cancel("1")


def test_a_rental_is_given_back(api: HandlerApi, sim: Simulator) -> None:
    ref = rent(api)

    assert api.rent_cancel(ref) == CancelResult(CancelOutcome.CANCELLED, signal="SUCCESS")
    assert sim.market.balance == Decimal(1000)


# ---------------------------------------------------------------------- silence about secrets

SMS_TEXT = "Your very private code is 987654"


@pytest.mark.parametrize(
    "name", sorted({*UNKNOWN_PURCHASES, *NO_INFORMATION, "unreachable", "echo"})
)
def test_no_error_and_no_log_carries_the_key(
    api: HandlerApi,
    hasty: HandlerApi,
    sim: Simulator,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # which the settings keep quiet
    caplog.set_level(logging.DEBUG, logger="httpcore")
    echo = Fault.says("KEY" + KEY.upper())
    fault = (UNKNOWN_PURCHASES | NO_INFORMATION).get(name, (echo, None))[0]
    errors: list[BaseException] = []
    if name == "unreachable":
        sim.stop()
    for action in ("getNumberV2", "getRentStatus", "setStatus"):
        sim.inject(action, fault, times=3)
    for call in (buy, READS["getRentStatus"], CANCELS["setStatus"]):
        try:
            call(hasty if fault.delay or fault.drip else api)
        except UpstreamError as error:
            errors.append(error)

    assert errors
    for error in errors:
        shown = "".join(traceback.format_exception(error)) + repr(error)
        assert KEY not in shown
        link: BaseException | None = error
        while link is not None:
            assert KEY not in f"{link!r} {vars(link)!r}"
            assert isinstance(link, UpstreamError)
            link = link.__cause__ or link.__context__
    assert KEY not in caplog.text
    assert KEY not in repr(vars(api)["_wire"])
    assert KEY not in repr(api)


def test_an_uppercase_key_repeated_as_an_answer_is_not_repeated_by_us(sim: Simulator) -> None:
    with HandlerApi(sim.url, "ABCDEF0123456789") as api:
        sim.inject("getBalance", Fault.says("ABCDEF0123456789"))

        with pytest.raises(UpstreamProtocolError) as caught:
            api.balance()

    assert "ABCDEF" not in str(caught.value)


def test_no_log_carries_an_sms(
    api: HandlerApi, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="httpx")  # which the settings keep quiet
    caplog.set_level(logging.DEBUG, logger="httpcore")
    ref = buy(api)
    sim.deliver_sms(ref, "987654", SMS_TEXT)

    activation = api.status(ref)

    assert activation.messages[0].text == SMS_TEXT
    assert "987654" not in caplog.text
    assert "987654" not in repr(activation)
    assert "httpx" in {record.name for record in caplog.records}  # their logs were listened to
