"""The demo's data and the traffic that it gets."""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal
from email import message_from_bytes
from io import StringIO

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from orders.models import Offer, Upstream
from smsactivator import complaints
from smsactivator.common import files
from smsactivator.management.commands import demo_traffic, seed_demo
from smsactivator.tests import world
from support import macros
from support.models import Macro, Message, Ticket
from wallet import addresses, keys
from wallet.models import ApiKey, PayoutMethod, Storefront


def seed(data_dir, upstream_url="http://127.0.0.1:9/"):
    output = StringIO()
    call_command(
        "seed_demo", "--data-dir", str(data_dir), "--upstream-url", upstream_url, stdout=output
    )
    return output.getvalue()


@pytest.mark.django_db
def test_the_demo_has_a_login_for_each_role(tmp_path):
    printed = seed(tmp_path)
    for username, group in seed_demo.PEOPLE.items():
        assert username in printed
        user = User.objects.get(username=username)
        assert user.check_password(seed_demo.PASSWORD)
        assert user.is_staff
        assert user.is_superuser is (username == "admin")
        assert [found.name for found in user.groups.all()] == ([group] if group else [])


@pytest.mark.django_db
def test_seeding_again_changes_nothing_but_the_upstreams_address(tmp_path):
    # given
    seed(tmp_path)
    key = (tmp_path / "storefront.key").read_text()
    password = User.objects.get(username="agent").password
    # when the simulator is at another port
    seed(tmp_path, "http://127.0.0.1:10/")
    # then
    assert Upstream.objects.get().base_url == "http://127.0.0.1:10/"
    assert [row.history_type for row in Upstream.history.order_by("history_id")] == ["+", "~"]
    assert Offer.objects.count() == Offer.history.count() == len(seed_demo.OFFERS)
    assert (tmp_path / "storefront.key").read_text() == key
    assert ApiKey.objects.count() == 1
    assert Macro.objects.count() == Macro.history.count() == len(seed_demo.MACROS)
    assert User.objects.get(username="agent").password == password


@pytest.mark.django_db
def test_the_demos_canned_replies_are_kept_by_a_senior_agent(tmp_path):
    seed(tmp_path)
    for title, body in seed_demo.MACROS:
        macros.refuse_unknown(body)
        kept = Macro.objects.get(title=title, body=body, active=True)
        assert kept.history.get().history_actor == "senior"


@pytest.mark.django_db
def test_the_storefronts_key_is_good_and_private(tmp_path):
    seed(tmp_path)
    kept = tmp_path / "storefront.key"
    assert kept.stat().st_mode & 0o777 == 0o600
    key = keys.authenticate(kept.read_text().strip())
    assert key.storefront == Storefront.objects.get(name="Demo shop")


@pytest.mark.django_db
def test_a_key_whose_file_is_lost_is_revoked_and_replaced(tmp_path):
    seed(tmp_path)
    kept = tmp_path / "storefront.key"
    lost = kept.read_text().strip()
    kept.unlink()

    seed(tmp_path)

    assert keys.authenticate(lost) is None
    assert keys.authenticate(kept.read_text().strip()) is not None


@pytest.mark.django_db
def test_a_revoked_key_is_replaced(tmp_path):
    seed(tmp_path)
    keys.revoke(ApiKey.objects.get().pk, revoked_by="a test")
    seed(tmp_path)
    assert keys.authenticate((tmp_path / "storefront.key").read_text().strip()) is not None


@pytest.mark.django_db
def test_demo_data_is_refused_in_production(tmp_path, settings):
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="no place in production"):
        seed(tmp_path)
    assert not Storefront.objects.exists()


class Shop:
    """The far side of the storefront API, as the traffic sees it."""

    def __init__(self) -> None:
        self.balance = Decimal(0)
        self.requests: list[tuple[str, str]] = []
        self.failing = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.requests.append((request.method, path))
        if self.failing:
            return httpx.Response(500, text="Your code is 123456")
        if path.endswith("/tickets") and request.method == "POST":
            self.received(request)
            return httpx.Response(201, json={"ticket": 1})
        body = json.loads(request.content or "{}")
        if path == "/offers":
            offer = {"id": 1, "kind": "activation", "price": "2.00"}
            return httpx.Response(200, json={"items": [offer]})
        if path.endswith("/deposits"):
            self.balance += Decimal(body["amount"])
        if path == "/orders":
            assert request.headers["Idempotency-Key"]
            assert self.balance >= 2
            self.balance -= 2
        return httpx.Response(200, json={"id": 1, "balance": str(self.balance)})


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def traffic(shop, lines):
    with httpx.Client(
        base_url="http://shop.invalid/api/v1", transport=httpx.MockTransport(shop)
    ) as client:
        traffic = demo_traffic.Traffic(client, lines.append)
        traffic.customers = ["demo-001"]
        traffic.complaints.unread.clear()
        yield traffic


