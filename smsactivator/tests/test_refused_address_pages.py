"""The list of addresses that nothing is paid out to, in the admin."""

from __future__ import annotations

import pytest

from smsactivator.common.links import admin_url
from smsactivator.tests import world
from smsactivator.tests.test_payout_pages import (
    AGENT,
    AUDITOR,
    FINANCE,
    SENIOR,
    client_of,
    plain,
)
from wallet.models import RefusedAddress
from wallet.tests.paying import tron

pytestmark = pytest.mark.django_db

OURS = tron(99)
TYPED = {
    "network": "TRON",
    "address": OURS,
    "why": "ours",
    "note": "Cold wallet",
    "active": "on",
    "reason": "Customers pay in there",
}


@pytest.mark.parametrize("role", [AGENT, SENIOR, FINANCE, AUDITOR])
def test_finance_keeps_the_list_and_everybody_sees_it(role: str) -> None:
    client = client_of(world.person(role))
    known = RefusedAddress.objects.earliest("pk")
    add = admin_url("wallet_refusedaddress_add")
    change = admin_url("wallet_refusedaddress_change", known.pk)
    before = list(RefusedAddress.objects.values())
    shown = client.get(admin_url("wallet_refusedaddress_changelist"))
    assert shown.status_code == 200
    assert known.address in shown.content.decode()
    client.get(add, TYPED)
    assert list(RefusedAddress.objects.values()) == before

    added = client.post(add, TYPED)
    changed = client.post(change, {"why": known.why, "note": "Known", "reason": "Off for now"})

    may = role == FINANCE
    assert (added.status_code, changed.status_code) == ((302, 302) if may else (403, 403))
    assert (list(RefusedAddress.objects.values()) != before) == may
    if may:
        row = RefusedAddress.objects.get(address=OURS)
        assert (row.address_format, row.key, row.note) == ("tron", OURS, "Cold wallet")
        assert row.history.get().history_change_reason == "Customers pay in there"
        known.refresh_from_db()
        assert (known.active, known.note) == (False, "Known")
        history = client.get(change).context["timeline"]
        assert history[0].why == "" and history[0].what == "Off for now"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"address": f"{OURS[:-1]}!"}, "This is not an address on TRON: one on Tron is T and 33"),
        ({"address": RefusedAddress._meta.model_name}, "This is not an address on TRON"),
        ({"why": "other", "note": ""}, "Say why nothing is paid out to it."),
        ({"network": "DOGE"}, "Select a valid choice"),
        ({"address": "TLsV52sRDL79HXGGm9yzwKibb6BeruhUzy"}, "It is on the list already"),
        ({"reason": ""}, "This field is required."),
    ],
)
def test_what_cannot_be_listed_is_said_in_words(wrong: dict[str, str], words: str) -> None:
    client = client_of(world.person(FINANCE))
    count = RefusedAddress.objects.count()

    answer = client.post(admin_url("wallet_refusedaddress_add"), TYPED | wrong)

    said = plain(answer.content.decode())
    assert words in said
    assert "is violated" not in said
    assert RefusedAddress.objects.count() == count
