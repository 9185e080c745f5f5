"""What was typed is not lost with the session, and is nobody else's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from time_machine import travel

from refunds.tests import world as policies
from smsactivator import drafts
from smsactivator.models import Draft
from smsactivator.tests import world
from smsactivator.tests.test_browser import browser as browser
from support import casework
from support.models import Message, Ticket
from support.tests import world as tickets
from wallet.tests.attack import CHECK, UNIQUE, assert_refused

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT = "/admin/support/ticket/1/change/"
TEXT = "The number was blocked by the service."


@pytest.fixture
def ann(db: None) -> Any:
    return world.person("Support agent", name="ann")


def seated(person: Any, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(person)
    return client


def page_of(client: Client, at: str = AT, form: str = "reply|x|", opening: str = "p1") -> str:
    """What the script adds to a form of a page that this client opened."""
    by = drafts.signed(int(client.session["_auth_user_id"]), at)
    return json.dumps({"by": by, "form": form, "page": opening})


def kept(person: Any, at: str = AT) -> list[dict[str, list[str]]]:
    return [draft.fields for draft in drafts.found(person, at)]


def send(client: Client, page: str, **fields: Any) -> Any:
    return client.post(
        reverse("admin:support_ticket_case", args=[1]), {"_page": page, "body": TEXT, **fields}
    )


def save(client: Client, page: str, text: str = TEXT) -> Any:
    return client.post(
        reverse("drafts"), {"page": page, "fields": json.dumps({"body": [text]})}
    ).status_code


# --- what comes without a session ---


def test_a_form_sent_after_the_session_ended_is_kept_and_shown_after_log_in(ann: Any) -> None:
    with travel(NOON, tick=False) as clock:
        client = seated(ann)
        page = page_of(client)
        clock.shift(settings.SESSION_IDLE + timedelta(seconds=1))

        answer = send(client, page, key="k", version="3")

        assert answer.status_code == 302
        assert answer.url == f"/admin/login/?next={AT}"
        login = client.get(answer.url).content.decode()
        assert "what you typed is kept" in login
        assert TEXT not in login
        client.force_login(ann)
        [shown] = client.get(reverse("drafts"), {"at": AT}).json()["drafts"]
        assert shown["fields"]["body"] == [TEXT]


def test_another_person_who_logs_in_there_is_not_shown_it(ann: Any) -> None:
    client = seated(ann)
    page = page_of(client)
    Session.objects.all().delete()
    send(client, page)

    client.force_login(world.person("Support agent", name="bob"))

    assert client.get(reverse("drafts"), {"at": AT}).json() == {"drafts": []}
    assert kept(ann) == [{"body": [TEXT]}]


def test_a_form_of_a_page_that_another_person_opened_does_nothing(ann: Any) -> None:
    client = seated(ann)
    page = page_of(client)
    bob = world.person("Support agent", name="bob")
    client.force_login(bob)

    answer = send(client, page)

    assert answer.status_code == 409
    assert "opened by another person" in answer.content.decode()
    assert TEXT not in answer.content.decode()
    assert (kept(ann), kept(bob)) == ([{"body": [TEXT]}], [])


def test_what_nobody_of_ours_signed_is_not_kept(ann: Any) -> None:
    forged = json.dumps({"by": str(ann.pk), "at": AT, "form": "f", "page": "p"})

    answer = send(Client(), forged)

    assert (answer.status_code, Draft.objects.count()) == (302, 0)
    assert save(Client(), forged) == 422


@pytest.mark.parametrize("at", ["https://evil.example/admin/", "//evil.example", "/api/v1/docs"])
def test_no_page_of_elsewhere_is_led_to(ann: Any, at: str) -> None:
    client = seated(ann)
    page = page_of(client, at=at)
    Session.objects.all().delete()

    assert "evil" not in send(client, page).url
    assert Draft.objects.count() == 0


@pytest.mark.parametrize(
    "told",
    [
        '{"by":[":"],"at":"/admin/","form":"","page":""}',
        '["by"]',
        "[" * 3_000,
        "[" * 150_000,
        '{"by":"\\ud83d:x","at":"/admin/","form":"","page":""}',
    ],
)
def test_what_a_stranger_says_of_a_page_makes_no_fault(db: None, told: str) -> None:
    stranger = Client(enforce_csrf_checks=True)
    assert stranger.post("/admin/login/", {"_page": told}).status_code == 403
    assert Client().post("/admin/login/", {"_page": told}).status_code == 200
    assert Client().post(reverse("drafts"), {"page": told}).status_code == 422


class BrokenOff:
    def read(self, *_: object) -> bytes:
        raise OSError("The connection was closed.")

    readline = read


@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize("where", ["/admin/login/", "/admin/drafts"])
def test_a_form_that_breaks_off_makes_no_fault(db: None, where: str, checks: bool) -> None:
    client = Client(enforce_csrf_checks=checks)
    body: dict[str, Any] = {"wsgi.input": BrokenOff()}
    answer = client.generic(
        "POST",
        where,
        CONTENT_TYPE="application/x-www-form-urlencoded",
        CONTENT_LENGTH="10",
        **body,
    )
    assert answer.status_code in {200, 403, 422}


# --- a second log-in in another tab ---


def test_an_old_token_has_a_page_in_our_words_that_keeps_the_text(ann: Any) -> None:
    client = seated(ann, enforce_csrf_checks=True)
    page = page_of(client)

    answer = send(client, page)

    told = answer.content.decode()
    assert answer.status_code == 403
    assert "older than your last log-in" in told
    assert f'href="{AT}"' in told
    assert kept(ann) == [{"body": [TEXT]}]


def test_an_old_token_on_another_person_s_page_shows_no_text_and_no_way(ann: Any) -> None:
    client = seated(ann, enforce_csrf_checks=True)
    page = page_of(client)
    client.force_login(world.person("Support agent", name="bob"))

    answer = client.post(reverse("admin:support_ticket_case", args=[1]), {"_page": page, "a": TEXT})

    assert answer.status_code in {403, 409}
    assert TEXT not in answer.content.decode()
    assert kept(ann) == [{"a": [TEXT]}]


def test_a_form_without_token_and_session_leaves_no_draft(ann: Any) -> None:
    page = page_of(seated(ann))

    answer = send(Client(enforce_csrf_checks=True), page)

    assert (answer.status_code, Draft.objects.count()) == (403, 0)


def test_an_older_page_of_nobody_known_puts_nothing_over_a_newer_draft(ann: Any) -> None:
    with travel(NOON, tick=False) as clock:
        client = seated(ann)
        older = page_of(client, opening="p1")
        clock.shift(timedelta(seconds=1))
        newer = page_of(client, opening="p2")
        save(client, newer, "Newer")

        send(Client(), older)
        assert save(Client(), older) == 200
        assert kept(ann) == [{"body": ["Newer"]}]
        # Of the same opening, or of a later one, it is what was typed last.
        send(Client(), newer)
        assert kept(ann) == [{"body": [TEXT]}]
        clock.shift(timedelta(seconds=1))
        assert save(Client(), page_of(client, opening="p3"), "Newest") == 200
        assert kept(ann) == [{"body": ["Newest"]}]


def shown_at(client: Client, url: str) -> str:
    found = re.search(r'data-at="([^"]+)" data-by="([^"]+)"', client.get(url).content.decode())
    assert found
    page = drafts.page_of(json.dumps({"by": found[2], "at": "/admin/x/", "form": "", "page": ""}))
    assert page
    assert page.at == found[1]
    return page.at


def test_a_page_s_drafts_are_found_whatever_list_it_was_opened_from(ann: Any) -> None:
    ticket = tickets.ask()
    client = seated(ann)
    url = reverse("admin:support_ticket_change", args=[ticket.pk])
    bulk = reverse("admin:support_ticket_bulk", args=["take"])
    many = f"{bulk}?ids={','.join([str(ticket.pk)] * 200)}"

    assert shown_at(client, f"{url}?_changelist_filters=q%3D{'a' * 400}") == url
    assert shown_at(client, f"{bulk}?ids=1&_changelist_filters=q") == f"{bulk}?ids=1"
    assert len(shown_at(client, many)) == len(bulk) + 1 + 64

    page = page_of(client, at=shown_at(client, many))
    Session.objects.all().delete()
    answer: Any = client.post(many, {"_page": page, "body": TEXT})
    assert answer.url == f"/admin/login/?{urlencode({'next': many}, safe='/')}"
    assert Draft.objects.count() == 1


def test_a_forged_form_leaves_no_draft(ann: Any) -> None:
    client = seated(ann, enforce_csrf_checks=True)

    answer = client.post(reverse("admin:support_ticket_case", args=[1]), {"body": "Forged"})

    assert (answer.status_code, Draft.objects.count()) == (403, 0)
    assert "Nothing was changed" in answer.content.decode()


# --- what is kept ---


@pytest.mark.parametrize("name", ["password", "old_password", "new_password1", "password2"])
def test_no_password_is_kept(ann: Any, name: str) -> None:
    client = seated(ann)
    page = page_of(client)
    Session.objects.all().delete()

    client.post(reverse("admin:password_change"), {"_page": page, name: "tram-lantern-42-quay"})

    assert kept(ann) == []


def test_only_what_was_changed_is_kept(ann: Any) -> None:
    client = seated(ann)
    page = json.dumps(json.loads(page_of(client)) | {"typed": ["body"]})
    Session.objects.all().delete()

    send(client, page, title="As the page showed it")

    assert kept(ann) == [{"body": [TEXT]}]


def test_what_arrived_is_kept_no_more(ann: Any) -> None:
    ticket = tickets.ask()
    client = seated(ann)
    page = page_of(client)
    assert save(client, page) == 200
    assert kept(ann) == [{"body": [TEXT]}]

    answer = client.post(
        reverse("admin:support_ticket_case", args=[ticket.pk]), {"_page": page, "act": "claim"}
    )

    assert answer.status_code == 302
    [told] = [cookie for name, cookie in answer.cookies.items() if name.startswith("sent-")]
    assert told.value.startswith(f"{ann.pk}%3A%2Fadmin%2Fsupport")
    assert kept(ann) == []
    # What the page saved late is no draft; what another opening of it saves is one.
    assert save(client, page) == 200
    assert kept(ann) == []
    assert save(client, page_of(client, opening="p2"), "More") == 200
    assert kept(ann) == [{"body": ["More"]}]


def test_a_key_that_was_issued_is_kept_as_a_draft_no_more(db: None) -> None:
    boss = User.objects.create_superuser("boss", "b@example.com", "x")
    storefront = world.customer().storefront
    client = seated(boss)
    url = reverse("admin:wallet_apikey_add")
    page = page_of(client, at=url)
    save(client, page)

    client.post(url, {"_page": page, "name": "", "storefront": storefront.pk})
    assert kept(boss, url) == [{"body": [TEXT]}]
    answer = client.post(url, {"_page": page, "name": "shop one", "storefront": storefront.pk})

    assert answer.status_code == 200
    assert "API key issued" in answer.content.decode()
    assert kept(boss, url) == []


def test_sms_that_were_read_leave_no_draft_of_the_reason(db: None) -> None:
    boss = User.objects.create_superuser("boss", "b@example.com", "x")
    url = reverse("admin:orders_order_read_sms", args=[policies.delivered().pk])
    client = seated(boss)
    page = page_of(client, at=url)
    save(client, page)

    answer = client.post(url, {"_page": page, "reason": "The customer asked for the code."})

    assert answer.status_code == 200
    assert kept(boss, url) == []


def test_a_step_for_many_leaves_no_draft_of_its_words(ann: Any) -> None:
    ticket = tickets.ask()
    client = seated(ann)
    url = reverse("admin:support_ticket_bulk", args=["take"])
    page = page_of(client, at=url)
    save(client, page)
    shown = client.get(url, {"ids": ticket.pk}).content.decode()
    row, key = (re.search(f'name="{name}" value="([^"]+)"', shown) for name in ("row", "key"))
    assert row
    assert key

    answer = client.post(url, {"_page": page, "row": row[1], "key": key[1]})

    assert answer.status_code == 200
    assert "1 of 1 done" in answer.content.decode()
    assert kept(ann, url) == []


def test_what_was_refused_is_still_kept(ann: Any) -> None:
    ticket = tickets.ask()
    client = seated(ann)
    page = page_of(client)
    save(client, page)

    refused = client.post(
        reverse("admin:support_ticket_case", args=[ticket.pk]), {"_page": page, "act": "reply"}
    )

    assert refused.status_code == 422
    assert kept(ann) == [{"body": [TEXT]}]


def test_drafts_are_few_and_not_for_long(ann: Any) -> None:
    client = seated(ann)
    with travel(NOON, tick=False) as clock:
        client.force_login(ann)
        for number in range(drafts.MOST + 5):
            save(client, page_of(client, at=f"/admin/a/{number}"))
        assert Draft.objects.count() == drafts.MOST
        clock.shift(drafts.KEPT + timedelta(seconds=1))
        assert kept(ann, "/admin/a/54") == []
        client.force_login(ann)
        save(client, page_of(client))
        assert Draft.objects.count() == 1


def test_old_drafts_of_somebody_who_writes_no_more_go_too(ann: Any) -> None:
    with travel(NOON, tick=False) as clock:
        client = seated(ann)
        save(client, page_of(client))
        clock.shift(drafts.KEPT + timedelta(seconds=1))
        other = seated(world.person("Support agent", name="bob"))
        save(other, page_of(other))
        assert [draft.user.username for draft in Draft.objects.all()] == ["bob"]


def test_a_draft_says_on_which_day_it_was_typed(ann: Any) -> None:
    with travel(NOON, tick=False):
        client = seated(ann)
        save(client, page_of(client))
        [shown] = client.get(reverse("drafts"), {"at": AT}).json()["drafts"]
        assert shown["at"] == "2026-03-02 12:00"


def test_what_two_tabs_send_in_one_moment_is_told_of_both(ann: Any) -> None:
    ticket = tickets.ask()
    client = seated(ann)
    url = reverse("admin:support_ticket_case", args=[ticket.pk])
    for form in ("one", "two"):
        client.post(url, {"_page": page_of(client, form=form), "act": "claim"})
    assert len([name for name in client.cookies if name.startswith("sent-")]) == 2


def test_a_draft_is_thrown_away_by_whose_it_is(ann: Any) -> None:
    client = seated(ann)
    page = page_of(client)
    save(client, page)
    other = seated(world.person("Support agent", name="bob"))
    assert other.post(reverse("drafts"), {"page": page, "forget": "1"}).status_code == 409
    assert kept(ann) == [{"body": [TEXT]}]

    assert client.post(reverse("drafts"), {"page": page, "forget": "1"}).status_code == 200
    assert kept(ann) == []


@pytest.mark.parametrize("fields", ["", "[]", '{"a": 1}', '{"a": [1]}', "{", "[" * 150_000])
def test_what_is_no_draft_is_refused(ann: Any, fields: str) -> None:
    client = seated(ann)
    sent = {"page": page_of(client), "fields": fields}
    assert client.post(reverse("drafts"), sent).status_code == 422


def test_what_is_typed_is_in_no_log(ann: Any, caplog: pytest.LogCaptureFixture) -> None:
    client = seated(ann, enforce_csrf_checks=True)
    page = page_of(client)
    send(client, page)
    Session.objects.all().delete()
    send(client, page)

    assert TEXT not in caplog.text


def test_a_nul_is_left_out(ann: Any) -> None:
    client = seated(ann)
    assert save(client, page_of(client), "a\x00b") == 200
    assert kept(ann) == [{"body": ["ab"]}]


def test_half_a_character_is_kept_as_a_question_mark_and_in_no_log(
    ann: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client = seated(ann)
    sent = {"page": page_of(client), "fields": '{"body": ["My words \\ud83d"], "\\ud83d": ["a"]}'}
    assert client.post(reverse("drafts"), sent).status_code == 200
    assert kept(ann) == [{"body": ["My words ?"], "?": ["a"]}]
    assert save(client, page_of(client, form="\ud83d")) == 200
    assert "My words" not in caplog.text


def test_the_database_keeps_one_draft_a_form_and_nothing_of_what_was_sent(ann: Any) -> None:
    Draft.objects.create(user=ann, at="/a", form="f", page="p", fields={"a": ["b"]}, saved_at=NOON)
    columns = "smsactivator_draft (user_id, at, form, page, fields, sent, saved_at)"
    again = f"INSERT INTO {columns} VALUES ({ann.pk}, '/a', 'f', 'q', '{{}}', false, now())"
    assert_refused(UNIQUE, "draft_is_one", again)
    assert_refused(CHECK, "draft_sent_is_empty", "UPDATE smsactivator_draft SET sent = true")


# --- in a browser ---


@pytest.fixture
def opened(browser: Browser, live_server: Any, transactional_db: None) -> Iterator[Any]:
    """Opens a browser for a person."""
    contexts: list[Any] = []

    def open_for(person: Any) -> Page:
        context = browser.new_context(base_url=live_server.url)
        contexts.append(context)
        enter(context, person, live_server.url)
        page = context.new_page()
        page.set_default_timeout(15_000)
        return page

    yield open_for
    for context in contexts:
        context.close()


def enter(context: Any, person: Any, address: str) -> None:
    client = seated(person)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": address}])


def case(ticket: Ticket) -> str:
    return reverse("admin:support_ticket_change", args=[ticket.pk])


def local(page: Page) -> dict[str, str]:
    return page.evaluate("() => ({ ...localStorage })")


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_reply_survives_the_end_of_the_session(opened: Any, live_server: Any) -> None:
    ticket = tickets.ask(world.customer())
    ann = world.person("Support agent", name="ann")
    ann.set_password("tram-lantern-42-quay")
    ann.save()
    page = opened(ann)
    page.goto(case(ticket))
    page.fill("#reply [name=body]", TEXT)
    Session.objects.all().delete()

    page.click('#reply button[value="reply"]')

    expect(page.locator("body")).to_contain_text("what you typed is kept")
    page.fill("[name=username]", "ann")
    page.fill("[name=password]", "tram-lantern-42-quay")
    page.click("#login-form [type=submit]")
    expect(page.locator("#reply [name=body]")).to_have_value(TEXT)
    expect(page.locator("#reply .draft-note")).to_contain_text("did not send is here again")
    page.click('#reply button[value="reply"]')
    expect(page.locator("body")).to_contain_text("The reply is on its way.")
    assert Message.objects.filter(body=TEXT).count() == 1
    expect(page.locator("#reply [name=body]")).to_have_value("")
    assert [key for key in local(page) if key.startswith("typed:")] == []


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_what_is_typed_reaches_the_server_leaves_the_browser_and_comes_back_elsewhere(
    opened: Any,
) -> None:
    ticket = tickets.ask(world.customer())
    ann = world.person("Support agent", name="ann")
    page = opened(ann)
    page.goto(case(ticket))
    with page.expect_response(lambda got: got.url.endswith("/admin/drafts") and got.ok):
        page.fill("#reply [name=body]", TEXT)
        assert any(TEXT in kept for kept in local(page).values())
    page.wait_for_function(
        "() => !Object.keys(localStorage).some((key) => key.startsWith('typed:'))"
    )

    other = opened(ann)
    other.goto(case(ticket))

    expect(other.locator("#reply [name=body]")).to_have_value(TEXT)
    other.click("#reply .draft-note button")
    expect(other.locator("#reply [name=body]")).to_have_value("")
    other.reload()
    other.wait_for_load_state("networkidle")
    expect(other.locator("#reply [name=body]")).to_have_value("")


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_next_person_at_the_machine_finds_nothing_of_it(opened: Any, live_server: Any) -> None:
    ticket = tickets.ask(world.customer())
    page = opened(world.person("Support agent", name="ann"))
    page.goto(case(ticket))
    page.fill("#reply [name=body]", TEXT)
    Session.objects.all().delete()
    page.click('.case-claim button[value="claim"]')
    expect(page.locator("#login-form")).to_be_visible()

    enter(page.context, world.person("Support agent", name="bob"), live_server.url)
    page.goto(case(ticket))

    page.wait_for_load_state("networkidle")
    expect(page.locator("#reply [name=body]")).to_have_value("")
    kept = page.evaluate("() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
    assert TEXT not in kept


def saved(page: Page) -> Any:
    """Waits until the server has what is typed."""
    return page.expect_response(lambda got: got.url.endswith("/admin/drafts") and got.ok)


def restored(page: Page) -> Any:
    """Waits for a page that has asked for its drafts."""
    return page.expect_response(lambda got: "/admin/drafts?at=" in got.url)


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_refused_page_keeps_the_last_words(opened: Any) -> None:
    ticket = tickets.ask(world.customer())
    ann, bob = (world.person("Support agent", name=name) for name in ("ann", "bob"))
    page = opened(ann)
    with restored(page):
        page.goto(case(ticket))
    with saved(page):
        page.fill("#reply [name=body]", "old text")
    casework.claim(bob, ticket.pk)
    page.fill("#reply [name=body]", "old text and the last words")

    with restored(page):
        page.click('#reply button[value="reply"]')

    expect(page.locator(".refusal").first).to_be_visible()
    expect(page.locator("#reply [name=body]")).to_have_value("old text and the last words")
    assert kept(ann, case(ticket)) == [{"body": ["old text and the last words"]}]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_draft_of_a_refused_form_brings_no_price_back(opened: Any) -> None:
    url = reverse("admin:orders_offer_change", args=[policies.offer().pk])
    boss = User.objects.create_superuser("boss", "b@example.com", "x")
    page = opened(boss)
    page.goto(url)
    page.locator("[name=_save]").first.click()  # refused: no reason given
    expect(page.locator(".errorlist").first).to_be_visible()
    with saved(page):
        page.fill("[name=reason]", "a better name")

    assert kept(boss, url) == [{"reason": ["a better name"]}]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_what_was_typed_before_a_form_was_refused_is_still_in_its_draft(opened: Any) -> None:
    url = reverse("admin:orders_offer_change", args=[policies.offer().pk])
    boss = User.objects.create_superuser("boss", "b@example.com", "x")
    page = opened(boss)
    with restored(page):
        page.goto(url)
    page.fill("[name=price]", "5.00")
    with restored(page):
        page.locator("[name=_save]").first.click()  # refused: no reason given
    expect(page.locator(".errorlist").first).to_be_visible()
    with saved(page):
        page.fill("[name=reason]", "dearer")

    assert kept(boss, url) == [{"price": ["5.00"], "reason": ["dearer"]}]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_browser_that_keeps_nothing_still_tells_the_server(opened: Any) -> None:
    ticket = tickets.ask(world.customer())
    ann = world.person("Support agent", name="ann")
    page = opened(ann)
    page.goto(case(ticket))
    page.evaluate(
        "() => { Storage.prototype.setItem ="
        " () => { throw new DOMException('', 'QuotaExceededError'); }; }"
    )
    with saved(page):
        page.fill("#reply [name=body]", TEXT)
    assert kept(ann, case(ticket)) == [{"body": [TEXT]}]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_page_warns_before_the_session_ends(opened: Any) -> None:
    page = opened(world.person("Support agent", name="ann"))
    [session] = Session.objects.all()
    store = session.get_session_store_class()(session.session_key)
    store["seen"] = store["seen"] - int(settings.SESSION_IDLE.total_seconds()) + 100
    store.save()

    page.goto(reverse("admin:index"))

    expect(page.locator("#session-note")).to_contain_text("You will be logged out in 2 minutes")
    page.get_by_role("button", name="Stay logged in").click()
    expect(page.locator("#session-note")).to_be_hidden()
    Session.objects.all().delete()
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#session-note")).to_contain_text("You are logged out.")
