"""A storefront's traffic for the demo: customers who deposit, order, wait, sometimes cancel, and
write to support.
"""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connection

from smsactivator.common.errors import Refused
from smsactivator.common.files import Upload
from smsactivator.common.history import Actor
from smsactivator.complaints import Complaints
from smsactivator.management.commands.seed_demo import STOREFRONT
from support import inbound
from support.models import Ticket
from wallet.models import Customer

CUSTOMERS = 30
# USD, made when a wallet has less than LOW. From the first on, some have enough to leave with.
DEPOSIT = Decimal("40.00")
LOW = Decimal("5.00")
CANCELLED = 0.15  # share of the orders whose customer does not want to wait
READS_AFTER = (4, 15, 40, 75)  # seconds after an order at which its customer looks at it
REPORT_SECONDS = 60


class Command(BaseCommand):
    """Drive the storefront API until stopped, as a storefront would, and a mailbox beside it.

    Whatever the shop answers, it goes on; what is not a success is logged by path and status alone,
    since bodies may hold an SMS.
    """

    help = "Send a storefront's traffic to a running copy until stopped (demo)."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", required=True, help="Where the copy runs, without /api/v1.")
        parser.add_argument("--key-file", type=Path, required=True, help="The storefront's key.")
        parser.add_argument("--rate", type=float, default=0.7, help="Orders per second.")

    def handle(self, *args: Any, url: str, key_file: Path, rate: float, **options: Any) -> None:
        stop = threading.Event()

        def request_stop(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, request_stop)
        with httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {key_file.read_text().strip()}"},
            timeout=15,
            trust_env=False,  # the copy is on this machine: no proxy leads there
        ) as client:
            traffic = Traffic(client, self.stdout.write, Mailbox(self.stdout.write))
            while not stop.is_set():
                stop.wait(traffic.step(rate))


