"""One page a case: all that a decision needs, and the forms that decide and answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from django import forms
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_fsm import can_proceed

from orders import privacy
from orders.admin import SIDE_TONES, STATE_TONES, order_link
from orders.models import Order, Sms, State, UpstreamSide
from refunds import policy
from refunds.decisions import Rooms, rooms, ruled_meanwhile, took_part
from refunds.explaining import ruling_words
from refunds.models import RefundRequest
from refunds.timelines import request_link
from smsactivator.common.display import (
    BAD,
    BUSY,
    GOOD,
    QUIET,
    WAITING,
    ago,
    amount,
    badge,
    duration,
    moment,
    mono,
    signed,
)
from smsactivator.common.errors import Invalid, Refused
from smsactivator.common.files import Upload
from smsactivator.common.links import Link, admin_url, joined
from smsactivator.common.seen import Outdated
from support import cases, casework, macros, payouts, replies
from support.admin.forms import (
    ActForm,
    ApproveForm,
    DecideForm,
    FurtherForm,
    LinkForm,
    PayoutForm,
    RefundForm,
    ReplyForm,
    WithdrawPayoutForm,
)
from support.casefile import CaseFile, CaseOrder, CasePayout, CaseRequest, Entry
from support.models import Outbound, Ticket
from support.timelines import ticket_link
from wallet.admin_decisions import wallet_badge
from wallet.models import Payout, Transfer, Wallet
from wallet.pages import customer_link, payout_badge, payout_link
from wallet.payouts import CENT, stranded, why_not_withdraw

Typed = dict[str, Any]
REQUEST_REFUND = "refunds.request_refund"
NOT_WRITTEN = "The address is in no message of the ticket"


def not_written(entered_by: str) -> str:
    """The warning of an address that the customer did not send, and who of us entered it."""
    return f"{NOT_WRITTEN}. {only_entered(entered_by)}".strip()


def only_entered(by: str) -> str:
    """What is said of an address which stands only in what one of us entered, or ""."""
    return f"It stands only in what {by} entered as said by the customer." if by else ""


class Unsent(Invalid):
    """There is a reply with a step that tells the customer nothing."""

    code = "unsent"


TICKET_TONES = {
    Ticket.State.NEW: BUSY,
    Ticket.State.OPEN: BUSY,
    Ticket.State.WAITING: WAITING,
    Ticket.State.RESOLVED: GOOD,
    Ticket.State.CLOSED: QUIET,
}
REQUEST_TONES = {
    RefundRequest.State.REQUESTED: WAITING,
    RefundRequest.State.ESCALATED: WAITING,
    RefundRequest.State.DISPUTED: WAITING,
    RefundRequest.State.APPROVED: GOOD,
    RefundRequest.State.OVERTURNED: GOOD,
    RefundRequest.State.DENIED: BAD,
    RefundRequest.State.UPHELD: BAD,
    RefundRequest.State.DISMISSED: QUIET,
    RefundRequest.State.WITHDRAWN: QUIET,
}
DELIVERY_TONES = {
    Outbound.State.QUEUED: BUSY,
    Outbound.State.SENDING: BUSY,
    Outbound.State.SENT: GOOD,
    Outbound.State.FAILED: BAD,
    Outbound.State.UNKNOWN: BAD,
}


# --- what is done: each act has its form and calls one verb ---


def _reply(person: Any, ticket: Ticket, typed: Typed) -> str:
    macros.refuse_gaps(typed["body"])
    replies.reply(
        person,
        ticket.pk,
        body=typed["body"],
        seen=typed["seen"],
        key=str(typed["key"]),
        then=typed["then"],
        files=_uploads(typed),
    )
    return "The reply is on its way."


def _uploads(typed: Typed) -> list[Upload]:
    return [Upload(file.name, file.read()) for file in typed["evidence"]]


def _note(person: Any, ticket: Ticket, typed: Typed) -> str:
    replies.note(
        person, ticket.pk, body=typed["body"], key=str(typed["key"]), files=_uploads(typed)
    )
    return "The note is kept; no customer sees it."


def _waive(person: Any, ticket: Ticket, typed: Typed) -> str:
    casework.resolve_without_reply(person, ticket.pk, seen=typed["seen"], reason=typed["body"])
    return f"{ticket} is resolved without a reply."


def _claim(person: Any, ticket: Ticket, _typed: Typed) -> str:
    casework.claim(person, ticket.pk)
    return f"{ticket} is yours for a while."


def _release(person: Any, ticket: Ticket, _typed: Typed) -> str:
    casework.release(person, ticket.pk)
    return f"{ticket} is free again."


def _take_over(person: Any, ticket: Ticket, _typed: Typed) -> str:
    casework.take_over(person, ticket.pk)
    return f"{ticket} is yours now."


def _link(person: Any, ticket: Ticket, typed: Typed) -> str:
    casework.link_orders(person, ticket.pk, [typed["order"]])
    return f"Order {typed['order']} belongs to {ticket} now."


def _assign(person: Any, ticket: Ticket, _typed: Typed) -> str:
    casework.assign(person, ticket.pk, person.pk)
    return f"{ticket} is assigned to you."


def _open(person: Any, ticket: Ticket, typed: Typed, *, deny: bool) -> RefundRequest:
    macros.refuse_gaps(typed["body"])
    return cases.open_refund(
        person,
        ticket.pk,
        typed["order"],
        clause=typed["clause"],
        amount=typed["amount"],
        reason=typed["reason"],
        reply_body=typed["body"],
        then=typed["then"],
        seen=typed["seen"],
        key=typed["key"],
        evidence_id=typed.get("evidence"),
        deny=deny,
    )


def _request(person: Any, ticket: Ticket, typed: Typed) -> str:
    asked = _open(person, ticket, typed, deny=False)
    return f"{asked} is {asked.get_state_display().lower()}."


def _further(person: Any, ticket: Ticket, typed: Typed) -> str:
    asked = _open(person, ticket, typed, deny=False)
    return f"{asked} is {asked.get_state_display().lower()}, further to a final decision."


def _refuse_unsent(typed: Typed) -> None:
    """Raise Unsent for a reply that would be lost: what was typed is sent, or said not to be."""
    if typed["body"].strip():
        raise Unsent(
            "The customer is told nothing by this, so your reply would not be sent. Take it out, "
            "or send it as a reply of its own first. Nothing was done."
        )


def _refuse(person: Any, ticket: Ticket, typed: Typed) -> str:
    return f"{_open(person, ticket, typed, deny=True)} is denied and the customer is told."


def _decision(
    verb: Callable[..., RefundRequest], words: str, *, told: bool = True
) -> Callable[[Any, Ticket, Typed], str]:
    """Call the verb; ``told`` says whether the customer is answered with it."""

    def run(person: Any, ticket: Ticket, typed: Typed) -> str:
        if told:
            macros.refuse_gaps(typed["body"])
            answer = {"reply_body": typed["body"], "then": typed["then"]}
        else:
            _refuse_unsent(typed)
            answer = {}
        asked = verb(
            person,
            ticket.pk,
            typed["request"],
            reason=typed["reason"],
            seen=typed["seen"],
            key=str(typed["key"]),
            **answer,
        )
        return f"{asked} {words}"

    return run


def _payout(person: Any, ticket: Ticket, typed: Typed) -> str:
    macros.refuse_gaps(typed["body"])
    whole = typed["share"] == "whole"
    asked = payouts.request(
        person,
        ticket.pk,
        method=typed["method"],
        address=typed["address"],
        memo=typed["memo"],
        amount=None if whole else typed["amount"],
        reason=typed["reason"],
        reply_body=typed["body"],
        then=typed["then"],
        seen=typed["seen"],
        key=typed["key"],
    )
    done = (
        f"{asked} of {amount(asked.amount)} USD is out of the wallet. {_approvers(asked)}, then "
        "finance sends it; the customer is told what becomes of it."
    )
    if not whole:
        left = stranded(Wallet.objects.get(pk=asked.customer_id).balance, asked.minimum)
        if not left:
            return done
        return (
            f"{done} {left.quantize(CENT)} USD stay in the wallet, less than the least payout: "
            "they cannot be paid out by themselves. If all should leave, withdraw this and ask "
            "for the whole balance."
        )
    return (
        f"{done} When the payout has ended, the wallet can be closed on the customer's page: what "
        "is below a cent goes to rounding then."
    )


def _approvers(payout: Payout) -> str:
    """Who approves it next, and from when on."""
    who = (
        "Two others (senior agents or finance) approve it, because of its amount"
        if payout.needs_second
        else "Somebody else (a senior agent or finance) approves it"
    )
    if payout.not_before is None:
        return who
    return f"{who}, from {payout.not_before:%Y-%m-%d %H:%M} UTC on, as the address has changed"


def _withdraw_payout(person: Any, ticket: Ticket, typed: Typed) -> str:
    asked = payouts.withdraw(
        person,
        ticket.pk,
        typed["payout"],
        seen=typed["seen"],
        payout_seen=typed["payout_seen"],
        key=str(typed["key"]),
    )
    return f"{asked} is withdrawn: the money is back in the wallet, and the customer is told."


Act = tuple[type[forms.Form], str, Callable[[Any, Ticket, Typed], str]]
# The form, the name of its place on the page, and what is called.
ACTS: dict[str, Act] = {
    "reply": (ReplyForm, "reply", _reply),
    "note": (ReplyForm, "reply", _note),
    "waive": (ReplyForm, "reply", _waive),
    "claim": (ActForm, "claim", _claim),
    "release": (ActForm, "claim", _release),
    "take_over": (ActForm, "claim", _take_over),
    "assign": (ActForm, "claim", _assign),
    "link": (LinkForm, "link", _link),
    "request": (RefundForm, "refund", _request),
    "refuse": (RefundForm, "refund", _refuse),
    "further": (FurtherForm, "further", _further),
    "approve": (
        ApproveForm,
        "decide",
        _decision(cases.approve, "is approved: the wallet is credited and the customer is told."),
    ),
    "deny": (DecideForm, "decide", _decision(cases.deny, "is denied and the customer is told.")),
    "escalate": (
        DecideForm,
        "decide",
        _decision(cases.escalate, "waits for a senior agent.", told=False),
    ),
    "withdraw": (ApproveForm, "decide", _decision(cases.withdraw, "is withdrawn.", told=False)),
    "uphold": (DecideForm, "decide", _decision(cases.uphold, "is upheld, for good.")),
    "overturn": (
        DecideForm,
        "decide",
        _decision(cases.overturn, "is overturned: the wallet is credited and the customer told."),
    ),
    "dismiss": (DecideForm, "decide", _decision(cases.dismiss, "stands: it was no dispute.")),
    "payout": (PayoutForm, "payout", _payout),
    "withdraw_payout": (WithdrawPayoutForm, "withdraw_payout", _withdraw_payout),
}

# Places whose forms are buttons, without room for what was refused: the head of the page says it.
SILENT = {"claim", "link", "withdraw_payout"}


def build_form(
    act: str,
    file: CaseFile,
    data: Any = None,
    files: Any = None,
    *,
    asked: RefundRequest | None = None,
    payout: Payout | None = None,
) -> forms.Form:
    """The form of an act over a case, bound when something was sent; ``asked`` is the request that
    a decision is about, ``payout`` the one that is taken back.
    """
    kind, place, _run = ACTS[act]
    options: dict[str, Any] = {"auto_id": f"id_{place}-%s"}
    if data is None:
        options["initial"] = {"seen": file.ticket.version}
    if asked is not None:
        options["auto_id"] = f"id_{place}-{asked.pk}-%s"
        options["initial"] |= {"request": asked.pk}
        if len(file.open_requests) > 1:
            # The ticket is done with when the last of them is decided.
            options["initial"] |= {"then": "open"}
    if payout is not None:
        options["auto_id"] = f"id_{place}-{payout.pk}-%s"
        shown: Any = payout
        options["initial"] |= {"payout": payout.pk, "payout_seen": shown.steps}
    if issubclass(kind, RefundForm):
        options["orders"] = file.orders
    if kind is FurtherForm:
        options["evidence"] = file.new_evidence(file.orders)
    if kind is PayoutForm:
        options |= {"methods": file.methods, "payable": file.payable, "minimum": file.minimum}
    if kind is LinkForm:
        linked = [] if data is None else [one.order for one in file.orders]
        options["orders"] = [*file.choices, *linked]
    return kind(data, files, **options)


def keep(form: forms.Form, refusal: Refused, ticket: Ticket) -> None:
    """Let a refused form say why and keep what was typed, to be sent again as a new form.

    Whoever was told what happened meanwhile has the ticket before them as it is now.
    """
    form.add_error(None, refusal.message)
    data: Any = form.data
    data = data.copy()
    data["key"] = str(uuid4())
    if isinstance(refusal, Outdated):
        data["seen"] = str(ticket.version)
    form.data = data


# --- what is shown ---


def context_of(
    request: HttpRequest, file: CaseFile, *, now: datetime, sent: dict[str, forms.Form]
) -> dict[str, Any]:
    """The page's context. ``sent`` holds forms that were refused, by their places."""
    person = request.user
    may_answer = person.has_perm("support.answer_ticket")
    ticket = file.ticket
    live = ticket.state != Ticket.State.CLOSED

    def form(act: str) -> forms.Form:
        return sent.get(ACTS[act][1]) or build_form(act, file)

    refundable = any(one.refundable and not one.final for one in file.orders)
    ruled = [one for one in file.orders if one.refundable and one.final] if live else []
    further_why_not = _why_no_further(file, ruled, person)
    may_pay_out = live and may_answer and person.has_perm("wallet.request_payout")
    why_not = _why_no_payout(file)
    return {
        "ticket": ticket,
        "file": _thread(file),
        "customer": customer_link(ticket.customer),
        "badges": list(_badges(ticket, now)),
        "claim": _claim_of(ticket, person, now),
        "may_answer": may_answer,
        "live": live,
        "may_waive": ticket.waiting_since is not None,
        "decide": list(_panels(file, person, sent.get("decide"), live=live)),
        "refund_form": (
            form("request")
            if "refund" in sent
            or (live and refundable and person.has_perm("refunds.request_refund"))
            else None
        ),
        "further": bool(ruled) or "further" in sent,
        "further_why_not": further_why_not,
        "further_rulings": [ruling_words(ruling) for one in ruled for ruling in one.final],
        "further_form": (
            form("further") if "further" in sent or (ruled and not further_why_not) else None
        ),
        "reply_form": form("reply"),
        "link_form": form("link") if live and may_answer and file.choices else None,
        "orders": [_order(one, person) for one in file.orders],
        "requests": [_past(one, person) for one in (*file.here, *file.elsewhere)],
        "payout_form": (
            form("payout") if "payout" in sent or (may_pay_out and not why_not) else None
        ),
        "payout_is_open": "payout" in sent,
        "payouts_waiting": list(_waiting_payouts(file, person, live=live)),
        "payouts": [
            _asked_payout(one, person) for one in (*file.payouts_here, *file.payouts_elsewhere)
        ],
        "payout_terms": why_not or f"At least {file.minimum.quantize(CENT)} USD, by the policy.",
        "refunded": amount(file.refunded),
        "goodwill": amount(file.goodwill),
        "balance": amount(file.wallet.balance),
        "wallet_badge": wallet_badge(file.wallet),
        "lines": [_line(transfer, links, person) for transfer, links in file.lines],
        "tickets": [
            {
                "link": ticket_link(one.pk, one.subject).html(person),
                "badge": badge(one.get_state_display(), TICKET_TONES[Ticket.State(one.state)]),
            }
            for one in file.tickets
        ],
        "problems": [
            error
            for place, bound in sent.items()
            if place in SILENT
            for error in bound.non_field_errors()
        ],
    }


