"""The figures of a close: what moved in a period, each with the condition that it comes from.

A figure is one SQL condition over ``wallet_transfer AS line``, so that its count, its sum and the
list of the transfers behind it cannot disagree. Upper floors add figures of their own
(``orders.figures``, ``refunds.figures``); the site composes them (``smsactivator.closing``). Each
transfer falls under exactly one figure, but for those that stand apart: they say something more
about transfers that another figure counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wallet.models import FIRST_WALLET, Account

# Headings, in the order in which they are read.
IN = "Money in"
ORDERS = "Orders"
REFUNDS = "Refunds"
GOODWILL = "Goodwill"
CORRECTIONS = "Corrections"
TERMINATIONS = "Terminations"
PAYOUTS = "Payouts"
COST = "Cost"
SECTIONS = (IN, ORDERS, REFUNDS, GOODWILL, CORRECTIONS, TERMINATIONS, PAYOUTS, COST)

PERIOD = "line.posted_at >= %(since)s AND line.posted_at < %(until)s"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``where`` is its condition; the period is added to it, unless it stands apart.

    ``wallets``, ``escrow`` and ``payouts`` say what its transfers do to what we owe in wallets, in
    the escrow of open orders and in payouts that are pending: 1 adds, -1 takes, 0 does nothing. So
    what was owed before and all figures together come to what is owed after.

    ``part`` is an SQL expression (text) that splits the figure, and ``words`` says a part in words.
    A figure ``apart`` names the period in its own condition, as ``%(since)s`` and ``%(until)s``.
    """

    name: str
    label: str
    section: str
    where: str
    wallets: int = 0
    escrow: int = 0
    payouts: int = 0
    part: str = ""
    words: Callable[[str], str] = str
    apart: bool = False

    @property
    def condition(self) -> str:
        """Which transfers are behind it, over ``wallet_transfer AS line``."""
        return f"({self.where})" if self.apart else f"{PERIOD} AND ({self.where})"


@dataclass(frozen=True, slots=True)
class Later:
    """What may happen to a closed period's transfers afterwards.

    ``sql`` returns pairs for a period: the number of the transfer that came after its end
    (``later``) and that of the period's transfer which it concerns (``earlier``).
    """

    name: str
    label: str
    sql: str


FIGURES: tuple[Figure, ...] = (
    Figure("deposits", "Deposits", IN, "line.kind = 'deposit'", wallets=1),
    Figure(
        "adjustments_in",
        "Adjustments to wallets",
        CORRECTIONS,
        f"line.kind = 'adjustment' AND line.credit_account >= {FIRST_WALLET}",
        wallets=1,
    ),
    Figure(
        "adjustments_out",
        "Adjustments from wallets",
        CORRECTIONS,
        f"line.kind = 'adjustment' AND line.debit_account >= {FIRST_WALLET}",
        wallets=-1,
    ),
    Figure(
        "reversals_in",
        "Reversals, back to wallets",
        CORRECTIONS,
        f"line.kind = 'reversal' AND line.credit_account >= {FIRST_WALLET}",
        wallets=1,
    ),
    Figure(
        "reversals_out",
        "Reversals, taken from wallets",
        CORRECTIONS,
        f"line.kind = 'reversal' AND line.debit_account >= {FIRST_WALLET}",
        wallets=-1,
    ),
    Figure(
        "reversals_shop",
        "Reversals between the shop's accounts",
        CORRECTIONS,
        f"line.kind = 'reversal' AND line.debit_account < {FIRST_WALLET}"
        f" AND line.credit_account < {FIRST_WALLET}",
    ),
    Figure(
        "rounding", "Rounding of closed wallets", CORRECTIONS, "line.kind = 'rounding'", wallets=-1
    ),
    Figure(
        "forfeited_wallets",
        "Forfeited from wallets",
        TERMINATIONS,
        f"line.kind = 'forfeiture' AND line.debit_account >= {FIRST_WALLET}",
        wallets=-1,
    ),
    Figure(
        "forfeited_orders",
        "Forfeited from open orders",
        TERMINATIONS,
        f"line.kind = 'forfeiture' AND line.debit_account = {Account.ORDER_ESCROW}",
        escrow=-1,
    ),
    Figure(
        "forfeited_payouts",
        "Forfeited from failed payouts",
        TERMINATIONS,
        f"line.kind = 'forfeiture' AND line.debit_account = {Account.PAYOUTS_PENDING}",
        payouts=-1,
    ),
    Figure(
        "reinstatements",
        "Given back to reinstated customers",
        TERMINATIONS,
        "line.kind = 'reinstatement'",
        wallets=1,
    ),
    Figure(
        "payouts_requested",
        "Payouts requested",
        PAYOUTS,
        "line.kind = 'payout'",
        wallets=-1,
        payouts=1,
    ),
    Figure(
        "payouts_returned",
        "Payouts returned to wallets",
        PAYOUTS,
        "line.kind = 'payout_return'",
        wallets=1,
        payouts=-1,
    ),
    Figure("payouts_paid", "Payouts paid", PAYOUTS, "line.kind = 'payout_paid'", payouts=-1),
    Figure(
        "payouts_unpaid",
        "Payouts paid that failed afterwards",
        PAYOUTS,
        "line.kind = 'payout_unpaid'",
        payouts=1,
    ),
)

LATER: tuple[Later, ...] = (
    Later(
        "reversals",
        "Reversed later",
        f"""
        SELECT later.id AS later, line.id AS earlier
        FROM wallet_transfer AS later
        JOIN wallet_transfer AS line ON line.id = later.reverses_id
        WHERE later.reverses_id IS NOT NULL AND later.posted_at >= %(until)s AND {PERIOD}
        """,
    ),
    Later(
        "payouts_unpaid",
        "Paid out, failed later",
        f"""
        SELECT later.id AS later, line.id AS earlier
        FROM wallet_payoutmove AS undone
        JOIN wallet_transfer AS later ON later.id = undone.transfer_id
        JOIN wallet_payoutmove AS paid ON paid.payout_id = undone.payout_id
        JOIN wallet_transfer AS line ON line.id = paid.transfer_id
        WHERE later.kind = 'payout_unpaid' AND line.kind = 'payout_paid'
            AND later.key = replace(line.key, ':paid:', ':unpaid:')
            AND later.posted_at >= %(until)s AND {PERIOD}
        """,
    ),
)
