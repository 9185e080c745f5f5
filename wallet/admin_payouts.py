"""Payouts: their list, and their pages with what people do on them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_fsm import can_proceed
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from smsactivator.common import actions
from smsactivator.common.actions import (
    Action,
    ActionForm,
    Done,
    NoteForm,
    ReasonForm,
    without_key,
)
from smsactivator.common.admin import (
    ChoiceFilter,
    Facts,
    ReadOnlyAdmin,
    Table,
    TimeRangeFilter,
)
from smsactivator.common.display import (
    BAD,
    NOTHING,
    WAITING,
    amount,
    badge,
    duration,
    moment,
    money,
    mono,
)
from smsactivator.common.errors import Refused
from smsactivator.common.links import Link, admin_url, anchor, joined, source_for
from smsactivator.common.money import PlainDecimalField
from smsactivator.common.panels import facts_for
from wallet import admin_payout_board, payout_board, payouts, settlement
from wallet.admin_decisions import wallet_badge
from wallet.ledger import account_name
from wallet.models import (
    OPEN_PAYOUTS,
    Customer,
    Payout,
    PayoutMove,
    PayoutOutcome,
    Transfer,
)
from wallet.pages import (
    address_html,
    customer_link,
    named_customers,
    payout_badge,
    payout_link,
    payouts_listed,
    transfer_link,
    whole_number,
)
from wallet.payout_board import ENDED, ON_THEIR_WAY, TO_APPROVE
from wallet.payout_flags import flags_of

log = logging.getLogger(__name__)

State = Payout.State
LISTED = 20  # of a customer's other payouts, on a payout's page


# --- links between pages ---


@source_for("wallet.Transfer")
def payouts_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The payouts whose money these transfers moved."""
    moves = PayoutMove.objects.filter(transfer__in=pks).select_related("payout")
    return {move.transfer_id: [payout_link(move.payout)] for move in moves}


@source_for("wallet.Customer")
def payouts_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The payouts of these customers."""
    return {pk: [Link("Payouts", payouts_listed(customer=pk), "wallet.view_payout")] for pk in pks}


@facts_for("wallet.Customer")
def open_payouts_of_customer(customer: Customer, person: Any) -> Iterable[Facts]:
    """What of a customer's money is on its way out."""
    if not person.has_perm("wallet.view_payout"):
        return
    found = payout_board.open_sum(customer.pk)
    listed = Link(
        f"{found.count:,} open",
        payouts_listed(customer=customer.pk, waits="open"),
        "wallet.view_payout",
    )
    yield Facts(
        "Payouts",
        [
            ("Not paid out yet", listed.html(person) if found.count else "None open"),
            ("Their sum, USD", money(found.amount)),
            ("Oldest asked for (UTC)", moment(found.oldest)),
        ],
    )


# --- forms and actions ---