def _why_no_further(file: CaseFile, ruled: list[CaseOrder], person: Any) -> str:
    """Why this person opens no further request to what was decided for good, or ""."""
    if not (person.has_perm("refunds.resolve_dispute") and person.has_perm(REQUEST_REFUND)):
        return "A senior agent who took no part can open a further request, with new evidence."
    if all(took_part(person, *one.final) for one in ruled):
        return "You took part in the decision, so only another senior agent can open it again."
    if not file.new_evidence(ruled):
        return (
            "The customer has sent nothing on this ticket since: without new evidence it is not "
            "opened again."
        )
    return ""


def _why_no_payout(file: CaseFile) -> str:
    """Why nothing can be paid out now, or ""."""
    state = Wallet.State(file.wallet.state)
    if state != Wallet.State.ACTIVE:
        return f"Nothing is paid out of this wallet now: {state.label}."
    if file.payable < file.minimum:
        return (
            f"The balance is below the least payout, {file.minimum.quantize(CENT)} USD by the "
            "policy."
        )
    return "" if file.methods else "No coin or network for payouts is set up."


def _waiting_payouts(file: CaseFile, person: Any, *, live: bool) -> Iterator[dict[str, Any]]:
    """A panel for each payout of this ticket that waits for its approval."""
    for one in reversed(file.payouts_here) if live else ():
        payout = one.payout
        if not one.waits:
            continue
        warnings = []
        if one.shared:
            warnings.append("Another customer gave this address too.")
        if one.unwritten:
            warnings.append(not_written(one.entered_by))
        if payout.not_before is not None:
            warnings.append(
                "The address is not the one from before: nobody can approve it before "
                f"{payout.not_before:%Y-%m-%d %H:%M} UTC."
            )
        own = (
            can_proceed(payout.withdraw)
            and person.has_perm("wallet.request_payout")
            and not why_not_withdraw(person, payout)
        )
        yield {
            "pk": payout.pk,
            "title": f"{payout}: {payout.get_state_display().lower()}",
            "words": format_html(
                "{} asked for <strong>{} USD</strong> as {} to {}{}: {}",
                payout.requested_by,
                amount(payout.amount),
                payout.method,
                mono(payout.address),
                format_html(", memo {}", mono(payout.memo)) if payout.memo else "",
                payout.reason,
            ),
            "warning": " ".join(warnings),
            "page": replace(payout_link(payout), text="its own page").html(person),
            "form": build_form("withdraw_payout", file, payout=payout) if own else None,
        }


