"""HTTP to a wholesaler: bounded in time and in size, and silent about the key.

Every error raised here is one of ours, raised outside the handler of the library's own error, so
that no exception chain leads to a request object that holds the key.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from orders.upstreams.base import UpstreamProtocolError, UpstreamUnavailable

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_RETRY_AFTER = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``read`` bounds the silence between two packets, ``total`` one whole conversation.

    A purchase waits longer than a read, and still ends before the 60 s in which an allocation
    must have succeeded or failed. Only the name lookup is outside ``total``: the system's
    resolver takes no time-out.
    """

    connect: float = 3.0
    read: float = 10.0
    total: float = 20.0
    purchase_read: float = 30.0
    purchase_total: float = 50.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer. ``retry_after`` is the header of that name, if it could be read."""

    status: int
    body: bytes
    retry_after: timedelta | None = None


class NotSent(UpstreamUnavailable):
    """No connection was made, so the wholesaler certainly did nothing."""


class Wire:
    """One pooled HTTP client to one endpoint; safe to share between threads.

    No redirects, no proxies or credentials from the environment, no compression (so that the
    size limit holds for what arrives).
    """

    def __init__(
        self,
        url: str,
        *,
        timeouts: Timeouts | None = None,
        transport: httpx.BaseTransport | None = None,
        max_body: int = MAX_BODY_BYTES,
    ) -> None:
        self._url = url
        self._timeouts = timeouts or Timeouts()
        self._max_body = max_body
        self._client = httpx.Client(
            transport=transport or _BoundedTransport(),
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": "smsactivator-back-office", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._client.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def post(self, form: Mapping[str, str], *, purchase: bool = False) -> Reply:
        """Send a form once and read the whole answer, whatever its status.

        Raises NotSent (certainly nothing happened), UpstreamUnavailable (time-out or network
        error after sending) or UpstreamProtocolError (an answer too long or encoded).
        """
        limits = self._timeouts
        read = limits.purchase_read if purchase else limits.read
        total = limits.purchase_total if purchase else limits.total
        timeout = httpx.Timeout(read, connect=limits.connect, pool=limits.connect)
        failure: Exception
        try:
            with _deadline(total):
                return self._exchange(form, timeout)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            failure = NotSent(f"no connection to the upstream ({type(error).__name__})")
        except httpx.HTTPError as error:
            failure = UpstreamUnavailable(f"no answer from the upstream ({type(error).__name__})")
        raise failure

    def _exchange(self, form: Mapping[str, str], timeout: httpx.Timeout) -> Reply:
        with self._client.stream("POST", self._url, data=dict(form), timeout=timeout) as response:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise UpstreamProtocolError("the upstream's answer is encoded, not asked for")
            return Reply(
                status=response.status_code,
                body=_read_within(response.iter_raw(), self._max_body),
                retry_after=_retry_after(response.headers.get("retry-after", "")),
            )


def _read_within(chunks: Iterator[bytes], limit: int) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise UpstreamProtocolError("the upstream's answer is too long")
        if _remaining() <= 0:
            raise httpx.ReadTimeout("the whole answer took too long")
    return bytes(body)


def _retry_after(value: str) -> timedelta | None:
    """Seconds or an HTTP date, as RFC 9110 allows; None when absent or unreadable."""
    if value.strip().isdecimal() and len(value) < 10:
        wait = timedelta(seconds=int(value))
    else:
        try:
            wait = parsedate_to_datetime(value) - datetime.now(UTC)
        except (ValueError, TypeError):
            return None
    return min(max(wait, timedelta(0)), MAX_RETRY_AFTER)


# The library's read time-out starts again with every packet, so a server that drips a byte at a
# time could hold a purchase for ever, in the headers as well as in the body. The streams below cut
# each wait to what is left of the conversation's total.

_ends_at: ContextVar[float | None] = ContextVar("conversation_ends_at", default=None)


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def _remaining() -> float:
    ends_at = _ends_at.get()
    return float("inf") if ends_at is None else ends_at - time.monotonic()


def _capped(timeout: float | None) -> float | None:
    """The time-out, or what is left of the total where that is less; never below a millisecond."""
    remaining = max(_remaining(), 0.001)
    if remaining == float("inf"):
        return timeout
    return remaining if timeout is None else min(timeout, remaining)


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if _remaining() <= 0:
            raise httpcore.ReadTimeout("the whole answer took too long")
        return self._stream.read(max_bytes, _capped(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if _remaining() <= 0:
            raise httpcore.WriteTimeout("the whole request took too long")
        self._stream.write(buffer, _capped(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _capped(timeout))
        return _BoundedStream(secured)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BoundedBackend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = super().connect_tcp(host, port, _capped(timeout), local_address, socket_options)
        return _BoundedStream(stream)


@functools.cache  # reading all the certificate authorities takes longer than most answers
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


class _BoundedTransport(httpx.HTTPTransport):
    """The library's transport over a pool whose sockets know the conversation's deadline.

    The library has no public way to give its pool a network backend; the tests of the slow drip
    fail if this attribute ever stops being the one in use.
    """

    def __init__(self) -> None:
        super().__init__(verify=_ssl_context())
        self._pool.close()
        self._pool = httpcore.ConnectionPool(
            ssl_context=_ssl_context(),
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_BoundedBackend(),
        )
