"""Payouts through the verbs: from the wish to what became of it, and each refusal by its name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied

from wallet import addresses, claims, ledger, payout_board, payouts, settlement, standing
from wallet.deciding import OwnRequest, ReasonMissing, RequestConflict
from wallet.ledger import WalletClosed, WalletForfeited, WalletMissing
from wallet.limits import OverLimit
from wallet.models import (
    Deposit,
    Payout,
    PayoutMethod,
    PayoutMove,
    PayoutOutcome,
    Transfer,
    Wallet,
)
from wallet.tests import paying, world
from wallet.tests.paying import HASH, TRON, Crew, asked, outcomes, taken_to

pytestmark = pytest.mark.django_db

State = Payout.State
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
ETHEREUM = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture
def buyer():
    return world.customer("1000.0099")


def state_of(payout: Payout) -> str:
    return str(Payout.objects.get(pk=payout.pk).state)


def wallet_of(customer: Any) -> Wallet:
    return Wallet.objects.get(pk=customer.pk)


def history_of(payout: Payout) -> list[tuple[str, str, str]]:
    return list(
        Payout.history.filter(id=payout.pk)
        .order_by("history_id")
        .values_list("state", "history_actor", "history_change_reason")
    )


def everything() -> tuple[Any, ...]:
    """All rows that a payout's verbs write, in full."""
    return tuple(
        list(rows.order_by("pk").values_list())
        for rows in (
            Payout.objects.all(),
            Payout.history.all(),
            PayoutMove.objects.all(),
            PayoutOutcome.objects.all(),
            Transfer.objects.all(),
            Wallet.objects.all(),
            Wallet.history.all(),
        )
    )


def assert_refused(error: type[Exception], words: str, call: Callable[[], Any]) -> None:
    """The call is refused by this error in these words, and nothing has changed."""
    before = everything()
    with pytest.raises(error) as refused:
        call()
    assert type(refused.value) is error
    if error is not PermissionDenied:
        assert str(refused.value) == words
    assert everything() == before


def wallet_in(state: str, customer: Any) -> None:
    """Bring a wallet into a state, with an empty balance where it must be."""
    if state == "frozen":
        standing.freeze(world.person("Senior agent"), customer.pk, reason="Odd")
        return
    wallet = Wallet.objects.get(pk=customer.pk)
    if wallet.balance:
        world.post(world.spent(customer, str(wallet.balance)))
    wallet = Wallet.objects.get(pk=customer.pk)
    if state == "closed":
        wallet.close()
    else:
        wallet.freeze()
        standing.save(wallet, world.TESTER, "Frozen")
        wallet.forfeit()
    standing.save(wallet, world.TESTER, state)


# --- asking ---


def test_a_request_takes_the_money_out_of_the_wallet_at_once(people, buyer):
    with time_machine.travel(NOON, tick=False):
        payout = asked(people.agent, buyer, "50.25", memo=" ")

    payout = Payout.objects.get(pk=payout.pk)
    assert (payout.state, payout.amount, payout.address, payout.memo, payout.attempt) == (
        "requested",
        Decimal("50.2500"),
        TRON,
        "",
        1,
    )
    assert (payout.policy_version, payout.minimum, payout.second_from) == ("2026-05-07", 20, 500)
    assert (payout.requested_by, payout.requested_at, payout.not_before) == (
        people.agent,
        NOON,
        None,
    )
    assert payout.reference == f"PO-{payout.pk:06d}"
    assert world.figures(buyer) == (Decimal("949.7599"), 2)
    assert (paying.pending(), paying.paid()) == (Decimal("50.2500"), 0)
    assert paying.moves(payout) == [("payout", f"payout:{payout.pk}:request")]
    assert outcomes(payout) == [("requested", "")]
    assert history_of(payout) == [
        ("requested", people.agent.username, "Requested: Leaves us"),
    ]


def test_the_whole_balance_is_paid_out_in_whole_cents(people, buyer):
    payout = asked(people.agent, buyer, None)

    assert payout.amount == Decimal("1000.0000")
    assert world.figures(buyer)[0] == Decimal("0.0099")


def test_a_form_that_is_sent_twice_is_one_payout(people, buyer):
    key = uuid4()
    first = asked(people.agent, buyer, "50", key=key)
    before = everything()

    assert asked(people.agent, buyer, "50.0", key=key) == first
    assert everything() == before
    for other in (
        {"amount": "51"},
        {"amount": None},
        {"address": paying.tron(2)},
        {"reason": "Another"},
    ):
        assert_refused(
            RequestConflict,
            f"This form was sent before, as Payout {first.reference}, with other content: open it"
            " anew to ask for something else.",
            lambda other=other: asked(people.agent, buyer, **{"amount": "50", "key": key} | other),
        )


def test_a_form_for_the_whole_balance_that_is_sent_twice_is_one_payout(people, buyer):
    key = uuid4()
    first = asked(people.agent, buyer, None, key=key)
    world.post(world.paid_in(buyer, "30"))
    before = everything()

    # The whole balance is what it was then, whatever has arrived since.
    assert asked(people.agent, buyer, None, key=key) == first
    assert asked(people.agent, buyer, "1000", key=key) == first
    assert everything() == before
    for other in ({"amount": "30"}, {"address": paying.tron(2)}, {"reason": "Another"}):
        assert_refused(
            RequestConflict,
            f"This form was sent before, as Payout {first.reference}, with other content: open it"
            " anew to ask for something else.",
            lambda other=other: asked(people.agent, buyer, **{"amount": None, "key": key} | other),
        )


