"""What the shop needs of a wholesaler of numbers, whatever protocol the wholesaler speaks.

Times that come from a wholesaler carry no zone. They are kept as naive datetimes and may be
compared with other times of the *same* wholesaler only (how long after the purchase did the SMS
arrive?), never with our clock.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol


class UpstreamState(enum.Enum):
    """What a wholesaler says about one activation or rental."""

    WAITING = "waiting"
    RECEIVED = "received"
    ENDED_NO_SMS = "ended_no_sms"
    BROKEN = "broken"
    FINISHED = "finished"
    UNKNOWN = "unknown"


class CancelOutcome(enum.Enum):
    """What came of asking for our money back."""

    CANCELLED = "cancelled"
    ALREADY_ENDED = "already_ended"
    TOO_EARLY = "too_early"
    HAS_SMS = "has_sms"
    TOO_LATE = "too_late"


@dataclass(frozen=True, slots=True)
class Message:
    """One SMS. ``upstream_time`` is naive, in the wholesaler's own zone, or None when not told."""

    code: str
    text: str = ""
    sender: str = ""
    upstream_time: datetime | None = None

    def __post_init__(self) -> None:
        # Anybody may send an SMS with what no database stores: NUL, or half of an emoji.
        for name, longest in (("code", 64), ("text", None), ("sender", 64)):
            value: str = getattr(self, name)
            clean = value.replace("\0", "").encode("utf-8", "replace").decode()
            object.__setattr__(self, name, clean[:longest])

    def __repr__(self) -> str:  # an SMS text never reaches a log
        return "Message(…)"


@dataclass(frozen=True, slots=True)
class Number:
    """A number certainly bought. ``phone`` has its plus; ``cost`` is USD, None if untold."""

    ref: str
    phone: str
    cost: Decimal | None = None
    upstream_time: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """One activation or rental as the wholesaler shows it in a status, a list or its history."""

    ref: str
    state: UpstreamState
    phone: str = ""
    service: str = ""
    country: str = ""
    cost: Decimal | None = None
    messages: tuple[Message, ...] = ()
    upstream_time: datetime | None = None
    signal: str = ""  # the wholesaler's own word, kept as evidence (never an SMS text)


@dataclass(frozen=True, slots=True)
class CancelResult:
    """``retry_after`` comes with TOO_EARLY, ``messages`` with HAS_SMS; both may be missing."""

    outcome: CancelOutcome
    retry_after: timedelta | None = None
    messages: tuple[Message, ...] = ()
    signal: str = ""


class UpstreamError(Exception):
    """A wholesaler did not do what was asked. The message carries no key, URL or SMS text."""


class AllocationRefused(UpstreamError):
    """Certainly not bought. ``ours`` is true when the cause is our account (staff must look)."""

    def __init__(self, code: str, *, ours: bool = False) -> None:
        super().__init__(f"allocation refused: {code}")
        self.code = code
        self.ours = ours


class AllocationUnknown(UpstreamError):
    """It may have been bought: never buy again blindly, reconcile with the wholesaler's lists."""


class UpstreamUnavailable(UpstreamError):
    """Time-out, network error or 5xx. No information: keep the state."""


class UpstreamProtocolError(UpstreamError):
    """An answer that cannot be read as what was asked for. No information: keep the state."""


class UpstreamAuth(UpstreamError):
    """Our key is refused. No information about any number."""


class UpstreamThrottled(UpstreamError):
    """Asked too often."""

    def __init__(self, retry_after: timedelta | None = None) -> None:
        super().__init__("throttled by the upstream")
        self.retry_after = retry_after


class UpstreamAccountBanned(UpstreamError):
    """Our account is banned, ``scope`` "global" or "specific"."""

    def __init__(self, scope: str = "global", retry_after: timedelta | None = None) -> None:
        super().__init__(f"our account is banned ({scope})")
        self.scope = scope
        self.retry_after = retry_after


class Upstream(Protocol):
    """A wholesaler's client. Each call is an HTTP conversation: never while a row is locked."""

    def allocate(
        self, *, service: str, country: str, order_key: str, max_price: Decimal | None = None
    ) -> Number:
        """Buy a number for one SMS. Never retried. 30 s read time-out.

        Raises AllocationRefused (certainly not bought) or AllocationUnknown (maybe bought).
        """

    def rent(self, *, service: str, country: str, hours: int, order_key: str) -> Number:
        """Rent a number. Never retried. Raises as ``allocate``."""

    def status(self, ref: str) -> Activation:
        """One activation, with the wholesaler's time of each SMS where it tells."""

    def rent_status(self, ref: str) -> Activation:
        """One rental with all its SMS; BROKEN when the wholesaler took the number back."""

    def list_active(self) -> Mapping[str, Activation]:
        """Every live activation by ref, complete, or it raises."""

    def history(self, *, since: datetime) -> Mapping[str, Activation]:
        """Activations bought since ``since`` (aware UTC), by ref, complete, or it raises."""

    def cancel(self, ref: str) -> CancelResult:
        """Give an activation back. Asking again is harmless."""

    def rent_cancel(self, ref: str) -> CancelResult:
        """Give a rental back. Asking again is harmless."""

    def balance(self) -> Decimal:
        """Our balance at the wholesaler, USD."""
