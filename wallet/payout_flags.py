"""What to look at closely about payouts, as badges for their lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from smsactivator.common import flags
from smsactivator.common.display import BAD, NOTHING, QUIET, WAITING, badge
from wallet import payout_board
from wallet.models import OPEN_PAYOUTS, Payout


def flags_of(payouts: Sequence[Payout]) -> dict[int, SafeString]:
    """The flags of these payouts, by their ids, in the same number of queries for few and many.

    Of what has ended, the shared address alone: nobody approves or sends it any more.
    """
    if not payouts:
        return {}
    shared = payout_board.shared_among(payouts)
    still_open = [payout for payout in payouts if payout.state in OPEN_PAYOUTS]
    changed = payout_board.other_addresses_before(still_open)
    above = flags.collect("wallet.Payout", still_open)
    return {
        payout.pk: _joined(
            [
                *_own(payout, shared=payout.pk in shared, changed=payout.pk in changed),
                *above.get(payout.pk, ()),
            ]
        )
        for payout in payouts
    }


def _own(payout: Payout, *, shared: bool, changed: bool) -> Iterable[SafeString]:
    if shared:
        yield badge("Another customer's address", BAD)
    if payout_board.waits_for_its_address(payout):
        yield badge(f"Changed address: waits until {payout.not_before:%Y-%m-%d %H:%M}", WAITING)
    elif changed:
        yield badge("Changed address", WAITING)
    if payout.attempt > 1 and payout.state in OPEN_PAYOUTS:
        yield badge(f"Attempt {payout.attempt - 1} failed", WAITING)
    if payout_board.needs_two(payout):
        yield badge("Two approvals", QUIET)


def _joined(found: Sequence[SafeString]) -> SafeString:
    return format_html_join(" ", "{}", ((flag,) for flag in found)) if found else NOTHING
