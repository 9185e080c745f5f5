"""What can go wrong between a wholesaler and us, as values to give to ``Simulator.inject``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

HTML = b"<!DOCTYPE html><html><head><title>Error</title></head><body>Sorry</body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """One spoilt answer.

    ``commit``: what was asked is done first, and its true answer is then spoilt. Without it nothing
    is done and ``body`` is all there is. ``delay`` (seconds) comes before the answer, ``drip``
    (seconds) between any two bytes of the part named by ``dripping``. ``cut`` ends the connection:
    before a byte was sent, or half way through the body.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    commit: bool = False
    spoil: Callable[[bytes], bytes] | None = None
    delay: float = 0.0
    drip: float = 0.0
    dripping: Literal["body", "headers"] = "body"
    cut: Literal["", "silent", "midway"] = ""

    @classmethod
    def silence(cls, seconds: float, *, commit: bool) -> Fault:
        """No answer for so long, then a closed connection; ``commit`` tells if it was done."""
        return cls(delay=seconds, commit=commit, cut="silent")

    @classmethod
    def lost(cls) -> Fault:
        """Done, and the answer lost: the connection closes without a byte."""
        return cls(commit=True, cut="silent")

    @classmethod
    def reset_midway(cls) -> Fault:
        """Done, and the connection reset half way through the body."""
        return cls(commit=True, cut="midway")

    @classmethod
    def dripped(cls, seconds: float, part: Literal["body", "headers"] = "body") -> Fault:
        """Done, and the answer comes a byte at a time."""
        return cls(commit=True, drip=seconds, dripping=part)

    @classmethod
    def html(cls, status: int = 200, *, commit: bool = False) -> Fault:
        """An HTML page, as proxies and firewalls answer."""
        headers = {"Content-Type": "text/html"}
        return cls(status=status, headers=headers, commit=commit, spoil=lambda _: HTML)

    @classmethod
    def throttled(cls, retry_after: str = "") -> Fault:
        """429, with a Retry-After header where one is given."""
        headers = {"Retry-After": retry_after} if retry_after else {}
        return cls(status=429, headers=headers, body=b'{"title":"RATE_LIMIT","details":""}')

    @classmethod
    def redirect(cls, location: str) -> Fault:
        """302 to another place."""
        return cls(status=302, headers={"Location": location})

    @classmethod
    def says(cls, text: str, status: int = 200) -> Fault:
        """Nothing done, and this very answer."""
        return cls(status=status, body=text.encode())

    @classmethod
    def title(cls, code: str, status: int = 409, **info: Any) -> Fault:
        """Nothing done, and an error of the newer dialect."""
        body = {"title": code, "details": code.capitalize(), "info": info}
        return cls(status=status, body=json.dumps(body).encode())

    @classmethod
    def empty(cls, *, commit: bool = False) -> Fault:
        """200 with no body."""
        return cls(commit=commit, spoil=lambda _: b"")

    @classmethod
    def truncated(cls) -> Fault:
        """Done, and only half of the answer sent as if it were whole."""
        return cls(commit=True, spoil=lambda body: body[: len(body) // 2])

    @classmethod
    def quoted(cls) -> Fault:
        """Done; a text answer comes in quotes."""
        return cls(commit=True, spoil=lambda body: json.dumps(body.decode()).encode())

    @classmethod
    def bom(cls) -> Fault:
        """Done; the answer starts with a byte order mark and ends with a line break."""
        return cls(commit=True, spoil=lambda body: b"\xef\xbb\xbf" + body + b"\r\n")

    @classmethod
    def typed(cls, content_type: str) -> Fault:
        """Done; the answer carries the wrong content type."""
        return cls(commit=True, headers={"Content-Type": content_type})

    @classmethod
    def patched(cls, **fields: Any) -> Fault:
        """Done; fields of the JSON answer are replaced, or left out where the value is ``...``."""

        def patch(body: bytes) -> bytes:
            answer = {**json.loads(body), **fields}
            return json.dumps({k: v for k, v in answer.items() if v is not ...}).encode()

        return cls(commit=True, spoil=patch)