class Traffic:
    """What the customers of one storefront do; ``step`` does what is due next."""

    def __init__(
        self, client: httpx.Client, log: Any, mail: Callable[..., int | None] | None = None
    ) -> None:
        self.client = client
        self.log = log
        self.random = random.SystemRandom()
        self.customers = [f"demo-{number:03}" for number in range(1, CUSTOMERS + 1)]
        self.greeted: set[str] = set()
        # What each wallet surely still has, USD: refunds are only seen when it is asked again.
        self.sure: dict[str, Decimal] = {}
        self.offers: list[dict[str, Any]] = []
        self.later: list[tuple[float, int, str, str]] = []
        self.sequence = itertools.count()
        self.answers: Counter[int] = Counter()
        self.next_order = self.next_report = 0.0
        self.complaints = Complaints(self._call, mail, self._is_known, self.customers)

    def step(self, rate: float) -> float:
        """Do all that is due; returns how many seconds to wait before the next step."""
        now = time.monotonic()
        try:
            while self.later and self.later[0][0] <= now:
                _when, _sequence, method, path = heapq.heappop(self.later)
                answer = self._call(method, path)
                if answer is not None and method == "GET" and path.startswith("/orders/"):
                    self.complaints.consider(answer, now)
            if self.next_order <= now:
                # People do not come by the clock, but this many of them.
                self.next_order = now + self.random.expovariate(rate)
                self._shop()
            next_complaint = self.complaints.step(now)
        except httpx.TransportError as error:
            self.log(f"the shop cannot be reached: {type(error).__name__}")
            return 1.0
        if self.next_report <= now:
            self.log(f"answers so far: {dict(sorted(self.answers.items()))}")
            self.next_report = now + REPORT_SECONDS
        due = min([self.next_order, next_complaint, *(moment[0] for moment in self.later[:1])])
        return max(0.0, due - time.monotonic())

    def _shop(self) -> None:
        """A customer comes, deposits when the wallet is low, and orders something."""
        if not self.offers:
            self.offers = (self._call("GET", "/offers") or {}).get("items", [])
            if not self.offers:
                return
        staying = [customer for customer in self.customers if self.complaints.stays(customer)]
        if not staying:
            return
        customer = self.random.choice(staying)
        # Rentals last for hours: few of them, so that they do not pile up.
        rentals = 1.0 if self.complaints.lacks_rental() else 0.1
        weights = [rentals if offer["kind"] == "rental" else 1.0 for offer in self.offers]
        [offer] = self.random.choices(self.offers, weights)
        price = Decimal(offer["price"])
        if not self._is_known(customer) or not self._can_pay(customer, price):
            return
        order = self._call(
            "POST",
            "/orders",
            json={"customer": customer, "offer": offer["id"]},
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )
        if order is None:
            self.sure.pop(customer, None)
            return
        self.sure[customer] -= price
        path = f"/orders/{order['id']}"
        for seconds in READS_AFTER:
            self._do_later(seconds, "GET", path)
        # Whoever rents keeps the number: some will complain about it.
        if order.get("kind") != "rental" and self.random.random() < CANCELLED:
            self._do_later(self.random.uniform(3, 12), "POST", f"{path}/cancel")
        if self.random.random() < 0.1:
            self._do_later(2, "GET", f"/customers/{customer}/statement?page=1")

    def _is_known(self, customer: str) -> bool:
        if customer not in self.greeted:
            body = {"email": f"{customer}@customers.invalid", "status": "active"}
            if self._call("PUT", f"/customers/{customer}", json=body) is None:
                return False
            self.greeted.add(customer)
        return True

    def _can_pay(self, customer: str, price: Decimal) -> bool:
        """Make sure of the price, asking the wallet and depositing only when it is needed."""
        if self.sure.get(customer, Decimal(0)) >= price:
            return True
        wallet = self._call("GET", f"/customers/{customer}/wallet")
        if wallet is None:
            return False
        self.sure[customer] = Decimal(wallet["balance"])
        if self.sure[customer] < LOW:
            body = {"amount": str(DEPOSIT), "reference": f"demo-{uuid.uuid4()}"}
            if self._call("POST", f"/customers/{customer}/deposits", json=body) is not None:
                self.sure[customer] += DEPOSIT
        return self.sure[customer] >= price

    def _do_later(self, seconds: float, method: str, path: str) -> None:
        moment = time.monotonic() + seconds
        heapq.heappush(self.later, (moment, next(self.sequence), method, path))

    def _call(self, method: str, path: str, **request: Any) -> dict[str, Any] | None:
        """The answer's JSON object, or None (and a log line) when it is not a success."""
        response = self.client.request(method, path, **request)
        self.answers[response.status_code] += 1
        if not response.is_success:
            self.log(f"{method} {path} -> {response.status_code}")
            return None
        return dict(response.json())


class Mailbox:
    """Stands in for what will read the support mailbox: it hands mails to the verb as they are."""

    def __init__(self, log: Callable[[str], Any]) -> None:
        self.log = log

    def __call__(
        self,
        customer: str,
        *,
        subject: str,
        body: str,
        key: str,
        orders: Collection[int],
        files: Collection[bytes],
        ticket: int | None,
    ) -> int | None:
        """The number of the ticket that the mail is on, or None (and a log line)."""
        try:
            message = inbound.receive(
                Customer.objects.get(storefront__name=STOREFRONT, external_id=customer),
                subject=subject,
                body=body,
                order_ids=orders,
                files=[Upload("screenshot.png", file) for file in files],
                ticket_id=ticket,
                key=key,
                via=Actor.automatic("demo mailbox"),
                channel=Ticket.Channel.EMAIL,
            )
        except (Refused, DatabaseError, Customer.DoesNotExist) as error:
            self.log(f"a mail of {customer} is lost: {type(error).__name__}")
            if isinstance(error, DatabaseError):
                connection.close()  # the next mail has a new one
            return None
        return message.ticket_id
