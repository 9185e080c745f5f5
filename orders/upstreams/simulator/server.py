"""The simulated wholesaler's HTTP face: the handler_api protocol, and faults on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qs, urlsplit

from orders.upstreams.simulator.faults import Fault
from orders.upstreams.simulator.market import (
    BLOCKED,
    CANCELLED,
    FINISHED,
    Behaviour,
    Line,
    Market,
    Refused,
    Sms,
)

if TYPE_CHECKING:
    from types import TracebackType

PATH = "/stubs/handler_api.php"
MAX_REQUEST_BYTES = 64 * 1024
STOP_WITHIN = 0.005  # seconds; hundreds of tests each stop one

PURCHASES = frozenset({"getNumber", "getNumberV2", "getRentNumber"})
# With HTTP 200 and as a word even in the newer dialect.
ALWAYS_WORDS = frozenset({"NO_NUMBERS", "ERROR_SQL", "NO_KEY"})


@dataclass(frozen=True, slots=True)
class Dialect:
    """How this wholesaler speaks. ``utc_offset`` (hours) is the zone its times are printed in."""

    errors: Literal["text", "json"] = "text"
    active_list: Literal["activeActivations", "data", "rows", "bare"] = "activeActivations"
    ids: Literal["str", "int"] = "str"
    status_v2: bool = True
    page_limit: int | None = None
    utc_offset: float = 3.0


Params = Mapping[str, str]
Answer = str | dict[str, Any] | list[Any]


class Simulator:
    """A wholesaler on 127.0.0.1. ``start`` and ``stop`` may alternate: the world and port stay.

    Amounts are USD, durations are seconds; ``clock`` gives UTC seconds. Without ``behaviour``
    nothing happens on its own but the end of a lifetime.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        api_key: str = "simulator-key",
        seed: int = 1,
        clock: Callable[[], float] = time.time,
        balance: Decimal = Decimal(1000),
        price: Decimal = Decimal("0.25"),
        lifetime: float = 1200.0,
        early_cancel: float = 120.0,
        dialect: Dialect | None = None,
        behaviour: Behaviour | None = None,
        first_ref: int = 100_000_001,
    ) -> None:
        self.market = Market(
            clock=clock,
            seed=seed,
            balance=balance,
            price=price,
            lifetime=lifetime,
            early_cancel=early_cancel,
            behaviour=behaviour,
            first_ref=first_ref,
        )
        self.dialect = dialect or Dialect()
        self.api_key = api_key
        self.account_error: Refused | None = None
        self.requests: Counter[str] = Counter()
        self._port = port
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._server: _Server | None = None
        self._stopping = threading.Event()

    # ------------------------------------------------------------------ running

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Simulator:
        """Listen; with port 0 a free one is taken, and kept from then on."""
        self._stopping.clear()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, args=(STOP_WITHIN,), name="simulator", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Refuse connections and drop the open ones."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def pause(self, seconds: float) -> None:
        """Wait inside an answer, but not beyond the stop of the server."""
        self._stopping.wait(seconds)

    # ------------------------------------------------------------------ scripting

    def inject(self, action: str, fault: Fault, times: int = 1) -> None:
        """Spoil the next ``times`` answers to an action, after those injected before."""
        with self.market.lock:
            self._faults[action].extend([fault] * times)

    def deliver_sms(self, ref: str, code: str, text: str = "", sender: str = "Service") -> None:
        """An SMS arrives now; after the end it is a late one, seen in the history only."""
        with self.market.lock:
            now = self.market.advance()
            self.market.deliver(self.line(ref), Sms(now, code, text or code, sender))

    def deliver_on_cancel(self, ref: str, code: str, text: str = "") -> None:
        """An SMS arrives at the moment we cancel: NEW_OTP_RECEIVED."""
        with self.market.lock:
            self.line(ref).surprise = Sms(self.market.clock(), code, text or code)

    def break_number(self, ref: str) -> None:
        """The wholesaler blocks the number: status 10, for a rental STATUS_REVOKE."""
        with self.market.lock:
            self.market.take_back(self.line(ref), BLOCKED)

    def end(self, ref: str) -> None:
        """The wholesaler cancels it before its time."""
        with self.market.lock:
            self.market.take_back(self.line(ref), CANCELLED)

    def vanish(self, ref: str) -> None:
        """It was never there: NO_ACTIVATION, in no list, our money kept."""
        with self.market.lock:
            self.market.vanish(self.line(ref))

    def kill_rental(self, ref: str) -> None:
        """A silent death: it looks alive, and no SMS ever comes again."""
        with self.market.lock:
            self.line(ref).dead = True

    def ban(self, scope: str = "global", seconds: int = 3600) -> None:
        """Our account is banned until ``unban``."""
        self.account_error = Refused(
            "BANNED", 403, "'2030-01-01 00:00:00'", scope=scope, retry_after_seconds=seconds
        )

    def unban(self) -> None:
        """Our account works again."""
        self.account_error = None

    def revoke_key(self) -> None:
        """Our key is refused from now on."""
        self.api_key = ""

    def line(self, ref: str) -> Line:
        """The number sold under that ref; raises Refused when there is none."""
        return self.market.line(ref)

    def live_of_order(self, order_key: str) -> int:
        """How many live numbers an order has."""
        return self.market.live_of_order(order_key)

    def bought_for_order(self, order_key: str) -> int:
        """How many numbers were ever sold to an order."""
        return self.market.bought[order_key]

    # ------------------------------------------------------------------ answering

    def take_fault(self, action: str) -> Fault | None:
        """The fault that this answer has to suffer, if any; counts the request."""
        with self.market.lock:
            self.requests[action] += 1
            faults = self._faults[action]
            if faults:
                return faults.popleft()
            lost = action in PURCHASES and self.market.loses_answer()
            return Fault.lost() if lost else None

    def answer(self, params: Params) -> tuple[int, bytes, str]:
        """Do what is asked: HTTP status, body and content type."""
        try:
            with self.market.lock:
                answer = self._act(params)
        except Refused as refusal:
            return self._say_refusal(refusal)
        if isinstance(answer, str):
            return 200, answer.encode(), "text/plain; charset=utf-8"
        return 200, json.dumps(answer, default=float).encode(), "application/json"

    def _say_refusal(self, refusal: Refused) -> tuple[int, bytes, str]:
        if self.dialect.errors == "json" and refusal.word not in ALWAYS_WORDS:
            body = {"title": refusal.word, "details": refusal.word.capitalize()}
            envelope = json.dumps({**body, "info": refusal.info}).encode()
            return refusal.status, envelope, "application/json"
        text = f"{refusal.word}:{refusal.value}" if refusal.value else refusal.word
        return 200, text.encode(), "text/plain; charset=utf-8"

    def _act(self, params: Params) -> Answer:
        if "api_key" not in params:
            raise Refused("NO_KEY", 401)
        if not self.api_key or params["api_key"] != self.api_key:
            raise Refused("BAD_KEY", 401)
        if self.account_error is not None:
            raise self.account_error
        actions: dict[str, Callable[[Params], Answer]] = {
            "getBalance": self._get_balance,
            "getNumber": self._get_number,
            "getNumberV2": self._get_number_v2,
            "setStatus": self._set_status,
            "getStatus": self._get_status,
            "getActiveActivations": self._get_active_activations,
            "getHistory": self._get_history,
            "getRentNumber": self._get_rent_number,
            "getRentStatus": self._get_rent_status,
            "setRentStatus": self._set_rent_status,
            "getRentList": self._get_rent_list,
            "continueRentNumber": self._continue_rent_number,
        }
        if self.dialect.status_v2:
            actions["getStatusV2"] = self._get_status_v2
        act = actions.get(params.get("action", ""))
        if act is None:
            raise Refused("BAD_ACTION", 404)
        return act(params)

    def _get_balance(self, params: Params) -> Answer:
        return f"ACCESS_BALANCE:{self.market.balance}"

    def _buy(self, params: Params) -> Line:
        if not params.get("service"):
            raise Refused("BAD_SERVICE", 422)
        max_price = params.get("maxPrice")
        return self.market.buy(
            params["service"],
            params.get("country", "0"),
            params.get("orderId", ""),
            Decimal(max_price) if max_price else None,
        )

    def _get_number(self, params: Params) -> Answer:
        line = self._buy(params)
        return f"ACCESS_NUMBER:{line.ref}:{line.phone}"

    def _get_number_v2(self, params: Params) -> Answer:
        line = self._buy(params)
        return {
            "activationId": self._id(line),
            "phoneNumber": line.phone,
            "activationCost": line.cost,
            "currency": 840,
            "countryCode": line.country,
            "canGetAnotherSms": True,
            "activationTime": self._time(line.bought_at),
            "activationOperator": "any",
        }

    def _set_status(self, params: Params) -> Answer:
        line = self.market.line(params.get("id", ""), "activation")
        wanted = params.get("status", "")
        if wanted == "8":
            self.market.cancel(line)
            return "ACCESS_CANCEL"
        if wanted == "6":
            self.market.finish(line)
            return "ACCESS_ACTIVATION"
        if wanted not in {"1", "3"} or (wanted == "3" and not line.sms):
            raise Refused("BAD_STATUS")
        if not line.live:
            raise Refused("ACTIVATION_NOT_ACTIVE", 409)
        line.asked_again = wanted == "3"
        return "ACCESS_RETRY_GET" if line.asked_again else "ACCESS_READY"

    def _get_status(self, params: Params) -> Answer:
        line = self.market.line(params.get("id", ""), "activation")
        if not line.live:  # the protocol says so of completed ones too
            return "STATUS_CANCEL"
        if not line.sms:
            return "STATUS_WAIT_CODE"
        word = "STATUS_WAIT_RETRY" if line.asked_again else "STATUS_OK"
        return f"{word}:{line.sms[-1].code}"

    def _get_status_v2(self, params: Params) -> Answer:
        line = self.market.line(params.get("id", ""), "activation")
        if not line.live:
            return "STATUS_CANCEL"
        sms: dict[str, str] | None = None
        if line.sms:
            last = line.sms[-1]
            sms = {"dateTime": self._time(last.at), "code": last.code, "text": last.text}
        return {"verificationType": 0, "sms": sms, "call": None}

    def _get_active_activations(self, params: Params) -> Answer:
        lines = self.market.live("activation")
        if self.dialect.page_limit is not None:
            limit = min(int(params.get("limit", 100)), self.dialect.page_limit)
            start = int(params.get("start", 0))
            lines = lines[start : start + limit]
        rows = [self._active_row(line) for line in lines]
        if self.dialect.active_list == "bare":
            return rows
        if self.dialect.active_list == "data":
            return {"status": "success", "data": rows}
        if self.dialect.active_list == "rows":
            counts = {"affected_rows": len(rows), "num_rows": len(rows)}
            return {"status": "success", "data": [], "activeActivations": {**counts, "rows": rows}}
        return {"status": "success", "activeActivations": rows}

    def _active_row(self, line: Line) -> dict[str, Any]:
        last = line.sms[-1] if line.sms else None
        return {
            "activationId": self._id(line),
            "serviceCode": line.service,
            "phoneNumber": line.phone,
            "activationCost": line.cost,
            "activationStatus": str(line.status),
            "smsCode": last.code if last else None,
            "smsText": last.text if last else None,
            "activationTime": self._time(line.bought_at),
            "countryCode": line.country,
            "currency": 840,
        }

    def _get_history(self, params: Params) -> Answer:
        start = float(params.get("start", 0))
        end = float(params.get("end", self.market.clock()))
        offset = int(params.get("offset", 0))
        size = min(int(params.get("limit") or params.get("size") or 100), 100)
        lines = self.market.bought_between(start, end)
        return [
            {
                "id": self._id(line),
                "date": self._time(line.bought_at),
                "phone": line.phone,
                "sms": line.sms[-1].text if line.sms else None,
                "cost": line.cost,
                "status": str(line.status),
                "currency": 840,
            }
            for line in islice(lines, offset, offset + size)
        ]

    def _get_rent_number(self, params: Params) -> Answer:
        hours = params.get("rent_time", "")
        if not hours.isdecimal():
            raise Refused("INVALID_TIME")
        line = self.market.rent(
            params.get("service", "full"),
            params.get("country", "0"),
            params.get("orderId", ""),
            int(hours),
        )
        return self._rental(line)

    def _rental(self, line: Line) -> Answer:
        phone = {"id": self._id(line), "endDate": self._time(line.ends_at), "number": line.phone}
        return {"status": "success", "phone": phone}

    def _get_rent_status(self, params: Params) -> Answer:
        line = self.market.line(params.get("id", ""), "rental")
        words = {BLOCKED: "STATUS_REVOKE", CANCELLED: "STATUS_CANCEL", FINISHED: "STATUS_FINISH"}
        word = words.get(line.status) or ("" if line.sms else "STATUS_WAIT_CODE")
        if word:
            return {"status": "error", "message": word}
        size = min(int(params.get("size", 10)), 10)
        start = int(params.get("page", 0)) * size
        values = {
            str(index): {
                "phoneFrom": sms.sender,
                "text": sms.text,
                "service": line.service,
                "date": self._time(sms.at),
            }
            for index, sms in enumerate(line.sms[start : start + size])
        }
        return {"status": "success", "quantity": str(len(line.sms)), "values": values}

    def _set_rent_status(self, params: Params) -> Answer:
        line = self.market.line(params.get("id", ""), "rental")
        wanted = params.get("status", "")
        if wanted == "1":
            self.market.finish(line)
        elif wanted == "2":
            self.market.cancel_rental(line)
        else:
            raise Refused("INCORECT_STATUS")
        return {"status": "success"}

    def _get_rent_list(self, params: Params) -> Answer:
        lines = self.market.live("rental")
        values = {
            str(index): {"id": self._id(line), "phone": line.phone}
            for index, line in enumerate(lines)
        }
        return {"status": "success", "values": values}

    def _continue_rent_number(self, params: Params) -> Answer:
        hours = params.get("rent_time", "")
        if not hours.isdecimal():
            raise Refused("INVALID_TIME")
        return self._rental(self.market.extend(params.get("id", ""), int(hours)))

    def _id(self, line: Line) -> str | int:
        return int(line.ref) if self.dialect.ids == "int" else line.ref

    def _time(self, moment: float) -> str:
        local = datetime.fromtimestamp(moment, UTC) + timedelta(hours=self.dialect.utc_offset)
        return local.strftime("%Y-%m-%d %H:%M:%S")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], simulator: Simulator) -> None:
        super().__init__(address, _Handler)
        self.simulator = simulator
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the play; a fault of our own is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        with self._open_lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve(urlsplit(self.path).query)

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            self.close_connection = True
            self._send(413, b"", {"Connection": "close"})
            return
        form = self.rfile.read(int(length)).decode("utf-8", "replace")
        self._serve(f"{urlsplit(self.path).query}&{form}")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line may carry a key."""

    def _serve(self, query: str) -> None:
        if urlsplit(self.path).path != PATH:
            self._send(404, b"", {})
            return
        params = {name: values[-1] for name, values in parse_qs(query).items()}
        simulator = self.server.simulator
        fault = simulator.take_fault(params.get("action", ""))
        if fault is None:
            status, body, content_type = simulator.answer(params)
            self._send(status, body, {"Content-Type": content_type})
        else:
            self._suffer(fault, params)

    def _suffer(self, fault: Fault, params: Params) -> None:
        simulator = self.server.simulator
        status, body, content_type = fault.status, fault.body, "text/plain"
        if fault.commit:
            true_status, body, content_type = simulator.answer(params)
            status = true_status if status == 200 else status
        if fault.spoil is not None:
            body = fault.spoil(body)
        simulator.pause(fault.delay)
        if fault.cut == "silent":
            self.close_connection = True
            return
        headers = {"Content-Type": content_type, **fault.headers}
        self._send(status, body, headers, fault)

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault | None = None
    ) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status != HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        with contextlib.suppress(OSError):  # the client may have left
            if fault is not None and fault.cut == "midway":
                self._reset_after(head + body[: len(body) // 2])
            elif fault is not None and fault.drip:
                self._drip(head, body, fault)
            else:
                self.wfile.write(head + body)

    def _reset_after(self, part: bytes) -> None:
        self.wfile.write(part)
        # A reset in place of a close: no lingering, and unread data are thrown away.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close_connection = True

    def _drip(self, head: bytes, body: bytes, fault: Fault) -> None:
        whole = head + body
        at_once = 0 if fault.dripping == "headers" else len(head)
        self.wfile.write(whole[:at_once])
        for index in range(at_once, len(whole)):
            self.server.simulator.pause(fault.drip)
            self.wfile.write(whole[index : index + 1])
