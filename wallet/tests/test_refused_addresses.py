"""Addresses that are nobody's, or ours: nothing is paid out to them, whoever asks and approves."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import connection

from wallet import addresses, batches, methods, payouts, refusing, settlement, standing
from wallet.addresses import AddressRefused
from wallet.models import Payout, PayoutMethod, RefusedAddress
from wallet.tests import paying, world
from wallet.tests.attack import CHECK, RESTRICT, UNIQUE, assert_refused, run
from wallet.tests.paying import Crew, asked, taken_to, tron
from wallet.tests.test_addresses import CASES
from wallet.tests.test_payout_rules import approval, update

pytestmark = pytest.mark.django_db

State = Payout.State
OURS = tron(77)
EVM = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
BURNT = "it is one of which nobody has the key: coins are burnt there."
NO_KEY = "one of which nobody has the key"
ZERO = "it is the zero address, of which nobody has the key."


@pytest.fixture
def people() -> Crew:
    return paying.crew()


@pytest.fixture
def buyer() -> Any:
    return world.customer("1000")


def admin() -> Any:
    return get_user_model().objects.create_superuser("root")


def listed(people: Crew, address: str, network: str = "TRON", **more: Any) -> RefusedAddress:
    row = RefusedAddress(network=network, address=address, why="ours", **more)
    refusing.save(row, [], person=people.finance, reason="Where customers pay in")
    return row


@pytest.mark.parametrize(
    ("method", "address", "why"),
    [
        ("USDT-TRON", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "the contract of USDT on TRON"),
        ("USDC-TRON", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "the contract of USDT on TRON"),
        ("USDC-TRON", "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8", "the contract of USDC on TRON"),
        (
            "USDT-ETHEREUM",
            "0xdAC17F958D2ee523a2206206994597C13D831ec7",
            "the contract of USDT on ETHEREUM",
        ),
        (
            "USDT-ETHEREUM",
            "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            "the contract of USDC on ETHEREUM",
        ),
        # Networks that write addresses alike share their keys.
        (
            "USDT-ETHEREUM",
            "0x55d398326f99059fF775485246999027B3197955",
            "the contract of a token (USDT)",
        ),
        (
            "USDT-TRON",
            "TLsV52sRDL79HXGGm9yzwKibb6BeruhUzy",
            "one of which nobody has the key (black hole)",
        ),
        (
            "USDT-ETHEREUM",
            "0xdEAD000000000000000042069420694206942069",
            "one of which nobody has the key",
        ),
    ],
)
def test_nothing_is_asked_for_to_a_contract_or_where_coins_are_burnt(
    people, buyer, method, address, why
):
    with pytest.raises(AddressRefused) as refused:
        asked(people.agent, buyer, method=method, address=address)

    assert refused.value.message == (
        f"Nothing is paid out to this address: it is {why}. Ask the customer for their own."
    )
    assert (Payout.objects.count(), world.figures(buyer)[0]) == (0, Decimal(1000))


@pytest.mark.parametrize(
    ("method", "address", "why"),
    [
        ("USDT-ETHEREUM", "0x0000000000000000000000000000000000000000", ZERO),
        ("USDT-ETHEREUM", "0x0000000000000000000000000000000000000001", BURNT),
        ("USDT-ETHEREUM", "0x000000000000000000000000000000000000dEaD", BURNT),
        ("USDT-ETHEREUM", "0x1111111111111111111111111111111111111111", BURNT),
        ("USDT-TRON", "T9yD14Nj9j7xAB4dbGeiX9h8unkKHxuWwb", ZERO),
    ],
)
def test_what_is_nobody_s_by_its_looks_is_no_address(people, buyer, method, address, why):
    with pytest.raises(AddressRefused) as refused:
        asked(people.agent, buyer, method=method, address=address)

    assert refused.value.message.endswith(why)
    assert Payout.objects.count() == 0


def test_what_finance_lists_is_refused_at_every_step_until_it_is_switched_off(people, buyer):
    waiting = asked(people.agent, buyer, address=OURS)
    approved = paying.approved(people, asked(people.agent, world.customer("100"), address=OURS))
    gathered = paying.approved(people, asked(people.agent, world.customer("100"), address=OURS))
    batch = batches.gather(
        people.finance, profile="canonical", payout_ids=[gathered.pk], key=uuid4()
    )
    failed = taken_to(State.FAILED, people, world.customer("100"), address=OURS)
    row = listed(people, OURS, note="Hot wallet")
    why = "our own, where customers pay in (Hot wallet)"
    words = f"Nothing is paid out to this address: it is {why}. "

    for step in (
        lambda: asked(people.agent, buyer, address=OURS),
        lambda: payouts.approve(people.finance, waiting.pk),
        lambda: settlement.send_again(people.finance, failed.pk, reason="Again"),
    ):
        with pytest.raises(AddressRefused) as refused:
            step()
        assert refused.value.message.startswith(words)
    assert payouts.why_not_approve(people.finance, waiting).startswith(words)
    left_out = batches.preview("canonical", [approved.pk])
    assert (left_out.payouts, left_out.left_out) == (
        [],
        [
            (
                approved.reference,
                f"nothing is paid out to its address, which is {why}",
            )
        ],
    )
    with pytest.raises(batches.BatchHeld, match=f"{gathered.reference}: nothing is paid out to"):
        batches.export(people.finance, batch.pk)
    # What nobody has sent can still be taken back.
    batches.void(people.other, batch.pk, reason="It goes to us")
    assert payouts.reject(people.finance, gathered.pk, reason="It is ours").state == "rejected"

    row.active = False
    refusing.save(row, ["active"], person=people.other, reason="A customer's after all")

    assert payouts.approve(people.finance, waiting.pk).state == "approved"
    assert batches.preview("canonical", [approved.pk]).payouts == [approved]
    assert [
        (one.history_actor, one.history_change_reason)
        for one in RefusedAddress.history.filter(id=row.pk).order_by("history_id")
    ] == [
        (people.finance.username, "Where customers pay in"),
        (people.other.username, "A customer's after all"),
    ]


def test_an_exported_payout_whose_address_is_listed_then_can_be_voided_and_settled(people):
    voided = taken_to(State.EXPORTED, people, world.customer("100"), address=OURS)
    sent = taken_to(State.SUBMITTED, people, world.customer("100"), address=OURS)
    listed(people, OURS)

    assert paying.voided(voided).state == "approved"
    assert settlement.mark_failed(people.finance, sent.pk, problem="Ours").state == "failed"
    assert settlement.give_back(people.other, sent.pk, reason="Ours").state == "returned"


def test_files_of_an_exported_batch_stay_here_once_something_in_it_may_not_be_sent(people):
    refused, other = (
        batches.export(
            people.finance,
            batches.gather(
                people.finance, profile="canonical", payout_ids=[payout.pk], key=uuid4()
            ).pk,
        )
        for payout in (
            taken_to(State.APPROVED, people, world.customer("100"), address=OURS),
            taken_to(State.APPROVED, people, world.customer("100"), address=tron(5)),
        )
    )
    first, second = (batch.lines.get().payout for batch in (refused, other))
    taken, kept = (batch.files.earliest("pk") for batch in (refused, other))
    assert batches.download(people.finance, taken.pk).pk == taken.pk
    listed(people, OURS)
    standing.freeze(people.senior, second.customer_id, reason="Odd")

    for batch, file, payout, why in (
        (refused, taken, first, "nothing is paid out to the address by now"),
        (other, kept, second, "the wallet is frozen or forfeited by now"),
    ):
        words = (
            f"{payout.reference}: {why}. Submit {batch} if its files were handed over, or void it "
            "and gather the others anew."
        )
        with pytest.raises(batches.BatchHeld) as held:
            batches.download(people.other, file.pk)
        assert held.value.message == words
        assert batches.why_not_download(people.other, batch) == words
        assert file.downloads.filter(person=people.other).count() == 0
    # Who exported it does not void it, as ever.
    with pytest.raises(batches.OwnExport):
        batches.void(people.finance, refused.pk, reason="It goes to us")
    batches.void(people.other, refused.pk, reason="It goes to us")
    # What was handed over is on its way: its files are a record of it.
    batches.submit(people.finance, other.pk)
    assert batches.download(people.other, kept.pk).pk == kept.pk


def test_a_wish_sent_twice_is_the_same_payout_though_its_address_is_listed_between(people, buyer):
    form = {"address": OURS, "key": uuid4()}
    made = asked(people.agent, buyer, **form)
    listed(people, OURS)

    assert asked(people.agent, buyer, **form) == made

    with pytest.raises(AddressRefused):
        asked(people.agent, buyer, address=OURS)
    assert Payout.objects.count() == 1
    assert world.figures(buyer)[0] == Decimal(950)


def test_capitals_and_other_networks_of_the_same_keys_hide_nothing(people, buyer):
    listed(people, EVM, "ETHEREUM")
    way = PayoutMethod(code="USDT-BSC", currency="USDT", network="BSC", address_format="evm")
    methods.save(way, [], person=admin(), reason="Asked for")

    for method in ("USDT-ETHEREUM", "USDC-ETHEREUM", "USDT-BSC"):
        with pytest.raises(AddressRefused, match=r"^Nothing is paid out to this address"):
            asked(people.agent, buyer, method=method, address=EVM)
    with pytest.raises(refusing.ListedAlready):
        listed(people, EVM, "BSC")


def test_the_list_takes_addresses_of_our_networks_from_finance_with_a_reason(people):
    for who in (people.agent, people.senior):
        with pytest.raises(PermissionDenied):
            refusing.save(
                RefusedAddress(network="TRON", address=OURS, why="ours"),
                [],
                person=who,
                reason="Ours",
            )
    for address, network, refusal, words in (
        (f"{OURS[:-1]}!", "TRON", AddressRefused, "^This is not an address on TRON: "),
        (EVM, "TRON", AddressRefused, "^This is not an address on TRON: "),
        (OURS, "DOGE", refusing.NetworkUnknown, "^Payouts are made on ETHEREUM, TRON, not on DOGE"),
    ):
        with pytest.raises(refusal, match=words):
            listed(people, address, network)
    row = listed(people, OURS)
    row.address = tron(78)
    with pytest.raises(refusing.AddressFixed):
        refusing.save(row, ["address"], person=people.finance, reason="Typing error")


def test_a_method_s_contract_is_an_address_of_its_network():
    method = PayoutMethod.objects.get(code="USDT-TRON")
    method.contract = EVM
    with pytest.raises(AddressRefused, match=r"^This is no contract on TRON: this is an Ethereum"):
        methods.save(method, ["contract"], person=admin(), reason="A new one")
    assert PayoutMethod.objects.get(code="USDT-TRON").contract != EVM


# --- the database ---


def inserted(payout: Payout, address: str) -> str:
    """A payout like this one to another address, past all verbs."""
    names = [field.column for field in Payout._meta.fields if field.column != "id"]
    told = {"address": f"'{address}'", "request_key": "gen_random_uuid()"}
    values = ", ".join(told.get(name, name) for name in names)
    return (
        f"INSERT INTO wallet_payout ({', '.join(names)}) SELECT {values} FROM wallet_payout"
        f" WHERE id = {payout.pk}"
    )


def test_the_database_takes_no_payout_to_what_is_refused(people, buyer):
    tron_one = asked(people.agent, buyer)
    evm_one = asked(people.agent, buyer, method="USDT-ETHEREUM", address=EVM)
    listed(people, OURS)

    for payout, address, rule in (
        (tron_one, "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t", "is the contract of a token"),
        (evm_one, "0xdac17f958d2ee523a2206206994597c13d831ec7", "is the contract of a token"),
        (tron_one, OURS, "nothing is paid out to its address"),
        (evm_one, "0xdead000000000000000042069420694206942069", "nothing is paid out to its"),
        (evm_one, "0x000000000000000000000000000000000000dEaD", "nobody has the key"),
    ):
        assert_refused(RESTRICT, rule, inserted(payout, address))
    listed(people, tron_one.address)
    assert_refused(
        RESTRICT,
        "nothing is paid out to its address",
        update(tron_one, f"state = 'approved', {approval(people.finance)}"),
    )


def test_the_database_keeps_the_list(people):
    row = listed(people, OURS)
    table = "wallet_refusedaddress"
    for kept in (table, "wallet_historicalrefusedaddress"):
        assert_refused(RESTRICT, kept, f"DELETE FROM {kept}")
        assert_refused(RESTRICT, kept, f"TRUNCATE {kept} CASCADE")
    assert_refused(
        RESTRICT,
        "wallet_historicalrefusedaddress",
        "UPDATE wallet_historicalrefusedaddress SET id = id",
    )
    for what in (
        f"address = '{tron(5)}'",
        "network = 'BSC'",
        "key = 'x'",
        "address_format = 'evm'",
    ):
        assert_refused(
            RESTRICT,
            "it stays the address that it is",
            f"UPDATE {table} SET {what} WHERE id = {row.pk}",
        )
    assert_refused(
        CHECK, "refused_for_a_reason", f"UPDATE {table} SET why = 'other' WHERE id = {row.pk}"
    )
    columns = "network, address_format, address, key, why, note, active"
    assert_refused(
        UNIQUE,
        "refused_address_once",
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} WHERE id = {row.pk}",
    )
    assert_refused(
        CHECK,
        "payout_method_contract_plain",
        "UPDATE wallet_payoutmethod SET contract = '=1+1' WHERE code = 'USDT-TRON'",
    )
    run(f"UPDATE {table} SET active = false WHERE id = {row.pk}")


@pytest.mark.parametrize(("form", "address"), CASES)
def test_the_database_knows_an_address_by_the_same_key(form, address):
    with connection.cursor() as cursor:
        cursor.execute("SELECT address_key(%s, %s)", [form, address])
        assert cursor.fetchone() == (addresses.key_of(form, address),)


def test_what_the_list_begins_with_are_addresses():
    rows = list(RefusedAddress.objects.order_by("pk"))

    assert {row.network for row in rows} == {
        *("TRON", "ETHEREUM", "BSC", "POLYGON", "SOLANA", "STELLAR", "TON"),
    }
    for row in rows:
        assert addresses.problem_with(row.address_format, row.address) == ""
        assert row.key == addresses.key_of(row.address_format, row.address)
    for method in PayoutMethod.objects.all():
        assert addresses.problem_with(method.address_format, method.contract) == ""