def _asked_payout(one: CasePayout, person: Any) -> dict[str, Any]:
    payout = one.payout
    where = f", ticket {one.ticket_id}" if one.ticket_id else ""
    return {
        "link": payout_link(payout).html(person),
        "badge": payout_badge(payout),
        "amount": amount(payout.amount),
        "words": f"{payout.method}{where}",
    }


def due_badge(label: str, due_at: datetime | None, now: datetime) -> SafeString | str:
    """When something is due, or since when it is late."""
    if due_at is None:
        return ""
    left = due_at - now
    words = f"{label} due" if left.total_seconds() >= 0 else f"{label} late since"
    tone = BAD if left.total_seconds() < 0 else WAITING
    return badge(f"{words} {due_at:%m-%d %H:%M} UTC ({ago(due_at)})", tone)


def _badges(ticket: Ticket, now: datetime) -> Iterator[SafeString | str]:
    yield badge(ticket.get_state_display(), TICKET_TONES[Ticket.State(ticket.state)])
    if ticket.queue == Ticket.Queue.SENIORS:
        yield badge("Senior agents' queue", WAITING)
    yield due_badge("Answer", ticket.due_at, now)
    yield due_badge("Dispute", ticket.dispute_due_at, now)
    if ticket.assignee:
        yield badge(f"Assigned to {ticket.assignee}", QUIET)


