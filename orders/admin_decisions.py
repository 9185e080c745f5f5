"""Actions on pages of the wallet's floor whose verbs end orders as well."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import UnfoldBooleanSwitchWidget

from orders import closing, termination
from smsactivator.common import actions
from smsactivator.common.actions import Action, ActionForm, Done, NoteForm, ReasonForm
from smsactivator.common.links import admin_url
from wallet.admin_decisions import is_own, waits
from wallet.deciding import why_not_decide
from wallet.ledger import TERMINATED
from wallet.models import Claim, Customer, Decision, Reinstatement, Termination


class ReinstatementForm(ReasonForm):
    """Whether the forfeited money goes back."""

    give_back = forms.BooleanField(
        label="Give back what was forfeited",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="All of it, from the wallet and from open orders, or nothing.",
    )
    field_order = ("give_back", "reason")


def _requested(asked: Termination) -> Done:
    return Done(
        f"{asked} waits for a second person. The wallet is frozen.",
        admin_url("wallet_termination_change", asked.pk),
    )


def _reinstating(asked: Reinstatement) -> Done:
    return Done(
        f"{asked} waits for a second person.", admin_url("wallet_reinstatement_change", asked.pk)
    )


def _state(customer: Customer) -> str:
    return str(customer.wallet.state)


def _can_reinstate(_person: Any, ended: Termination) -> bool:
    return ended.state == Decision.State.CONFIRMED and not ended.reinstated


TERMINATE = (
    f"“{TERMINATED}” The wallet is frozen at once. When a second person confirms, its balance and "
    "the prices of open orders are forfeited, and nothing is refunded any more."
)

actions.register(
    "wallet.Customer",
    Action(
        name="terminate",
        label="Terminate the account",
        explains=TERMINATE,
        form=ReasonForm,
        permission="wallet.request_termination",
        offered=lambda _person, customer: _state(customer) in {"active", "frozen"},
        run=lambda person, customer, typed: _requested(
            termination.request(person, customer.pk, **typed)
        ),
        dangerous=True,
    ),
    Action(
        name="close",
        label="Close the wallet",
        explains="For a customer who leaves: without open orders and with less than a cent, which "
        "goes to rounding.",
        form=ReasonForm,
        permission="wallet.close_wallet",
        offered=lambda _person, customer: _state(customer) == "active",
        why_not=lambda _person, customer: closing.why_not_empty(customer.wallet),
        run=lambda person, customer, typed: Done(
            f"{closing.close(person, customer.pk, reason=typed['reason'])} is closed."
        ),
    ),
    Action(
        name="reopen",
        label="Reopen the wallet",
        explains="The customer is back.",
        form=ReasonForm,
        permission="wallet.close_wallet",
        offered=lambda _person, customer: _state(customer) == "closed",
        run=lambda person, customer, typed: Done(
            f"{closing.reopen(person, customer.pk, reason=typed['reason'])} is open again."
        ),
    ),
)

actions.register(
    "wallet.Claim",
    Action(
        name="terminate",
        label="Terminate the account",
        explains=f"The claim is upheld. {TERMINATE}",
        form=ReasonForm,
        permission="wallet.request_termination",
        offered=lambda _person, claim: claim.state == Claim.State.OPEN,
        run=lambda person, claim, typed: _requested(
            termination.request(
                person,
                claim.deposit.transfer.credit_account,
                claim_id=claim.pk,
                reason=typed["reason"],
                key=typed["key"],
            )
        ),
        dangerous=True,
    ),
)

actions.register(
    "wallet.Termination",
    Action(
        name="confirm",
        label="Confirm the termination",
        explains="The balance and the prices of open orders are forfeited now.",
        form=NoteForm,
        permission="wallet.confirm_termination",
        offered=waits,
        why_not=why_not_decide,
        run=lambda person, asked, typed: Done(
            f"{termination.confirm(person, asked.pk, reason=typed['reason'])} is confirmed: the "
            "account has ended."
        ),
        dangerous=True,
    ),
    Action(
        name="reject",
        label="Reject",
        explains="The customer stays. The wallet is let go unless something else keeps it frozen.",
        form=ReasonForm,
        permission="wallet.confirm_termination",
        offered=waits,
        why_not=why_not_decide,
        run=lambda person, asked, typed: Done(
            f"{termination.reject(person, asked.pk, reason=typed['reason'])} is rejected."
        ),
    ),
    Action(
        name="withdraw",
        label="Withdraw",
        explains="Take your request back. The wallet is let go unless something else keeps it "
        "frozen.",
        form=ActionForm,
        offered=is_own,
        run=lambda person, asked, _typed: Done(
            f"{termination.withdraw(person, asked.pk)} is withdrawn."
        ),
    ),
    Action(
        name="reinstate",
        label="Reinstate the customer",
        explains="Ask for the customer to be let in again. A second person confirms it.",
        form=ReinstatementForm,
        permission="wallet.request_termination",
        offered=_can_reinstate,
        run=lambda person, ended, typed: _reinstating(
            termination.request_reinstatement(person, ended.pk, **typed)
        ),
    ),
)

actions.register(
    "wallet.Reinstatement",
    Action(
        name="confirm",
        label="Confirm the reinstatement",
        explains="The wallet is active again, with what is given back.",
        form=NoteForm,
        permission="wallet.confirm_termination",
        offered=waits,
        why_not=why_not_decide,
        run=lambda person, asked, typed: Done(
            f"{termination.confirm_reinstatement(person, asked.pk, reason=typed['reason'])} is "
            "confirmed: the customer is let in again."
        ),
    ),
    Action(
        name="reject",
        label="Reject",
        explains="The customer stays terminated.",
        form=ReasonForm,
        permission="wallet.confirm_termination",
        offered=waits,
        why_not=why_not_decide,
        run=lambda person, asked, typed: Done(
            f"{termination.reject_reinstatement(person, asked.pk, reason=typed['reason'])} is "
            "rejected."
        ),
    ),
    Action(
        name="withdraw",
        label="Withdraw",
        explains="Take your request back.",
        form=ActionForm,
        offered=is_own,
        run=lambda person, asked, _typed: Done(
            f"{termination.withdraw_reinstatement(person, asked.pk)} is withdrawn."
        ),
    ),
)
