"""Chargeback claims, walked whole: each state of a claim follows the account's."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from orders import termination
from refunds.tests import world
from wallet import claims, deposits, standing
from wallet.deciding import AlreadyDecided, RequestConflict
from wallet.models import Claim, Deposit, Wallet
from wallet.tests.together import at_once
from wallet.tests.world import person

pytestmark = pytest.mark.django_db

OPEN, UPHELD, DISMISSED, TERMINATED = "open", "upheld", "dismissed", "terminated"


@pytest.fixture
def agent() -> Any:
    return person("Support agent")


@pytest.fixture
def senior() -> Any:
    return person("Senior agent")


@pytest.fixture
def other() -> Any:
    return person("Senior agent")


@pytest.fixture
def ada() -> Any:
    return world.customer("10")


def claimed(by: Any, customer: Any, reference: str = "cb-1", *, deposit: Any = None) -> Claim:
    deposit = deposit or Deposit.objects.filter(transfer__wallet=customer.pk).earliest("pk")
    return claims.record(by, deposit.pk, reference=reference, evidence="Filed on Monday")


def requested(by: Any, customer: Any, **fields: Any) -> Any:
    return termination.request(by, customer.pk, reason="Sold on", key=uuid4(), **fields)


def reinstated(senior: Any, other: Any, ended: Any) -> Any:
    asked = termination.request_reinstatement(
        senior, ended.pk, give_back=True, reason="Mix-up", key=uuid4()
    )
    return termination.confirm_reinstatement(other, asked.pk)


def state_of(row: Any) -> str:
    return str(type(row).objects.get(pk=row.pk).state)


def wallet_of(customer: Any) -> str:
    return str(Wallet.objects.get(pk=customer.pk).state)


def test_a_claim_that_ended_the_account_says_so(ada, agent, senior, other):
    claim = claimed(agent, ada)
    asked = requested(senior, ada, claim_id=claim.pk)
    assert state_of(claim) == UPHELD

    termination.confirm(other, asked.pk)

    claim.refresh_from_db()
    assert (claim.state, claim.get_state_display()) == (TERMINATED, "Account terminated")
    assert (claim.decided_by, claim.decision_reason) == (senior, "Sold on")
    newest = Claim.history.filter(id=claim.pk).latest("history_id")
    assert newest.history_change_reason == f"Account terminated by {asked}"
    assert newest.history_actor == other.username


def test_a_claim_beside_a_termination_ends_with_the_account_and_waits_for_nobody(
    ada, agent, senior, other
):
    claim = claimed(agent, ada)

    termination.confirm(other, requested(senior, ada).pk)

    claim.refresh_from_db()
    assert (claim.state, claim.decided_by) == (TERMINATED, None)
    assert not Claim.objects.filter(state=OPEN).exists()


def test_a_claim_on_a_forfeited_wallet_waits_for_nobody(ada, agent, senior, other):
    termination.confirm(other, requested(senior, ada).pk)

    claim = claimed(agent, ada)

    assert (state_of(claim), wallet_of(ada)) == (TERMINATED, "forfeited")


def test_a_reinstatement_opens_every_claim_again(ada, agent, senior, other):
    claim = claimed(agent, ada)
    beside, _ = deposits.deposit(ada, amount=Decimal(1), reference="second")
    second = claimed(agent, ada, "cb-2", deposit=beside)
    ended = termination.confirm(other, requested(senior, ada, claim_id=claim.pk).pk)
    assert [state_of(claim), state_of(second)] == [TERMINATED, TERMINATED]

    reinstated(senior, other, ended)

    claim.refresh_from_db()
    assert (claim.state, claim.decided_by, claim.decision_reason) == (OPEN, None, "")
    assert [state_of(second), wallet_of(ada)] == [OPEN, "frozen"]
    claims.dismiss(senior, claim.pk, reason="Wrong")
    assert wallet_of(ada) == "frozen"
    claims.dismiss(senior, second.pk, reason="Wrong as well")
    assert wallet_of(ada) == "active"


def test_a_claim_beside_somebody_s_freeze_lets_the_wallet_go_once_the_account_was_given_back(
    ada, agent, senior, other
):
    standing.freeze(senior, ada.pk, reason="Odd")
    claim = claimed(agent, ada)
    ended = termination.confirm(other, requested(senior, ada).pk)
    reinstated(senior, other, ended)
    assert wallet_of(ada) == "frozen"

    claims.dismiss(senior, claim.pk, reason="Wrong")

    assert wallet_of(ada) == "active"
    # The claim's own freeze from then on, as its history says.
    froze = Claim.history.filter(id=claim.pk).order_by("history_id").values_list("state", "froze")
    assert list(froze) == [(OPEN, False), (TERMINATED, False), (OPEN, True), (DISMISSED, True)]


def test_a_dismissed_claim_stays_dismissed_whatever_becomes_of_the_account(
    ada, agent, senior, other
):
    claim = claimed(agent, ada)
    claims.dismiss(senior, claim.pk, reason="Wrong")

    reinstated(senior, other, termination.confirm(other, requested(senior, ada).pk))

    assert (state_of(claim), wallet_of(ada)) == (DISMISSED, "active")


def test_a_dismissed_reference_can_be_claimed_again_and_a_live_one_cannot(ada, agent, senior):
    first = claimed(agent, ada)
    claims.dismiss(senior, first.pk, reason="They took it back")

    again = claimed(agent, ada)

    assert again.pk != first.pk
    assert (state_of(first), state_of(again), wallet_of(ada)) == (DISMISSED, OPEN, "frozen")
    assert claimed(agent, ada) == again
    with pytest.raises(claims.ClaimConflict, match="cb-1 was recorded"):
        claims.record(agent, again.deposit_id, reference="cb-1", evidence="Other words")


def test_a_claim_that_ended_with_its_account_or_may_end_it_is_the_only_one(
    ada, agent, senior, other
):
    claim = claimed(agent, ada)
    asked = requested(senior, ada, claim_id=claim.pk)

    with pytest.raises(claims.ClaimConflict, match="is termination requested"):
        claimed(agent, ada, "cb-2")
    termination.reject(other, asked.pk, reason="Not enough")
    assert state_of(claim) == OPEN
    termination.confirm(other, requested(senior, ada, claim_id=claim.pk).pk)
    with pytest.raises(claims.ClaimConflict, match="is account terminated"):
        claimed(agent, ada, "cb-2")


def test_a_form_that_is_sent_twice_is_one_claim_and_with_other_words_a_conflict(ada, agent, senior):
    deposit = Deposit.objects.get(transfer__wallet=ada.pk)
    said = {"reference": "cb-1", "evidence": "Filed on Monday", "key": uuid4()}
    claim = claims.record(agent, deposit.pk, **said)
    claims.dismiss(senior, claim.pk, reason="Wrong")

    assert claims.record(agent, deposit.pk, **said) == claim
    with pytest.raises(RequestConflict):
        claims.record(agent, deposit.pk, **said | {"evidence": "Filed on Tuesday"})
    assert wallet_of(ada) == "active"


# --- what the database holds ---


def sql(statement: str, *values: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def refused(statement: str, *values: Any) -> str:
    with pytest.raises(IntegrityError) as error:
        sql(statement, *values)
    return str(error.value).split("\n")[0]


def test_the_database_keeps_a_claim_with_its_account(ada, agent, senior, other):
    claim = claimed(agent, ada)
    by_claim = f"claim {claim.pk} is "
    set_state = "UPDATE wallet_claim SET state = %s WHERE id = %s"

    assert by_claim + "terminated, and the wallet is frozen" == refused(
        set_state, TERMINATED, claim.pk
    )
    termination.confirm(other, requested(senior, ada).pk)
    assert by_claim + "open, and the wallet is forfeited" == refused(set_state, OPEN, claim.pk)
    assert "from terminated it does not go to dismissed" in refused(
        "UPDATE wallet_claim SET state = 'dismissed', decided_by_id = %s, decided_at = now(), "
        "decision_reason = 'No' WHERE id = %s",
        senior.pk,
        claim.pk,
    )
    assert by_claim + "terminated, and the wallet is active" == refused(
        "UPDATE wallet_wallet SET state = 'active' WHERE customer_id = %s", ada.pk
    )


def test_the_database_lets_a_claim_take_the_freeze_over_only_when_it_opens_again(
    ada, agent, senior, other
):
    standing.freeze(senior, ada.pk, reason="Odd")
    claim = claimed(agent, ada)
    fixed = "what was recorded is fixed"
    take_over = "UPDATE wallet_claim SET froze = true WHERE id = %s"

    assert fixed in refused(take_over, claim.pk)
    ended = termination.confirm(other, requested(senior, ada, claim_id=claim.pk).pk)
    assert fixed in refused(take_over, claim.pk)
    reinstated(senior, other, ended)
    assert fixed in refused("UPDATE wallet_claim SET froze = false WHERE id = %s", claim.pk)


def test_a_claim_whose_termination_was_not_confirmed_leaves_somebody_s_freeze(
    ada, agent, senior, other
):
    standing.freeze(senior, ada.pk, reason="Odd")
    claim = claimed(agent, ada)
    termination.reject(other, requested(senior, ada, claim_id=claim.pk).pk, reason="Not enough")

    claims.dismiss(senior, claim.pk, reason="Wrong")

    assert (Claim.objects.get(pk=claim.pk).froze, wallet_of(ada)) == (False, "frozen")


def test_the_database_has_one_claim_a_deposit_among_what_is_not_dismissed(ada, agent, senior):
    claim = claimed(agent, ada)
    copied = (
        "INSERT INTO wallet_claim (request_key, deposit_id, reference, evidence, froze, "
        "recorded_by_id, recorded_at, state, decided_by_id, decided_at, decision_reason) SELECT "
        "gen_random_uuid(), deposit_id, reference, evidence, froze, recorded_by_id, recorded_at, "
        "'upheld', %s, now(), 'So' FROM wallet_claim WHERE id = %s"
    )

    assert "claim_one_a_deposit" in refused(copied, senior.pk, claim.pk)
    claims.dismiss(senior, claim.pk, reason="Wrong")
    standing.freeze(senior, ada.pk, reason="Odd")
    sql(copied, senior.pk, claim.pk)


# --- at the same time ---


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_is_recorded_while_the_account_ends_ends_with_it() -> None:
    ada, agent = world.customer("10"), person("Support agent")
    senior, other = person("Senior agent"), person("Senior agent")
    asked = requested(senior, ada)

    claim, _ = at_once(lambda: claimed(agent, ada), lambda: termination.confirm(other, asked.pk))

    assert (state_of(claim), wallet_of(ada)) == (TERMINATED, "forfeited")


@pytest.mark.django_db(transaction=True)
def test_a_claim_is_dismissed_or_ends_with_the_account_and_never_both() -> None:
    ada, agent = world.customer("10"), person("Support agent")
    senior, other = person("Senior agent"), person("Senior agent")
    claim, asked = claimed(agent, ada), requested(senior, ada)

    dismissed, _ = at_once(
        lambda: claims.dismiss(other, claim.pk, reason="Wrong"),
        lambda: termination.confirm(other, asked.pk),
    )

    refused = isinstance(dismissed, AlreadyDecided)
    assert (state_of(claim), wallet_of(ada)) == (
        TERMINATED if refused else DISMISSED,
        "forfeited",
    )


@pytest.mark.django_db(transaction=True)
def test_one_of_two_claims_on_a_deposit_at_the_same_moment_is_recorded() -> None:
    ada, agent, senior = world.customer("10"), person("Support agent"), person("Senior agent")

    answers = at_once(lambda: claimed(agent, ada, "cb-1"), lambda: claimed(senior, ada, "cb-2"))

    assert Claim.objects.count() == 1
    assert sum(isinstance(one, claims.ClaimConflict) for one in answers) == 1