CLAUSE = (
    'Refund policy, refund destination: "If you want to leave the platform with a non-zero wallet'
    " balance, contact support and we can arrange an outbound payout (subject to a minimum of"
    ' $20)."'
)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("19.99", f"A payout is at least 20.00 USD, and this would be 19.99 USD. {CLAUSE}"),
        ("0", f"A payout is at least 20.00 USD, and this would be 0.00 USD. {CLAUSE}"),
        ("-50", f"A payout is at least 20.00 USD, and this would be -50.00 USD. {CLAUSE}"),
        ("1000.01", "The wallet holds 1000.0099 USD: at most 1000.00 USD can be paid out."),
        ("50.001", "A payout is in whole cents, and 50.0010 USD is not."),
        ("50.00001", "50.00001 has more than 4 decimal places."),
        ("NaN", "NaN is not an amount of money."),
        ("Infinity", "Infinity is not an amount of money."),
        ("1e30", "1E+30 is not an amount of money."),
    ],
)
def test_an_amount_that_cannot_be_paid_out_is_refused(people, buyer, amount, words):
    assert_refused(payouts.PayoutAmountRefused, words, lambda: asked(people.agent, buyer, amount))


def test_a_balance_below_the_minimum_is_not_paid_out_and_the_least_of_it_is(people):
    short, enough = world.customer("19.9999"), world.customer("20.0001")

    assert_refused(
        payouts.PayoutAmountRefused,
        f"A payout is at least 20.00 USD, and this would be 19.99 USD. {CLAUSE}",
        lambda: asked(people.agent, short, None),
    )
    assert asked(people.agent, enough, None).amount == 20


def test_the_minimum_is_that_of_the_policy_s_version(people, buyer):
    terms = payouts.Terms("2027-01-01", Decimal("99.5"))

    assert_refused(
        payouts.PayoutAmountRefused,
        f"A payout is at least 99.50 USD, and this would be 99.49 USD. {CLAUSE}",
        lambda: asked(people.agent, buyer, "99.49", terms=terms),
    )
    payout = asked(people.agent, buyer, "99.5", terms=terms)
    assert (payout.policy_version, payout.minimum) == ("2027-01-01", Decimal("99.5"))


def test_a_wallet_that_is_not_active_pays_nothing_out(people):
    frozen, forfeited, closed = (world.customer("100") for _ in range(3))
    wallet_in("frozen", frozen)
    wallet_in("forfeited", forfeited)
    wallet_in("closed", closed)

    assert_refused(
        payouts.PayoutWalletRefused,
        f"Wallet {frozen.pk} is frozen, so nothing is paid out of it: its history says why."
        f" {CLAUSE}",
        lambda: asked(people.agent, frozen),
    )
    assert_refused(
        WalletForfeited,
        f"Wallet {forfeited.pk} is forfeited and takes no money. Refund policy, not granted:"
        f' "{ledger.TERMINATED}" Only a reinstatement opens it again.',
        lambda: asked(people.agent, forfeited),
    )
    assert_refused(
        WalletClosed,
        f"Wallet {closed.pk} is closed. A senior agent can reopen it.",
        lambda: asked(people.agent, closed),
    )


def test_a_wallet_that_a_claim_keeps_frozen_says_so(people, buyer):
    deposit = Deposit.objects.get(transfer__wallet=buyer.pk)
    claims.record(people.agent, deposit.pk, reference="cb-1", evidence="Filed")

    assert_refused(
        payouts.PayoutWalletRefused,
        f"Wallet {buyer.pk} is frozen, so nothing is paid out of it: Claim cb-1 is to be decided"
        f" first. {CLAUSE}",
        lambda: asked(people.agent, buyer),
    )


def test_who_may_not_ask_and_what_is_missing_is_refused(people, buyer):
    assert_refused(PermissionDenied, "", lambda: asked(people.finance, buyer))
    assert_refused(
        ReasonMissing,
        "Say why: whoever reads this in years will ask.",
        lambda: asked(people.agent, buyer, reason=" "),
    )
    PayoutMethod.objects.filter(code="USDC-TRON").update(enabled=False)
    for code in ("BTC", "USDC-TRON", ""):
        assert_refused(
            payouts.MethodUnknown,
            f"Payouts are not made by {code}: choose another coin or network.",
            lambda code=code: asked(people.agent, buyer, method=code),
        )
    assert_refused(
        addresses.AddressRefused,
        "This is not an address for USDT on TRON: this is an Ethereum address; one on Tron begins"
        " with T.",
        lambda: asked(people.agent, buyer, address=ETHEREUM),
    )
    buyer.pk = 999_999_999
    assert_refused(
        WalletMissing, "There is no wallet 999999999.", lambda: asked(people.agent, buyer)
    )


def test_another_coin_is_a_row_and_its_memo_belongs_to_the_address(people, buyer):
    PayoutMethod.objects.create(
        code="USDC-STELLAR",
        currency="USDC",
        network="STELLAR",
        address_format="stellar",
        memo_rule="required",
    )
    exchange = "GCVSPNZJ3HGEZMOABFQHABCGSJAVT2JJRUHZKKXOHVKUBC4OBMNXCO2K"
    there = {"method": "USDC-STELLAR", "address": exchange}
    neighbour = world.customer("100")

    payout = asked(people.agent, buyer, memo="104", **there)
    other = asked(people.agent, neighbour, memo="105", **there)
    same = asked(people.agent, neighbour, memo="104", **there)

    assert (payout.memo, payout.not_before) == ("104", None)
    assert payouts.also_used_by(payout) == [neighbour.pk]
    assert payouts.also_used_by(other) == []
    assert payouts.also_used_by(same) == [buyer.pk]
    assert shared() == {payout.pk, same.pk}
    # Another memo is another account at the exchange: it waits.
    assert same.not_before is not None


def test_a_memo_that_may_be_left_out_hides_no_shared_address(people, buyer):
    PayoutMethod.objects.filter(code="USDT-TRON").update(memo_rule="optional")
    neighbour = world.customer("100")

    payout = asked(people.agent, buyer, memo="104")
    other = asked(people.agent, neighbour, memo="105")
    bare = asked(people.agent, world.customer("100"), method="USDC-TRON")

    assert payouts.also_used_by(payout) == sorted([neighbour.pk, bare.customer_id])
    assert payouts.also_used_by(other) == sorted([buyer.pk, bare.customer_id])
    assert payouts.also_used_by(bare) == sorted([buyer.pk, neighbour.pk])
    assert shared() == {payout.pk, other.pk, bare.pk}


