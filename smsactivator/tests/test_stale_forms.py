"""A form that was opened before a colleague acted: it says what happened, and nothing moves."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.utils import timezone

from smsactivator.common.actions import _actions
from smsactivator.common.links import admin_url
from smsactivator.common.seen import Outdated
from smsactivator.tests import payouts as shown
from smsactivator.tests import world
from smsactivator.tests.payouts import HASH, OTHER_HASH
from smsactivator.tests.test_actions import CLOSES, FILES, FINANCE, OWN, SET_UP, TABLE, Shop, books
from smsactivator.tests.test_payout_pages import People, client_of, people, plain
from support import calendars
from support.models import Calendar, CalendarException
from wallet import batches, corrections, holdings, payouts, results, settlement, standing
from wallet.models import Holding, LiabilityCheck, Payout, PayoutBatch, PayoutOutcome, Wallet
from wallet.tests import paying
from wallet.tests import world as wallets
from wallet.tests.forms import carried
from wallet.tests.together import at_once

__all__ = ["people"]

State = Payout.State
ROUNDS = 12


def opened(person: User, url: str) -> tuple[Client, dict[str, str]]:
    """A client that has the form at an address open, and what the form carries."""
    client = client_of(person)
    answer = client.get(url)
    assert answer.status_code == 200, answer.headers
    return client, hidden(answer)


def hidden(page: Any) -> dict[str, str]:
    """The hidden fields of the page, as a browser sends them."""
    inputs = re.findall(r"<input[^>]*>", page.content.decode())
    fields = [dict(re.findall(r'(\w+)="([^"]*)"', one)) for one in inputs]
    return {
        field["name"]: unescape(field.get("value", ""))
        for field in fields
        if field.get("type") == "hidden" and field["name"] != "csrfmiddlewaretoken"
    }


# --- a payout that is paid stays paid -------------------------------------------------------------


@pytest.mark.django_db
def test_a_form_that_was_opened_while_it_was_submitted_does_not_overturn_paid(
    people: People,
) -> None:
    payout = shown.sent(people.anna, people.sam)
    url = admin_url("wallet_payout_do", payout.pk, "failed")
    client, typed = opened(people.fiona, url)
    settlement.mark_paid(people.frank, payout.pk, transaction_hash=HASH)
    before = shown.fresh(payout), paying.outcomes(payout)

    answer = client.post(url, typed | {"problem": "Nothing arrived"})

    said = plain(answer.content.decode())
    assert answer.status_code == 409
    assert f"{payout} has changed since you looked at it, so nothing was done." in said
    assert f"Meanwhile: frank: Paid by transaction {HASH} (" in said
    # What was typed is there to be copied, and nothing to be sent: it is no longer on its way.
    assert "Nothing arrived" in said
    assert b'type="submit" class="button">Mark as failed' not in answer.content
    now = shown.fresh(payout), paying.outcomes(payout)
    assert (now[0].state, now[0].transaction_hash, now[1]) == ("paid", HASH, before[1])


@pytest.mark.django_db
def test_what_is_paid_fails_by_a_step_of_its_own_that_shows_the_hash(people: People) -> None:
    payout = shown.sent(people.anna, people.sam)
    settlement.mark_paid(people.frank, payout.pk, transaction_hash=HASH)

    with pytest.raises(settlement.PaidAlready, match=f"is paid, by transaction {HASH}"):
        settlement.mark_failed(people.fiona, payout.pk, problem="Nothing arrived")
    with pytest.raises(settlement.ResultConflict, match=f"was paid by transaction {HASH}, not by"):
        settlement.mark_came_back(
            people.fiona, payout.pk, transaction_hash=OTHER_HASH, problem="Sent back"
        )
    assert shown.fresh(payout).state == State.PAID

    url = admin_url("wallet_payout_do", payout.pk, "came-back")
    form = client_of(people.fiona).get(url)
    assert f"It counts as paid by transaction {HASH}" in plain(form.content.decode())
    client, typed = opened(people.fiona, url)
    assert client.post(url, typed | {"problem": "Sent back"}).status_code == 302
    assert (shown.fresh(payout).state, shown.fresh(payout).problem) == ("failed", "Sent back")
    newest = Payout.history.filter(id=payout.pk).latest("history_id")
    assert newest.history_change_reason == f"Transaction {HASH} came back: Sent back"


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_saw_the_same_exactly_one_says_what_became_of_it() -> None:
    crew = paying.crew()
    for number in range(ROUNDS):
        payout = paying.taken_to("submitted", crew, wallets.customer("100"))
        seen = int(carried(payout, "failed")["seen"])
        calls = [
            partial(
                settlement.mark_paid,
                *(crew.finance, payout.pk),
                transaction_hash=f"{payout.pk:064x}",
                seen=seen,
            ),
            partial(settlement.mark_failed, crew.other, payout.pk, problem="Lost", seen=seen),
        ]

        done = at_once(*(calls if number % 2 else calls[::-1]))

        assert sorted(isinstance(one, Outdated) for one in done) == [False, True]
        [winner] = [one for one in done if not isinstance(one, Outdated)]
        assert Payout.objects.get(pk=payout.pk).state == winner.state
        assert len(paying.outcomes(payout)) == 2
    wallets.assert_books_agree()


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_saw_the_same_wallet_exactly_one_changes_it() -> None:
    crew = paying.crew()
    for _ in range(ROUNDS):
        buyer = wallets.customer("100")
        seen = int(carried(buyer, "freeze")["seen"])

        done = at_once(
            partial(standing.freeze, crew.finance, buyer.pk, reason="Odd", seen=seen),
            partial(standing.freeze, crew.other, buyer.pk, reason="Odd too", seen=seen),
        )

        assert sorted(isinstance(one, Outdated) for one in done) == [False, True]
        assert Wallet.history.filter(customer_id=buyer.pk, state="frozen").count() == 1


# --- every action of every page -------------------------------------------------------------------


def stepped(model: type[Model], pk: int) -> None:
    """A step in the history of a row, as a colleague's would leave it."""
    row = model._default_manager.get(pk=pk)
    kept = model.history.model  # type: ignore[attr-defined]
    kept.objects.create(
        **{field.attname: getattr(row, field.attname) for field in kept.tracked_fields},
        history_date=timezone.now(),
        history_type="~",
        history_actor="carla",
        history_change_reason="Was faster",
    )


