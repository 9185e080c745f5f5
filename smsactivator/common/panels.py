"""What an upper floor knows about a lower floor's row, as groups of facts on that row's page.

As with links: the upper floor registers a source for the lower model's label, and the page asks all
sources. A source is asked about one row, on its page, and takes a fixed number of queries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smsactivator.common.admin import Facts

# From a row and the person who looks at it to groups of facts.
Source = Callable[[Any, Any], "Iterable[Facts]"]
_sources: dict[str, list[Source]] = defaultdict(list)


def facts_for(label: str) -> Callable[[Source], Source]:
    """Register the decorated function as a source of facts for pages of the model ``app.Model``."""

    def register(source: Source) -> Source:
        _sources[label].append(source)
        return source

    return register


def collect(label: str, obj: Any, person: Any) -> list[Facts]:
    """Every registered group of facts about this row of ``label``."""
    return [group for source in _sources[label] for group in source(obj, person)]