def shared() -> set[int]:
    """The payouts that the list marks for an address that another customer gave."""
    found = Payout.objects.annotate(shared=payout_board.address_shared())
    return set(found.filter(shared=True).values_list("pk", flat=True))


# --- addresses: used by others, changed ---


def test_an_address_that_other_customers_gave_is_known_whatever_became_of_it(people, buyer):
    others = [world.customer("100") for _ in range(3)]
    rejected = asked(people.agent, others[0])
    payouts.reject(people.finance, rejected.pk, reason="No")
    asked(people.agent, others[1])
    asked(people.agent, others[1])
    asked(people.agent, others[2], address=paying.tron(7))

    payout = asked(people.agent, buyer)

    assert payouts.also_used_by(payout) == [others[0].pk, others[1].pk]


def test_a_changed_address_waits_and_then_can_be_approved(people, buyer):
    with time_machine.travel(NOON, tick=False) as clock:
        assert asked(people.agent, buyer).not_before is None
        clock.shift(timedelta(hours=1))
        changed = asked(people.agent, buyer, address=paying.tron(2))

        assert changed.not_before == NOON + timedelta(hours=25)
        clock.shift(timedelta(hours=24) - timedelta(microseconds=1))
        assert_refused(
            payouts.TooEarly,
            f"The customer's address has changed: {changed} can be approved from 2026-11-26 13:00"
            " UTC. Make sure that the customer asked for it.",
            lambda: payouts.approve(people.finance, changed.pk),
        )
        clock.shift(timedelta(microseconds=1))
        assert payouts.approve(people.finance, changed.pk).state == State.APPROVED


def test_an_address_that_was_given_earlier_waits_from_then_on(people, buyer):
    second = paying.tron(2)
    with time_machine.travel(NOON, tick=False) as clock:
        first = asked(people.agent, buyer)
        once = asked(people.agent, buyer, address=second)
        clock.shift(timedelta(hours=20))
        again = asked(people.agent, buyer, address=second)
        assert (once.not_before, again.not_before) == (NOON + timedelta(hours=24),) * 2
        clock.shift(timedelta(hours=4))

        assert asked(people.agent, buyer, address=second).not_before is None
        assert asked(people.agent, buyer, address=first.address).not_before is None


@pytest.mark.parametrize("how", [State.WITHDRAWN, State.REJECTED])
def test_an_address_is_not_given_by_what_was_withdrawn_or_rejected(people, buyer, how):
    second = paying.tron(2)
    with time_machine.travel(NOON, tick=False) as clock:
        first = asked(people.agent, buyer)
        taken_to(how, people, buyer, address=second)
        clock.shift(timedelta(hours=30))
        later = asked(people.agent, buyer, address=second)

        assert later.not_before == NOON + timedelta(hours=54)
        assert payout_board.other_address_before(later) == first
        # Nor does it make the address from before a new one.
        back = asked(people.agent, buyer)
        assert back.not_before is None
        assert payout_board.other_address_before(back) == later
        payouts.withdraw(people.agent, later.pk)
        again = asked(people.agent, buyer)
        assert payout_board.other_address_before(again) is None


@pytest.mark.parametrize("how", [State.WITHDRAWN, State.REJECTED])
def test_an_address_is_another_one_even_if_the_one_before_came_to_nothing(people, buyer, how):
    with time_machine.travel(NOON, tick=False) as clock:
        nothing = taken_to(how, people, buyer)
        clock.shift(timedelta(hours=30))
        same = asked(people.agent, buyer)
        assert (same.not_before, payout_board.other_address_before(same)) == (None, None)
        payouts.withdraw(people.agent, same.pk)
        another = asked(people.agent, buyer, address=paying.tron(2))

        assert another.not_before == NOON + timedelta(hours=54)
        assert payout_board.other_address_before(another) == same
        assert payout_board.warnings(another) == [
            f"The address has changed: {same.reference} of this customer named another one. Make"
            " sure that the customer asked for it."
        ]
        assert nothing.pk < same.pk


def test_the_wait_is_a_setting_and_belongs_to_each_customer_alone(people, buyer, settings):
    neighbour = world.customer("100")
    asked(people.agent, buyer, address=paying.tron(2))
    assert asked(people.agent, neighbour).not_before is None
    settings.PAYOUT_COOL_DOWN = timedelta(0)
    assert asked(people.agent, buyer).not_before is None


# --- withdrawing and rejecting ---


@pytest.mark.parametrize("state", [State.REQUESTED, State.FIRST_APPROVED])
def test_who_asked_takes_it_back_until_it_is_approved(people, buyer, state):
    payout = taken_to(state, people, buyer, "500.01")

    withdrawn = payouts.withdraw(people.agent, payout.pk)

    assert (withdrawn.state, withdrawn.decided_by, withdrawn.decision_reason) == (
        "withdrawn",
        people.agent,
        "",
    )
    assert world.figures(buyer)[0] == Decimal("1000.0099")
    assert (paying.pending(), paying.paid()) == (0, 0)
    assert paying.moves(payout)[-1] == ("payout_return", f"payout:{payout.pk}:return")
    assert outcomes(payout) == [("requested", ""), ("withdrawn", "")]
    assert history_of(payout)[-1] == ("withdrawn", people.agent.username, "Withdrawn")


def test_nobody_else_takes_it_back_and_nobody_after_its_approval(people, buyer):
    payout = asked(people.agent, buyer)
    assert_refused(
        OwnRequest,
        "Only the one who requested this can withdraw it. You can reject it.",
        lambda: payouts.withdraw(people.senior, payout.pk),
    )
    payouts.approve(people.finance, payout.pk)
    assert_refused(
        payouts.PayoutElsewhere,
        f"{payout} is “Approved” by now: look at it again.",
        lambda: payouts.withdraw(people.agent, payout.pk),
    )