def reversal(transfer_id: int) -> None:
    """A colleague asks for the transfer to be reversed."""
    corrections.request_reversal(
        world.person(FINANCE, name="carla"), transfer_id, reason="Was faster", key=uuid4()
    )


# What a colleague does to what the page shows; of all other pages the row itself has a step.
MEANWHILE: dict[tuple[str, str], Callable[[Any], None]] = {
    ("wallet_deposit", "claim"): lambda row: stepped(Wallet, row.transfer.credit_account),
    ("wallet_deposit", "reverse"): lambda row: reversal(row.transfer_id),
    ("wallet_transfer", "reverse"): lambda row: reversal(row.pk),
    ("wallet_resultfile", "apply"): lambda row: stepped(Payout, Payout.objects.get().pk),
}
# What the customer said elsewhere is kept, whatever became of anything.
NEVER_STALE = {("wallet_customer", "enter")}


def exception() -> CalendarException:
    admin = world.person(name="boss")
    return calendars.add_exception(admin, day=timezone.now().date(), note="Moving")


HOURS = {
    "reason": "Summer",
    "zone": "UTC",
    "opens": "08:00",
    "closes": "17:00",
    "weekdays": ["0", "1", "2"],
    "country": "",
    "subdivision": "",
}
SETTING_UP: list[tuple[str, str, Callable[[Shop], Any], dict[str, Any]]] = [
    ("support_calendar", "change", lambda _: Calendar.objects.get(), HOURS),
    (
        "support_calendar",
        "add-exception",
        lambda _: Calendar.objects.get(),
        {"day": "2031-05-05", "note": "Moving"},
    ),
    ("support_calendarexception", "remove", lambda _: exception(), {"reason": "Because"}),
]
WITHDRAWN: list[tuple[str, Callable[[Shop], Any]]] = [
    ("wallet_correction", Shop.correction),
    ("wallet_termination", Shop.requested),
    ("wallet_reinstatement", Shop.reinstatement),
    ("wallet_payout", Shop.payout),
]
# The page, the action, its row, what is typed, and who sends it: a role, or whoever requested it.
WALKED: list[tuple[str, str, Callable[[Shop], Any], dict[str, Any], str | None]] = [
    *((page, name, make, typed, sorted(who)[-1]) for page, name, make, typed, who in TABLE),
    *((page, "withdraw", make, {}, None) for page, make in WITHDRAWN),
    *((page, name, make, typed, "") for page, name, make, typed in SETTING_UP),
]


