"""The simulated wholesaler, asked over HTTP as any client would."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from orders.upstreams.simulator import Behaviour, Dialect, Fault, Simulator
from orders.upstreams.simulator import market as market_module
from orders.upstreams.simulator.market import Refused

START = datetime(2030, 5, 1, 12, 0, tzinfo=UTC).timestamp()


class World:
    """A simulator, its clock and a plain HTTP client."""

    def __init__(self, **options: Any) -> None:
        self.now = START
        self.sim = Simulator(clock=lambda: self.now, **options).start()
        self.http = httpx.Client(trust_env=False)

    def ask(self, action: str, **params: object) -> Any:
        """The body of an answer: JSON where it is, else its text."""
        response = self.response(action, **params)
        kind = response.headers["content-type"]
        return response.json() if kind == "application/json" else response.text

    def response(self, action: str, **params: object) -> httpx.Response:
        form = {"api_key": self.sim.api_key, "action": action, **params}
        data = {name: str(value) for name, value in form.items()}
        return self.http.post(f"{self.sim.url}/stubs/handler_api.php", data=data)

    def buy(self, order_key: str = "o", **params: object) -> str:
        return self.ask("getNumberV2", service="tg", country=6, orderId=order_key, **params)[
            "activationId"
        ]

    def rent(self, hours: int = 4) -> str:
        return self.ask("getRentNumber", service="tg", country=6, rent_time=hours)["phone"]["id"]

    def money(self) -> tuple[Decimal, Decimal]:
        return self.sim.market.charged, self.sim.market.refunded

    def close(self) -> None:
        self.http.close()
        self.sim.stop()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def newer() -> Iterator[World]:
    """The newer dialect: errors as JSON with a status of their own."""
    made = World(dialect=Dialect(errors="json", ids="int"))
    yield made
    made.close()


def test_a_number_is_sold_for_money(world: World) -> None:
    assert world.ask("getNumberV2", service="tg", country=6, orderId="o") == {
        "activationId": "100000001",
        "phoneNumber": world.sim.line("100000001").phone,
        "activationCost": 0.25,
        "currency": 840,
        "countryCode": "6",
        "canGetAnotherSms": True,
        "activationTime": "2030-05-01 15:00:00",
        "activationOperator": "any",
    }
    assert world.ask("getBalance") == "ACCESS_BALANCE:999.75"
    assert world.sim.requests == {"getNumberV2": 1, "getBalance": 1}


def test_a_url_may_carry_the_question_too(world: World) -> None:
    params = {"api_key": "simulator-key", "action": "getNumber", "service": "tg"}
    answer = world.http.get(f"{world.sim.url}/stubs/handler_api.php", params=params).text

    assert answer == f"ACCESS_NUMBER:100000001:{world.sim.line('100000001').phone}"


def test_an_order_key_is_sold_to_once(world: World) -> None:
    world.buy()

    assert world.ask("getNumberV2", service="tg", orderId="o") == "ORDER_ALREADY_EXISTS"
    assert (world.sim.bought_for_order("o"), world.sim.live_of_order("o")) == (1, 1)


def test_numbers_differ_and_may_be_made_to_repeat(world: World) -> None:
    phones = {world.sim.line(world.buy(f"o{n}")).phone for n in range(50)}
    world.sim.market.next_phones.append("62911111111")

    assert len(phones) == 50
    assert world.sim.line(world.buy("again")).phone == "62911111111"


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"action": "getNumberV2"}, "BAD_SERVICE"),
        ({"action": "getNumberV2", "service": "tg", "maxPrice": "0.1"}, "WRONG_MAX_PRICE:0.25"),
        ({"action": "getStatus", "id": "7"}, "NO_ACTIVATION"),
        ({"action": "setStatus", "id": "7", "status": "8"}, "NO_ACTIVATION"),
        ({"action": "getRentStatus", "id": "7"}, "INVALID_PHONE"),
        ({"action": "getRentNumber", "rent_time": "1"}, "INVALID_TIME"),
        ({"action": "dance"}, "BAD_ACTION"),
        ({"action": "getBalance", "api_key": "wrong"}, "BAD_KEY"),
    ],
)
def test_a_wrong_question_is_refused_by_a_word(
    world: World, params: dict[str, str], word: str
) -> None:
    assert world.ask(**params) == word
    assert world.money() == (0, 0)


def test_the_newer_dialect_refuses_with_a_status_and_a_title(newer: World) -> None:
    ref = newer.buy()
    assert ref == 100000001

    response = newer.response("setStatus", id=ref, status=8)

    assert response.status_code == 409
    assert response.json() == {
        "title": "EARLY_CANCEL_DENIED",
        "details": "Early_cancel_denied",
        "info": {"minActivationTime": 120},
    }


def test_an_sms_is_shown_in_status_list_and_history(world: World) -> None:
    ref = world.buy()
    assert world.ask("getStatus", id=ref) == "STATUS_WAIT_CODE"
    world.now += 30
    world.sim.deliver_sms(ref, "12:34", "Your code is 12:34")

    assert world.ask("getStatus", id=ref) == "STATUS_OK:12:34"
    assert world.ask("getStatusV2", id=ref)["sms"] == {
        "dateTime": "2030-05-01 15:00:30",
        "code": "12:34",
        "text": "Your code is 12:34",
    }
    (row,) = world.ask("getActiveActivations")["activeActivations"]
    assert (row["smsCode"], row["smsText"]) == ("12:34", "Your code is 12:34")
    (row,) = world.ask("getHistory")
    assert (row["id"], row["sms"], row["status"]) == (ref, "Your code is 12:34", "4")


def test_another_sms_may_be_asked_for(world: World) -> None:
    ref = world.buy()
    assert world.ask("setStatus", id=ref, status=3) == "BAD_STATUS"
    world.sim.deliver_sms(ref, "1")

    assert world.ask("setStatus", id=ref, status=3) == "ACCESS_RETRY_GET"
    assert world.ask("getStatus", id=ref) == "STATUS_WAIT_RETRY:1"
    world.sim.deliver_sms(ref, "2")
    assert world.ask("getStatus", id=ref) == "STATUS_OK:2"


def test_a_cancel_is_refused_early_then_gives_the_money_back(world: World) -> None:
    ref = world.buy()
    world.now += 119
    assert world.ask("setStatus", id=ref, status=8) == "EARLY_CANCEL_DENIED"
    world.now += 1
    assert world.ask("setStatus", id=ref, status=8) == "ACCESS_CANCEL"
    assert world.ask("setStatus", id=ref, status=8) == "ACTIVATION_NOT_ACTIVE"
    assert world.ask("getStatus", id=ref) == "STATUS_CANCEL"
    assert world.money() == (Decimal("0.25"), Decimal("0.25"))
    assert world.sim.live_of_order("o") == 0


def test_a_cancel_is_refused_once_an_sms_came(newer: World) -> None:
    with_sms, surprised = newer.buy("a"), newer.buy("b")
    newer.now += 200
    newer.sim.deliver_sms(str(with_sms), "1")
    newer.sim.deliver_on_cancel(str(surprised), "42", "Code 42")

    assert newer.ask("setStatus", id=with_sms, status=8)["title"] == "OTP_RECEIVED"
    answer = newer.ask("setStatus", id=surprised, status=8)
    assert (answer["title"], answer["info"]) == (
        "NEW_OTP_RECEIVED",
        {"data": {"code": "42", "text": "Code 42"}},
    )
    assert newer.ask("setStatus", id=surprised, status=8)["title"] == "OTP_RECEIVED"
    assert newer.money() == (Decimal("0.50"), 0)


def test_a_cancel_may_come_too_late(world: World) -> None:
    world.sim.market.free_cancel_for = 300
    ref = world.buy()
    world.now += 301

    assert world.ask("setStatus", id=ref, status=8) == "FREE_CANCELLATION_EXPIRED"
    assert world.money() == (Decimal("0.25"), 0)


@pytest.mark.parametrize(("sms", "status", "refunded"), [(True, "6", "0"), (False, "8", "0.25")])
def test_a_lifetime_ends_by_itself(world: World, sms: bool, status: str, refunded: str) -> None:
    ref = world.buy()
    if sms:
        world.sim.deliver_sms(ref, "1")
    world.now += 1199
    assert world.sim.live_of_order("o") == 1

    world.now += 1

    assert world.ask("getActiveActivations") == {"status": "success", "activeActivations": []}
    assert world.ask("getHistory")[0]["status"] == status
    assert world.money() == (Decimal("0.25"), Decimal(refunded))


@pytest.mark.parametrize(("how", "status"), [("break_number", "10"), ("end", "8")])
def test_a_number_taken_back_is_refunded(world: World, how: str, status: str) -> None:
    ref = world.buy()
    getattr(world.sim, how)(ref)

    assert world.ask("getStatus", id=ref) == "STATUS_CANCEL"
    assert world.ask("getHistory")[0]["status"] == status
    assert world.money() == (Decimal("0.25"), Decimal("0.25"))


def test_a_vanished_number_is_nowhere_and_not_refunded(world: World) -> None:
    ref = world.buy()
    world.sim.vanish(ref)
    world.now += 5000

    assert world.ask("getStatus", id=ref) == "NO_ACTIVATION"
    assert world.ask("getActiveActivations")["activeActivations"] == []
    assert world.ask("getHistory") == []
    assert world.money() == (Decimal("0.25"), 0)


def test_a_late_sms_is_seen_in_the_history_only(world: World) -> None:
    ref = world.buy()
    world.now += 200
    world.ask("setStatus", id=ref, status=8)
    world.sim.deliver_sms(ref, "1", "late 1")

    assert world.ask("getStatus", id=ref) == "STATUS_CANCEL"
    row = world.ask("getHistory")[0]
    assert (row["status"], row["sms"]) == ("8", "late 1")


def test_a_history_comes_in_pages_the_newest_first(world: World) -> None:
    for n in range(130):
        world.now += 1
        world.buy(f"o{n}")

    first = world.ask("getHistory", limit=500)
    second = world.ask("getHistory", offset=100, size=100)

    assert (len(first), len(second)) == (100, 30)
    assert first[0]["id"] == "100000130"
    assert world.ask("getHistory", start=int(START) + 121, end=int(START) + 125)[0]["id"] == (
        "100000125"
    )
    assert len(world.ask("getHistory", start=int(START) + 121, end=int(START) + 125)) == 5


def test_a_rental_gets_many_messages_in_pages(world: World) -> None:
    ref = world.rent()
    assert world.ask("getRentStatus", id=ref) == {"status": "error", "message": "STATUS_WAIT_CODE"}
    for n in range(11):
        world.sim.deliver_sms(ref, "", f"text {n}", "Bank")

    answer = world.ask("getRentStatus", id=ref, page=1)

    assert answer == {
        "status": "success",
        "quantity": "11",
        "values": {
            "0": {
                "phoneFrom": "Bank",
                "text": "text 10",
                "service": "tg",
                "date": "2030-05-01 15:00:00",
            }
        },
    }


@pytest.mark.parametrize(
    ("how", "word", "refunded"),
    [("break_number", "STATUS_REVOKE", "0.25"), ("end", "STATUS_CANCEL", "0.25")],
)
def test_a_rental_taken_back_says_so(world: World, how: str, word: str, refunded: str) -> None:
    ref = world.rent()
    getattr(world.sim, how)(ref)

    assert world.ask("getRentStatus", id=ref)["message"] == word
    assert world.money() == (Decimal("0.25"), Decimal(refunded))


def test_a_rental_that_died_silently_looks_alive(world: World) -> None:
    ref = world.rent()
    world.sim.kill_rental(ref)
    world.sim.deliver_sms(ref, "1")

    assert world.ask("getRentStatus", id=ref)["message"] == "STATUS_WAIT_CODE"
    assert world.ask("continueRentNumber", id=ref, rent_time=4) == "RENT_DIE"


def test_a_rental_is_given_back_in_its_first_minutes_only(world: World) -> None:
    early, late = world.rent(), world.rent()
    assert world.ask("setRentStatus", id=early, status=2) == {"status": "success"}
    assert world.ask("setRentStatus", id=early, status=2) == "ALREADY_CANCEL"
    world.now += 1201

    assert world.ask("setRentStatus", id=late, status=2) == "CANT_CANCEL"
    assert world.ask("setRentStatus", id=late, status=9) == "INCORECT_STATUS"
    assert world.ask("setRentStatus", id=late, status=1) == {"status": "success"}
    assert world.ask("setRentStatus", id=late, status=2) == "ALREADY_FINISH"
    assert world.money() == (Decimal("0.50"), Decimal("0.25"))


def test_a_rental_is_prolonged_or_sold_again_under_a_new_id(world: World) -> None:
    ref = world.rent(4)
    assert world.ask("continueRentNumber", id=ref, rent_time=4)["phone"]["id"] == ref
    world.now += 5 * 3600
    assert world.ask("getRentList")["values"]["0"]["id"] == ref
    world.now += 3 * 3600
    assert world.ask("getRentStatus", id=ref)["message"] == "STATUS_FINISH"

    again = world.ask("continueRentNumber", id=ref, rent_time=4)["phone"]

    assert again["id"] != ref
    assert again["number"] == world.sim.line(ref).phone


def test_our_account_may_be_drained_banned_or_locked_out(newer: World) -> None:
    newer.sim.market.drain()
    assert newer.response("getNumberV2", service="tg").status_code == 402
    newer.sim.ban("specific", seconds=60)
    assert newer.ask("getBalance")["info"] == {"scope": "specific", "retry_after_seconds": 60}
    newer.sim.unban()
    assert newer.ask("getBalance") == "ACCESS_BALANCE:0"
    newer.sim.revoke_key()
    assert newer.ask("getBalance", api_key="simulator-key")["title"] == "BAD_KEY"


# ---------------------------------------------------------------------- faults


def test_a_lost_answer_leaves_a_number_bought(world: World) -> None:
    world.sim.inject("getNumberV2", Fault.lost())

    with pytest.raises(httpx.RemoteProtocolError):
        world.buy()

    assert (world.sim.live_of_order("o"), world.money()) == (1, (Decimal("0.25"), 0))


def test_an_answer_cut_midway_breaks_the_connection(world: World) -> None:
    world.sim.inject("getBalance", Fault.reset_midway())

    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        world.ask("getBalance")


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault.html(503), 503, "<!DOCTYPE html>"),
        (Fault.empty(), 200, ""),
        (Fault.quoted(), 200, '"ACCESS_BALANCE:1000"'),
        (Fault.bom(), 200, "\ufeffACCESS_BALANCE:1000\r\n"),
        (Fault.truncated(), 200, "ACCESS_BA"),
        (Fault.throttled(), 429, '{"title":"RATE_LIMIT"'),
        (Fault.says("STATUS_NEW"), 200, "STATUS_NEW"),
        (Fault(status=204), 204, ""),
    ],
)
def test_a_body_is_spoilt_once(world: World, fault: Fault, status: int, body: str) -> None:
    world.sim.inject("getBalance", fault)

    spoilt = world.response("getBalance")

    assert spoilt.status_code == status
    assert spoilt.content.decode().startswith(body)
    assert world.ask("getBalance") == "ACCESS_BALANCE:1000"


def test_headers_of_faults_are_sent(world: World) -> None:
    world.sim.inject("getBalance", Fault.throttled("5"))
    world.sim.inject("getBalance", Fault.redirect("/there"))
    world.sim.inject("getNumberV2", Fault.typed("text/html"))

    assert world.response("getBalance").headers["retry-after"] == "5"
    assert world.response("getBalance").headers["location"] == "/there"
    typed = world.response("getNumberV2", service="tg")
    assert (typed.headers["content-type"], json.loads(typed.text)["currency"]) == ("text/html", 840)


def test_fields_of_an_answer_are_patched_or_left_out(world: World) -> None:
    world.sim.inject("getNumberV2", Fault.patched(currency=643, phoneNumber=...))

    answer = world.ask("getNumberV2", service="tg")

    assert answer["currency"] == 643
    assert "phoneNumber" not in answer


def test_a_stopped_simulator_refuses_and_starts_again_where_it_was(world: World) -> None:
    ref = world.buy()
    url = world.sim.url
    world.sim.stop()
    with pytest.raises(httpx.ConnectError):
        world.ask("getBalance")

    world.sim.start()

    assert world.sim.url == url
    assert world.ask("getStatus", id=ref) == "STATUS_WAIT_CODE"


def test_a_question_asked_elsewhere_is_not_found(world: World) -> None:
    assert world.http.get(f"{world.sim.url}/").status_code == 404


# ---------------------------------------------------------------------- size, and a life of its own


def test_ten_thousand_live_numbers_are_listed_quickly(world: World) -> None:
    world.sim.market.opening_balance = Decimal(10_000)
    for n in range(10_000):
        world.sim.market.buy("tg", "6", f"o{n}")
    started = time.process_time()

    listed = world.ask("getActiveActivations")["activeActivations"]

    # Of the processor, however busy it is with others.
    assert time.process_time() - started < 2
    assert len(listed) == 10_000


def test_the_oldest_ended_numbers_are_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market_module, "KEPT_LINES", 3)
    live = world.buy("live")
    ended = [world.buy(f"o{n}") for n in range(3)]
    for ref in ended:
        world.sim.end(ref)

    newest = world.buy("new")

    kept = {row["id"] for row in world.ask("getHistory")}
    assert kept == {live, newest, ended[2]}
    with pytest.raises(Refused):
        world.sim.line(ended[0])


def fates(behaviour: Behaviour, count: int = 200) -> tuple[Counter[str], World]:
    world = World(behaviour=behaviour, seed=7)
    for n in range(count):
        world.response("getNumberV2", service="tg", orderId=f"o{n}")
    world.now += 60
    rows = [row for n in range(0, count, 100) for row in world.ask("getHistory", offset=n)]
    world.close()
    kinds = ("sms" if row["sms"] else row["status"] for row in rows)
    return Counter(kinds), world


def test_a_world_of_its_own_repeats_itself_by_its_seed() -> None:
    behaviour = Behaviour(lost=0)

    first, world = fates(behaviour)
    second, _ = fates(behaviour)

    assert first == second
    assert set(first) == {"sms", "4", "10"}
    assert first["sms"] > 120
    assert first.total() == sum(world.sim.market.bought.values()) < 200


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (Behaviour(silent=0, broken=0, no_numbers=0, lost=0), {"sms": 20}),
        (Behaviour(silent=1, broken=0, no_numbers=0, lost=0), {"4": 20}),
        (Behaviour(silent=0, broken=1, no_numbers=0, lost=0, late=0), {"10": 20}),
        (Behaviour(silent=0, broken=1, no_numbers=0, lost=0, late=1), {"sms": 20}),
        (Behaviour(no_numbers=1), {}),
    ],
)
def test_each_share_of_fates_can_be_all(behaviour: Behaviour, expected: dict[str, int]) -> None:
    assert fates(behaviour, 20)[0] == expected


def test_a_world_of_its_own_loses_answers_after_the_purchase() -> None:
    world = World(behaviour=Behaviour(no_numbers=0, lost=1))
    try:
        with pytest.raises(httpx.RemoteProtocolError):
            world.buy()
        assert world.sim.live_of_order("o") == 1
    finally:
        world.close()


def test_rentals_of_a_world_of_its_own_get_messages() -> None:
    world = World(behaviour=Behaviour(broken=0, no_numbers=0, lost=0, sms_after=(1, 2)))
    try:
        ref = world.rent()
        world.now += 60
        answer = world.ask("getRentStatus", id=ref)
    finally:
        world.close()

    assert 1 <= int(answer["quantity"]) <= 3
    assert answer["values"]["0"]["text"].startswith("Your code is ")


def test_it_runs_as_a_program() -> None:
    command = [
        sys.executable,
        "-m",
        "orders.upstreams.simulator",
        "--port",
        "0",
        "--sms-after",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().split()[-1]
        form = {"api_key": "simulator-key", "action": "getBalance"}
        try:
            answer = httpx.post(f"{url}/stubs/handler_api.php", data=form, trust_env=False).text
        finally:
            program.terminate()

    assert answer == "ACCESS_BALANCE:1000"