@pytest.mark.parametrize("state", [State.REQUESTED, State.FIRST_APPROVED, State.APPROVED])
def test_a_rejected_payout_returns_its_money_with_a_reason(people, buyer, state):
    payout = taken_to(state, people, buyer, "600")

    rejected = payouts.reject(people.senior, payout.pk, reason=" The name differs ")

    assert (rejected.state, rejected.decided_by, rejected.decision_reason) == (
        "rejected",
        people.senior,
        "The name differs",
    )
    assert world.figures(buyer)[0] == Decimal("1000.0099")
    assert paying.pending() == 0
    assert outcomes(payout) == [("requested", ""), ("rejected", "The name differs")]
    assert history_of(payout)[-1] == (
        "rejected",
        people.senior.username,
        "Rejected: The name differs",
    )


def test_rejecting_needs_the_right_and_a_reason(people, buyer):
    payout = asked(people.agent, buyer)
    assert_refused(
        PermissionDenied, "", lambda: payouts.reject(people.agent, payout.pk, reason="No")
    )
    assert_refused(
        ReasonMissing,
        "Say why: whoever reads this in years will ask.",
        lambda: payouts.reject(people.finance, payout.pk, reason="\n"),
    )
    assert_refused(
        payouts.PayoutUnknown,
        "There is no payout 999999.",
        lambda: payouts.reject(people.finance, 999_999, reason="No"),
    )


def test_a_frozen_wallet_takes_its_money_back(people, buyer):
    payout = asked(people.agent, buyer)
    wallet_in("frozen", buyer)

    payouts.reject(people.finance, payout.pk, reason="Frozen")

    assert (wallet_of(buyer).state, world.figures(buyer)[0]) == ("frozen", Decimal("1000.0099"))


# --- approving ---


def test_another_person_approves_and_says_why(people, buyer):
    payout = asked(people.agent, buyer, "500")

    with time_machine.travel(datetime.now(UTC), tick=False):
        now = datetime.now(UTC)
        done = payouts.approve(people.finance, payout.pk, reason=" Called them ")

    assert (done.state, done.approved_by, done.approved_at, done.second_by) == (
        "approved",
        people.finance,
        now,
        None,
    )
    assert paying.pending() == 500
    assert history_of(payout)[-1] == (
        "approved",
        people.finance.username,
        "Approved: Called them",
    )
    # The customer is told what became of the wish, not each step.
    assert outcomes(payout) == [("requested", "")]


def test_nobody_approves_what_they_requested(people, buyer):
    payout = asked(people.senior, buyer)
    words = "You requested, sent again or approved this yourself, so somebody else approves it."

    assert_refused(OwnRequest, words, lambda: payouts.approve(people.senior, payout.pk))
    assert_refused(PermissionDenied, "", lambda: payouts.approve(people.agent, payout.pk))
    assert_refused(
        payouts.PayoutUnknown,
        "There is no payout 999999.",
        lambda: payouts.approve(people.finance, 999_999),
    )


def test_above_the_amount_two_people_approve(people, buyer):
    at_it = asked(people.agent, world.customer("500"), "500")
    above = asked(people.agent, buyer, "500.01")
    words = "You requested, sent again or approved this yourself, so somebody else approves it."

    assert payouts.approve(people.finance, at_it.pk).state == State.APPROVED
    assert payouts.approve(people.finance, above.pk).state == State.FIRST_APPROVED
    assert_refused(OwnRequest, words, lambda: payouts.approve(people.finance, above.pk))
    done = payouts.approve(people.other, above.pk, reason="Agreed")

    assert (done.state, done.approved_by, done.second_by) == (
        State.APPROVED,
        people.finance,
        people.other,
    )
    assert [line[2] for line in history_of(above)] == [
        "Requested: Leaves us",
        "Approved by the first of two",
        "Approved by a second person: Agreed",
    ]


def test_the_amount_for_two_people_is_that_of_when_it_was_requested(people, buyer, settings):
    before = asked(people.agent, buyer, "300")
    settings.PAYOUT_SECOND_APPROVAL_FROM = Decimal(100)
    after = asked(people.agent, buyer, "300")

    assert payouts.approve(people.finance, before.pk).state == State.APPROVED
    assert payouts.approve(people.finance, after.pk).state == State.FIRST_APPROVED


def test_a_wish_in_parts_is_one_wish_for_a_day(people):
    buyer, neighbour = world.customer("5000"), world.customer("5000")
    with time_machine.travel(NOON, tick=False) as clock:
        first = asked(people.agent, buyer, "300")
        second, third = (asked(people.agent, buyer, "200") for _ in range(2))
        fourth = asked(people.agent, buyer, "20")
        assert [one.second_from for one in (first, second, third, fourth)] == [500, 200, 0, 0]
        done = [payouts.approve(people.finance, one.pk).state for one in (first, second, third)]
        assert done == ["approved", "approved", "first_approved"]
        assert asked(people.agent, neighbour, "500").second_from == 500
        clock.shift(timedelta(hours=24) - timedelta(microseconds=1))
        assert asked(people.agent, buyer, "20").second_from == 0
        clock.shift(timedelta(microseconds=1))
        assert asked(people.agent, buyer, "20").second_from == 480


@pytest.mark.parametrize(
    ("state", "left"),
    [
        (State.REQUESTED, "200"),
        (State.APPROVED, "200"),
        (State.FAILED, "200"),
        (State.PAID, "200"),
        (State.RETURNED, "500"),
        (State.REJECTED, "500"),
        (State.WITHDRAWN, "500"),
    ],
)
def test_what_came_back_is_not_part_of_the_wish(people, buyer, state, left):
    taken_to(state, people, buyer, "300")

    assert asked(people.agent, buyer, "20").second_from == Decimal(left)


def test_an_approved_payout_is_not_approved_again(people, buyer):
    payout = taken_to(State.APPROVED, people, buyer)

    assert_refused(
        payouts.PayoutElsewhere,
        f"{payout} is “Approved” by now: look at it again.",
        lambda: payouts.approve(people.other, payout.pk),
    )


def test_each_role_has_a_limit_for_one_payout(people, buyer):
    payout = asked(people.agent, buyer, "200.01")
    assert_refused(
        OverLimit,
        "Your limit for one payout is 200.0000 USD, and this is 200.0100 USD: ask somebody with a"
        " higher limit.",
        lambda: payouts.approve(people.senior, payout.pk),
    )
    within = asked(people.agent, buyer, "200")
    assert payouts.approve(people.senior, within.pk).state == State.APPROVED


