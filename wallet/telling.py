"""What customers are told of their account: frozen, let go, terminated, given back.

Whoever changes a wallet's state writes down, in that transaction, what its customer is to be told
(``wallet.models.AccountOutcome``); support carries it to a thread (``support.notices``). The
storefront reads the same words in the wallet's answer.
"""

from __future__ import annotations

from decimal import Decimal

from django.utils import timezone

from wallet import ledger
from wallet.models import AccountOutcome, Claim, Termination, Wallet

What, Ground = AccountOutcome.What, AccountOutcome.Ground

_CLAUSES = {
    Ground.CLAIM: f"Refund policy, disputes: “{ledger.CHARGEBACK}”",
    Ground.TERMINATION: f"Refund policy, not granted: “{ledger.TERMINATED}”",
    Ground.REVIEW: "",
}
_FROZEN = {
    Ground.CLAIM: "a chargeback claim was filed against a deposit, and is being decided",
    Ground.TERMINATION: "the termination of the account is being decided",
    Ground.REVIEW: "we are looking into the account",
}
_KEPT = "Until then nothing is spent from it or paid out; refunds and deposits still arrive."


def note(
    wallet: Wallet, what: AccountOutcome.What, ground: str, amount: Decimal | None = None
) -> None:
    """Write down what became of a locked wallet, after its state is written."""
    AccountOutcome.objects.create(
        customer_id=wallet.pk, what=what, ground=ground, amount=amount, at=timezone.now()
    )


def ground_of(holder: Claim | Termination) -> AccountOutcome.Ground:
    """Why something that is to be decided keeps a wallet frozen."""
    if isinstance(holder, Claim) or holder.claim_id is not None:
        return Ground.CLAIM
    return Ground.TERMINATION


def frozen(ground: str) -> str:
    """That the wallet is frozen, why, and the policy's clause, for the customer."""
    return _with_clause(f"The wallet is frozen: {_FROZEN[Ground(ground)]}. {_KEPT}", ground)


def terminated(ground: str) -> str:
    """That the account has ended, with the policy's clause, for the customer."""
    return _with_clause("The account was terminated, and the wallet is forfeited.", ground)


def _with_clause(said: str, ground: str) -> str:
    return f"{said} {_CLAUSES[Ground(ground)]}".strip()
