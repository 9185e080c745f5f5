"""What a customer is told of a decided refund: the clause in the policy's own words, what follows,
and, after a dispute, that it is final and what alone can still open it again.
"""

from __future__ import annotations

from decimal import Decimal

from refunds import policy
from refunds.decisions import is_goodwill
from refunds.models import RefundRequest

State = RefundRequest.State
FINAL = "This decision is final."
# What can still follow is said before it: a further request, by a senior agent, on new evidence.
ONLY_NEW = (
    "It cannot be disputed again. Only if you send new evidence can a senior agent who has taken "
    "no part in this decide to look at it once more."
)


def words(asked: RefundRequest) -> str:
    """The outcome of a decided request, in plain words."""
    order, amount = f"order {asked.order_id}", dollars(asked.amount)
    clause = f"Refund policy: “{policy.text(asked.clause, asked.policy_version)}”"
    if asked.state in {State.APPROVED, State.OVERTURNED}:
        why = (
            f"{clause} The policy does not refund this; we have made an exception as goodwill."
            if is_goodwill(asked)
            else clause
        )
        credited = f"{amount} USD for {order} have been credited to your wallet."
        if asked.state == State.APPROVED:
            return f"{_looked_again(asked)}{credited}\n{why}"
        return (
            "A senior agent who had taken no part in it has looked at your case again and decided "
            f"for you: {credited}\n{why}\n{FINAL}"
        )
    if _asks_for_a_look(asked):
        clause = clause.replace(
            "Refund policy:", "We have looked at it under this clause of the refund policy:"
        )
    if asked.state == State.DENIED:
        return (
            f"{_looked_again(asked)}We cannot refund {order}.\n{clause}\nIf you disagree, reply to "
            "this thread with additional evidence: a senior agent who took no part in this "
            "decision will look at it."
        )
    if asked.state == State.UPHELD:
        return (
            "A senior agent who had taken no part in it has looked at your case again: "
            f"{order} is not refunded.\n{clause}\n{ONLY_NEW}\n{FINAL}"
        )
    if asked.state == State.DISMISSED:
        return (
            f"We have not taken your last message as a dispute: {order} is not refunded.\n"
            f"{clause}\n{ONLY_NEW}\n{FINAL}"
        )
    raise ValueError(f"{asked} is {asked.state}: there is no outcome to tell")


def _looked_again(asked: RefundRequest) -> str:
    """What is said first of a further request: the customer was told that a decision was final."""
    if asked.further_to_id is None:
        return ""
    return (
        "You have sent new evidence since our final decision, and senior agents who had taken no "
        "part in it have looked at your case once more. "
    )


def _asks_for_a_look(asked: RefundRequest) -> bool:
    """Whether its clause says that people look at such a case, not that it is never refunded."""
    return policy.rule(asked.clause, asked.policy_version).outcome == policy.Outcome.TICKET


def dollars(amount: Decimal) -> str:
    """An amount as a customer reads it: two places, or as many as it needs."""
    cents = amount.quantize(Decimal("0.01"))
    return str(cents if cents == amount else amount.normalize())