def test_the_limit_of_a_day_counts_each_attempt_of_a_payout_once(people):
    with time_machine.travel(NOON, tick=False):
        payout = paying.asked(people.agent, world.customer("190"), "190")
        for attempt in range(1, 6):
            # Each attempt is approved, sent, failed; only the last one is remembered by the row.
            payouts.approve(people.senior, payout.pk)
            assert payouts._used(people.senior, NOON) == 190 * attempt
            paying.submitted(payout)
            settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
            settlement.send_again(people.finance, payout.pk, reason="Again")
            assert payouts._used(people.senior, NOON) == 190 * attempt
        assert payouts._used(people.finance, NOON) == 0

        assert_refused(
            OverLimit,
            "Your limit for payout is 1000.0000 USD a day, and 950.0000 USD are used up today"
            " (UTC): ask somebody else, or wait for tomorrow.",
            lambda: payouts.approve(people.senior, payout.pk),
        )
        # An attempt that is rejected does not count, and those before it still do.
        payouts.approve(people.other, payout.pk)
        assert payouts._used(people.other, NOON) == 190
        payouts.reject(people.senior, payout.pk, reason="No")
        assert (payouts._used(people.other, NOON), payouts._used(people.senior, NOON)) == (0, 950)


def test_each_role_has_a_limit_for_a_day(people):
    with time_machine.travel(NOON, tick=False) as clock:
        for _ in range(5):
            payouts.approve(people.senior, asked(people.agent, world.customer("190"), "190").pk)
        buyer = world.customer("2000")
        last, more = asked(people.agent, buyer, "50"), asked(people.agent, buyer, "50.01")
        assert_refused(
            OverLimit,
            "Your limit for payout is 1000.0000 USD a day, and 950.0000 USD are used up today"
            " (UTC): ask somebody else, or wait for tomorrow.",
            lambda: payouts.approve(people.senior, more.pk),
        )
        assert payouts.approve(people.senior, last.pk).state == State.APPROVED
        clock.move_to(datetime(2026, 11, 26, 0, 0, tzinfo=UTC))
        assert payouts.approve(people.senior, more.pk).state == State.APPROVED


def test_the_limit_of_a_day_counts_second_approvals_and_not_what_was_rejected(people):
    with time_machine.travel(NOON, tick=False):
        for _ in range(4):
            payout = asked(people.agent, world.customer("5000"), "5000")
            payouts.approve(people.finance, payout.pk)
            payouts.approve(people.other, payout.pk)
        fifth, sixth = (asked(people.agent, world.customer("5000"), "5000") for _ in range(2))
        seventh = asked(people.agent, world.customer("20"), "20")
        payouts.approve(people.finance, fifth.pk)
        payouts.approve(people.other, fifth.pk)
        for approver in (people.finance, people.other):
            assert_refused(
                OverLimit,
                "Your limit for payout is 25000.0000 USD a day, and 25000.0000 USD are used up"
                " today (UTC): ask somebody else, or wait for tomorrow.",
                lambda approver=approver: payouts.approve(approver, seventh.pk),
            )
        payouts.reject(people.senior, fifth.pk, reason="No")
        assert payouts.approve(people.finance, sixth.pk).state == State.FIRST_APPROVED


def test_a_wallet_that_was_frozen_after_the_wish_is_not_approved(people, buyer):
    payout = asked(people.agent, buyer)
    wallet_in("frozen", buyer)

    assert_refused(
        payouts.PayoutWalletRefused,
        f"Wallet {buyer.pk} is frozen, so nothing is paid out of it: its history says why."
        f" {CLAUSE}",
        lambda: payouts.approve(people.finance, payout.pk),
    )


# --- what became of it ---


@pytest.mark.parametrize("state", [State.EXPORTED, State.SUBMITTED])
def test_a_paid_payout_has_its_hash_and_fee(people, buyer, state):
    payout = taken_to(state, people, buyer)

    done = settlement.mark_paid(
        people.finance,
        payout.pk,
        transaction_hash="0x" + HASH.upper(),
        fee=Decimal("13.400000000000000001"),
        fee_currency=" trx ",
        reason="Seen on the chain",
    )

    done.refresh_from_db()
    assert (done.state, done.transaction_hash, done.fee, done.fee_currency, done.problem) == (
        "paid",
        HASH,
        Decimal("13.400000000000000001"),
        "TRX",
        "",
    )
    assert done.settled_at is not None
    assert (paying.pending(), paying.paid()) == (0, 50)
    assert world.figures(buyer)[0] == Decimal("950.0099")
    assert paying.moves(payout) == [
        ("payout", f"payout:{payout.pk}:request"),
        ("payout_paid", f"payout:{payout.pk}:paid:1"),
    ]
    assert outcomes(payout) == [("requested", ""), ("paid", HASH)]
    assert history_of(payout)[-1] == (
        "paid",
        people.finance.username,
        f"Paid by transaction {HASH}: Seen on the chain",
    )


def test_said_again_it_is_paid_once_and_by_another_transaction_it_is_not(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)
    before = everything()

    settlement.mark_paid(people.other, payout.pk, transaction_hash=f" {HASH.upper()}")

    assert everything() == before
    other = "cd" * 32
    assert_refused(
        settlement.ResultConflict,
        f"{payout} was paid by transaction {HASH}, not by {other}.",
        lambda: settlement.mark_paid(people.finance, payout.pk, transaction_hash=other),
    )


