"""Role by action over HTTP: exactly the allowed ones pass, and a GET changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from orders import closing, termination
from orders.models import Order
from smsactivator.common.actions import _actions
from smsactivator.common.links import admin_url
from smsactivator.tests import payouts, world
from support.models import Message, Outbound
from support.tests import threads
from wallet import batches, claims, corrections, results, settlement, standing
from wallet import payouts as verbs
from wallet.models import (
    Claim,
    Correction,
    Deposit,
    Export,
    Payout,
    Reinstatement,
    RoleLimit,
    Termination,
    Transfer,
    Wallet,
)
from wallet.tests import exported
from wallet.tests.forms import carried

pytestmark = pytest.mark.django_db

SUPPORT, SENIOR, FINANCE = "Support agent", "Senior agent", "Finance"
AUDITOR = "Auditor"
NOBODY_S = "newcomer"
ROLES = (SUPPORT, SENIOR, FINANCE, AUDITOR, NOBODY_S)


class Shop:
    """A customer with a delivered order, and two seniors who work beside whoever is tested."""

    def __init__(self) -> None:
        self.ada = world.customer("ada", funds="10")
        self.order = world.place(self.ada, of=world.offer(price="1"))
        world.deliver(world.await_sms(self.order))
        self.senior = world.person(SENIOR, name="sonia")
        self.other = world.person(SENIOR, name="sam")
        self.deposit = Deposit.objects.get(transfer__wallet=self.ada.pk)

    def customer(self) -> Any:
        return self.ada

    def frozen(self) -> Any:
        standing.freeze(self.senior, self.ada.pk, reason="Odd")
        return self.ada

    def closed(self) -> Any:
        empty = world.customer("empty", funds="0")
        closing.close(self.senior, empty.pk, reason="Left")
        return empty

    def leaving(self) -> Any:
        return world.customer("leaving", funds="0")

    def transfer(self) -> Any:
        return self.deposit.transfer

    def correction(self) -> Any:
        return corrections.request_goodwill(
            self.senior, self.ada.pk, amount=Decimal(5), reason="Waited", key=uuid4()
        )

    def claim(self) -> Any:
        return claims.record(
            self.senior, self.deposit.pk, reference="cb-1", evidence="Filed on Monday"
        )

    def requested(self) -> Any:
        return termination.request(self.senior, self.ada.pk, reason="Resold", key=uuid4())

    def terminated(self) -> Any:
        return termination.confirm(self.other, self.requested().pk)

    def reinstatement(self) -> Any:
        return termination.request_reinstatement(
            self.senior, self.terminated().pk, give_back=True, reason="Mix-up", key=uuid4()
        )

    def export(self) -> Any:
        return exported.asked(world.person(FINANCE, name="fiona"), "transfers")

    def payout(self) -> Any:
        return payouts.asked(self.senior)

    def sent(self) -> Any:
        return payouts.sent(self.senior, self.other)

    def paid(self) -> Any:
        finance = world.person(FINANCE, name="fiona")
        return settlement.mark_paid(finance, self.sent().pk, transaction_hash=payouts.HASH)

    def failed(self) -> Any:
        finance = world.person(FINANCE, name="fiona")
        return settlement.mark_failed(finance, self.sent().pk, problem="Refused")

    def batch(self) -> Any:
        payout = verbs.approve(self.other, self.payout().pk)
        maker = world.person(FINANCE, name="fiona")
        return batches.gather(maker, profile="canonical", payout_ids=[payout.pk], key=uuid4())

    def exported(self) -> Any:
        batch = self.batch()
        return batches.export(batch.made_by, batch.pk)

    def results(self) -> Any:
        payout = self.sent()
        line = {"reference": payout.reference, "status": "paid", "transaction_hash": payouts.HASH}
        line |= {"amount": "50.00", "currency": "USDT", "address": payout.address}
        content = f"{','.join(line)}\n{','.join(line.values())}\n".encode()
        return results.upload(
            world.person(FINANCE, name="fiona"), name="results.csv", content=content, key=uuid4()
        )

    def delivery(self, state: str) -> Outbound:
        """A mail that has failed, or was perhaps sent."""
        outbound = threads.delivery()
        kept = {"mail_id": "<1@shop.test>", "sent_to": threads.ADDRESS, "due_at": None}
        Outbound.objects.update(state="sending", attempts=1, **kept | {"due_at": timezone.now()})
        Outbound.objects.update(state=state, **kept)
        return outbound


WHY = {"reason": "Because"}
Row = tuple[str, str, Callable[[Shop], Any], dict[str, Any], set[str]]
# The page, the action, the row, what is typed, and who may.
TABLE: list[Row] = [
    (
        "wallet_customer",
        "enter",
        Shop.customer,
        {"subject": "By phone", "channel": "email", "body": "It did not work"},
        {SUPPORT, SENIOR},
    ),
    ("wallet_customer", "goodwill", Shop.customer, {**WHY, "amount": "5"}, {SUPPORT, SENIOR}),
    ("wallet_customer", "adjust", Shop.customer, {**WHY, "amount": "-5"}, {SENIOR, FINANCE}),
    ("wallet_customer", "freeze", Shop.customer, WHY, {SENIOR, FINANCE}),
    ("wallet_customer", "unfreeze", Shop.frozen, WHY, {SENIOR, FINANCE}),
    ("wallet_customer", "terminate", Shop.customer, WHY, {SENIOR}),
    ("wallet_customer", "close", Shop.leaving, WHY, {SENIOR, FINANCE}),
    ("wallet_customer", "reopen", Shop.closed, WHY, {SENIOR, FINANCE}),
    ("wallet_transfer", "reverse", Shop.transfer, WHY, {FINANCE}),
    ("wallet_deposit", "reverse", lambda shop: shop.deposit, WHY, {FINANCE}),
    (
        "wallet_deposit",
        "claim",
        lambda shop: shop.deposit,
        {"reference": "cb-9", "evidence": "Filed"},
        {SUPPORT, SENIOR},
    ),
    ("wallet_correction", "confirm", Shop.correction, {}, {SENIOR, FINANCE}),
    ("wallet_correction", "reject", Shop.correction, WHY, {SENIOR, FINANCE}),
    ("wallet_claim", "dismiss", Shop.claim, WHY, {SENIOR}),
    ("wallet_claim", "terminate", Shop.claim, WHY, {SENIOR}),
    ("wallet_termination", "confirm", Shop.requested, {}, {SENIOR, FINANCE}),
    ("wallet_termination", "reject", Shop.requested, WHY, {SENIOR, FINANCE}),
    ("wallet_termination", "reinstate", Shop.terminated, WHY, {SENIOR}),
    ("wallet_reinstatement", "confirm", Shop.reinstatement, {}, {SENIOR, FINANCE}),
    ("wallet_reinstatement", "reject", Shop.reinstatement, WHY, {SENIOR, FINANCE}),
    ("wallet_export", "cancel", Shop.export, {}, {FINANCE}),
    ("wallet_payout", "approve", Shop.payout, {}, {SENIOR, FINANCE}),
    ("wallet_payout", "reject", Shop.payout, WHY, {SENIOR, FINANCE}),
    ("wallet_payout", "paid", Shop.sent, {"transaction_hash": payouts.HASH}, {FINANCE}),
    ("wallet_payout", "failed", Shop.sent, {"problem": "Refused"}, {FINANCE}),
    ("wallet_payout", "came-back", Shop.paid, {"problem": "Sent back"}, {FINANCE}),
    ("wallet_payout", "again", Shop.failed, WHY, {FINANCE}),
    ("wallet_payout", "return", Shop.failed, WHY, {FINANCE}),
    ("wallet_payoutbatch", "export", Shop.batch, {}, {FINANCE}),
    ("wallet_payoutbatch", "submit", Shop.exported, {}, {FINANCE}),
    ("wallet_payoutbatch", "void", Shop.exported, WHY, {FINANCE}),
    ("wallet_resultfile", "apply", Shop.results, {}, {FINANCE}),
    ("support_outbound", "retry", lambda shop: shop.delivery("failed"), WHY, {SUPPORT, SENIOR}),
    ("support_outbound", "sent", lambda shop: shop.delivery("unknown"), WHY, {SUPPORT, SENIOR}),
    ("support_outbound", "bounced", lambda shop: shop.delivery("unknown"), WHY, {SUPPORT, SENIOR}),
]
# Administrators alone, in no role: test_staff.py and support/tests/test_clock.py.
SET_UP = {
    ("auth_user", "change"),
    ("auth_user", "link"),
    ("auth_user", "deactivate"),
    ("auth_user", "activate"),
    ("support_calendar", "change"),
    ("support_calendar", "add-exception"),
    ("support_calendarexception", "remove"),
}
# Finance alone, of books that are sealed: test_finance_pages.py.
CLOSES = {("wallet_seal", "close"), ("wallet_close", "close-month")}
# Whoever records claims: test_claim_pages.py.
FILES = {("wallet_claim", "files")}
# Only the one who requested it: whoever that is.
OWN = {
    ("wallet_correction", "withdraw"),
    ("wallet_termination", "withdraw"),
    ("wallet_reinstatement", "withdraw"),
    ("wallet_payout", "withdraw"),
}


@pytest.fixture
def shop() -> Shop:
    return Shop()


def signed_in(role: str, **options: Any) -> Client:
    if role == NOBODY_S:
        user = world.person(name=role)
        user.is_superuser = False
        user.save()
    else:
        user = world.person(role)
    client = Client(**options)
    client.force_login(user)
    return client


def books() -> list[Any]:
    models = (
        *(Wallet, Transfer, Order, Correction, Claim, Termination, Reinstatement, Outbound),
        *(Message, Export, Payout),
    )
    return [list(model.objects.order_by("pk").values()) for model in models]


def address(page: str, action: str, row: Any) -> str:
    return admin_url(f"{page}_do", row.pk, action)


def test_the_table_names_every_action() -> None:
    every = {
        (label.lower().replace(".", "_"), action.name)
        for label, actions in _actions.items()
        for action in actions
    }
    assert every == {(page, action) for page, action, *_ in TABLE} | OWN | SET_UP | CLOSES | FILES


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("page", "action", "make", "typed", "who"), TABLE)
def test_exactly_the_allowed_roles_act(
    shop: Shop, page: str, action: str, make: Any, typed: dict[str, str], who: set[str], role: str
) -> None:
    row = make(shop)
    client = signed_in(role)
    before = books()
    url = address(page, action, row)

    shown = client.get(url)
    assert shown.status_code == (200 if role in who else 403)
    assert books() == before
    answer = client.post(url, {**carried(row, action), **typed})

    if role in who:
        assert answer.status_code == 302, answer.content.decode()
        assert books() != before
    else:
        assert answer.status_code == 403
        assert books() == before
    page_of_it = client.get(admin_url(f"{page}_change", row.pk))
    if role == NOBODY_S:
        assert page_of_it.status_code == 403
    elif role not in who:
        assert url not in page_of_it.content.decode()


@pytest.mark.parametrize(("page", "action", "make", "typed", "who"), TABLE)
def test_a_forged_post_and_a_stranger_s_change_nothing(
    shop: Shop, page: str, action: str, make: Any, typed: dict[str, str], who: set[str]
) -> None:
    row = make(shop)
    before = books()
    url = address(page, action, row)
    typed = {"key": str(uuid4()), **typed}

    forged = signed_in(sorted(who)[0], enforce_csrf_checks=True).post(url, typed)
    stranger = Client().post(url, typed)

    assert (forged.status_code, stranger.status_code) == (403, 302)
    assert "/login/" in stranger.url
    assert books() == before


def test_only_the_requester_withdraws(shop: Shop) -> None:
    for page, make in (
        ("wallet_correction", Shop.correction),
        ("wallet_reinstatement", Shop.reinstatement),
        ("wallet_payout", Shop.payout),
    ):
        row = make(shop)
        owner, stranger = Client(), Client()
        owner.force_login(shop.senior)
        stranger.force_login(shop.other)
        url = address(page, "withdraw", row)
        typed = carried(row, "withdraw")

        assert stranger.post(url, typed).status_code == 403
        assert owner.post(url, typed).status_code == 302
        row.refresh_from_db()
        assert row.state == "withdrawn"


def test_what_is_refused_is_said_above_the_form_which_keeps_what_was_typed(shop: Shop) -> None:
    client = signed_in(SUPPORT)
    typed = carried(shop.ada, "goodwill") | {"amount": "6", "reason": "They waited for a week"}

    answer = client.post(address("wallet_customer", "goodwill", shop.ada), typed)

    page = answer.content.decode()
    assert answer.status_code == 403
    assert "Your limit for one goodwill is 5.0000 USD, and this is 6.0000 USD" in page
    assert "They waited for a week" in page
    assert typed["key"] in page
    assert not Correction.objects.exists()


@pytest.mark.parametrize("amount", ["", "x", "1e999", "0.00001", "12345678901234567890"])
def test_bad_input_gets_a_clear_answer_and_changes_nothing(shop: Shop, amount: str) -> None:
    client = signed_in(SENIOR)
    typed = carried(shop.ada, "goodwill") | {"amount": amount, "reason": "Because"}

    answer = client.post(address("wallet_customer", "goodwill", shop.ada), typed)

    assert answer.status_code == 422
    assert not Correction.objects.exists()


def test_a_double_click_is_one_request(shop: Shop) -> None:
    client = signed_in(SENIOR)
    typed = carried(shop.ada, "goodwill") | {"amount": "5", "reason": "Because"}
    url = address("wallet_customer", "goodwill", shop.ada)

    first, second = client.post(url, typed), client.post(url, typed)

    assert first.url == second.url
    assert Correction.objects.count() == 1


def test_a_form_that_is_sent_again_with_other_content_says_what_to_do(shop: Shop) -> None:
    client = signed_in(SENIOR)
    typed = carried(shop.ada, "goodwill") | {"amount": "5", "reason": "Because"}
    url = address("wallet_customer", "goodwill", shop.ada)
    client.post(url, typed)

    again = client.post(url, {**typed, "amount": "6"})

    assert again.status_code == 409
    assert "with other content: open it anew to ask for something else." in again.content.decode()
    assert Correction.objects.count() == 1


def test_a_form_keeps_its_key_when_somebody_goes_back_to_it(shop: Shop) -> None:
    form = signed_in(SENIOR).get(address("wallet_customer", "goodwill", shop.ada))

    assert b"smsactivator/once.js" in form.content


def test_who_confirms_sees_what_the_wallet_holds_and_nothing_that_is_not_known_yet(
    shop: Shop,
) -> None:
    client = signed_in(FINANCE)
    corrected, ended = shop.correction(), shop.requested()

    correction = client.get(admin_url("wallet_correction_change", corrected.pk)).content.decode()
    termination_ = client.get(admin_url("wallet_termination_change", ended.pk)).content.decode()

    for page in (correction, termination_):
        assert "Wallet holds now, USD" in page
        assert '<span class="money">9.0000</span>' in page
    assert "From the wallet, USD" not in termination_
    assert "0.0000" not in termination_


def test_a_decision_s_history_names_who_decided(shop: Shop) -> None:
    row = shop.correction()
    corrections.confirm(shop.other, row.pk)

    page = signed_in(SENIOR).get(admin_url("wallet_correction_change", row.pk))

    newest = page.context["timeline"][0]
    assert (newest.what, newest.who) == ("Confirmed", "sam")


@pytest.mark.parametrize(("each", "daily"), [("-1", "5"), ("6", "5")])
def test_a_limit_that_makes_no_sense_is_refused_in_words(each: str, daily: str) -> None:
    limit = RoleLimit.objects.get(role__name=SUPPORT, decision="goodwill")
    typed = {"role": limit.role_id, "decision": limit.decision, "each": each, "daily": daily}
    client = Client()
    client.force_login(world.person(name="admin"))

    answer = client.post(admin_url("wallet_rolelimit_change", limit.pk), typed)

    assert "A limit is 0 USD or more, and at most that of a day." in answer.content.decode()
    assert "is violated" not in answer.content.decode()


def test_a_stale_tab_says_what_happened(shop: Shop) -> None:
    row = shop.correction()
    corrections.confirm(shop.other, row.pk)
    client = signed_in(FINANCE)
    url = address("wallet_correction", "confirm", row)

    late = client.post(url, carried(row, "confirm"))
    again = client.get(url, follow=True)

    assert late.status_code == 409
    assert "was confirmed by sam at" in late.content.decode()
    assert "“Confirm” is not open to you here" in again.content.decode()
    assert Transfer.objects.filter(kind="goodwill").count() == 1


def test_who_requested_something_is_told_that_somebody_else_decides_it(shop: Shop) -> None:
    row = shop.correction()
    client = Client()
    client.force_login(row.requested_by)

    page = client.get(admin_url("wallet_correction_change", row.pk)).context["actions"]
    told = client.get(address("wallet_correction", "confirm", row), follow=True)

    assert [action.name for action, _ in page] == ["withdraw"]
    assert (
        "“Confirm” is not open to you here: You requested this yourself, so somebody else decides "
        "it. You can withdraw it."
    ) in told.content.decode()


def test_an_action_or_a_row_that_is_not_there_is_404(shop: Shop) -> None:
    client = signed_in(SENIOR)

    assert client.get(f"/admin/wallet/customer/{shop.ada.pk}/do/enrich/").status_code == 404
    assert client.get("/admin/wallet/customer/999999/do/freeze/").status_code == 404
    assert client.get("/admin/wallet/customer/x/do/freeze/").status_code == 404
