"""Links between the floors, without imports between them.

A lower floor's page shows what an upper floor knows about its rows: the statement of a wallet
names the order that a transfer paid for, a customer's page leads to its refunds. The upper floor
registers a source for the lower model's label; the page collects from all sources at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe


@dataclass(frozen=True, slots=True)
class Link:
    """``text`` that leads to ``url`` for a user who has ``permission`` (plain text for others)."""

    text: str
    url: str
    permission: str
    # What others read instead, where the text says more than they may see.
    otherwise: str = ""

    def allowed(self, user: Any) -> bool:
        """Whether this user may follow the link."""
        return bool(user.has_perm(self.permission))

    def html(self, user: Any) -> SafeString:
        """The link, or its bare text when the user may not see where it leads."""
        if not self.allowed(user):
            return format_html("{}", self.otherwise or self.text)
        return anchor(self.text, self.url)


# From primary keys of a model's rows to their links: a fixed number of queries per call.
Source = Callable[[Sequence[int]], Mapping[int, Iterable[Link]]]
_sources: dict[str, list[Source]] = defaultdict(list)


def source_for(label: str) -> Callable[[Source], Source]:
    """Register the decorated function as a source of links for rows of the model ``app.Model``."""

    def register(source: Source) -> Source:
        _sources[label].append(source)
        return source

    return register


def collect(label: str, pks: Sequence[int]) -> dict[int, list[Link]]:
    """Every registered link of these rows of ``label``, each source being asked once."""
    found: dict[int, list[Link]] = {pk: [] for pk in pks}
    if found:
        for source in _sources[label]:
            for pk, links in source(pks).items():
                found[pk].extend(links)
    return found


def admin_url(name: str, *args: Any, **query: Any) -> str:
    """The address of an admin page, as ``admin_url("orders_order_changelist", customer=5)``."""
    url = reverse(f"admin:{name}", args=args)
    return f"{url}?{urlencode(query)}" if query else url


def anchor(text: Any, url: str) -> SafeString:
    """An HTML link in the admin's style."""
    return format_html('<a class="link" href="{}">{}</a>', url, text)


def joined(parts: Iterable[SafeString]) -> SafeString:
    """HTML fragments one after another."""
    return mark_safe(" · ".join(parts))  # noqa: S308 - every part is escaped already