def _claim_of(ticket: Ticket, person: Any, now: datetime) -> dict[str, Any]:
    if ticket.state == Ticket.State.CLOSED:
        return {"holder": None, "acts": []}
    over = person.has_perm("support.assign_ticket")
    mine = []
    if ticket.assignee_id is None or (over and ticket.assignee_id != person.pk):
        mine.append(("assign", "Assign to me"))
    holder = ticket.claimed_by if casework.is_claimed(ticket, now) else None
    if holder is None or ticket.claimed_until is None:
        return {"holder": None, "acts": [("claim", "Claim"), *mine]}
    left = duration(ticket.claimed_until - now)
    if holder.pk == person.pk:
        acts = [("release", "Let it go"), *mine]
        return {"holder": holder, "words": f"Yours for another {left}", "acts": acts}
    return {
        "holder": holder,
        "words": f"Claimed by {holder} for another {left}",
        "acts": [*([("take_over", "Take over")] if over else []), *mine],
    }


def _thread(file: CaseFile) -> dict[str, Any]:
    return {
        "thread_is_longer": file.thread_is_longer,
        "thread": [
            {
                "message": entry.message,
                "deliveries": [
                    {
                        "words": one.get_state_display(),
                        "tone": DELIVERY_TONES[Outbound.State(one.state)],
                    }
                    for one in entry.deliveries
                ],
                "attachments": list(_files(entry)),
            }
            for entry in file.thread
        ],
    }


