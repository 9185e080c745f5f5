"""What orders tell on timelines: their money, their SMS, who read these; a customer's orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q

from orders.models import OPEN, Order, Sms, SmsReading, State
from orders.pages import order_link, sms_link
from smsactivator.common.display import amount
from smsactivator.common.links import Link, admin_url
from smsactivator.common.timeline import LONGEST, Entry, Origin, entries_for, origin_of
from wallet.ledger import account_name
from wallet.models import Transfer
from wallet.pages import transfer_link

_Who = dict[str, Any]


@entries_for("orders.Order")
def money_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """The transfers that paid for these orders, settled them, and booked what they cost us."""
    rows = Order.objects.filter(pk__in=pks).order_by("-pk")[: LONGEST + 1]
    orders = {order.pk: order for order in rows}
    costs = {f"cost:{pk}": pk for pk in orders}
    of_transfer = {order.purchase_id: pk for pk, order in orders.items()} | {
        order.settlement_id: pk for pk, order in orders.items() if order.settlement_id is not None
    }
    placers, settlers = _actors(list(orders))
    entries: dict[int, list[Entry]] = defaultdict(list)
    transfers = Transfer.objects.filter(Q(pk__in=of_transfer) | Q(key__in=costs))
    for transfer in transfers.order_by("-posted_at", "-pk"):
        pk = of_transfer.get(transfer.pk) or costs[transfer.key]
        order = orders[pk]
        if transfer.pk == order.purchase_id:
            who = placers.get(pk, {})
        elif transfer.pk == order.settlement_id:
            who = settlers.get(pk, {})
        else:
            who = {"who": "upstream costs", "origin": Origin.AUTOMATIC}
        entries[pk].append(
            Entry(
                at=transfer.posted_at,
                key=f"transfer:{transfer.pk}",
                what=f"{Transfer.Kind(transfer.kind).label}: {amount(transfer.amount)} USD from "
                f"{_account(transfer.debit_account)} to {_account(transfer.credit_account)}",
                about=transfer_link(transfer.pk),
                **who,
            )
        )
    return entries


@entries_for("orders.Order")
def sms_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """The SMS of these orders as they arrived, without their texts."""
    return _arrivals(Sms.objects.filter(order_id__in=pks), lambda sms: sms.order_id)


@entries_for("orders.Order")
def readings_of_orders(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """Who read these orders' SMS in full."""
    entries: dict[int, list[Entry]] = defaultdict(list)
    for made in _readings(SmsReading.objects.filter(order_id__in=pks)):
        entries[made.order_id].append(_reading(made))
    return entries


@entries_for("orders.Sms")
def life_of_sms(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """When these SMS arrived, and who read them in full."""
    found = Sms.objects.filter(pk__in=pks)
    entries: dict[int, list[Entry]] = defaultdict(list)
    orders = list(found.values_list("order_id", flat=True))
    wanted = set(pks)
    for made in _readings(SmsReading.objects.filter(order_id__in=orders, shown__overlap=pks)):
        for pk in wanted & set(made.shown):
            entries[pk].append(_reading(made))
    for pk, arrived in _arrivals(found, lambda sms: sms.pk).items():
        entries[pk].extend(arrived)
    return entries


@entries_for("wallet.Customer")
def orders_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Entry]]:
    """How these customers' newest orders ended, in short."""
    entries: dict[int, list[Entry]] = defaultdict(list)
    ended = Order.objects.filter(customer_id__in=pks).exclude(state__in=OPEN)
    orders = list(ended.order_by("-pk")[: LONGEST + 1])
    _, settlers = _actors([order.pk for order in orders])
    for order in orders:
        state = State(order.state)
        at = order.ended_at or order.first_sms_at
        if at is None:
            continue  # the database holds that there is one
        finished = {"who": "finishing", "origin": Origin.AUTOMATIC}
        who = finished if state == State.COMPLETED else settlers.get(order.pk, {})
        entries[order.customer_id].append(
            Entry(
                at=at,
                key=f"order:{order.pk}",
                what=f"{state.label}: {order.service} / {order.country} for "
                f"{amount(order.price)} USD",
                about=order_link(order.pk),
                permission="orders.view_order",
                **who,
            )
        )
    return entries


def _account(number: int) -> str:
    name = account_name(number)
    return name[:1].lower() + name[1:]


def _actors(pks: Sequence[int]) -> tuple[dict[int, _Who], dict[int, _Who]]:
    """Who placed these orders, and who settled them: one query, two rows an order."""
    history = Order.history.model
    steps = history.objects.filter(id__in=pks).order_by("id", "settlement_id", "history_id")
    placers: dict[int, _Who] = {}
    settlers: dict[int, _Who] = {}
    for pk, settlement, label, user in steps.distinct("id", "settlement_id").values_list(
        "id", "settlement_id", "history_actor", "history_user_id"
    ):
        origin, who = origin_of(label, user)
        (placers if settlement is None else settlers)[pk] = {"who": who, "origin": origin}
    return placers, settlers


def _arrivals(messages: Any, of: Any) -> dict[int, list[Entry]]:
    entries: dict[int, list[Entry]] = defaultdict(list)
    rows = messages.select_related("order__upstream").defer("text", "code")
    for sms in rows.order_by("-received_at", "-pk")[: LONGEST + 1]:
        late = " after the order's end: never shown to the customer" if sms.late else ""
        entries[of(sms)].append(
            Entry(
                at=sms.received_at,
                key=f"sms:{sms.pk}",
                what=f"SMS arrived from {sms.sender}{late}" if sms.sender else f"SMS arrived{late}",
                who=f"upstream {sms.order.upstream.name}",
                origin=Origin.AUTOMATIC,
                about=sms_link(sms.pk),
                permission="orders.view_sms",
            )
        )
    return entries


def _readings(readings: Any) -> list[SmsReading]:
    return list(readings.select_related("person").order_by("-read_at", "-pk")[: LONGEST + 1])


def _reading(made: SmsReading) -> Entry:
    count = len(made.shown)
    return Entry(
        at=made.read_at,
        key=f"sms_reading:{made.pk}",
        what="SMS read in full" if count == 1 else f"{count} SMS read in full",
        who=made.person.get_username(),
        origin=Origin.PERSON,
        why=made.reason,
        about=Link(
            str(made),
            admin_url("orders_smsreading_change", made.pk),
            "orders.view_smsreading",
        ),
    )