class ToldForm(ReasonForm):
    """A reason that the customer reads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "Told to the customer, word for word, and kept for good."


class PaidForm(NoteForm):
    """The transaction that paid, and what it cost."""

    transaction_hash = forms.CharField(
        label="Transaction hash",
        max_length=128,
        widget=UnfoldAdminTextInputWidget,
        help_text="As the network's explorer shows it. Told to the customer.",
    )
    fee = PlainDecimalField(
        required=False,
        max_digits=28,
        decimal_places=18,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "any"}),
        help_text="What sending it cost, if it is known.",
    )
    fee_currency = forms.CharField(
        label="Currency of the fee",
        required=False,
        max_length=16,
        widget=UnfoldAdminTextInputWidget,
        help_text="As TRX.",
    )
    # Asked for only when other payouts have the hash: it names the hash that they have, so that
    # another one that is typed meanwhile is asked about again.
    shared = forms.CharField(
        label="It paid these too", max_length=128, required=False, widget=forms.HiddenInput
    )
    field_order = ("transaction_hash", "shared", "fee", "fee_currency", "reason")

    def clean_shared(self) -> bool:
        """Whether it was said of the hash that is typed."""
        said: str = self.cleaned_data["shared"]
        return bool(said) and said == self.cleaned_data.get("transaction_hash")

    def refuse(self, refusal: Refused) -> None:
        """Ask whether one transaction paid several, where the verb wants to know."""
        super().refuse(refusal)
        if isinstance(refusal, settlement.TransactionShared):
            hash_ = self.cleaned_data["transaction_hash"]
            self.data = {name: value for name, value in self.data.items() if name != "shared"}
            self.fields["shared"].widget = UnfoldBooleanSwitchWidget(attrs={"value": hash_})


class FailedForm(ActionForm):
    """Why it was not sent."""

    problem = forms.CharField(
        label="What went wrong",
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="For us, and kept for good. The customer is told only that it failed.",
    )


class CameBackForm(FailedForm):
    """Why it is not paid after all; of the transaction that the page shows."""

    transaction_hash = forms.CharField(max_length=128, widget=forms.HiddenInput)
    carries = ("seen", "transaction_hash")

    def show(self, row: Payout, shown: int) -> None:
        """With the transaction by which it counts as paid."""
        super().show(row, shown)
        self.fields["transaction_hash"].initial = row.transaction_hash


class ApprovalForm(NoteForm):
    """A note; and which attempt is approved, and what it pays, as the page shows it."""

    what = forms.CharField(max_length=500, widget=forms.HiddenInput)
    carries = ("seen", "what")

    def show(self, row: Payout, shown: int) -> None:
        """With the attempt and its content."""
        super().show(row, shown)
        self.fields["what"].initial = what = payouts.content_of(row)
        self.says = f"You approve {what}."


def _approve(person: Any, payout: Payout, typed: dict[str, Any]) -> Done:
    approved = payouts.approve(person, payout.pk, **without_key(typed))
    if approved.state == State.FIRST_APPROVED:
        return Done(f"You approved {approved}. It waits for a second person's approval.")
    return Done(f"{approved} is approved: finance can send it.")


def _alone(payout: Payout) -> str:
    """Up to how much one person approves it; the customer's other wishes of the day are off it."""
    if payout.second_from:
        return f"{payout.second_from:,.2f} USD"
    return "one person approves for a customer in a day"


def _approval_warnings(payout: Payout) -> list[str]:
    found = payout_board.warnings(payout)
    if payout_board.needs_two(payout):
        found.append(
            f"This is more than {_alone(payout)}, so another person approves it after you."
        )
    return found


def _payment_warnings(payout: Payout) -> list[str]:
    if words := settlement.of_which_attempt(payout, "transaction"):
        return [f"{words[0].upper()}{words[1:]}. Look up both on the network."]
    return []


def _come_back_warnings(payout: Payout) -> list[str]:
    known = (
        f"It counts as paid by transaction {payout.transaction_hash}, and the customer knows it."
    )
    return [f"{known} Look it up on the network: be sure that the money came back, or never left."]


def _failed(payout: Payout) -> Done:
    """What comes next, and whose turn it is."""
    then = settlement.why_undecidable(payout) or (
        "You can send it again, or another person in finance gives its money back."
    )
    return Done(f"{payout} has failed. {then}")


def _given_back(payout: Payout, how: str) -> Done:
    """Where the money is that is not sent: of a terminated customer it is not in the wallet."""
    if payout.state == State.FORFEITED:
        return Done(f"{payout} is forfeited: the customer was terminated meanwhile.")
    return Done(f"{payout} is {how}: its money is in the wallet again.")


