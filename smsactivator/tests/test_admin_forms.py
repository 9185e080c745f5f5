"""What a form says of input that the database would refuse, and how it reads amounts."""

from __future__ import annotations

import html
import re
from decimal import Decimal
from typing import Any

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import models
from django.test import Client, RequestFactory

from orders.models import Offer
from smsactivator.common.admin import BoundedAdmin, ReadOnlyAdmin
from smsactivator.common.links import admin_url
from smsactivator.common.money import AmountField, MoneyField, PlainDecimalField, usd
from smsactivator.tests import world
from support.tests.world import TRON
from wallet.models import RoleLimit

pytestmark = pytest.mark.django_db

EDITED = {
    model: model_admin
    for model, model_admin in admin.site._registry.items()
    if isinstance(model_admin, BoundedAdmin) and not isinstance(model_admin, ReadOnlyAdmin)
}
OURS = {"smsactivator", "wallet", "orders", "refunds", "support"}
NOT_AMOUNTS = [
    "1_000",
    "1e2",
    "1E2",
    "1 000",
    "\uff11\uff12",
    "\u0661\u0662",
    "NaN",
    "sNaN",
    "Infinity",
    "-Infinity",
]
NOT_AMOUNTS += ["0x10", "1,5", "1.", ".5", "+1", "--1", "1.2.3", "1\u00a0000", "1\u20090"]


def offer(**changed: Any) -> dict[str, Any]:
    typed = {"title": "Telegram", "active": "on", "price": "1.50", "upstream": world.upstream().pk}
    typed |= {"service": "tg", "country": "gb", "kind": "activation", "rental_hours": ""}
    return typed | {"reason": "New"} | changed


def method(**changed: Any) -> dict[str, Any]:
    typed = {"code": "USDX-TRON", "currency": "USDX", "network": "TRON", "address_format": "tron"}
    typed |= {"memo_rule": "none", "coinspaid_code": "", "inqud_code": "", "enabled": "on"}
    return typed | {"reason": "New"} | changed


def limit(**changed: Any) -> dict[str, Any]:
    role = Group.objects.get(name="Auditor").pk
    typed = {"role": role, "decision": "payout", "each": "1", "daily": "2", "reason": "New"}
    return typed | changed


def address(**changed: Any) -> dict[str, Any]:
    typed = {"network": "TRON", "address": TRON, "why": "ours", "note": "", "active": "on"}
    return typed | {"reason": "New"} | changed


def twice(page: str, typed: dict[str, Any]) -> dict[str, Any]:
    assert send(page, typed) == {}
    return typed


# Each constraint of a row that is typed: where it is typed, what breaks it, where it is said.
CASES: dict[str, tuple[str, Any, str]] = {
    "offer_price_positive": ("orders_offer", lambda: offer(price="0"), "price"),
    "offer_rental_hours_fit_its_kind": (
        "orders_offer",
        lambda: offer(rental_hours="4"),
        "rental_hours",
    ),
    "offer_once": ("orders_offer", lambda: twice("orders_offer", offer()), "service"),
    "upstream_base_url_once": (
        "orders_upstream",
        lambda: {"code": "b", "name": "B", "base_url": world.upstream().base_url, "reason": "New"},
        "base_url",
    ),
    "role_limit_once": ("wallet_rolelimit", lambda: twice("wallet_rolelimit", limit()), "decision"),
    "role_limit_each_within_daily": ("wallet_rolelimit", lambda: limit(each="3"), "each"),
    "payout_method_once_per_network": (
        "wallet_payoutmethod",
        lambda: method(code="OTHER", currency="USDT"),
        "network",
    ),
    "refused_address_once": (
        "wallet_refusedaddress",
        lambda: twice("wallet_refusedaddress", address()),
        "__all__",  # the verb compares addresses however they are written
    ),
    "refused_for_a_reason": ("wallet_refusedaddress", lambda: address(why="other"), "note"),
    "macro_has_a_text": (
        "support_macro",
        lambda: {"title": " ", "body": "Hello", "reason": "New"},
        "title",
    ),
    **{
        f"payout_method_{name}_plain": (
            "wallet_payoutmethod",
            lambda name=name: method(**{name: "=1"}),
            name,
        )
        for name in ("code", "currency", "network", "contract", "coinspaid_code", "inqud_code")
    },
}


def signed_in() -> Client:
    client = Client()
    client.force_login(world.person(name=f"admin-{next(world.numbers)}"))
    return client