def _files(entry: Entry) -> Iterator[dict[str, Any]]:
    for one in entry.attachments:
        yield {
            "name": one.name,
            "content_type": one.content_type,
            "blob": one.blob,
            "url": reverse("download_attachment", args=[one.pk]),
            "flagged": one.pk in entry.elsewhere,
        }


def _panels(
    file: CaseFile, person: Any, sent: forms.Form | None, *, live: bool
) -> Iterator[dict[str, Any]]:
    """A panel for each request that waits here, and one for what was typed about another."""
    typed_of = str(sent.data.get("request", "")) if sent is not None else ""
    shown = False
    may = rooms(person)
    for one in file.open_requests if live else []:
        panel = _decide(one, person, file.wallet, may)
        panel["before"] = [ruling_words(ruling) for ruling in file.decided_before(one.request)]
        _further_panel(panel, one, file, person)
        bound = sent if typed_of == str(one.request.pk) else None
        shown = shown or bound is not None
        if panel["acts"]:
            panel["form"] = bound or build_form(panel["acts"][0][0], file, asked=one.request)
        elif bound is not None:
            panel |= {"form": bound, "acts": _as_it_is(live=live)}
        yield panel
    if sent is not None and not shown:
        yield {
            "pk": "sent",
            "title": "What you typed",
            "words": "What it was about is not to be decided here any more. Your text is kept: "
            "use it otherwise, or leave it.",
            "form": sent,
            "acts": _as_it_is(live=live),
        }