actions.register(
    "wallet.Payout",
    Action(
        name="approve",
        label="Approve",
        explains="It may be sent. Look at the address, the amount and who asked for it: what is on "
        "its way cannot be called back.",
        form=ApprovalForm,
        permission=payouts.APPROVE,
        offered=lambda _person, payout: can_proceed(payout.approve),
        why_not=payouts.why_not_approve,
        run=_approve,
        warns=_approval_warnings,
    ),
    Action(
        name="reject",
        label="Reject",
        explains="It is not sent, and its money goes back to the wallet. The customer is told the "
        "reason that you write here.",
        form=ToldForm,
        permission=payouts.APPROVE,
        offered=lambda _person, payout: can_proceed(payout.reject),
        why_not=payouts.why_not_reject,
        run=lambda person, payout, typed: _given_back(
            payouts.reject(person, payout.pk, **without_key(typed)), "rejected"
        ),
    ),
    Action(
        name="withdraw",
        label="Withdraw",
        explains="Take your request back before it is approved. Its money goes back to the wallet.",
        form=ActionForm,
        permission=payouts.REQUEST,
        offered=lambda _person, payout: can_proceed(payout.withdraw),
        why_not=payouts.why_not_withdraw,
        run=lambda person, payout, typed: Done(
            f"{payouts.withdraw(person, payout.pk, **without_key(typed))} is withdrawn: its money "
            "is in the wallet again."
        ),
    ),
    Action(
        name="paid",
        label="Mark as paid",
        explains="It was sent, by this transaction. Its money is paid out, and the customer is "
        "told the hash. Look it up on the network first.",
        form=PaidForm,
        permission=settlement.SETTLE,
        offered=lambda _person, payout: can_proceed(payout.pay),
        run=lambda person, payout, typed: Done(
            f"{settlement.mark_paid(person, payout.pk, **without_key(typed))} is paid."
        ),
        warns=_payment_warnings,
    ),
    Action(
        name="failed",
        label="Mark as failed",
        explains="It was not sent. Its money stays pending until it is sent again or given back. "
        "Not for what nobody knows: that stays as it is.",
        form=FailedForm,
        permission=settlement.SETTLE,
        offered=lambda _person, payout: can_proceed(payout.fail),
        run=lambda person, payout, typed: _failed(
            settlement.mark_failed(person, payout.pk, **without_key(typed))
        ),
    ),
    Action(
        name="came-back",
        label="It came back",
        explains="It is paid, and its money came back, or the transaction paid nobody. It has "
        "failed then: its money stays pending until it is sent again or given back.",
        form=CameBackForm,
        permission=settlement.SETTLE,
        offered=lambda _person, payout: can_proceed(payout.come_back),
        run=lambda person, payout, typed: _failed(
            settlement.mark_came_back(person, payout.pk, **without_key(typed))
        ),
        warns=_come_back_warnings,
        dangerous=True,
    ),
    Action(
        name="again",
        label="Send again",
        explains="It is tried again to the same address, under the same reference, when it is "
        "approved anew.",
        form=ReasonForm,
        permission=settlement.SETTLE,
        offered=lambda _person, payout: can_proceed(payout.send_again),
        why_not=lambda _person, payout: settlement.why_not_send_again(payout),
        run=lambda person, payout, typed: Done(
            f"{settlement.send_again(person, payout.pk, **without_key(typed))} waits for "
            "approval again."
        ),
        warns=lambda _payout: [
            "Be sure that the last attempt did not arrive: the money is paid twice otherwise."
        ],
    ),
    Action(
        name="return",
        label="Give back",
        explains="Its money goes back to the wallet. Somebody else than you said that it failed, "
        "or uploaded the file that says so. The customer is told the reason that you write here. "
        "If the customer was terminated meanwhile, the money is forfeited.",
        form=ToldForm,
        permission=settlement.SETTLE,
        offered=lambda _person, payout: can_proceed(payout.give_back),
        why_not=settlement.why_not_give_back,
        run=lambda person, payout, typed: _given_back(
            settlement.give_back(person, payout.pk, **without_key(typed)), "returned"
        ),
        warns=lambda _payout: [
            "Be sure that the last attempt did not arrive: the customer would have the money twice."
        ],
    ),
)


# --- the list and the pages of payouts ---


