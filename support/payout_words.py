"""What a customer is told of a payout, outcome by outcome, in plain words.

Each outcome is told by what was fixed when it came about, however late it is told. The address and
the transaction's hash stand in full, so that the customer can check them: these words go to the
customer and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

from refunds import policy
from refunds.policy import Clause
from support.outcomes import dollars
from wallet.models import Payout, PayoutOutcome

What = PayoutOutcome.What


def words(outcome: PayoutOutcome, *, forfeited: bool) -> str:
    """The outcome in plain words; ``forfeited`` says whether the customer's wallet is by now."""
    return _WORDS[What(outcome.what)](outcome.payout, outcome.detail, forfeited)


def _requested(payout: Payout, _detail: str, _forfeited: bool) -> str:
    waits = (
        "The address is not the one that you gave us before, so nobody can approve the payout "
        f"before {payout.not_before:%Y-%m-%d %H:%M} UTC.\n"
        if payout.not_before
        else ""
    )
    return (
        f"You asked for a payout from your wallet, {payout.reference}:\n\n"
        f"{_terms(payout)}\n\n"
        f"{dollars(payout.amount)} USD leave your wallet now. Another person looks at the payout "
        f"before it is sent, and we tell you on this thread what becomes of it.\n{waits}"
        "Please check the address: what was sent cannot be called back. If anything here is "
        "wrong, or you did not ask for this, reply to this thread at once."
    )


def _rejected(payout: Payout, reason: str, forfeited: bool) -> str:
    return f"{_named(payout)} is not sent.\nReason: {reason}\n{_back(payout, forfeited)}"


def _withdrawn(payout: Payout, _detail: str, forfeited: bool) -> str:
    return f"{_named(payout)} was withdrawn before it was approved.\n{_back(payout, forfeited)}"


def _paid(payout: Payout, transaction_hash: str, _forfeited: bool) -> str:
    return (
        f"Payout {payout.reference} is paid.\n\n"
        f"{_terms(payout)}\n"
        f"Transaction hash: {transaction_hash}"
    )


def _failed(payout: Payout, _detail: str, _forfeited: bool) -> str:
    return (
        f"{_named(payout)} could not be sent, or it came back. We are looking into it, and you "
        "will hear from us on this thread."
    )


def _returned(payout: Payout, reason: str, forfeited: bool) -> str:
    return f"{_named(payout)} is not sent again.\nReason: {reason}\n{_back(payout, forfeited)}"


def _forfeited(payout: Payout, reason: str, _forfeited: bool) -> str:
    return f"{_named(payout)} is not sent.\nReason: {reason}\n{_terminated(payout)}"


_WORDS: dict[What, Callable[[Payout, str, bool], str]] = {
    What.REQUESTED: _requested,
    What.REJECTED: _rejected,
    What.WITHDRAWN: _withdrawn,
    What.PAID: _paid,
    What.FAILED: _failed,
    What.RETURNED: _returned,
    What.FORFEITED: _forfeited,
}


def _named(payout: Payout) -> str:
    return f"Payout {payout.reference} of {dollars(payout.amount)} USD"


def _terms(payout: Payout) -> str:
    """What is sent, and to where: stablecoins count as the US dollar that they stand for."""
    amount, method = dollars(payout.amount), payout.method
    lines = [
        f"Amount: {amount} USD, as {amount} {method.currency} on the network {method.network}",
        f"Address: {payout.address}",
    ]
    if payout.memo:
        lines.append(f"Memo (tag): {payout.memo}")
    return "\n".join(lines)


def _back(payout: Payout, forfeited: bool) -> str:
    """Where the money is that was not sent: in a wallet that may have been forfeited since."""
    if forfeited:
        return _terminated(payout)
    return f"{dollars(payout.amount)} USD are back in your wallet."


def _terminated(payout: Payout) -> str:
    clause = policy.text(Clause.TERMINATED, payout.policy_version)
    return f"Your account was terminated, and the amount is forfeited. Refund policy: “{clause}”"
