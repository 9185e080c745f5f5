"""What to look at closely about the rows of a list, by what the floors above know of them.

As with links: the upper floor registers a source for the lower model's label, and the list asks all
sources about the rows of a page at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.utils.safestring import SafeString

# From rows of a model to their badges, by primary key: a fixed number of queries per call.
Source = Callable[[Sequence[Any]], Mapping[int, Iterable[SafeString]]]
_sources: dict[str, list[Source]] = defaultdict(list)


def flags_for(label: str) -> Callable[[Source], Source]:
    """Register the decorated function as a source of flags for rows of the model ``app.Model``."""

    def register(source: Source) -> Source:
        _sources[label].append(source)
        return source

    return register


def collect(label: str, rows: Sequence[Any]) -> dict[int, list[SafeString]]:
    """Every registered flag of these rows of ``label``, each source being asked once."""
    found: dict[int, list[SafeString]] = {row.pk: [] for row in rows}
    if found:
        for source in _sources[label]:
            for pk, flags in source(rows).items():
                found[pk].extend(flags)
    return found