def order_now(traffic):
    traffic.next_order = 0.0
    traffic.step(rate=1.0)


def test_a_customer_deposits_only_when_the_wallet_is_low(traffic, shop):
    # given 20 orders of 2.00 USD, which one deposit of 40.00 pays
    for _order in range(20):
        order_now(traffic)
    assert shop.balance == Decimal("0.00")
    # when there is one more
    order_now(traffic)
    # then a second deposit paid it
    assert shop.balance == Decimal("38.00")


def test_refunds_are_spent_before_more_is_deposited(traffic, shop):
    order_now(traffic)
    shop.balance += 100  # refunds
    for _order in range(20):
        order_now(traffic)
    assert shop.balance == 140 - 21 * 2


def test_who_leaves_orders_no_more(traffic, shop):
    # given two customers
    traffic.customers = ["demo-001", "demo-002"]
    order_now(traffic)
    # when both leave
    traffic.complaints.leaving.update(traffic.customers)
    before = list(shop.requests)
    for _order in range(5):
        order_now(traffic)
    # then there is no further request, until another customer comes
    assert shop.requests == before
    traffic.customers.append("demo-003")
    order_now(traffic)
    assert shop.requests[-1] == ("POST", "/orders")


def test_nobody_orders_before_it_is_known_whether_they_left_in_an_earlier_run(traffic, shop):
    traffic.complaints.unread.append("demo-001")
    order_now(traffic)
    assert ("POST", "/orders") not in shop.requests


def test_an_answer_that_is_no_success_is_logged_without_its_text(traffic, shop, lines):
    order_now(traffic)
    shop.failing = True
    order_now(traffic)
    assert "POST /orders -> 500" in lines
    assert "123456" not in "".join(lines)
    # and the traffic goes on
    shop.failing = False
    order_now(traffic)
    assert shop.requests[-1] == ("POST", "/orders")
    assert "POST /orders -> 500" not in lines[lines.index("POST /orders -> 500") + 1 :]


def test_a_shop_that_cannot_be_reached_is_tried_again(lines):
    def refuse(request):
        raise httpx.ConnectError("refused")

    with httpx.Client(
        base_url="http://shop.invalid", transport=httpx.MockTransport(refuse)
    ) as client:
        traffic = demo_traffic.Traffic(client, lines.append)
        assert traffic.step(rate=1.0) == 1.0
    assert lines == ["the shop cannot be reached: ConnectError"]


# --- what the demo's customers write to support ---


class Support:
    """The far side of the storefront API of tickets, as its customers see it."""

    balance = "0.0000"

    def __init__(self) -> None:
        self.tickets: dict[int, dict] = {}
        self.written: list[dict] = []

    def __call__(self, method, path, headers=None, json=None, data=None, files=()):
        _, _, number, *_ = path.split("/")
        if method == "GET" and path.endswith("/tickets"):
            return {"items": [one for one in self.tickets.values() if one["customer"] == number]}
        if method == "GET" and path.endswith("/wallet"):
            return {"balance": self.balance}
        if method == "GET":
            return self.tickets[int(number)]
        said = json or data
        assert headers["Idempotency-Key"]
        ticket = self.open(number, said["subject"]) if path.endswith("/tickets") else int(number)
        self.say(ticket, "customer")
        self.tickets[ticket]["state"] = "open"
        names = [name for _field, (name, _content, _type) in files]
        self.written.append({**said, "ticket": ticket, "files": names})
        return {"ticket": ticket}

    def open(self, customer, subject):
        pk = len(self.tickets) + 1
        self.tickets[pk] = {
            "id": pk,
            "customer": customer,
            "subject": subject,
            "state": "new",
            "messages": [],
            "refunds": [],
        }
        return pk

    def say(self, ticket, by):
        messages = self.tickets[ticket]["messages"]
        messages.append({"id": len(messages) + 1, "by": by})

    def decide(self, ticket, state, *, final=False):
        self.say(ticket, "support")
        self.tickets[ticket]["state"] = "resolved"
        self.tickets[ticket]["refunds"] = [{"state": state, "final": final}]


class Luck(random.Random):
    """Draws ``drawn`` wherever it would draw between 0 and 1."""

    drawn = 0.5

    def random(self):
        return self.drawn


@pytest.fixture
def support():
    return Support()


@pytest.fixture
def customers(support):
    people = [f"demo-{number:03}" for number in (1, 2, 4, 5, 7, 8)]
    found = complaints.Complaints(support, None, lambda customer: True, people)
    found.random = Luck(7)
    found.next_find = 0.0
    while found.unread:
        found.step(found.next_find)
    return found


def delivered(number, customer, kind="activation"):
    state = "active" if kind == "rental" else "sms_received"
    return {"id": number, "customer": customer, "kind": kind, "state": state}