def send(page: str, typed: dict[str, Any], *pk: Any) -> dict[str, list[str]]:
    """What the form says of what is typed, by field; nothing when it was taken."""
    url = admin_url(f"{page}_change", *pk) if pk else admin_url(f"{page}_add")
    response = signed_in().post(url, typed)
    if response.status_code == 302:
        return {}
    assert response.status_code < 500
    form = response.context["adminform"].form
    shown = html.unescape(re.sub(r"<[^>]+>", " ", response.content.decode()))
    for sentences in form.errors.values():
        assert all(sentence in shown for sentence in sentences)
    return dict(form.errors)


def rules(model: Any) -> list[models.BaseConstraint]:
    return list(model._meta.constraints)


def test_every_rule_of_a_row_that_is_typed_has_its_case():
    names = {rule.name for model in EDITED for rule in rules(model)}
    assert names == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_broken_rule_is_said_at_a_field_and_in_a_sentence(name):
    page, typed, field = CASES[name]

    said = send(page, typed())

    assert set(said) == {field}
    for sentence in said[field]:
        assert name not in sentence
        assert "Constraint" not in sentence
        assert sentence[0].isupper()
        assert sentence.endswith(".")


@pytest.mark.parametrize("model", EDITED, ids=lambda one: one._meta.label)
def test_every_rule_has_its_own_sentence_wherever_it_is_broken(model):
    for rule in rules(model):
        single = isinstance(rule, models.UniqueConstraint) and len(rule.fields) == 1
        if not single:
            field, sentence = model.sentences[rule.name]
            assert field in {one.name for one in model._meta.get_fields()}
            assert sentence.endswith(".")


def test_a_name_that_is_taken_is_said_at_its_field():
    taken = world.storefront("Shop")
    assert set(send("wallet_storefront", {"name": taken.name})) == {"name"}
    assert set(send("auth_group", {"name": "Auditor", "reason": "New"})) == {"name"}


def test_what_is_changed_is_held_to_the_same_rules():
    row = world.offer()
    assert set(send("orders_offer", offer(price="-1"), row.pk)) == {"price"}
    row.refresh_from_db()
    assert row.price == Decimal("1.5")


# --- amounts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", NOT_AMOUNTS)
def test_an_amount_is_digits_and_a_point_and_nothing_else(text):
    said = send("orders_offer", offer(price=text))
    assert said == {"price": ["Enter an amount in digits, with a point before its parts: 12.50."]}
    assert not Offer.objects.exists()
    with pytest.raises(forms.ValidationError):
        AmountField().clean(text)
    with pytest.raises(ValueError, match="not an amount"):
        usd(text)


def test_spaces_around_an_amount_are_no_part_of_it():
    assert AmountField().clean(" 12.50 ") == Decimal("12.50")
    assert AmountField().clean("-0.0001") == Decimal("-0.0001")
    assert send("orders_offer", offer(price=" 2.5 ")) == {}
    assert Offer.objects.get().price == Decimal("2.5")


@pytest.mark.parametrize("text", ["1_0", "\uff11\uff10", "1e1", "10.0", "x"])
def test_a_number_of_hours_is_digits(text):
    said = send("orders_offer", offer(kind="rental", rental_hours=text))
    assert set(said) == {"rental_hours"}
    assert not Offer.objects.exists()


def test_a_limit_is_an_amount():
    row = RoleLimit.objects.earliest("pk")
    typed = {"role": row.role_id, "decision": row.decision, "each": "1_0", "daily": "1e3"}
    typed["reason"] = "More"
    assert set(send("wallet_rolelimit", typed, row.pk)) == {"each", "daily"}


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(one) for one in kind.__subclasses__()))


def test_every_form_reads_amounts_in_the_same_way():
    read = [
        (form.__name__, name, field)
        for form in subclasses(forms.BaseForm)
        if form.__module__.split(".")[0] in OURS
        for name, field in getattr(form, "base_fields", {}).items()
        if isinstance(field, forms.DecimalField | forms.FloatField)
    ]
    assert len(read) >= 6
    assert [row[:2] for row in read if not isinstance(row[2], PlainDecimalField)] == []
    request = RequestFactory().get("/")
    request.user = world.person()
    for model, model_admin in EDITED.items():
        form = model_admin.get_form(request)
        for field in model._meta.get_fields():
            if isinstance(field, MoneyField) and field.name in form.base_fields:
                assert isinstance(form.base_fields[field.name], AmountField)
