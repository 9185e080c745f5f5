"""What a person can do on a row's page: a button, a form that says what will happen, one verb.

A page's own floor and the floors above it register actions for a model's label, as with links. The
rules are in the verbs: an action says who is offered the button, and calls one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget

from smsactivator.common import seen
from smsactivator.common.errors import Refused


class KeyedForm(forms.Form):
    """A form of something new. ``key`` names this form, so that sent twice it acts once."""

    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class ActionForm(KeyedForm):
    """What an action asks for. ``seen`` is what the page showed (``smsactivator.common.seen``)."""

    seen = forms.IntegerField(
        min_value=0,
        max_value=seen.LARGEST,
        widget=forms.HiddenInput,
        error_messages={"required": "This form does not say what it showed: open it anew."},
    )
    # What is done to the row as the page shows it, in words of its own.
    says = ""
    # The fields that carry what the page shows.
    carries: tuple[str, ...] = ("seen",)

    def show(self, row: Any, shown: int) -> None:
        """Carry what the page shows of the row; what was sent already stays as it was sent."""
        self.fields["seen"].initial = shown

    def refuse(self, refusal: Refused) -> None:
        """Say above the form what the verb refused; what was typed is kept.

        Whoever was told what happened meanwhile has the row before them as it is now.
        """
        self.add_error(None, refusal.message)
        if isinstance(refusal, seen.Outdated):
            data: Any = self.data.copy()  # type: ignore[attr-defined]
            for name in self.carries:
                data[name] = self.fields[name].initial
            self.data = data


class ReasonForm(ActionForm):
    """An action that says why."""

    reason = forms.CharField(
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Kept for good, and read by whoever asks why in years to come.",
    )


class NoteForm(ActionForm):
    """An action that may say more."""

    reason = forms.CharField(
        label="Note",
        max_length=2000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did, in words, and the page to go on to (by default the row's own)."""

    message: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A button on the page of a row.

    ``offered`` tells whether there is such a button on this row's page at all, by what the page
    shows, and ``why_not`` what keeps this person from it now, in the verb's words: then it is not
    there, and whoever asks for its form is told. ``run`` calls the verb, which checks everything
    again, with what the form asked for.
    """

    name: str
    label: str
    explains: str
    form: type[ActionForm]
    offered: Callable[[Any, Any], bool]
    run: Callable[[Any, Any, dict[str, Any]], Done]
    # The permission without which there is neither button nor form.
    permission: str = ""
    dangerous: bool = False
    why_not: Callable[[Any, Any], str] = lambda _person, _row: ""
    # How many steps of what the page shows there have been; the verb compares it under its locks.
    sees: Callable[[Any], int] = seen.of
    # What the form shows of the row, to be changed.
    initial: Callable[[Any], dict[str, Any]] = lambda _row: {}
    # What to think of before this is done to this row, in sentences on the form.
    warns: Callable[[Any], Sequence[str]] = lambda _row: ()

    def allowed(self, person: Any) -> bool:
        """Whether the person may see the form at all."""
        return not self.permission or bool(person.has_perm(self.permission))

    def is_open_to(self, person: Any, row: Any) -> bool:
        """Whether the button stands there."""
        return self.offered(person, row) and not self.why_not(person, row)


def without_key(typed: dict[str, Any]) -> dict[str, Any]:
    """What a form asked for, for a verb that needs no name of the form."""
    return {name: value for name, value in typed.items() if name != "key"}


# From a row to what to think of before something is done to it, in sentences.
Warner = Callable[[Any], Sequence[str]]
_actions: dict[str, list[Action]] = defaultdict(list)
_warners: dict[tuple[str, str], list[Warner]] = defaultdict(list)


def register(label: str, *actions: Action) -> None:
    """Offer the actions on the pages of the model ``app.Model``, in this order."""
    _actions[label].extend(actions)


def actions_on(label: str) -> list[Action]:
    """The actions of the model's pages."""
    return _actions[label]


def warns_of(label: str, name: str) -> Callable[[Warner], Warner]:
    """Register what an upper floor warns of before the action ``name`` of ``app.Model``."""

    def register_warner(warner: Warner) -> Warner:
        _warners[label, name].append(warner)
        return warner

    return register_warner


def warnings_of(label: str, action: Action, row: Any) -> list[str]:
    """What the action warns of, and what the floors above do."""
    above = (warner(row) for warner in _warners[label, action.name])
    return [*action.warns(row), *(warning for found in above for warning in found)]
