"""What a page offers to follow and to send, read from its HTML as a browser would."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any


@dataclass
class Form:
    """A form, and what it would send as it stands."""

    attrs: dict[str, str]
    sent: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for field_name, value in self.sent if field_name == name]


class Page(HTMLParser):
    """The forms and the links of a page."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._open: list[Form] = []
        self._select = ""
        self._chosen: list[str] = []
        self._first: str | None = None
        self._multiple = False
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if tag == "form":
            self._open.append(Form(named))
            self.forms.append(self._open[-1])
        if tag == "input" and named.get("type") not in {"checkbox", "radio", "submit", "button"}:
            self._send(named.get("name", ""), named.get("value", ""))
        if tag == "input" and named.get("type") in {"checkbox", "radio"} and "checked" in named:
            self._send(named.get("name", ""), named.get("value", "on"))
        if tag == "select":
            self._select, self._chosen, self._first = named.get("name", ""), [], None
            self._multiple = "multiple" in named
        if tag == "option":
            value = named.get("value", "")
            self._first = value if self._first is None else self._first
            if "selected" in named:
                self._chosen.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._open:
            self._open.pop()
        if tag == "select":
            if not self._chosen and not self._multiple and self._first is not None:
                self._chosen = [self._first]
            for value in self._chosen:
                self._send(self._select, value)

    def _send(self, name: str, value: str) -> None:
        if name and self._open:
            self._open[-1].sent.append((name, value))

    def form(self, **attrs: str) -> Form:
        """The only form with these attributes."""
        [found] = [one for one in self.forms if attrs.items() <= one.attrs.items()]
        return found