def test_the_walk_meets_every_action_that_there_is() -> None:
    every = {
        (label.lower().replace(".", "_"), action.name)
        for label, actions in _actions.items()
        for action in actions
    }
    walked = {(page, name) for page, name, *_ in WALKED}
    # Closes are walked where books are sealed: test_finance_pages.py. People: test_staff.py.
    people = {(page, name) for page, name in SET_UP if page == "auth_user"}
    # A file is added to a claim whatever became of it.
    assert every == walked | CLOSES | people | FILES
    assert walked >= OWN | (SET_UP - people)
    assert walked >= NEVER_STALE


@pytest.mark.django_db
@pytest.mark.parametrize(("page", "name", "make", "typed", "who"), WALKED)
def test_a_form_carries_what_its_page_showed_and_a_stale_one_changes_nothing(
    page: str,
    name: str,
    make: Callable[[Shop], Any],
    typed: dict[str, Any],
    who: str | None,
) -> None:
    row = make(Shop())
    if who is None:
        person = row.requested_by
    elif who:
        person = world.person(who, name="late")
    else:
        person = world.person(name="late")
    url = admin_url(f"{page}_do", row.pk, name)
    client, carries = opened(person, url)
    assert carries["seen"].isdecimal()
    assert client.post(url, {**carries, **typed, "seen": ""}).status_code == 422
    if (page, name) in NEVER_STALE:
        return

    if meanwhile := MEANWHILE.get((page, name)):
        meanwhile(row)
    else:
        stepped(Wallet if page == "wallet_customer" else type(row), row.pk)
    before = [*books(), *(list(model.objects.values()) for model in (Calendar, CalendarException))]

    answer = client.post(url, {**carries, **typed})

    assert answer.status_code == 409
    said = plain(answer.content.decode())
    assert "has changed since you looked at it, so nothing was done. Meanwhile: carla: " in said
    assert "Was faster (" in said
    now = [*books(), *(list(model.objects.values()) for model in (Calendar, CalendarException))]
    assert now == before
    # The page that says so shows how things are now, and its form is of that.
    fresh = hidden(answer)
    assert int(fresh["seen"]) > int(carries["seen"])
    if name != "reverse":
        assert client.post(url, {**fresh, **typed}).status_code == 302


# --- other pages ----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_what_was_to_be_gathered_and_has_changed_is_not_gathered(people: People) -> None:
    payout = shown.asked(people.anna)
    payouts.approve(people.sam, payout.pk)
    other = shown.asked(people.anna)
    payouts.approve(people.sam, other.pk)
    url = admin_url("wallet_payoutbatch_gather")
    client, typed = opened(people.fiona, url)
    # Back where it was, as its next attempt.
    paying.submitted(payout)
    settlement.mark_failed(people.frank, payout.pk, problem="Refused")
    settlement.send_again(people.frank, payout.pk, reason="Try again")
    payouts.approve(people.sam, payout.pk)
    count = PayoutBatch.objects.count()

    answer = client.post(url, typed)

    said = plain(answer.content.decode())
    assert answer.status_code == 409
    assert "What was to be gathered has changed since you looked at it" in said
    assert "frank: To be sent again: Try again (" in said
    assert PayoutBatch.objects.count() == count
    client, typed = opened(people.fiona, url)
    assert client.post(url, typed).status_code == 302