def test_one_transaction_pays_an_address_once_and_two_addresses_at_once(people, buyer):
    first = taken_to(State.SUBMITTED, people, buyer)
    same, elsewhere = world.customer("100"), world.customer("100")
    second = taken_to(State.SUBMITTED, people, same)
    third = taken_to(State.SUBMITTED, people, elsewhere, address=paying.tron(3))
    settlement.mark_paid(people.finance, first.pk, transaction_hash=HASH)

    assert_refused(
        settlement.TransactionUsed,
        f"{first} to the same address was paid by transaction {HASH}.",
        lambda: settlement.mark_paid(people.finance, second.pk, transaction_hash=HASH),
    )
    assert_refused(
        settlement.TransactionShared,
        f"Transaction {HASH} is on other payouts already: {first.reference} of "
        f"{first.customer.external_id}. Look at it on the network, and say so if it paid these "
        "too.",
        lambda: settlement.mark_paid(people.finance, third.pk, transaction_hash=HASH),
    )
    assert Payout.objects.get(pk=third.pk).state == State.SUBMITTED
    settlement.mark_paid(people.finance, third.pk, transaction_hash=HASH, shared=True)
    assert paying.paid() == 100


@pytest.mark.parametrize(
    ("fee", "currency", "words"),
    [
        ("-0.1", "TRX", "A fee is an amount of 0 or more, below a million."),
        ("NaN", "TRX", "A fee is an amount of 0 or more, below a million."),
        ("1000000", "TRX", "A fee is an amount of 0 or more, below a million."),
        (None, "TRX", "A fee is an amount of 0 or more, below a million."),
        ("0.0000000000000000001", "TRX", "A fee has up to 18 decimal places."),
        ("1", "", "A fee names its currency, as TRX."),
        ("1", "T R X", "A fee names its currency, as TRX."),
        ("1", "=TRX", "A fee names its currency, as TRX."),
        ("1", "ТРХ", "A fee names its currency, as TRX."),  # noqa: RUF001 - Cyrillic
        ("1", "T" * 17, "A fee names its currency, as TRX."),
    ],
)
def test_a_fee_that_is_none_is_refused(people, buyer, fee, currency, words):
    payout = taken_to(State.SUBMITTED, people, buyer)

    assert_refused(
        settlement.FeeRefused,
        words,
        lambda: settlement.mark_paid(
            people.finance,
            payout.pk,
            transaction_hash=HASH,
            fee=None if fee is None else Decimal(fee),
            fee_currency=currency,
        ),
    )


@pytest.mark.parametrize(
    "state",
    [
        State.REQUESTED,
        State.FIRST_APPROVED,
        State.APPROVED,
        State.REJECTED,
        State.WITHDRAWN,
        State.RETURNED,
    ],
)
def test_what_is_not_on_its_way_is_neither_paid_nor_failed(people, buyer, state):
    payout = taken_to(state, people, buyer, "600")
    label = State(state).label
    words = f"{payout} is “{label}” by now: look at it again."

    for call in (
        lambda: settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH),
        lambda: settlement.mark_failed(people.finance, payout.pk, problem="Bounced"),
        lambda: settlement.send_again(people.finance, payout.pk, reason="Again"),
        lambda: settlement.give_back(people.other, payout.pk, reason="Never"),
    ):
        assert_refused(payouts.PayoutElsewhere, words, call)


@pytest.mark.parametrize("state", [State.EXPORTED, State.SUBMITTED, State.PAID])
def test_what_is_on_its_way_or_paid_is_neither_rejected_withdrawn_nor_given_back(
    people, buyer, state
):
    payout = taken_to(state, people, buyer)
    words = f"{payout} is “{State(state).label}” by now: look at it again."

    for call in (
        lambda: payouts.approve(people.other, payout.pk),
        lambda: payouts.reject(people.finance, payout.pk, reason="No"),
        lambda: payouts.withdraw(people.agent, payout.pk),
        lambda: settlement.send_again(people.finance, payout.pk, reason="Again"),
        lambda: settlement.give_back(people.finance, payout.pk, reason="Never"),
    ):
        assert_refused(payouts.PayoutElsewhere, words, call)


def test_settling_needs_the_right_a_hash_and_a_reason(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    senior, finance = people.senior, people.finance
    why = "Say why: whoever reads this in years will ask."

    for call in (
        lambda: settlement.mark_paid(senior, payout.pk, transaction_hash=HASH),
        lambda: settlement.mark_failed(senior, payout.pk, problem="Bounced"),
        lambda: settlement.send_again(senior, payout.pk, reason="Again"),
        lambda: settlement.give_back(senior, payout.pk, reason="Never"),
    ):
        assert_refused(PermissionDenied, "", call)
    for call in (
        lambda: settlement.mark_failed(finance, payout.pk, problem=" "),
        lambda: settlement.send_again(finance, payout.pk, reason=" "),
        lambda: settlement.give_back(finance, payout.pk, reason=" "),
    ):
        assert_refused(ReasonMissing, why, call)
    assert_refused(
        addresses.HashRefused,
        "A transaction on TRON is named by 64 hexadecimal digits.",
        lambda: settlement.mark_paid(finance, payout.pk, transaction_hash="soon"),
    )
    assert_refused(
        payouts.PayoutUnknown,
        "There is no payout 999999.",
        lambda: settlement.mark_paid(finance, 999_999, transaction_hash=HASH),
    )


@pytest.mark.parametrize("state", [State.EXPORTED, State.SUBMITTED])
def test_a_failed_payout_stays_pending_until_somebody_decides(people, buyer, state):
    payout = taken_to(state, people, buyer)

    settlement.mark_failed(people.finance, payout.pk, problem="Address is blocked")
    before = everything()
    done = settlement.mark_failed(people.other, payout.pk, problem="Said again")

    assert everything() == before
    assert (done.state, done.problem) == ("failed", "Address is blocked")
    assert (paying.pending(), paying.paid()) == (50, 0)
    # What the provider said is for us; the customer reads that it failed.
    assert outcomes(payout) == [("requested", ""), ("failed", "")]


def test_a_paid_payout_can_fail_and_be_found_paid_after_all(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)

    paying.came_back(people.finance, payout, "Came back")
    assert (state_of(payout), paying.pending(), paying.paid()) == ("failed", 50, 0)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)
    assert (state_of(payout), paying.pending(), paying.paid()) == ("paid", 0, 50)
    paying.came_back(people.finance, payout, "Came back again")

    assert paying.moves(payout) == [
        ("payout", f"payout:{payout.pk}:request"),
        ("payout_paid", f"payout:{payout.pk}:paid:1"),
        ("payout_unpaid", f"payout:{payout.pk}:unpaid:1"),
        ("payout_paid", f"payout:{payout.pk}:paid:2"),
        ("payout_unpaid", f"payout:{payout.pk}:unpaid:2"),
    ]
    assert [what for what, _ in outcomes(payout)] == [
        *("requested", "paid", "failed", "paid", "failed")
    ]
    assert (paying.pending(), paying.paid()) == (50, 0)