def _further_panel(panel: dict[str, Any], one: CaseRequest, file: CaseFile, person: Any) -> None:
    """What a panel says more after a final decision on the order, and who has no part in it."""
    asked = one.request
    before = file.decided_before(asked)
    ruled = ruled_meanwhile(asked, before)
    granting = {"approve", "overturn"}
    if ruled and any(act[0] in granting for act in panel["acts"]):
        # As refunds.decisions.approve and refunds.disputes.overturn refuse it.
        panel["acts"] = [act for act in panel["acts"] if act[0] not in granting]
        panel["why_not"] = f"{ruled[-1]} was decided for good meanwhile: this is not granted."
    disputed = asked.state == RefundRequest.State.DISPUTED
    earlier = [ruling for ruling in before if ruling.resolved_at]
    bars = disputed or asked.further_to_id is not None
    if bars and panel["acts"] and took_part(person, *earlier):
        panel["acts"] = []
        panel["why_not"] = "You took part in the earlier decision, so another senior agent decides."
    if asked.further_to_id is None:
        return
    panel["title"] += ", further to a final decision"
    panel["words"] = format_html(
        '{} — the new evidence: <a class="link" href="{}">{}</a>.',
        panel["words"],
        f"{admin_url('support_ticket_change', one.evidence.ticket_id)}#message-{one.evidence.pk}"
        if one.evidence
        else "#thread",
        asked.evidence,
    )


