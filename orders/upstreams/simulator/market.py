"""The simulated wholesaler's world: numbers, money and time. It knows nothing of HTTP.

Time comes from a clock that tests can move; what is due happens when the world is next looked at.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

# The protocol's own numbers for the state of an activation.
WAITING, FINISHED, CANCELLED, BLOCKED = 4, 6, 8, 10

# Calling codes of some of the protocol's countries; the rest get the first.
CALLING_CODES = {"0": "7", "2": "7", "6": "62", "12": "1", "16": "44", "43": "49", "187": "1"}
KEPT_LINES = 200_000


class Refused(Exception):
    """The wholesaler's refusal: its word, the newer dialect's status and info."""

    def __init__(self, word: str, status: int = 400, /, value: str = "", **info: object) -> None:
        super().__init__(word)
        self.word = word
        self.status = status
        self.value = value
        self.info = info


@dataclass(frozen=True, slots=True)
class Sms:
    """One message; ``at`` is UTC seconds."""

    at: float
    code: str
    text: str
    sender: str = "Service"


@dataclass(slots=True)
class Line:
    """One number sold: an activation or a rental. Times are UTC seconds, money is USD."""

    ref: str
    kind: Literal["activation", "rental"]
    service: str
    country: str
    phone: str
    cost: Decimal
    order_key: str
    bought_at: float
    ends_at: float
    status: int = WAITING
    sms: list[Sms] = field(default_factory=list)
    asked_again: bool = False
    refunded: Decimal = Decimal(0)
    dead: bool = False
    surprise: Sms | None = None

    @property
    def live(self) -> bool:
        return self.status == WAITING


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the world behaves on its own. Probabilities of 0 to 1; ``sms_after`` is in seconds.

    Of each activation sold, ``silent`` never get an SMS and ``broken`` are taken back after some
    seconds; the rest get theirs. ``no_numbers`` of the purchases are refused, ``lost`` are done
    but never answered, and ``late`` of the cancelled ones still get an SMS afterwards.
    """

    sms_after: tuple[float, float] = (3.0, 20.0)
    silent: float = 0.15
    broken: float = 0.05
    no_numbers: float = 0.05
    lost: float = 0.01
    late: float = 0.02


