"""Actions on pages of the wallet's floor whose verbs end orders as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldBooleanSwitchWidget

from orders import closing, termination
from smsactivator.common import actions
from smsactivator.common.actions import (
    Action,
    ActionForm,
    Done,
    NoteForm,
    ReasonForm,
    without_key,
)
from smsactivator.common.admin import Facts
from smsactivator.common.display import money
from smsactivator.common.links import admin_url
from smsactivator.common.money import AmountField, usd
from smsactivator.common.panels import facts_for
from wallet import ledger
from wallet.admin_decisions import is_own, steps_of_wallet, waits
from wallet.deciding import why_not_decide
from wallet.models import Claim, Customer, Decision, Payout, Reinstatement, Termination


class ReinstatementForm(ReasonForm):
    """Whether the forfeited money goes back."""

    give_back = forms.BooleanField(
        label="Give back what was forfeited",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="All of it, from the wallet and from open orders, or nothing.",
    )
    field_order = ("give_back", "reason")


class ConfirmationForm(NoteForm):
    """A note; and the sum that is forfeited, as the page shows it."""

    total = AmountField(widget=forms.HiddenInput)
    carries = ("seen", "total")

    def show(self, row: Termination, shown: int) -> None:
        """With what confirming takes."""
        super().show(row, shown)
        total = usd(termination.taking(row.customer_id).total)
        self.fields["total"].initial = total
        self.says = f"You forfeit {total} USD in all."


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


NAMED = 20  # payouts and orders that a form names


@facts_for("wallet.Termination")
def taking_of_a_termination(asked: Termination, person: Any) -> Iterable[Facts]:
    """What confirming it takes, as the verb would find it now."""
    if asked.state != Decision.State.REQUESTED:
        return
    taking = termination.taking(asked.customer_id)
    rows: list[tuple[str, SafeString | str]] = [("Wallet holds now, USD", money(taking.balance))]
    if taking.payouts:
        sum_ = money(termination.summed(taking.payouts))
        rows.append(("Payouts that nobody has sent, USD", _named(sum_, _payouts(taking.payouts))))
    if taking.orders:
        sum_ = money(termination.priced(taking.orders))
        rows.append(("Open orders, USD", _named(sum_, [str(order) for order in taking.orders])))
    rows.append(("Forfeited in all, USD", money(taking.total)))
    if taking.on_their_way:
        sum_ = money(termination.summed(taking.on_their_way))
        way = _named(format_html("{} USD on their way", sum_), _payouts(taking.on_their_way))
        rows.append(("Not taken", format_html("{}. What fails is forfeited then.", way)))
    yield Facts("What confirming takes now", rows)


def _payouts(found: Iterable[Payout]) -> list[str]:
    return [payout.reference for payout in found]


def _named(sum_: SafeString, names: list[str]) -> SafeString:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return format_html("{}: {}{}", sum_, ", ".join(names[:NAMED]), more)


def _would_take(customer_id: int) -> list[str]:
    """What asking for a termination comes to, in a sentence."""
    taking = termination.taking(customer_id)
    parts = [
        f"{usd(sum_)} USD {where}"
        for sum_, where in (
            (taking.balance, "in the wallet"),
            (termination.summed(taking.payouts), "of payouts that nobody has sent"),
            (termination.priced(taking.orders), "of open orders"),
        )
        if sum_
    ]
    if not parts:
        return []
    whole = f"When it is confirmed, {usd(taking.total)} USD are forfeited as things stand"
    return [f"{whole}: {', '.join(parts)}."]


TERMINATE = (
    "The wallet is frozen at once. When a second person confirms, its balance, payouts that nobody "
    "has sent and the prices of open orders are forfeited, and nothing is refunded any more. The "
    "customer is told of both, with this clause."
)

actions.register(
    "wallet.Customer",
    Action(
        name="terminate",
        label="Terminate the account",
        explains=f"Refund policy, not granted: “{ledger.TERMINATED}” {TERMINATE}",
        form=ReasonForm,
        permission="wallet.request_termination",
        offered=lambda _person, customer: _state(customer) in {"active", "frozen"},
        why_not=lambda _person, customer: termination.why_not_request(customer.wallet),
        run=lambda person, customer, typed: _requested(
            termination.request(person, customer.pk, **typed)
        ),
        sees=steps_of_wallet,
        warns=lambda customer: _would_take(customer.pk),
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
            f"{closing.close(person, customer.pk, **without_key(typed))} is closed."
        ),
        sees=steps_of_wallet,
    ),
    Action(
        name="reopen",
        label="Reopen the wallet",
        explains="The customer is back.",
        form=ReasonForm,
        permission="wallet.close_wallet",
        offered=lambda _person, customer: _state(customer) == "closed",
        run=lambda person, customer, typed: Done(
            f"{closing.reopen(person, customer.pk, **without_key(typed))} is open again."
        ),
        sees=steps_of_wallet,
    ),
)

actions.register(
    "wallet.Claim",
    Action(
        name="terminate",
        label="Terminate the account",
        explains=f"Refund policy, disputes: “{ledger.CHARGEBACK}” The claim is upheld. {TERMINATE}",
        form=ReasonForm,
        permission="wallet.request_termination",
        offered=lambda person, claim: (
            claim.state == Claim.State.OPEN and person.has_perm("wallet.decide_claim")
        ),
        why_not=lambda _person, claim: termination.why_not_request(claim.deposit.transfer.wallet),
        run=lambda person, claim, typed: _requested(
            termination.request(
                person,
                claim.deposit.transfer.credit_account,
                claim_id=claim.pk,
                **typed,
            )
        ),
        warns=lambda claim: _would_take(claim.deposit.transfer.credit_account),
        dangerous=True,
    ),
)

actions.register(
    "wallet.Termination",
    Action(
        name="confirm",
        label="Confirm the termination",
        explains="The balance, payouts that nobody has sent and the prices of open orders are "
        "forfeited now: all that is named below.",
        form=ConfirmationForm,
        permission="wallet.confirm_termination",
        offered=waits,
        why_not=termination.why_not_confirm,
        run=lambda person, asked, typed: Done(
            f"{termination.confirm(person, asked.pk, **without_key(typed))} is confirmed: the "
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
            f"{termination.reject(person, asked.pk, **without_key(typed))} is rejected."
        ),
    ),
    Action(
        name="withdraw",
        label="Withdraw",
        explains="Take your request back. The wallet is let go unless something else keeps it "
        "frozen.",
        form=ActionForm,
        offered=is_own,
        run=lambda person, asked, typed: Done(
            f"{termination.withdraw(person, asked.pk, **without_key(typed))} is withdrawn."
        ),
    ),
    Action(
        name="reinstate",
        label="Reinstate the customer",
        explains="Ask for the customer to be let in again. A second person confirms it.",
        form=ReinstatementForm,
        permission="wallet.request_termination",
        offered=_can_reinstate,
        why_not=lambda _person, ended: termination.why_not_reinstate(ended),
        run=lambda person, ended, typed: _reinstating(
            termination.request_reinstatement(person, ended.pk, **typed)
        ),
        sees=termination.steps_of,
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
            f"{termination.confirm_reinstatement(person, asked.pk, **without_key(typed))} is "
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
            f"{termination.reject_reinstatement(person, asked.pk, **without_key(typed))} is "
            "rejected."
        ),
    ),
    Action(
        name="withdraw",
        label="Withdraw",
        explains="Take your request back.",
        form=ActionForm,
        offered=is_own,
        run=lambda person, asked, typed: Done(
            f"{termination.withdraw_reinstatement(person, asked.pk, **without_key(typed))} is "
            "withdrawn."
        ),
    ),
)