def _as_it_is(*, live: bool) -> list[tuple[str, str, str]]:
    """What can be done with a text that was typed for a decision which is none any more."""
    note = ("note", "Keep it as an internal note", "button-quiet")
    return [("reply", "Send it as a reply", "button-quiet"), note] if live else [note]


def _decide(one: CaseRequest, person: Any, wallet: Wallet, may: Rooms) -> dict[str, Any]:
    """The panel of a request that waits: its terms, and what this person may do about it."""
    asked = one.request
    rule = policy.rule(asked.clause, asked.policy_version)
    panel: dict[str, Any] = {
        "pk": asked.pk,
        "title": f"{asked}: {asked.get_state_display().lower()}",
        "words": format_html(
            "{} asked for <strong>{} USD</strong> of {} under “{}”: {}",
            asked.requested_by,
            amount(asked.amount),
            order_link(asked.order_id).html(person),
            rule.title,
            asked.reason,
        ),
        "warning": "",
        "why_not": "",
        "acts": [],
    }
    if one.goodwill:
        panel["warning"] = (
            f"The policy does not refund this: “{rule.text}” It can be granted as goodwill only."
        )
    elif one.against:
        panel["warning"] = f"The policy's verdict is against it: {asked.verdict_why}."
    if asked.state == RefundRequest.State.DISPUTED:
        return panel | _dispute(one, panel["words"], person, may.why_not(person, asked, wallet))
    senior_only = asked.state == RefundRequest.State.ESCALATED and not person.has_perm(
        "refunds.decide_escalated_refund"
    )
    own = asked.requested_by_id == person.pk
    if own and person.has_perm("refunds.request_refund"):
        panel["acts"].append(("withdraw", "Withdraw", "button-quiet"))
    # What the policy does not refund is denied by whoever found it so.
    denies = not senior_only or (own and one.goodwill)
    if person.has_perm("refunds.decide_refund") and denies:
        panel["why_not"] = "" if own else may.why_not(person, asked, wallet)
        if not own and not panel["why_not"]:
            panel["acts"].insert(0, ("approve", "Approve and answer", "button"))
        if why := may.why_not_deny(person, asked):
            panel["why_not"] = why
        else:
            panel["acts"].append(("deny", "Deny and answer", "button-danger"))
    if asked.state == RefundRequest.State.REQUESTED and person.has_perm("refunds.request_refund"):
        panel["acts"].append(("escalate", "Pass to a senior agent", "button-quiet"))
    if senior_only and not panel["acts"]:
        panel["why_not"] = "It waits for a senior agent."
    return panel


def _dispute(
    one: CaseRequest, terms: SafeString, person: Any, why_not_grant: str
) -> dict[str, Any]:
    asked, said = one.request, one.disputed_by
    by = f" by message {said.pk}" if said else ""
    if said and said.entered:
        by += (
            f", which {said.author} entered: it did not come from the customer by a wire of ours. "
            "What is decided now is final."
        )
    else:
        by += "; what is decided now is final."
    words = format_html(
        "{} — {} denied it on {}: “{}”. The customer disputes it{}",
        terms,
        asked.decided_by,
        moment(asked.decided_at),
        asked.decision_reason,
        by,
    )
    if not person.has_perm("refunds.resolve_dispute"):
        return {"words": words, "why_not": "A senior agent decides disputes."}
    if person.pk in {asked.requested_by_id, asked.decided_by_id}:
        return {
            "words": words,
            "why_not": "You took part in the denial, so another senior agent decides.",
        }
    if said and said.author_id == person.pk:
        return {
            "words": words,
            "why_not": "You entered the message that disputes it, so another senior agent decides.",
        }
    return {
        "words": words,
        "why_not": why_not_grant,
        "acts": [
            *([] if why_not_grant else [("overturn", "Overturn and credit", "button")]),
            ("uphold", "Uphold the denial", "button-danger"),
            ("dismiss", "It is no dispute", "button-quiet"),
        ],
    }


