"""In a real browser, through to the wallet: one case of each section of the refund policy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect, sync_playwright

from orders import termination
from orders.models import Order
from refunds.models import Refund, RefundRequest
from refunds.policy import Clause, text
from refunds.tests import world as shop
from smsactivator.common.links import admin_url
from support import delivery
from support.models import Ticket
from support.tasks import tell_payouts
from support.tests.world import HASH, TRON, agent, delivered, senior
from wallet import keys
from wallet.models import Customer, Payout, RoleLimit, Transfer, Wallet
from wallet.tests.world import person

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
PATIENCE = 60_000  # milliseconds, for a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium")
    assert found, (
        "There is no chromium here: install it, or leave these tests out (-m 'not browser')"
    )
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright runs a loop in this thread, and the tests read the database between its steps.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        running = playwright.chromium.launch(executable_path=found, args=ARGS)
        yield running
        running.close()


class Desk:
    """A person of ours at a browser; counts the clicks."""

    def __init__(self, browser: Browser, address: str, user: Any) -> None:
        self.address, self.clicks = address, 0
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        self.context = browser.new_context()
        self.context.set_default_timeout(PATIENCE)
        self.context.add_cookies(
            [{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": address}]
        )
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, url: str) -> None:
        self.page.goto(self.address + url)
        self.clicks = 0

    def queue(self, name: str) -> None:
        self.open(admin_url("support_ticket_changelist", queue=name))

    def click(self, selector: str) -> None:
        self.page.locator(selector).click()
        self.clicks += 1

    def ticket(self, ticket: Ticket) -> None:
        """From the queue to the case."""
        self.click(f'a[href^="{admin_url("support_ticket_change", ticket.pk)}"] >> nth=0')
        expect(self.page.locator(".case-subject")).to_have_text(ticket.subject)

    def fill(self, panel: str, **typed: str) -> None:
        for name, value in typed.items():
            field = self.page.locator(f"{panel} [name={name}]")
            if field.evaluate("element => element.tagName") == "SELECT":
                field.select_option(value)
            else:
                field.fill(value)

    def press(self, panel: str, act: str) -> None:
        self.click(f'{panel} button[name=act][value="{act}"]')

    def act(self, label: str, **typed: str) -> None:
        """An action of the page by its label: its form, filled, and sent."""
        self.page.get_by_role("link", name=f"{label}…", exact=True).click()
        self.fill("form", **typed)
        self.page.get_by_role("button", name=label, exact=True).click()

    def told(self, words: str) -> None:
        expect(self.page.locator("body")).to_contain_text(words)


class Storefront:
    """The shop of a customer, as its own server speaks to us."""

    def __init__(self, address: str, customer: Customer) -> None:
        _, plain = keys.issue(customer.storefront, name=uuid4().hex[:8], created_by="test")
        self.customer = customer
        self.http = httpx.Client(
            base_url=f"{address}/api/v1", headers={"Authorization": f"Bearer {plain}"}, timeout=30
        )

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        return answer.json()

    def opens(self, order: Order, body: str) -> Ticket:
        return self.says("My order", body, order)

    def says(self, subject: str, body: str, *orders: Order) -> Ticket:
        """A new ticket about these orders."""
        path = f"/customers/{self.customer.external_id}/tickets"
        about = [order.pk for order in orders]
        said = self.post(path, {"subject": subject, "body": body, "orders": about})
        return Ticket.objects.get(pk=said["ticket"])

    def writes(self, ticket: Ticket, body: str) -> None:
        self.post(f"/tickets/{ticket.pk}/messages", {"body": body})

    def reads(self, ticket: Ticket) -> tuple[list[str], list[dict[str, Any]]]:
        """The thread and the refunds as the customer is shown them, after the outbox ran."""
        delivery.deliver_due("api")
        answer = self.http.get(f"/tickets/{ticket.pk}").json()
        return [message["body"] for message in answer["messages"]], answer["refunds"]

    @property
    def balance(self) -> Decimal:
        told = self.http.get(f"/customers/{self.customer.external_id}/wallet").json()
        assert Decimal(told["balance"]) == Wallet.objects.get(pk=self.customer.pk).balance
        return Decimal(told["balance"])


@pytest.fixture
def people(browser: Browser, live_server: Any) -> Iterator[Any]:
    """Sits people of ours at browsers; no page of theirs may break."""
    sitting: list[Desk] = []

    def sit(user: Any) -> Desk:
        desk = Desk(browser, live_server.url, user)
        sitting.append(desk)
        return desk

    yield sit
    for desk in sitting:
        desk.context.close()
    assert [error for desk in sitting for error in desk.errors] == []


@pytest.fixture
def storefront(live_server: Any) -> Iterator[Storefront]:
    speaking = Storefront(live_server.url, shop.customer("20"))
    with speaking.http:
        yield speaking


def denied_on_the_page(desk: Desk, ticket: Ticket, clause: str) -> None:
    desk.queue("todo")
    desk.ticket(ticket)
    desk.fill("#refund", clause=clause, reason="As the customer says", body="We are sorry.")
    desk.press("#refund", "refuse")
    desk.told("is denied and the customer is told.")


def test_automatic_an_order_cancelled_before_its_sms_is_credited_at_once(
    people: Any, storefront: Storefront
) -> None:
    offer = shop.offer("2.5")
    body = {"customer": storefront.customer.external_id, "offer": offer.pk}
    placed = storefront.post("/orders", body)
    assert storefront.balance == Decimal("17.5")

    storefront.post(f"/orders/{placed['id']}/cancel")

    assert storefront.balance == Decimal(20)
    desk = people(agent())
    desk.open(admin_url("orders_order_change", placed["id"]))
    desk.told("Cancelled")
    refund = Refund.objects.get(order=placed["id"])
    assert refund.clause == Clause.CANCELLED_BEFORE_SMS
    desk.open(admin_url("refunds_refund_change", refund.pk))
    desk.told("2.5000")
    desk.open(admin_url("wallet_wallet_change", storefront.customer.pk))
    desk.told("20.0000")


def test_by_ticket_a_second_agent_approves_within_three_clicks_of_the_queue(
    people: Any, storefront: Storefront
) -> None:
    order = delivered(storefront.customer, "2")
    ticket = storefront.opens(order, "Telegram does not take the code")
    asking, deciding = people(agent("ann")), people(agent("bob"))

    asking.queue("todo")
    asking.ticket(ticket)
    asking.fill("#refund", clause=Clause.SERVICE_REJECTED, reason="Region block")
    asking.press("#refund", "request")
    asking.told("is waiting for approval.")
    asked = RefundRequest.objects.get()
    assert (asked.amount, storefront.balance) == (Decimal(2), Decimal(18))

    deciding.queue("todo")
    deciding.ticket(ticket)
    expect(deciding.page.locator(f"#decide-{asked.pk}")).to_contain_text("ann asked for 2.0000 USD")
    deciding.fill(f"#decide-{asked.pk}", body="We have credited it.")
    deciding.press(f"#decide-{asked.pk}", "approve")

    deciding.told("is approved: the wallet is credited and the customer is told.")
    assert deciding.clicks <= 3
    assert storefront.balance == Decimal(20)
    thread, refunds = storefront.reads(ticket)
    assert len(thread) == 2
    assert thread[1].startswith(
        f"We have credited it.\n\n2.00 USD for order {order.pk} have been credited to your wallet."
    )
    assert (refunds[0]["state"], refunds[0]["clause"]) == ("credited", Clause.SERVICE_REJECTED)
    assert Transfer.objects.filter(kind=Transfer.Kind.DECIDED_REFUND).count() == 1


def test_a_reply_that_is_sent_again_after_going_back_is_one(
    people: Any, storefront: Storefront
) -> None:
    ticket = storefront.opens(delivered(storefront.customer, "2"), "The code is refused")
    desk = people(agent())
    desk.open(admin_url("support_ticket_change", ticket.pk))
    desk.fill("#reply", body="What did the service say?", then="waiting")
    desk.press("#reply", "reply")
    desk.told("The reply is on its way.")

    desk.page.go_back()
    desk.fill("#reply", body="What did the service say?", then="waiting")
    desk.press("#reply", "reply")

    desk.told("The reply is on its way.")
    assert storefront.reads(ticket)[0][1:] == ["What did the service say?"]


def test_claiming_keeps_what_was_typed_before(people: Any, storefront: Storefront) -> None:
    ticket = storefront.opens(delivered(storefront.customer, "2"), "The code is refused")
    desk = people(agent())
    desk.open(admin_url("support_ticket_change", ticket.pk))
    desk.fill("#reply", body="What did the service say?")

    desk.press(".case-claim", "claim")

    desk.told("is yours for a while.")
    expect(desk.page.locator("#reply [name=body]")).to_have_value("What did the service say?")
    desk.press("#reply", "reply")
    desk.told("The reply is on its way.")
    expect(desk.page.locator("#reply [name=body]")).to_have_value("")


def test_not_refundable_what_was_ordered_wrong_is_denied_with_the_clause(
    people: Any, storefront: Storefront
) -> None:
    ticket = storefront.opens(delivered(storefront.customer, "2"), "I wanted another country")
    desk = people(agent())

    denied_on_the_page(desk, ticket, Clause.ORDERED_WRONG)

    assert desk.clicks <= 3
    assert storefront.balance == Decimal(18)
    thread, refunds = storefront.reads(ticket)
    assert thread[1].startswith("We are sorry.\n\nWe cannot refund order")
    assert text(Clause.ORDERED_WRONG) in thread[1]
    assert (refunds[0]["state"], refunds[0]["final"]) == ("denied", False)


def test_disputed_a_senior_overturns_and_that_is_final(people: Any, storefront: Storefront) -> None:
    ticket = storefront.opens(delivered(storefront.customer, "2"), "The code is refused")
    denied_on_the_page(people(agent()), ticket, Clause.SERVICE_REJECTED)
    storefront.reads(ticket)

    storefront.writes(ticket, "Here is what Telegram says: region not supported")

    asked = RefundRequest.objects.get()
    assert (asked.state, storefront.reads(ticket)[1][0]["state"]) == ("disputed", "in_dispute")
    desk = people(senior())
    desk.queue("disputes")
    desk.ticket(ticket)
    panel = f"#decide-{asked.pk}"
    desk.told("region not supported")
    desk.fill(panel, reason="The screenshot shows it", body="You are right.")
    desk.press(panel, "overturn")
    desk.told("is overturned: the wallet is credited and the customer told.")
    assert desk.clicks <= 3
    assert storefront.balance == Decimal(20)
    thread, refunds = storefront.reads(ticket)
    assert thread[-1].startswith("You are right.\n\nA senior agent who had taken no part in it")
    assert thread[-1].endswith("This decision is final.")
    assert (refunds[0]["state"], refunds[0]["final"]) == ("credited", True)


def test_decided_for_good_it_is_opened_again_on_what_the_customer_sends_then(
    people: Any, storefront: Storefront
) -> None:
    ticket = storefront.opens(delivered(storefront.customer, "2"), "The code is refused")
    denied_on_the_page(people(agent("ann")), ticket, Clause.SERVICE_REJECTED)
    storefront.reads(ticket)
    storefront.writes(ticket, "I do not agree")
    first = RefundRequest.objects.get()
    desk = people(senior("sonia"))
    desk.queue("disputes")
    desk.ticket(ticket)
    desk.fill(f"#decide-{first.pk}", reason="Nothing shows it", body="We looked again.")
    desk.press(f"#decide-{first.pk}", "uphold")
    desk.told("is upheld, for good.")
    assert "Only if you send new evidence" in storefront.reads(ticket)[0][-1]

    storefront.writes(ticket, "Now the service has confirmed it: case 4711")
    said = ticket.messages.latest("pk")

    page = admin_url("support_ticket_change", ticket.pk)
    for who, words in (
        (desk, "You took part in the decision"),
        (people(agent("bob")), "A senior agent who took no part can open a further request"),
    ):
        who.open(page)
        expect(who.page.locator("#further")).to_contain_text(words)
        expect(who.page.locator("#refund, #further button")).to_have_count(0)
    sam = people(senior("sam"))
    sam.open(page)
    expect(sam.page.locator("#further")).to_contain_text("the denial upheld by sonia")
    sam.click("#further summary")
    sam.fill(
        "#further",
        evidence=str(said.pk),
        clause=Clause.SERVICE_REJECTED,
        reason="The service confirms it",
        body="We look at it once more.",
    )
    sam.press("#further", "further")
    sam.told("further to a final decision")
    asked = RefundRequest.objects.latest("pk")
    panel = f"#decide-{asked.pk}"
    sue = people(senior("sue"))
    sue.open(page)
    expect(sue.page.locator(panel)).to_contain_text("Decided before on this order")
    expect(sue.page.locator(panel)).to_contain_text(f"the new evidence: {said} on {ticket}")
    sue.fill(panel, reason="Confirmed", body="You were right.")
    sue.press(panel, "approve")
    sue.told("is approved: the wallet is credited and the customer is told.")
    assert storefront.balance == Decimal(20)
    assert "once more" in storefront.reads(ticket)[0][-1]


def test_terminated_nothing_goes_back_and_the_clause_says_why(
    people: Any, storefront: Storefront
) -> None:
    order = delivered(storefront.customer, "2")
    asked = termination.request(
        senior("sonia"), storefront.customer.pk, reason="Resold numbers", key=uuid4()
    )
    termination.confirm(senior("sam"), asked.pk)
    ticket = storefront.opens(order, "Give me my money")
    before = storefront.balance
    asking, deciding = people(agent("ann")), people(senior("sue"))

    asking.queue("todo")
    asking.ticket(ticket)
    asking.fill("#refund", clause=Clause.SERVICE_REJECTED, reason="They say so")
    asking.press("#refund", "request")
    asking.told("is waiting for approval.")
    panel = f"#decide-{RefundRequest.objects.get().pk}"
    deciding.queue("todo")
    deciding.ticket(ticket)
    expect(deciding.page.locator(f"{panel} .warning")).to_contain_text("verdict is against it")

    # The wallet takes nothing: there is no button for it, and the page says why.
    expect(deciding.page.locator(f"{panel} [value=approve]")).to_have_count(0)
    expect(deciding.page.locator(panel)).to_contain_text("Refund policy, not granted")
    deciding.fill(panel, reason="Terminated", body="Your account was terminated.")
    deciding.press(panel, "deny")
    deciding.told("is denied and the customer is told.")
    denied_on_the_page_again(asking, ticket)
    thread, refunds = storefront.reads(ticket)
    assert text(Clause.TERMINATED) in thread[-1]
    assert [one["state"] for one in refunds] == ["denied", "denied"]
    assert (storefront.balance, Refund.objects.count()) == (before, 0)


def denied_on_the_page_again(desk: Desk, ticket: Ticket) -> None:
    """Under the clause that says why, whatever the customer calls it."""
    desk.open(admin_url("support_ticket_change", ticket.pk))
    desk.fill("#refund", clause=Clause.TERMINATED, reason="Terminated", body="Read the terms.")
    desk.press("#refund", "refuse")
    desk.told("is denied and the customer is told.")


def test_a_customer_who_leaves_is_paid_out_and_reads_the_hash_on_the_thread(
    people: Any, storefront: Storefront
) -> None:
    wish = f"I want to leave. Pay my balance out, USDT on Tron, to {TRON}"
    ticket = storefront.says("Leaving", wish)
    asking, approving, paying = people(agent("ann")), people(senior("sue")), people(finance("fay"))

    # An agent asks for it on the ticket, and answers with it.
    asking.queue("todo")
    asking.ticket(ticket)
    asking.click("#payout summary")
    asking.fill(
        "#payout", method="USDT-TRON", address=TRON, reason="Leaves us", body="We arrange it."
    )
    asking.press("#payout", "payout")
    asking.told("Somebody else (a senior agent or finance) approves it, then finance sends it")
    assert asking.clicks <= 3
    payout = Payout.objects.get()
    assert (payout.amount, storefront.balance) == (Decimal(20), Decimal(0))
    asking.open(admin_url("wallet_payout_change", payout.pk))
    expect(asking.page.get_by_role("link", name="Approve…", exact=True)).to_have_count(0)

    # Another person approves it on its own page.
    approving.open(admin_url("wallet_payout_change", payout.pk))
    approving.act("Approve")
    approving.told(f"{payout} is approved: finance can send it.")

    # Finance gathers it into a batch, makes its files, and hands them over.
    paying.open(admin_url("wallet_payoutbatch_changelist"))
    paying.page.get_by_role("link", name="Gather a batch…").click()
    paying.page.get_by_role("button", name="Gather 1 payout of 20.00").click()
    paying.told(payout.reference)
    paying.act("Export")
    paying.told("is exported: take its files below.")
    paying.page.set_viewport_size({"width": 420, "height": 900})
    for button in paying.page.get_by_role("button", name="Download").all():
        place = button.bounding_box()
        assert place is not None
        assert place["x"] + place["width"] < 420
    with paying.page.expect_download() as taken:
        paying.page.get_by_role("button", name="Download").first.click()
    assert payout.reference in taken.value.path().read_text()
    paying.act("Submit")
    paying.told("is submitted.")
    payout.refresh_from_db()
    assert payout.state == Payout.State.SUBMITTED

    # It was sent: its hash is written down, and the customer reads it on the thread.
    paying.open(admin_url("wallet_payout_change", payout.pk))
    paying.act("Mark as paid", transaction_hash=HASH)
    paying.told(f"{payout} is paid.")
    tell_payouts()
    thread, _ = storefront.reads(ticket)
    assert thread[:2] == [wish, "We arrange it."]
    assert thread[2].startswith(f"You asked for a payout from your wallet, {payout.reference}:")
    assert thread[3] == (
        f"Payout {payout.reference} is paid.\n\n"
        "Amount: 20.00 USD, as 20.00 USDT on the network TRON\n"
        f"Address: {TRON}\n"
        f"Transaction hash: {HASH}"
    )
    assert len(thread) == 4
    payout.refresh_from_db()
    assert (payout.state, payout.transaction_hash) == (Payout.State.PAID, HASH)
    moved = Transfer.objects.filter(payout_move__payout=payout).order_by("pk")
    assert list(moved.values_list("kind", "amount")) == [
        (Transfer.Kind.PAYOUT, Decimal(20)),
        (Transfer.Kind.PAYOUT_PAID, Decimal(20)),
    ]


def finance(name: str) -> Any:
    return person("Finance", name=name)


def test_the_page_that_takes_result_files_fits_a_narrow_window(people: Any) -> None:
    desk = people(finance("fay"))
    desk.page.set_viewport_size({"width": 420, "height": 900})

    desk.open(admin_url("wallet_resultfile_upload"))

    desk.told("transaction_hash")
    assert desk.page.evaluate("document.documentElement.scrollWidth") == 420


def test_a_file_is_chosen_without_an_error_where_results_are_uploaded_and_on_a_case(
    people: Any, storefront: Storefront
) -> None:
    ticket = storefront.opens(delivered(storefront.customer, "2"), "The code is refused")
    paying, answering = people(finance("fay")), people(agent("ann"))
    paying.open(admin_url("wallet_resultfile_upload"))
    answering.open(admin_url("support_ticket_change", ticket.pk))
    files = [
        {"name": f"{name}.csv", "mimeType": "text/csv", "buffer": b"reference"} for name in "ab"
    ]

    for desk, field, chosen in (
        (paying, "[name=file]", files[:1]),
        (answering, "#reply [name=evidence]", files),
    ):
        desk.page.locator(field).set_input_files(chosen)
        names = "input => [...input.files].map((file) => file.name)"
        assert desk.page.locator(field).evaluate(names) == [one["name"] for one in chosen]
        assert desk.errors == []


WIDTHS = """() => {
    const page = document.documentElement, table = document.querySelector("#refunds .scroll");
    return [page.scrollWidth - page.clientWidth, table.scrollWidth - table.clientWidth];
}"""


def test_the_refunds_report_fits_a_window_of_1400_and_scrolls_by_itself_in_a_narrow_one(
    people: Any,
) -> None:
    order = delivered(shop.customer("3000"), price="2345.6789")
    RoleLimit.objects.update(each=Decimal(9999), daily=Decimal(9999))
    shop.refunded(agent("asks"), senior("grants"), order, "2345.6789")
    desk = people(senior("sonia"))
    desk.page.set_viewport_size({"width": 1400, "height": 900})
    desk.open(reverse("reports:page", args=["refunds"]))
    expect(desk.page.locator("#refunds tfoot")).to_contain_text("2,345.6789")

    assert desk.page.evaluate(WIDTHS) == [0, 0]
    desk.page.set_viewport_size({"width": 800, "height": 900})
    # The chart follows the window a moment later.
    desk.page.wait_for_function(f"({WIDTHS})()[0] === 0")
    _, table = desk.page.evaluate(WIDTHS)
    assert table > 0
