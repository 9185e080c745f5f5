"""What the demo's customers write to support: tickets with files, answers, disputes and thanks,
and now and then that they leave.

They know what a storefront knows, through its API; some write by mail instead.
"""

from __future__ import annotations

import random
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import base58

# At most this many tickets of each kind wait for us; handled ones make room for others.
EACH = 3
PACE = (3.0, 9.0)  # seconds from one new ticket to the next
LOOKS = (12.0, 20.0)  # seconds from one look at a ticket to the next
THINKS = (6.0, 15.0)  # seconds from reading our message to answering it
BEGIN_AFTER = 2.0  # seconds
BY_MAIL = 3  # every third customer writes by mail
EVIDENCE = 0.7  # share of the messages with a file, where one would be sent
SHARED = 0.15  # share of the files that others sent too
CHASES = 0.04  # share of the looks at which who has no answer yet asks again, once
CHASES_AFTER = 60.0  # seconds
DISPUTES, THANKS = 0.6, 0.25
LEAVES = (20.0, 40.0)  # seconds from one customer who may leave to the next
LEAVES_WITH = Decimal(25)  # USD: who leaves has more, and the least payout is 20
DELIVERED = frozenset({"sms_received", "completed"})
OVER = frozenset({"resolved", "closed"})

Call = Callable[..., dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of complaint: what is written, and of which orders."""

    name: str
    subject: str
    bodies: tuple[str, ...]
    rental: bool = False
    evidence: bool = True
    answers: tuple[str, ...] = ()  # to a question of ours, where they are of this kind alone


KINDS = (
    Kind(
        "rejected",
        "The code was rejected",
        (
            (
                "I got the SMS within a minute and typed the code in twice. The app says that this "
                "number cannot be used in my region."
            ),
            (
                "The code came, but the service answers “this phone number is banned”. I could not "
                "register. Please give the money back."
            ),
        ),
    ),
    Kind(
        "wrong_service",
        "This SMS is for another service",
        (
            (
                "I ordered a number for one service and the SMS is from a completely different "
                "one. Its code is of no use to me."
            ),
            "The text that arrived names a taxi company. I have never asked for that.",
        ),
    ),
    Kind(
        "rental",
        "My rented number is dead",
        (
            (
                "The rental still shows as active, but nothing arrives. I asked for three codes "
                "from two services."
            ),
            "The number that I rented seems to be switched off. Nobody can reach it.",
        ),
        rental=True,
    ),
    Kind(
        "ordered_wrong",
        "I ordered the wrong country",
        (
            (
                "I clicked the wrong country and saw it only after the SMS had arrived. Can you "
                "undo it? I have not used the code."
            ),
            "Sorry, I needed the other service. It is my mistake, but I am a regular customer.",
        ),
        evidence=False,
    ),
    Kind(
        "not_used",
        "I was too slow for the code",
        (
            "The SMS arrived, but I was away from my desk. When I came back the code had expired.",
            "The page had timed out when I typed the code in. I want a refund.",
        ),
        evidence=False,
    ),
    Kind(
        "banned",
        "They banned my account",
        (
            (
                "The code worked and I used the account for two days. Today it is banned. I want "
                "my money back."
            ),
            "My new account was blocked for “unusual activity”. The number must be a bad one.",
        ),
    ),
)
# Of no order. {address} and {balance} are the customer's own.
LEAVING = Kind(
    "leaving",
    "I want to leave",
    (
        (
            "I do not need your service any more. Please pay out my balance of {balance} USD in "
            "USDT on Tron to {address}."
        ),
        (
            "I am closing my account. There are {balance} USD left in my wallet. Can you send them "
            "to me? My address (USDT, TRC-20): {address}"
        ),
    ),
    evidence=False,
    answers=("Yes, that is my own address. I have checked it again.",),
)
BY_SUBJECT = {kind.subject: kind for kind in (*KINDS, LEAVING)}

NEWS = ("Is there any news?", "I am still waiting. What happens now?")
ANSWERS = (
    "Here is what I can see on my side. What else do you need?",
    "It happened about ten minutes after I had paid. Here is what I saw.",
)
OBJECTIONS = (
    "I do not agree. Look at the picture, and please check it again.",
    "That is not right. I have done everything as you say, and here is the proof.",
)
GRATITUDE = ("Thanks!", "Thank you, all clear now.", "ok, thanks for looking into it")


@dataclass(slots=True)
class Case:
    """A ticket as its customer follows it: our last message that they read, and that they have
    made up their mind about. Moments are of the monotonic clock.
    """

    ticket: int
    customer: str
    kind: Kind
    state: str
    wrote_at: float
    next_look: float
    read: int = 0
    considered: int = 0
    chased: bool = False


class Complaints:
    """The demo's customers and their tickets; ``step`` does what is due next.

    ``call`` speaks to the storefront API, ``mail`` writes to the support mailbox and returns the
    ticket's number, ``greet`` makes a customer known to the shop.
    """

    def __init__(
        self,
        call: Call,
        mail: Callable[..., int | None] | None,
        greet: Callable[[str], bool],
        customers: Sequence[str],
    ) -> None:
        self.call = call
        self.mail = mail
        self.greet = greet
        self.random = random.SystemRandom()
        self.unread = list(customers)  # whose tickets of an earlier run are still to be found
        self.cases: list[Case] = []
        self.complained: set[int] = set()  # orders
        self.leaving: set[str] = set()  # customers, for good
        self.next_find = time.monotonic() + BEGIN_AFTER
        self.next_ticket = 0.0
        self.customers = list(customers)
        self.next_leave = time.monotonic() + self.random.uniform(*LEAVES)

    def step(self, now: float) -> float:
        """Do what is due; returns the moment at which there is more to do."""
        if self.unread and self.next_find <= now:
            self._find(self.unread.pop(), now)
            self.next_find = now + 0.2
        for case in [one for one in self.cases if one.next_look <= now]:
            case.next_look = now + self.random.uniform(*LOOKS)
            self._look(case, now)
        if self.next_leave <= now and not self.unread:
            self.next_leave = now + self.random.uniform(*LEAVES)
            self._leave(self.random.choice(self.customers), now)
        moments = [self.next_leave, *(case.next_look for case in self.cases)]
        return min([*moments, self.next_find] if self.unread else moments)

    def stays(self, customer: str) -> bool:
        """Whether the customer goes on ordering; of an earlier run, once it is known."""
        return customer not in self.leaving and customer not in self.unread

    def lacks_rental(self) -> bool:
        """Whether somebody should rent, so that there is a rental to complain about."""
        return any(kind.rental and not self._open(kind) for kind in KINDS)

    def consider(self, order: dict[str, Any], now: float) -> None:
        """Perhaps write about an order that its customer has just looked at."""
        rental = order.get("kind") == "rental" and order.get("state") == "active"
        delivered = order.get("kind") == "activation" and order.get("state") in DELIVERED
        if self.unread or not (rental or delivered) or order["id"] in self.complained:
            return
        kinds = [kind for kind in KINDS if kind.rental is rental and self._open(kind) < EACH]
        # Rentals are few: none is left out because somebody else has just written.
        if not kinds or (now < self.next_ticket and not rental):
            return
        if not rental and any(case.customer == order["customer"] for case in self.cases):
            return
        fewest = min(self._open(kind) for kind in kinds)
        kind = self.random.choice([kind for kind in kinds if self._open(kind) == fewest])
        self.next_ticket = now + self.random.uniform(*PACE)
        self.complained.add(order["id"])
        body = self.random.choice(kind.bodies)
        files = self._files() if kind.evidence else []
        ticket = self._write(
            order["customer"], body, files, subject=kind.subject, orders=[order["id"]]
        )
        if ticket is not None:
            self._follow(ticket, order["customer"], kind, "new", now)

    def _leave(self, customer: str, now: float) -> None:
        """Let a customer who has enough for a payout write that it is time to go."""
        if self._open(LEAVING) >= EACH or any(case.customer == customer for case in self.cases):
            return
        # Half of them stay, or nobody would be left to order.
        if customer in self.leaving or 2 * len(self.leaving) >= len(self.customers):
            return
        wallet = self.call("GET", f"/customers/{customer}/wallet")
        if wallet is None or Decimal(wallet["balance"]) <= LEAVES_WITH:
            return
        body = self.random.choice(LEAVING.bodies).format(
            balance=wallet["balance"], address=self._address(customer)
        )
        ticket = self._write(customer, body, [], subject=LEAVING.subject)
        if ticket is not None:
            self.leaving.add(customer)
            self._follow(ticket, customer, LEAVING, "new", now)

    def _address(self, customer: str) -> str:
        """The customer's own address on Tron; now and then one that others gave too."""
        return tron_address("shared" if self.random.random() < SHARED else customer)

    def _open(self, kind: Kind) -> int:
        return sum(case.kind is kind and case.state not in OVER for case in self.cases)

    def _follow(self, ticket: int, customer: str, kind: Kind, state: str, now: float) -> None:
        next_look = now + self.random.uniform(*LOOKS)
        self.cases.append(Case(ticket, customer, kind, state, now, next_look))

    def _find(self, customer: str, now: float) -> None:
        """Go on with the tickets that an earlier run left open."""
        if not self.greet(customer):
            return
        found = self.call("GET", f"/customers/{customer}/tickets") or {}
        for ticket in found.get("items", []):
            kind = BY_SUBJECT.get(ticket["subject"])
            if kind is LEAVING:
                self.leaving.add(customer)
            if kind is not None and ticket["state"] not in OVER:
                self._follow(ticket["id"], customer, kind, ticket["state"], now)

    def _look(self, case: Case, now: float) -> None:
        """Read the ticket; what is new is thought about, and perhaps answered at the next look."""
        thread = self.call("GET", f"/tickets/{case.ticket}")
        if thread is None:
            return
        case.state = thread["state"]
        last = thread["messages"][-1] if thread["messages"] else None
        if last is None or last["by"] == "customer":
            patient = now - case.wrote_at < CHASES_AFTER
            if last and not patient and not case.chased and self.random.random() < CHASES:
                case.chased = True
                self._go_on(case, self.random.choice(NEWS), [], now)
            return
        if last["id"] != case.read:
            case.read = last["id"]
            case.next_look = now + self.random.uniform(*THINKS)
            return
        if last["id"] != case.considered:
            case.considered = last["id"]
            body, files = self._answer(case.kind, thread)
            if body:
                self._go_on(case, body, files, now)
                return
        if case.state in OVER:
            self.cases.remove(case)

    def _answer(self, kind: Kind, thread: dict[str, Any]) -> tuple[str, list[bytes]]:
        """What a customer says to our last message; nothing is "", as most people do."""
        refund = thread["refunds"][-1] if thread["refunds"] else None
        luck = self.random.random()
        if refund is not None and refund["state"] == "denied" and not refund["final"]:
            if luck < DISPUTES:
                return self.random.choice(OBJECTIONS), self._files(always=True)
            # A senior agent has to find that this is no dispute.
            return (self.random.choice(GRATITUDE), []) if luck < DISPUTES + THANKS else ("", [])
        if thread["state"] == "waiting" and luck < EVIDENCE:
            files = self._files() if kind.evidence else []
            return self.random.choice(kind.answers or ANSWERS), files
        return (self.random.choice(GRATITUDE), []) if luck > 1 - THANKS else ("", [])

    def _go_on(self, case: Case, body: str, files: list[bytes], now: float) -> None:
        ticket = self._write(case.customer, body, files, ticket=case.ticket)
        if ticket is not None:
            case.ticket, case.state, case.wrote_at = ticket, "open", now

    def _write(
        self,
        customer: str,
        body: str,
        files: Collection[bytes],
        *,
        subject: str = "",
        orders: Collection[int] = (),
        ticket: int | None = None,
    ) -> int | None:
        """Send a message; returns the number of the ticket that it is on."""
        key = str(uuid.uuid4())
        if self.mail is not None and _writes_mail(customer):
            return self.mail(
                customer,
                subject=subject,
                body=body,
                orders=orders,
                files=files,
                ticket=ticket,
                key=key,
            )
        said: dict[str, Any] = {"body": body, "orders": list(orders)}
        if ticket is None:
            path, said["subject"] = f"/customers/{customer}/tickets", subject
        else:
            path = f"/tickets/{ticket}/messages"
        message = self.call(
            "POST",
            path,
            headers={"Idempotency-Key": key},
            **(
                {
                    "data": said,
                    "files": [("files", ("screenshot.png", file, "image/png")) for file in files],
                }
                if files
                else {"json": said}
            ),
        )
        return None if message is None else int(message["ticket"])

    def _files(self, *, always: bool = False) -> list[bytes]:
        if not always and self.random.random() > EVIDENCE:
            return []
        if self.random.random() < SHARED:
            return [screenshot(random.Random(0))]  # noqa: S311 - the same for everybody
        return [screenshot(self.random)]


def tron_address(seed: str) -> str:
    """A well-formed address of which nobody has the key, the same for the same seed."""
    account = random.Random(f"tron {seed}").randbytes(20)  # noqa: S311 - no secret
    return base58.b58encode_check(b"\x41" + account).decode()


def _writes_mail(customer: str) -> bool:
    number = customer.rpartition("-")[2]
    return number.isdigit() and int(number) % BY_MAIL == 0


def screenshot(luck: random.Random) -> bytes:
    """A PNG that looks like a phone with a chat and a refusal on it."""
    width, height = 270, 480
    sheet = [bytearray(b"\xf4\xf5\xf7" * width) for _ in range(height)]

    def box(left: int, top: int, right: int, bottom: int, colour: bytes) -> None:
        for row in sheet[top:bottom]:
            row[3 * left : 3 * right] = colour * (right - left)

    box(0, 0, width, 48, bytes(luck.randrange(40, 160) for _ in range(3)))
    top = 64
    while top < 340:
        words, ours = luck.randrange(80, 190), luck.random() < 0.5
        bottom = top + luck.randrange(24, 56)
        left = width - 16 - words if ours else 16
        box(left, top, left + words, bottom, b"\xcf\xe8\xd5" if ours else b"\xff\xff\xff")
        for line in range(top + 8, bottom - 4, 10):
            box(left + 8, line, left + words - luck.randrange(12, 50), line + 4, b"\x8a\x90\x9a")
        top = bottom + 14
    box(16, 400, width - 16, 452, b"\xc6\x28\x28")
    box(32, 414, 180, 420, b"\xff\xff\xff")
    box(32, 430, luck.randrange(120, 230), 436, b"\xff\xff\xff")
    rows = b"".join(b"\x00" + bytes(row) for row in sheet)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(rows, 9)),
            (b"IEND", b""),
        )
    )