def test_a_failed_payout_is_found_paid_by_a_transaction_that_nobody_knew(people, buyer):
    payout = taken_to(State.FAILED, people, buyer)

    done = settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)

    assert (done.state, done.problem, paying.paid()) == ("paid", "", 50)


# --- sent again ---


def test_a_failed_payout_is_sent_again_under_its_reference_and_approved_anew(people, buyer):
    payout = taken_to(State.SUBMITTED, people, buyer, "600")
    settlement.mark_paid(
        people.finance, payout.pk, transaction_hash=HASH, fee=Decimal(1), fee_currency="TRX"
    )
    paying.came_back(people.finance, payout, "Came back")

    again = settlement.send_again(people.finance, payout.pk, reason="Address unblocked")

    again.refresh_from_db()
    assert (again.reference, again.state, again.attempt, again.sent_again_by) == (
        payout.reference,
        "requested",
        2,
        people.finance,
    )
    assert (again.approved_by, again.approved_at, again.second_by, again.second_at) == (None,) * 4
    assert (again.transaction_hash, again.fee, again.fee_currency, again.settled_at) == (
        "",
        None,
        "",
        None,
    )
    assert again.problem == ""
    assert (paying.pending(), paying.paid()) == (600, 0)
    assert history_of(payout)[-1] == (
        "requested",
        people.finance.username,
        "To be sent again: Address unblocked",
    )


def test_who_sends_it_again_does_not_approve_it(people, buyer):
    payout = taken_to(State.FAILED, people, buyer)
    settlement.send_again(people.finance, payout.pk, reason="Again")

    assert_refused(
        OwnRequest,
        "You requested, sent again or approved this yourself, so somebody else approves it.",
        lambda: payouts.approve(people.finance, payout.pk),
    )
    payouts.approve(people.other, payout.pk)
    paying.submitted(payout)
    settlement.mark_paid(people.finance, payout.pk, transaction_hash=HASH)
    assert (state_of(payout), paying.paid()) == ("paid", 50)


@pytest.mark.parametrize("state", [State.REQUESTED, State.FIRST_APPROVED])
def test_a_payout_that_is_sent_again_is_rejected_and_not_withdrawn(people, buyer, state):
    payout = taken_to(State.FAILED, people, buyer, "600")
    settlement.send_again(people.finance, payout.pk, reason="Again")
    if state == State.FIRST_APPROVED:
        payouts.approve(people.other, payout.pk)

    assert_refused(
        payouts.PayoutElsewhere,
        f"{payout} was sent again, so it is approved or rejected.",
        lambda: payouts.withdraw(people.agent, payout.pk),
    )
    payouts.reject(people.other, payout.pk, reason="They changed their mind")

    assert (paying.pending(), world.figures(buyer)[0]) == (0, Decimal("1000.0099"))


def test_withdrawing_needs_the_right_to_ask(people, buyer):
    payout = asked(people.agent, buyer)
    people.agent.groups.clear()
    agent = type(people.agent).objects.get(pk=people.agent.pk)

    assert_refused(PermissionDenied, "", lambda: payouts.withdraw(agent, payout.pk))


def test_nothing_is_sent_again_from_a_wallet_that_is_frozen_or_forfeited(people):
    frozen, forfeited = world.customer("50"), world.customer("50")
    stopped, ended = (taken_to(State.FAILED, people, one) for one in (frozen, forfeited))
    wallet_in("frozen", frozen)
    wallet_in("forfeited", forfeited)

    assert_refused(
        payouts.PayoutWalletRefused,
        f"Wallet {frozen.pk} is frozen, so nothing is paid out of it: its history says why."
        f" {CLAUSE}",
        lambda: settlement.send_again(people.finance, stopped.pk, reason="Again"),
    )
    assert_refused(
        WalletForfeited,
        f"Wallet {forfeited.pk} is forfeited and takes no money. Refund policy, not granted:"
        f' "{ledger.TERMINATED}" Only a reinstatement opens it again.',
        lambda: settlement.send_again(people.finance, ended.pk, reason="Again"),
    )


# --- given back ---


@pytest.mark.parametrize("state", ["active", "frozen"])
def test_a_failed_payout_is_given_back_to_the_wallet(people, buyer, state):
    payout = taken_to(State.FAILED, people, buyer)
    if state == "frozen":
        wallet_in("frozen", buyer)

    done = settlement.give_back(people.other, payout.pk, reason=" Their bank says no ")

    assert (done.state, done.decided_by, done.decision_reason, done.problem) == (
        "returned",
        people.other,
        "Their bank says no",
        "Bounced",
    )
    assert (wallet_of(buyer).state, world.figures(buyer)[0]) == (state, Decimal("1000.0099"))
    assert (paying.pending(), paying.paid()) == (0, 0)
    assert outcomes(payout)[-1] == ("returned", "Their bank says no")
    assert history_of(payout)[-1] == (
        "returned",
        people.other.username,
        "Returned to the wallet: Their bank says no",
    )


@pytest.mark.parametrize("state", [State.SUBMITTED, State.PAID])
def test_who_says_that_it_failed_does_not_give_it_back(people, buyer, state):
    payout = taken_to(state, people, buyer)
    if state == State.PAID:
        failed = paying.came_back(people.finance, payout, "Bounced")
    else:
        failed = settlement.mark_failed(people.finance, payout.pk, problem="Bounced")
    # Said again by another, it is still the first who said so.
    settlement.mark_failed(people.other, payout.pk, problem="Bounced")
    assert failed.failed_by == people.finance

    assert_refused(
        OwnRequest,
        "You said yourself that this failed, so somebody else gives its money back.",
        lambda: settlement.give_back(people.finance, payout.pk, reason="Never"),
    )
    done = settlement.give_back(people.other, payout.pk, reason="Never")

    done.refresh_from_db()
    assert (done.state, done.failed_by, done.decided_by) == (
        "returned",
        people.finance,
        people.other,
    )
    assert world.figures(buyer)[0] == Decimal("1000.0099")