class Market:
    """All that the wholesaler knows, behind one lock."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        seed: int,
        balance: Decimal,
        price: Decimal,
        lifetime: float,
        early_cancel: float,
        behaviour: Behaviour | None,
        first_ref: int,
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.random = random.Random(seed)  # noqa: S311  a repeatable demo, no secret
        self.behaviour = behaviour
        self.price = price
        self.lifetime = lifetime
        self.early_cancel = early_cancel
        self.free_cancel_for: float | None = None
        self.rent_cancel_for = 1200.0
        self.keeps_max_price = True
        self.next_phones: deque[str] = deque()
        self.opening_balance = balance
        self.charged = Decimal(0)
        self.refunded = Decimal(0)
        self.bought: Counter[str] = Counter()
        self._lines: dict[str, Line] = {}
        self._live: dict[str, Line] = {}
        self._ended: deque[str] = deque()
        self._by_order: dict[str, str] = {}
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count(first_ref)
        self._order_of_due = itertools.count()

    @property
    def balance(self) -> Decimal:
        """What is left of our money, USD."""
        return self.opening_balance - self.charged + self.refunded

    def drain(self) -> None:
        """Leave no money in our account."""
        with self.lock:
            self.opening_balance -= self.balance

    # ------------------------------------------------------------------ time

    def advance(self) -> float:
        """Let all happen that is due by now; return now."""
        now = self.clock()
        with self.lock:
            while self._due and self._due[0][0] <= now:
                moment, _, happen = heapq.heappop(self._due)
                happen(moment)
        return now

    def _at(self, moment: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order_of_due), happen))

    # ------------------------------------------------------------------ buying

    def buy(
        self, service: str, country: str, order_key: str, max_price: Decimal | None = None
    ) -> Line:
        """Sell an activation. An order key is sold to once, ever."""
        with self.lock:
            now = self.advance()
            if order_key and order_key in self._by_order:
                raise Refused("ORDER_ALREADY_EXISTS", 409)
            if max_price is not None and self.price > max_price and self.keeps_max_price:
                raise Refused("WRONG_MAX_PRICE", 400, str(self.price), min=float(self.price))
            line = self._sell("activation", service, country, order_key, now + self.lifetime)
            if order_key:
                self._by_order[order_key] = line.ref
            if self.behaviour is not None:
                self._plan_activation(line, self.behaviour)
            return line

    def rent(self, service: str, country: str, order_key: str, hours: int) -> Line:
        """Sell a rental of 2 to 1344 hours."""
        with self.lock:
            now = self.advance()
            if not 2 <= hours <= 1344:
                raise Refused("INVALID_TIME")
            line = self._sell("rental", service, country, order_key, now + hours * 3600)
            if self.behaviour is not None:
                self._plan_rental(line, self.behaviour)
            return line

    def extend(self, ref: str, hours: int) -> Line:
        """Prolong a rental; one that has ended is sold again under a new ref."""
        with self.lock:
            now = self.advance()
            line = self.line(ref, "rental")
            if line.dead or line.status == BLOCKED:
                raise Refused("RENT_DIE")
            if not line.live:
                self.next_phones.appendleft(line.phone)
                return self._sell(
                    "rental", line.service, line.country, line.order_key, now + hours * 3600
                )
            self._charge(self.price)
            line.cost += self.price
            line.ends_at += hours * 3600
            self._at(line.ends_at, lambda at: self._expire(line, at))
            return line

    def _sell(
        self,
        kind: Literal["activation", "rental"],
        service: str,
        country: str,
        order_key: str,
        ends_at: float,
    ) -> Line:
        if self.behaviour is not None and self.random.random() < self.behaviour.no_numbers:
            raise Refused("NO_NUMBERS", 404)
        self._charge(self.price)
        number = next(self._numbers)
        line = Line(
            ref=str(number),
            kind=kind,
            service=service,
            country=country,
            phone=self.next_phones.popleft() if self.next_phones else _phone(country, number),
            cost=self.price,
            order_key=order_key,
            bought_at=self.clock(),
            ends_at=ends_at,
        )
        self._lines[line.ref] = self._live[line.ref] = line
        self.bought[order_key] += 1
        self._at(ends_at, lambda at: self._expire(line, at))
        self._forget_oldest()
        return line

    def _charge(self, amount: Decimal) -> None:
        if self.balance < amount:
            raise Refused("NO_BALANCE", 402)
        self.charged += amount

    def _forget_oldest(self) -> None:
        while len(self._lines) > KEPT_LINES and self._ended:
            line = self._lines.pop(self._ended.popleft(), None)
            if line is not None:
                self._by_order.pop(line.order_key, None)
                del self.bought[line.order_key]

    # ------------------------------------------------------------------ looking

    def line(self, ref: str, kind: str | None = None) -> Line:
        """The line of that ref, as it is now."""
        self.advance()
        line = self._lines.get(ref)
        if line is None or (kind is not None and line.kind != kind):
            raise Refused("NO_ACTIVATION" if kind != "rental" else "INVALID_PHONE", 404)
        return line

    def live(self, kind: str) -> list[Line]:
        """Live lines of a kind, the oldest first."""
        with self.lock:
            self.advance()
            return [line for line in self._live.values() if line.kind == kind]

    def bought_between(self, start: float, end: float) -> Iterator[Line]:
        """Activations bought in a span of time, the newest first."""
        self.advance()
        for line in reversed(self._lines.values()):
            if line.bought_at < start:
                return
            if line.bought_at <= end and line.kind == "activation":
                yield line

    def live_of_order(self, order_key: str) -> int:
        """How many numbers of an order are live: more than one is a double purchase."""
        with self.lock:
            self.advance()
            return sum(line.order_key == order_key for line in self._live.values())

    # ------------------------------------------------------------------ ending

    def cancel(self, line: Line) -> None:
        """The customer gives the number back; refused as wholesalers do."""
        now = self.advance()
        age = now - line.bought_at
        if line.surprise is not None and line.live:
            line.sms.append(line.surprise)
            sms, line.surprise = line.surprise, None
            data = {"code": sms.code, "text": sms.text}
            raise Refused("NEW_OTP_RECEIVED", 409, sms.code, data=data)
        if not line.live:
            raise Refused("ACTIVATION_NOT_ACTIVE", 409)
        if line.sms:
            raise Refused("OTP_RECEIVED", 409)
        if age < self.early_cancel:
            raise Refused("EARLY_CANCEL_DENIED", 409, minActivationTime=int(self.early_cancel))
        if self.free_cancel_for is not None and age > self.free_cancel_for:
            raise Refused("FREE_CANCELLATION_EXPIRED", 409)
        self._end(line, CANCELLED, now, refund=True)

    def cancel_rental(self, line: Line) -> None:
        """The customer gives a rental back, in its first minutes only."""
        now = self.advance()
        age = now - line.bought_at
        if not line.live:
            raise Refused("ALREADY_FINISH" if line.status == FINISHED else "ALREADY_CANCEL")
        if age > self.rent_cancel_for or line.sms:
            raise Refused("CANT_CANCEL")
        self._end(line, CANCELLED, now, refund=True)

    def finish(self, line: Line) -> None:
        """The customer is content: the number is paid for."""
        now = self.advance()
        if not line.live:
            word = "ACTIVATION_NOT_ACTIVE" if line.kind == "activation" else "ALREADY_FINISH"
            raise Refused(word, 409)
        self._end(line, FINISHED, now, refund=False)

    def take_back(self, line: Line, status: int) -> None:
        """The wholesaler ends it: BLOCKED (a bad number) or CANCELLED. Refunded without an SMS."""
        self._take_back(line, status, self.advance())

    def _take_back(self, line: Line, status: int, at: float) -> None:
        if line.live:
            self._end(line, status, at, refund=not line.sms)

    def vanish(self, line: Line) -> None:
        """As if it had never been: absent from every list, our money kept."""
        self._lines.pop(line.ref, None)
        self._live.pop(line.ref, None)
        line.status = FINISHED

    def deliver(self, line: Line, sms: Sms) -> None:
        """An SMS arrives, after the end as well; on a dead line it never does."""
        if not line.dead:
            line.sms.append(sms)
            line.asked_again = False

    def _expire(self, line: Line, at: float) -> None:
        if not line.live or at < line.ends_at:  # ended before, or prolonged since
            return
        if line.kind == "rental" or line.sms:
            self._end(line, FINISHED, at, refund=False)
        else:
            self._end(line, CANCELLED, at, refund=True)

    def _end(self, line: Line, status: int, at: float, *, refund: bool) -> None:
        line.status = status
        self._live.pop(line.ref, None)
        self._ended.append(line.ref)
        if not refund:
            return
        line.refunded = line.cost
        self.refunded += line.cost
        if self.behaviour is not None and self.random.random() < self.behaviour.late:
            self._at(at + self.random.uniform(1, 30), lambda at: self._send_code(line, at))

    # ------------------------------------------------------------------ a life of its own

    def loses_answer(self) -> bool:
        """Whether the answer to this purchase gets lost on its way."""
        return self.behaviour is not None and self.random.random() < self.behaviour.lost

    def _plan_activation(self, line: Line, behaviour: Behaviour) -> None:
        moment = self.clock() + self.random.uniform(*behaviour.sms_after)
        fate = self.random.random()
        if fate < behaviour.broken:
            self._at(moment, lambda at: self._take_back(line, BLOCKED, at))
        elif fate >= behaviour.broken + behaviour.silent:
            self._at(moment, lambda at: self._send_code(line, at) if line.live else None)

    def _plan_rental(self, line: Line, behaviour: Behaviour) -> None:
        moment = self.clock() + self.random.uniform(*behaviour.sms_after)
        if self.random.random() < behaviour.broken:
            self._at(moment, lambda at: self._take_back(line, BLOCKED, at))
            return
        for _ in range(self.random.randint(1, 3)):
            self._at(moment, lambda at: self._send_code(line, at) if line.live else None)
            moment += self.random.uniform(*behaviour.sms_after)

    def _send_code(self, line: Line, at: float) -> None:
        code = f"{self.random.randrange(1_000_000):06d}"
        self.deliver(line, Sms(at, code, f"Your code is {code}"))


def _phone(country: str, number: int) -> str:
    """Digits without the plus. Different numbers give different phones, in no visible order."""
    shuffled = number * 7_368_787 % 1_000_000_000
    return f"{CALLING_CODES.get(country, '7')}9{shuffled:09d}"