@pytest.mark.django_db
def test_a_plan_of_results_is_applied_as_it_was_shown(people: People) -> None:
    payout = shown.sent(people.anna, people.sam)
    line = {"reference": payout.reference, "status": "paid", "transaction_hash": HASH}
    line |= {"amount": "50.00", "currency": "USDT", "address": payout.address}
    content = f"{','.join(line)}\n{','.join(line.values())}\n".encode()
    file = results.upload(people.fiona, name="results.csv", content=content, key=uuid4())
    url = admin_url("wallet_resultfile_do", file.pk, "apply")
    client, typed = opened(people.fiona, url)
    settlement.mark_failed(people.frank, payout.pk, problem="They called")

    answer = client.post(url, typed)

    assert answer.status_code == 409
    assert "Meanwhile: frank: Failed: They called (" in plain(answer.content.decode())
    assert (shown.fresh(payout).state, file.lines.count()) == ("failed", 0)
    results.apply(people.fiona, file.pk, seen=results.steps_of(file))
    assert shown.fresh(payout).state == "paid"


@pytest.mark.django_db
def test_what_is_held_is_entered_and_checked_by_what_was_known(people: People) -> None:
    url = admin_url("wallet_holding_add")
    client, typed = opened(people.fiona, url)
    typed |= {"name": "Cold wallet", "amount": "5", "as_of": "2025-11-03", "source": "Statement"}
    check = admin_url("wallet_liabilitycheck_add")
    checker, checking = opened(people.fiona, check)
    checking["at"] = "2025-11-03 12:00"
    holdings.record(
        people.frank,
        name="Hot wallet",
        amount=Decimal(7),
        as_of=timezone.now(),
        source="Statement",
        key=uuid4(),
    )

    entered, checked = client.post(url, typed), checker.post(check, checking)

    assert (entered.status_code, checked.status_code) == (409, 409)
    for answer in (entered, checked):
        said = plain(answer.content.decode())
        assert "Meanwhile: frank: entered 7.0000 USD at Hot wallet (" in said
    assert (Holding.objects.count(), LiabilityCheck.objects.count()) == (1, 0)


# --- an approval is of one attempt and its content ------------------------------------------------


@pytest.mark.django_db
def test_an_old_approval_does_not_approve_the_second_attempt(people: People) -> None:
    payout = shown.asked(people.anna)
    url = admin_url("wallet_payout_do", payout.pk, "approve")
    client, typed = opened(people.sonia, url)
    first = payouts.content_of(payout)
    assert (
        typed["what"]
        == first
        == (f"attempt 1 of {payout.reference}, 50.00 USD as USDT on TRON to {payout.address}")
    )
    assert f"You approve {first}." in plain(client.get(url).content.decode())
    payouts.approve(people.sam, payout.pk)
    paying.submitted(payout)
    settlement.mark_failed(people.fiona, payout.pk, problem="Refused")
    settlement.send_again(people.fiona, payout.pk, reason="Try again")

    late = client.post(url, typed)

    assert late.status_code == 409
    assert "fiona: To be sent again: Try again (" in plain(late.content.decode())
    now = shown.fresh(payout)
    assert (now.state, now.attempt, now.approved_by) == ("requested", 2, None)
    # Whatever it says to have seen, it names what it is of.
    with pytest.raises(payouts.ContentDiffers, match=r"^You looked at attempt 1 of PO-.*attempt 2"):
        payouts.approve(people.sonia, payout.pk, what=first)
    assert shown.fresh(payout).approved_by is None
    client, typed = opened(people.sonia, url)
    assert client.post(url, typed).status_code == 302
    assert shown.fresh(payout).approved_by == people.sonia
    assert PayoutOutcome.objects.filter(payout=payout, what="paid").count() == 0
    assert batches.preview("canonical").payouts == [payout]
