"""What a customer is told of the account, in plain words, with the policy's clause.

Told by what was fixed when it came about, however late it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from support.outcomes import dollars
from wallet import telling
from wallet.models import AccountOutcome

What = AccountOutcome.What

SUBJECT = "Your account"
_DISAGREE = "If you disagree, reply to this thread with whatever shows it."


def words(outcome: AccountOutcome) -> str:
    """The outcome in plain words."""
    return _WORDS[What(outcome.what)](outcome)


def _frozen(outcome: AccountOutcome) -> str:
    return f"{telling.frozen(outcome.ground)}\n{_DISAGREE}"


def _unfrozen(_outcome: AccountOutcome) -> str:
    return "The wallet is not frozen any more: it can be spent from again."


def _terminated(outcome: AccountOutcome) -> str:
    return (
        f"{telling.terminated(outcome.ground)}\n"
        f"Forfeited, from the wallet and from open orders: {_usd(outcome)} USD.\n{_DISAGREE}"
    )


def _reinstated(outcome: AccountOutcome) -> str:
    back = (
        f"{_usd(outcome)} USD are back in the wallet."
        if outcome.amount
        else "What was forfeited stays forfeited."
    )
    return f"The account is open again. {back}"


def _usd(outcome: AccountOutcome) -> str:
    return dollars(outcome.amount or Decimal(0))


_WORDS: dict[What, Callable[[AccountOutcome], str]] = {
    What.FROZEN: _frozen,
    What.UNFROZEN: _unfrozen,
    What.TERMINATED: _terminated,
    What.REINSTATED: _reinstated,
}
