"""What the forms of actions carry, for tests that send them without a browser."""

from __future__ import annotations

from typing import Any

from smsactivator.common.actions import actions_on


def carried(row: Any, name: str) -> dict[str, str]:
    """What the form of the action carries on the page of the row as it is now."""
    action = next(one for one in actions_on(row._meta.label) if one.name == name)
    row = type(row)._default_manager.get(pk=row.pk)
    form = action.form()
    form.show(row, action.sees(row))
    return {name: str(form[name].value()) for name in ("key", *form.carries)}