def _order(one: CaseOrder, person: Any) -> dict[str, Any]:
    order = one.order
    state, side = State(order.state), UpstreamSide(order.upstream_side)
    return {
        "title": order_link(order.pk).html(person),
        "badge": badge(state.label, STATE_TONES[state]),
        "facts": [
            ("Service / country", mono(f"{order.service} / {order.country}")),
            ("Phone", mono(order.phone)),
            ("Price, USD", amount(order.price)),
            ("Left to refund, USD", amount(one.left)),
            ("Upstream", f"{order.upstream.name}, reference {order.upstream_ref or '—'}"),
            ("Their side", badge(side.label, SIDE_TONES.get(side, QUIET))),
            *_signals(order),
        ],
        "sms": [
            {
                "at": f"{sms.received_at:%m-%d %H:%M:%S}",
                "code": mono(privacy.masked_code(sms.code)),
                "text": privacy.masked_text(sms.text, sms.code),
                "late": badge("Late", WAITING) if sms.late else "",
            }
            for sms in one.sms
        ],
        "read_url": (
            admin_url("orders_order_read_sms", order.pk)
            if one.sms and person.has_perm("orders.view_sms_text")
            else ""
        ),
        "verdict": one.verdict.known + ".",
        "claim": one.verdict.claim,
        "version": one.verdict.version,
        "decided": [ruling_words(ruling) for ruling in one.decided],
        "timeline": sorted(_steps(one), key=lambda step: step[0]),
    }


def _signals(order: Order) -> Iterator[tuple[str, SafeString | str]]:
    if order.refused_at:
        yield "Refused to sell", format_html("{} {}", moment(order.refused_at), order.refusal_code)
    if order.broken_at:
        yield "Reported broken", format_html("{} {}", moment(order.broken_at), order.broken_signal)


def _steps(one: CaseOrder) -> Iterator[tuple[datetime, str]]:
    order = one.order
    steps: tuple[tuple[datetime | None, str], ...] = (
        (order.placed_at, "Placed"),
        (order.allocation_started_at, "Number being bought"),
        (order.allocated_at, "Number handed out"),
        (order.deadline, "Deadline for an SMS"),
        (order.rental_ends_at, "Rental ends"),
        (order.ended_at, f"Ended: {State(order.state).label.lower()}"),
    )
    yield from ((at, what) for at, what in steps if at is not None)
    yield from ((sms.received_at, _arrived(sms)) for sms in one.sms)
    yield from (
        (refund.created_at, f"Refunded {amount(refund.amount)} USD: {policy.title(refund.clause)}")
        for refund in one.refunds
    )


def _arrived(sms: Sms) -> str:
    return "SMS arrived, late" if sms.late else "SMS arrived"


def _past(one: CaseRequest, person: Any) -> dict[str, Any]:
    asked = one.request
    disputed = ", disputed" if asked.disputed_at else ""
    if asked.further_to_id is not None:
        disputed += ", further to a final decision"
    where = f", ticket {one.ticket_id}" if one.ticket_id else ""
    return {
        "link": request_link(asked).html(person),
        "badge": badge(asked.get_state_display(), REQUEST_TONES[RefundRequest.State(asked.state)]),
        "words": f"Of order {asked.order_id}{disputed}{where}",
    }


def _line(transfer: Transfer, links: list[Link], person: Any) -> dict[str, Any]:
    what = str(Transfer.Kind(transfer.kind).label)
    return {
        # A deposit's own name says it already.
        "what": "" if any(link.text.startswith(what) for link in links) else what,
        "cause": joined(link.html(person) for link in links),
        "amount": signed(transfer.change),
    }