class WaitsFilter(ChoiceFilter):
    """What of the open payouts waits for whom."""

    title = "waits for"
    parameter_name = "waits"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("open", "Anything (all open)"),
            ("approval", "An approval"),
            ("way", "Its arrival"),
            ("late", f"Its arrival, for more than {payout_board.LATE.days} days"),
            ("ended", "Nothing (ended)"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "open":
                return queryset.filter(state__in=OPEN_PAYOUTS)
            case "approval":
                return queryset.filter(state__in=TO_APPROVE)
            case "way":
                return queryset.filter(state__in=ON_THEIR_WAY)
            case "late":
                return queryset.filter(payout_board.late())
            case "ended":
                return queryset.filter(state__in=ENDED)
        return queryset


@admin.register(Payout)
class PayoutAdmin(ReadOnlyAdmin):
    """What leaves for customers who leave, and what people decide about it."""

    related = (
        *("customer__wallet", "method"),
        *("requested_by", "sent_again_by", "approved_by", "second_by"),
        *("failed_by", "decided_by"),
    )
    time_field = "requested_at"
    list_display = (
        "reference_shown",
        "state_shown",
        "customer_name",
        "amount_usd",
        "way",
        "asked",
        "requested_by",
        "flags",
    )
    list_filter = (
        WaitsFilter,
        ("state", ChoicesDropdownFilter),
        ("method", RelatedDropdownFilter),
        ("requested_at", TimeRangeFilter),
    )
    linked_lookups = ("customer",)
    search_fields = ("pk",)
    search_help_text = (
        "Reference (PO-000012), customer's id, email or wallet number, address, or transaction "
        "hash — exactly"
    )
    history_permission = "wallet.view_historicalpayout"

    def read_beside(self, rows: Iterable[Any]) -> None:
        """What to look at closely, for the whole page at once."""
        shown = list(rows)
        found = flags_of(shown)
        for payout in shown:
            payout.looked_at = found[payout.pk]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        digits = term.lower().removeprefix("0x")
        hashes = {term, digits, f"0x{digits}"}
        # The empty hash is left out, as it is of the index.
        found = Q(address=term) | (Q(transaction_hash__in=hashes) & ~Q(transaction_hash=""))
        if customers := named_customers(term):
            found |= Q(customer_id__in=customers)
        if (pk := whole_number(term.upper().removeprefix("PO-"))) is not None:
            found |= Q(pk=pk)
            if not term.upper().startswith("PO-"):
                found |= Q(customer_id=pk)
        return queryset.filter(found), False

    @display(description="Payout")
    def reference_shown(self, payout: Payout) -> SafeString:
        return mono(payout.reference)

    @display(description="State")
    def state_shown(self, payout: Payout) -> SafeString:
        return payout_badge(payout)

    @display(description="Customer")
    def customer_name(self, payout: Payout) -> SafeString:
        return customer_link(payout.customer)

    @display(description="Amount, USD")
    def amount_usd(self, payout: Payout) -> SafeString:
        return money(payout.amount)

    @display(description="Method")
    def way(self, payout: Payout) -> str:
        return payout.method.code

    @display(description="Asked for (UTC)")
    def asked(self, payout: Payout) -> SafeString:
        """When, and of an open one how long it has been since."""
        at = moment(payout.requested_at)
        if payout.state not in OPEN_PAYOUTS:
            return at
        since = duration(timezone.now() - payout.requested_at)
        return format_html('{} <span class="since subtle">open for {}</span>', at, since)

    @display(description="Look closely")
    def flags(self, payout: Any) -> SafeString:
        """What its approval should look at."""
        looked_at: SafeString = payout.looked_at
        return looked_at

    def title_of(self, obj: Payout) -> str:
        return str(obj)

    def links(self, request: HttpRequest, obj: Payout) -> list[Link]:
        return [
            Link(
                f"Customer {obj.customer.external_id}",
                admin_url("wallet_customer_change", obj.customer_id),
                "wallet.view_customer",
            ),
            Link(
                "Wallet statement",
                admin_url("wallet_wallet_change", obj.customer_id),
                "wallet.view_wallet",
            ),
            Link(
                "All payouts of this customer",
                payouts_listed(customer=obj.customer_id),
                "wallet.view_payout",
            ),
            *super().links(request, obj),
        ]

    def facts(self, request: HttpRequest, obj: Payout) -> Iterable[Facts]:
        yield Facts(
            "Payout",
            [
                ("Reference", mono(obj.reference)),
                ("State", payout_badge(obj)),
                ("Amount, USD", money(obj.amount)),
                ("Customer", customer_link(obj.customer)),
                ("Asked for by", str(obj.requested_by)),
                ("Asked for (UTC)", moment(obj.requested_at)),
                ("Reason", obj.reason),
                ("Attempt", str(obj.attempt)),
            ],
        )
        yield Facts(
            "Where it goes",
            [
                ("Coin", f"{obj.method.currency} (1 is 1 USD)"),
                ("Network", obj.method.network),
                ("Address", address_html(obj.address)),
                ("Memo (tag)", mono(obj.memo)),
                *self._looked_at(request, obj),
            ],
        )
        yield self._approvals(request.user, obj)
        yield self._result(obj)
        held = payout_board.open_sum(obj.customer_id)
        yield Facts(
            "The customer's wallet",
            [
                ("State", wallet_badge(obj.customer.wallet)),
                ("Balance, USD", money(obj.customer.wallet.balance)),
                ("Open payouts", f"{held.count:,}"),
                ("Their sum, USD", money(held.amount)),
            ],
        )

    @staticmethod
    def _looked_at(request: HttpRequest, obj: Payout) -> list[tuple[str, SafeString | str]]:
        others = joined(
            Link(
                other.external_id,
                admin_url("wallet_customer_change", other.pk),
                "wallet.view_customer",
            ).html(request.user)
            for other in payout_board.sharers(obj)
        )
        before = payout_board.other_address_before(obj)
        rows: list[tuple[str, SafeString | str]] = [
            (
                "Other customers",
                format_html("{} {}", badge("Gave this address too", BAD), others)
                if others
                else "None gave this address",
            )
        ]
        if before:
            changed = payout_link(before).html(request.user)
            rows.append(("Changed", format_html("{} named another address", changed)))
        return rows

    @staticmethod
    def _approvals(person: Any, obj: Payout) -> Facts:
        two = f"Yes: more than {_alone(obj)}"
        rows: list[tuple[str, SafeString | str]] = [
            ("By policy", f"{obj.policy_version}, at least {amount(obj.minimum)} USD"),
            ("Needs two people", two if obj.needs_second else "No"),
        ]
        if obj.not_before:
            word = "Waits until" if payout_board.waits_for_its_address(obj) else "Waited until"
            rows.append(
                (
                    "Changed address",
                    format_html("{} {} UTC", word, moment(obj.not_before)),
                )
            )
        if obj.sent_again_by:
            rows.append(("Sent again by", f"{obj.sent_again_by}, as attempt {obj.attempt}"))
        if failed := payout_board.failed_before(obj):
            by = failed.failed_by or NOTHING
            rows += [
                (
                    f"Attempt {failed.attempt}",
                    format_html("Failed at {} UTC, said {}", moment(failed.settled_at), by),
                ),
                ("What went wrong then", failed.problem),
                ("Transaction hash then", mono(failed.transaction_hash)),
            ]
        rows += [
            ("Approved by", str(obj.approved_by) if obj.approved_by else NOTHING),
            ("Approved (UTC)", moment(obj.approved_at)),
        ]
        if obj.needs_second:
            rows += [
                ("Second approval by", str(obj.second_by) if obj.second_by else NOTHING),
                ("Second approval (UTC)", moment(obj.second_at)),
            ]
        if (
            can_proceed(obj.approve)
            and person.has_perm(payouts.APPROVE)
            and (why := payouts.why_not_approve(person, obj))
        ):
            rows.append(("Not by you now", why))
        return Facts("Approval", rows)

    @staticmethod
    def _result(obj: Payout) -> Facts:
        fee = NOTHING if obj.fee is None else f"{obj.fee.normalize():f} {obj.fee_currency}"
        rows: list[tuple[str, SafeString | str]] = [
            ("Transaction hash", mono(obj.transaction_hash)),
            ("Fee", fee),
            ("Result known (UTC)", moment(obj.settled_at)),
        ]
        if others := payout_board.of_the_same_transaction(obj):
            listed = payouts_listed(q=obj.transaction_hash)
            count = "1 other payout" if others == 1 else f"{others:,} other payouts"
            words = f"The same transaction hash is on {count}"
            rows.append(
                (
                    "One transaction",
                    format_html("{} {}", badge(words, WAITING), anchor("List", listed)),
                )
            )
        if obj.problem:
            rows.append(("What went wrong", obj.problem))
        if obj.failed_by:
            rows.append(("Marked as failed by", str(obj.failed_by)))
        if obj.state == State.FAILED:
            rows.append(("Gives it back", f"Somebody in finance other than {obj.failed_by}"))
        if obj.state == State.FAILED and (why := settlement.why_undecidable(obj)):
            rows.append(("Cannot be decided yet", why))
        if obj.decided_by:
            rows += [
                ("Ended by", str(obj.decided_by)),
                ("Ended (UTC)", moment(obj.decided_at)),
                ("Told to the customer", obj.decision_reason or NOTHING),
            ]
        return Facts("What came of it", rows)

    def tables(self, request: HttpRequest, obj: Payout) -> Iterable[Table]:
        moves = PayoutMove.objects.filter(payout=obj).select_related("transfer")
        yield Table(
            title="Money",
            headers=("Posted (UTC)", "What", "Debit", "Credit", "USD", "Transfer"),
            rows=[
                (
                    moment(move.transfer.posted_at),
                    Transfer.Kind(move.transfer.kind).label,
                    account_name(move.transfer.debit_account).capitalize(),
                    account_name(move.transfer.credit_account).capitalize(),
                    money(move.transfer.amount),
                    transfer_link(move.transfer_id).html(request.user),
                )
                for move in moves.order_by("transfer_id")
            ],
            empty="Nothing has moved.",
            numeric=frozenset({"USD"}),
        )
        yield Table(
            title="What the customer is told",
            headers=("At (UTC)", "What", "Words", "Told (UTC)"),
            rows=[
                (
                    moment(outcome.at),
                    PayoutOutcome.What(outcome.what).label,
                    mono(outcome.detail)
                    if outcome.what == PayoutOutcome.What.PAID
                    else outcome.detail or NOTHING,
                    moment(outcome.told_at) if outcome.told_at else badge("Not yet", WAITING),
                )
                for outcome in PayoutOutcome.objects.filter(payout=obj).order_by("pk")
            ],
            empty="Nothing yet.",
        )
        others = list(
            Payout.objects.filter(customer=obj.customer_id)
            .exclude(pk=obj.pk)
            .select_related("method")
            .order_by("-pk")[: LISTED + 1]
        )
        cut = f" (the newest {LISTED})" if len(others) > LISTED else ""
        yield Table(
            title=f"Other payouts of this customer{cut}",
            headers=("Payout", "State", "USD", "To", "Address", "Asked for (UTC)"),
            rows=[
                (
                    payout_link(other).html(request.user),
                    payout_badge(other),
                    money(other.amount),
                    str(other.method),
                    "The same"
                    if (other.address, other.memo) == (obj.address, obj.memo)
                    else "Another",
                    moment(other.requested_at),
                )
                for other in others[:LISTED]
            ],
            empty="This is the customer's only one.",
            numeric=frozenset({"USD"}),
        )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("board/", view(admin_payout_board.page), name="wallet_payout_board"),
            path("board.csv", view(admin_payout_board.download), name="wallet_payout_board_csv"),
            *super().get_urls(),
        ]