def complain(customers, orders=200, now=0.0):
    """Let the customers look at so many orders, each half a minute after the one before."""
    for number in range(orders):
        kind = "rental" if number % 5 == 0 else "activation"
        customer = f"demo-{1000 + number}"
        customers.consider(delivered(number, customer, kind), now + 30 * number)


def only_case(customers):
    customers.consider(delivered(1, "demo-001"), 0.0)
    [case] = customers.cases
    return case


def look(customers, case):
    """Let the customer read what there is, and make up their mind about it."""
    customers.step(case.next_look)
    customers.step(case.next_look)


def test_a_few_tickets_of_each_kind_wait_and_no_more(customers, support):
    complain(customers)
    subjects = [ticket["subject"] for ticket in support.tickets.values()]
    assert {subject: subjects.count(subject) for subject in subjects} == {
        kind.subject: complaints.EACH for kind in complaints.KINDS
    }


def test_each_kind_has_a_ticket_before_any_has_two(customers, support):
    for number in range(6):
        kind = "activation" if number else "rental"
        customers.consider(delivered(number, f"demo-{1000 + number}", kind), 30.0 * number)
    assert len({ticket["subject"] for ticket in support.tickets.values()}) == 6


def test_nobody_writes_twice_of_an_order(customers, support):
    case = only_case(customers)
    support.decide(case.ticket, "denied", final=True)
    look(customers, case)
    customers.consider(delivered(1, "demo-001"), 10_000.0)
    assert len(support.tickets) == 1


def test_customers_write_at_a_calm_pace(customers, support):
    for number in range(10):
        customers.consider(delivered(number, f"demo-{number}"), number / 10)
    assert len(support.tickets) == 1


def test_an_order_without_an_sms_is_no_reason_to_write(customers, support):
    for number, state in enumerate(("placed", "awaiting_sms", "expired", "cancelled")):
        order = delivered(number, "demo-001") | {"state": state}
        customers.consider(order, 60.0 * number)
    assert support.tickets == {}


def test_a_resolved_ticket_makes_room_for_another(customers, support):
    complain(customers)
    case = customers.cases[0]
    support.decide(case.ticket, "denied", final=True)
    # when it is read
    look(customers, case)
    complain(customers, now=10_000.0)
    # then there is one more, of the same kind
    assert case not in customers.cases
    assert len(support.tickets) == 6 * complaints.EACH + 1
    assert support.tickets[len(support.tickets)]["subject"] == case.kind.subject


@pytest.mark.parametrize(
    ("luck", "said", "files"),
    [
        (0.1, complaints.OBJECTIONS, ["screenshot.png"]),
        (0.7, complaints.GRATITUDE, []),
    ],
)
def test_a_denial_is_answered_by_a_dispute_or_thanks(customers, support, luck, said, files):
    # given
    case = only_case(customers)
    support.decide(case.ticket, "denied")
    # when
    customers.random.drawn = luck
    look(customers, case)
    # then
    assert support.written[-1]["body"] in said
    assert support.written[-1]["files"] == files
    # and once: our next words are read anew
    count = len(support.written)
    look(customers, case)
    assert len(support.written) == count


def test_most_say_nothing_to_a_refund(customers, support):
    case = only_case(customers)
    support.decide(case.ticket, "credited", final=True)
    look(customers, case)
    assert len(support.written) == 1
    assert customers.cases == []


def test_a_question_of_ours_is_answered(customers, support):
    case = only_case(customers)
    support.say(case.ticket, "support")
    support.tickets[case.ticket]["state"] = "waiting"
    look(customers, case)
    assert support.written[-1]["body"] in complaints.ANSWERS


def test_who_waits_asks_again_once(customers, support):
    case = only_case(customers)
    customers.random.drawn = 0.0
    # not before a minute has passed
    look(customers, case)
    assert len(support.written) == 1
    for _look in range(6):
        look(customers, case)
    assert [one["body"] in complaints.NEWS for one in support.written] == [False, True]


def test_tickets_of_an_earlier_run_are_gone_on_with(support):
    # given
    for kind in complaints.KINDS:
        support.open("demo-001", kind.subject)
    support.open("demo-001", "Not one of the demo's")
    closed = support.open("demo-001", complaints.KINDS[0].subject)
    support.tickets[closed]["state"] = "closed"
    # when
    found = complaints.Complaints(support, None, lambda customer: True, ["demo-001"])
    found.step(found.next_find)
    # then
    assert [case.ticket for case in found.cases] == [1, 2, 3, 4, 5, 6]


def leave(customers, tries=40):
    """Let so many customers think about leaving, one after the other."""
    for number in range(tries):
        customers.random.drawn = number / tries
        customers.step(customers.next_leave)