def test_of_a_terminated_customer_it_takes_two_as_well(people):
    _, payout = paid_and_closed(people, "forfeited")

    assert_refused(
        OwnRequest,
        "You said yourself that this failed, so somebody else gives its money back.",
        lambda: settlement.give_back(people.finance, payout.pk, reason="Never"),
    )


def test_who_said_that_it_failed_is_forgotten_once_it_is_paid_or_sent_again(people, buyer):
    paid, again = (taken_to(State.FAILED, people, buyer) for _ in range(2))

    settlement.mark_paid(people.finance, paid.pk, transaction_hash=HASH)
    settlement.send_again(people.finance, again.pk, reason="Again")

    assert list(
        Payout.objects.filter(pk__in=[paid.pk, again.pk]).values_list("failed_by", flat=True)
    ) == [None, None]
    paying.came_back(people.other, paid, "Came back")
    assert settlement.give_back(people.finance, paid.pk, reason="Never").state == "returned"


def test_who_sends_it_again_does_not_reject_it_either(people, buyer):
    # Else one person could call a paid payout failed, send it again and have its money back.
    payout = taken_to(State.FAILED, people, buyer)
    settlement.send_again(people.finance, payout.pk, reason="Again")
    words = f"You sent {payout} again yourself, so somebody else rejects it."

    assert_refused(
        OwnRequest, words, lambda: payouts.reject(people.finance, payout.pk, reason="No")
    )
    payouts.approve(people.other, payout.pk)
    assert_refused(
        OwnRequest, words, lambda: payouts.reject(people.finance, payout.pk, reason="No")
    )
    assert payouts.reject(people.other, payout.pk, reason="No").state == State.REJECTED


def paid_and_closed(people: Crew, ending: str = "closed") -> tuple[Any, Payout]:
    """A customer who was paid out in whole and is gone, and whose payout then comes back."""
    buyer = world.customer("50")
    payout = taken_to(State.PAID, people, buyer)
    wallet_in(ending, buyer)
    paying.came_back(people.finance, payout, "Came back")
    return buyer, payout


def test_a_payout_that_comes_back_to_a_closed_wallet_opens_it(people):
    buyer, payout = paid_and_closed(people)

    settlement.give_back(people.other, payout.pk, reason="Came back")

    assert (wallet_of(buyer).state, world.figures(buyer)[0]) == ("active", 50)
    reopened = Wallet.history.filter(customer=buyer.pk).latest("history_id")
    assert (reopened.history_actor, reopened.history_change_reason) == (
        people.other.username,
        f"Reopened: the money of {payout} came back",
    )


def test_a_closed_wallet_that_a_claim_is_against_opens_frozen(people):
    buyer, payout = paid_and_closed(people)
    deposit = Deposit.objects.get(transfer__wallet=buyer.pk)
    claims.record(people.agent, deposit.pk, reference="cb-1", evidence="Filed")

    settlement.give_back(people.other, payout.pk, reason="Came back")

    assert (wallet_of(buyer).state, world.figures(buyer)[0]) == ("frozen", 50)


def test_a_payout_of_a_closed_wallet_that_is_sent_again_may_yet_end_in_it(people):
    buyer, payout = paid_and_closed(people)
    settlement.send_again(people.finance, payout.pk, reason="Another try")

    payouts.approve(people.other, payout.pk)
    payouts.reject(people.senior, payout.pk, reason="No")

    assert (state_of(payout), wallet_of(buyer).state) == ("rejected", "active")
    assert (world.figures(buyer)[0], paying.pending()) == (50, 0)


def test_of_a_terminated_customer_it_is_forfeited_with_the_reason(people):
    buyer, payout = paid_and_closed(people, "forfeited")

    done = settlement.give_back(people.other, payout.pk, reason=ledger.TERMINATED)

    assert (done.state, done.decision_reason) == ("forfeited", ledger.TERMINATED)
    assert (wallet_of(buyer).state, world.figures(buyer)[0]) == ("forfeited", 0)
    assert (paying.pending(), paying.paid()) == (0, 0)
    assert paying.moves(payout)[-1] == ("forfeiture", f"payout:{payout.pk}:forfeited")
    assert outcomes(payout)[-1] == ("forfeited", ledger.TERMINATED)
    assert history_of(payout)[-1][2] == f"Forfeited: {ledger.TERMINATED}"


def test_of_a_terminated_customer_what_came_back_from_a_batch_is_rejected_as_forfeited(people):
    buyer = world.customer("50")
    payout = taken_to(State.EXPORTED, people, buyer)
    wallet_in("forfeited", buyer)
    paying.voided(payout)

    done = payouts.reject(people.finance, payout.pk, reason="Terminated")

    assert (done.state, world.figures(buyer)[0], paying.pending()) == ("forfeited", 0, 0)
    assert outcomes(payout)[-1] == ("forfeited", "Terminated")


def test_what_is_given_back_can_be_asked_for_again(people, buyer):
    payout = taken_to(State.RETURNED, people, buyer, "1000")

    again = asked(people.agent, buyer, None)

    assert (again.amount, again.not_before) == (1000, None)
    assert again.pk != payout.pk
    assert (paying.pending(), world.figures(buyer)[0]) == (1000, Decimal("0.0099"))


def test_open_payouts_of_a_customer_are_known(people, buyer):
    for state in State.values:
        if state == State.FORFEITED:
            continue
        one = world.customer("600")
        taken_to(state, people, one, "600")
        assert payouts.open_of(one.pk) == (
            state in {"requested", "first_approved", "approved", "exported", "submitted", "failed"}
        )
    assert not payouts.open_of(buyer.pk)
