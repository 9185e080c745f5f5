"""The field of a state that transitions alone change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django_fsm import FSMField


class StateField(FSMField):
    """A state of a row, changed by its model's transitions.

    To migrations it is a plain text column: no transition runs there, and each model of a past
    state would listen to every other's making, which made migrating three times as long.
    """

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        """Name, class, arguments and keywords as a migration writes them."""
        name, _, args, kwargs = super().deconstruct()
        kwargs.pop("protected", None)
        return name, "django.db.models.CharField", args, kwargs