def test_customers_with_enough_for_a_payout_write_that_they_leave(customers, support):
    support.balance = "25.5000"
    leave(customers)

    assert [case.kind for case in customers.cases] == [complaints.LEAVING] * complaints.EACH
    assert len({case.customer for case in customers.cases}) == complaints.EACH
    first = support.written[0]
    assert (first["subject"], first["orders"], first["files"]) == ("I want to leave", [], [])
    assert "25.5000 USD" in first["body"]
    [address] = re.findall(r"\bT[1-9A-HJ-NP-Za-km-z]{33}\b", first["body"])
    assert addresses.check(PayoutMethod(code="x", address_format="tron"), address, "") == (
        address,
        "",
    )


def test_nobody_leaves_with_25_usd_or_less(customers, support):
    support.balance = "25.0000"
    leave(customers)

    assert support.written == []


def test_who_left_stays_away_when_the_ticket_is_over_and_half_of_them_never_leave(
    customers, support
):
    # given that three of six leave, and that their tickets are resolved and read
    support.balance = "25.5000"
    leave(customers)
    gone = {case.customer for case in customers.cases}
    customers.random.drawn = 0.5
    for case in list(customers.cases):
        support.decide(case.ticket, "credited", final=True)
        look(customers, case)
    # when time goes by
    leave(customers)
    # then
    assert customers.cases == []
    assert (len(gone), len(support.tickets)) == (3, 3)
    assert {one for one in customers.customers if not customers.stays(one)} == gone


def test_who_left_in_an_earlier_run_is_known(support):
    for number, state in enumerate(("new", "closed"), 1):
        ticket = support.open(f"demo-00{number}", complaints.LEAVING.subject)
        support.tickets[ticket]["state"] = state
    people = ["demo-001", "demo-002", "demo-004"]
    found = complaints.Complaints(support, None, lambda customer: True, people)
    assert not any(found.stays(one) for one in people)
    while found.unread:
        found.step(found.next_find)
    assert [found.stays(one) for one in people] == [False, False, True]


def test_who_leaves_confirms_the_address_when_asked(customers, support):
    support.balance = "25.5000"
    leave(customers, tries=1)
    [case] = customers.cases
    support.say(case.ticket, "support")
    support.tickets[case.ticket]["state"] = "waiting"
    customers.random.drawn = 0.5
    look(customers, case)

    [answer] = [one for one in support.written if one["ticket"] == case.ticket][1:]
    assert (answer["body"], answer["files"]) == (complaints.LEAVING.answers[0], [])


def test_every_third_customer_writes_by_mail(support):
    mails = []

    def mail(customer, **said):
        mails.append((customer, said["subject"], said["ticket"]))
        return 100

    found = complaints.Complaints(support, mail, lambda customer: True, [])
    for number in range(6):
        found.consider(delivered(number, f"demo-{number:03}"), 60.0 * number)
    assert [(customer, ticket) for customer, _subject, ticket in mails] == [
        ("demo-000", None),
        ("demo-003", None),
    ]
    assert len(support.tickets) == 4


def test_the_evidence_is_a_png_and_each_another():
    luck = random.Random(1)
    first, second = complaints.screenshot(luck), complaints.screenshot(luck)
    assert files.sniff(first) == "image/png"
    assert first != second
    assert len(first) < 10_000


def test_files_are_sent_as_parts_of_their_own(shop, traffic):
    # given a storefront that reads what is sent
    sent = []
    shop.received = sent.append
    # when
    traffic.complaints.unread.clear()
    traffic.complaints.random = Luck(7)
    traffic.complaints.consider(delivered(5, "demo-001"), 0.0)
    # then
    [request] = sent
    body = message_from_bytes(
        f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + request.content
    )
    parts = [part.get_param("name", header="content-disposition") for part in body.get_payload()]
    assert sorted(parts) == ["body", "files", "orders", "subject"]


@pytest.mark.django_db
def test_a_mail_becomes_a_ticket_that_is_answered_by_mail(lines):
    # given
    customer = world.customer()
    storefront = customer.storefront
    Storefront.objects.filter(pk=storefront.pk).update(name=seed_demo.STOREFRONT)
    mailbox = demo_traffic.Mailbox(lines.append)
    mail = {"body": "Where is it?", "orders": (), "files": [b"\x89PNG"]}
    # when
    ticket = mailbox(customer.external_id, subject="Hello", key="1", ticket=None, **mail)
    again = mailbox(customer.external_id, subject="", key="2", ticket=ticket, **mail)
    lost = mailbox("demo-nobody", subject="Hello", key="3", ticket=None, **mail)
    # then
    assert Ticket.objects.get(pk=ticket).channel == Ticket.Channel.EMAIL
    assert again == ticket
    assert Message.objects.filter(ticket=ticket).count() == 2
    assert lost is None
    assert lines == ["a mail of demo-nobody is lost: DoesNotExist"]
