"""What people decide about money: their pages, and the actions on the pages of money itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import display
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, path
from django.utils.http import content_disposition_header
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from smsactivator.common import actions, seen
from smsactivator.common.actions import (
    Action,
    ActionForm,
    Done,
    NoteForm,
    ReasonForm,
    without_key,
)
from smsactivator.common.admin import Facts, ReadOnlyAdmin, ReasonedAdmin
from smsactivator.common.display import (
    BAD,
    BUSY,
    GOOD,
    NOTHING,
    QUIET,
    WAITING,
    badge,
    moment,
    money,
    mono,
    number,
    signed,
)
from smsactivator.common.files import SAVED_ONLY, UNKNOWN_TYPE, FilesField, Upload
from smsactivator.common.links import Link, admin_url, source_for
from smsactivator.common.money import AmountField
from wallet import claim_files, claims, corrections, limits, standing
from wallet.deciding import why_not_decide
from wallet.models import (
    Claim,
    Correction,
    Customer,
    Decision,
    Deposit,
    Reinstatement,
    RoleLimit,
    Termination,
    Transfer,
    Wallet,
)
from wallet.pages import customer_link, named_customers, whole_number

TONES = {
    Decision.State.REQUESTED: WAITING,
    Decision.State.CONFIRMED: GOOD,
    Decision.State.REJECTED: BAD,
    Decision.State.WITHDRAWN: QUIET,
}
CLAIM_TONES = {
    Claim.State.OPEN: WAITING,
    Claim.State.DISMISSED: QUIET,
    Claim.State.UPHELD: BUSY,
    Claim.State.TERMINATED: BAD,
}


# --- links ---


def _named(text: str, model: str, pk: int) -> Link:
    return Link(text, admin_url(f"wallet_{model}_change", pk), f"wallet.view_{model}")


def _claim_link(claim: Claim) -> Link:
    return _named(f"Chargeback claim {claim.reference}", "claim", claim.pk)


@source_for("wallet.Transfer")
def decisions_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The corrections, terminations and reinstatements that these transfers carried out."""
    links: dict[int, list[Link]] = defaultdict(list)
    for model in (Correction, Termination, Reinstatement):
        for decision in model._default_manager.filter(transfer__in=pks):
            if decision.transfer_id is not None:
                links[decision.transfer_id].append(
                    _named(str(decision), model._meta.model_name or "", decision.pk)
                )
    return links


@source_for("wallet.Customer")
def decisions_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """What was decided about these customers."""
    links: dict[int, list[Link]] = defaultdict(list)
    for pk in pks:
        links[pk].append(
            Link(
                "Corrections",
                admin_url("wallet_correction_changelist", customer=pk),
                "wallet.view_correction",
            )
        )
    for claim in Claim.objects.filter(deposit__transfer__wallet__in=pks).select_related(
        "deposit__transfer"
    ):
        links[claim.deposit.transfer.credit_account].append(_claim_link(claim))
    for termination in Termination.objects.filter(customer__in=pks):
        links[termination.customer_id].append(
            _named(str(termination), "termination", termination.pk)
        )
    return links


@source_for("wallet.Deposit")
def claims_of_deposits(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The chargeback claims against these deposits."""
    links: dict[int, list[Link]] = defaultdict(list)
    for claim in Claim.objects.filter(deposit__in=pks):
        links[claim.deposit_id].append(_claim_link(claim))
    return links


@source_for("wallet.Termination")
def decisions_of_terminations(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The reinstatements from these terminations."""
    links: dict[int, list[Link]] = defaultdict(list)
    for reinstatement in Reinstatement.objects.filter(termination__in=pks):
        links[reinstatement.termination_id].append(
            _named(str(reinstatement), "reinstatement", reinstatement.pk)
        )
    return links


# --- forms ---


class AmountForm(ReasonForm):
    """An amount and why."""

    amount = AmountField(
        label="Amount, USD",
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "0.0001"}),
    )
    field_order = ("amount", "reason")


class AdjustmentForm(AmountForm):
    """An amount with its sign, and why."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "amount"
        ].help_text = "Credited to the wallet; with a minus before it, debited from the wallet."


class ClaimForm(ActionForm):
    """What the provider sent."""

    reference = forms.CharField(
        label="Provider's reference", max_length=128, widget=UnfoldAdminTextInputWidget
    )
    evidence = forms.CharField(
        max_length=20_000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6}),
        help_text="What the provider sent, in its words.",
    )


class FilesForm(ActionForm):
    """What shows a claim."""

    # Where Django's own name for what was sent is taken.
    evidence = FilesField(
        label="Files",
        required=False,
        help_text="As the provider sent them. They are kept as they are, for good.",
    )


# --- actions ---


def _wallet_state(customer: Customer) -> str:
    return str(customer.wallet.state)


def steps_of_wallet(customer: Customer) -> int:
    """What a customer's page shows of the wallet, as ``smsactivator.common.seen`` counts."""
    return seen.steps((Wallet, [customer.pk]))


def _requested(correction: Correction) -> Done:
    return Done(
        f"{correction} waits for a second person.",
        admin_url("wallet_correction_change", correction.pk),
    )


actions.register(
    "wallet.Customer",
    Action(
        name="goodwill",
        label="Give goodwill",
        explains="Ask for goodwill to be credited to the wallet. A second person confirms it; "
        "nothing moves before.",
        form=AmountForm,
        permission="wallet.request_goodwill",
        offered=lambda _person, customer: _wallet_state(customer) in {"active", "frozen"},
        why_not=lambda person, customer: corrections.why_not_request(
            person, Correction.Kind.GOODWILL, customer.wallet
        ),
        run=lambda person, customer, typed: _requested(
            corrections.request_goodwill(person, customer.pk, **typed)
        ),
        sees=steps_of_wallet,
    ),
    Action(
        name="adjust",
        label="Adjust the wallet",
        explains="Ask for the wallet to be put right. A second person confirms it; nothing moves "
        "before.",
        form=AdjustmentForm,
        permission="wallet.request_adjustment",
        offered=lambda _person, customer: _wallet_state(customer) in {"active", "frozen"},
        why_not=lambda person, customer: corrections.why_not_request(
            person, Correction.Kind.ADJUSTMENT, customer.wallet
        ),
        run=lambda person, customer, typed: _requested(
            corrections.request_adjustment(person, customer.pk, **typed)
        ),
        sees=steps_of_wallet,
    ),
    Action(
        name="freeze",
        label="Freeze the wallet",
        explains="Nothing can be spent from the wallet until it is unfrozen. Refunds and deposits "
        "still arrive.",
        form=ReasonForm,
        permission="wallet.freeze_wallet",
        offered=lambda _person, customer: _wallet_state(customer) == "active",
        run=lambda person, customer, typed: Done(
            f"{standing.freeze(person, customer.pk, **without_key(typed))} is frozen."
        ),
        sees=steps_of_wallet,
    ),
    Action(
        name="unfreeze",
        label="Unfreeze the wallet",
        explains="The wallet can be spent from again.",
        form=ReasonForm,
        permission="wallet.freeze_wallet",
        offered=lambda _person, customer: _wallet_state(customer) == "frozen",
        why_not=lambda _person, customer: standing.why_not_unfreeze(customer.wallet),
        run=lambda person, customer, typed: Done(
            f"{standing.unfreeze(person, customer.pk, **without_key(typed))} is active again."
        ),
        sees=steps_of_wallet,
    ),
)

REVERSE = "Ask for this transfer to be reversed: exactly, and once. A second person confirms it."

actions.register(
    "wallet.Transfer",
    Action(
        name="reverse",
        label="Reverse",
        explains=REVERSE,
        form=ReasonForm,
        permission="wallet.request_reversal",
        offered=lambda _person, transfer: transfer.kind in corrections.REVERSIBLE,
        why_not=corrections.why_not_reverse,
        run=lambda person, transfer, typed: _requested(
            corrections.request_reversal(person, transfer.pk, **typed)
        ),
        sees=lambda transfer: corrections.reversals_of(transfer.pk),
    ),
)

actions.register(
    "wallet.Deposit",
    Action(
        name="claim",
        label="Record a chargeback claim",
        explains="Record a claim that was filed against this payment. The wallet is frozen until a "
        "senior agent decides; one that has ended stays as it is.",
        form=ClaimForm,
        permission="wallet.record_claim",
        offered=lambda _person, _deposit: True,
        why_not=lambda _person, deposit: claims.why_not_record(deposit),
        run=lambda person, deposit, typed: _claimed(claims.record(person, deposit.pk, **typed)),
        sees=claims.steps_of,
    ),
    Action(
        name="reverse",
        label="Reverse the deposit",
        explains=REVERSE,
        form=ReasonForm,
        permission="wallet.request_reversal",
        offered=lambda _person, _deposit: True,
        why_not=lambda person, deposit: corrections.why_not_reverse(person, deposit.transfer),
        run=lambda person, deposit, typed: _requested(
            corrections.request_reversal(person, deposit.transfer_id, **typed)
        ),
        sees=lambda deposit: corrections.reversals_of(deposit.transfer_id),
    ),
)


def _claimed(claim: Claim) -> Done:
    """What the claim did to the wallet: one that has ended it leaves as it is."""
    state = Wallet.objects.values_list("state", flat=True).get(
        pk=claim.deposit.transfer.credit_account
    )
    then = {
        Wallet.State.FROZEN: "and the wallet is frozen until it is decided",
        Wallet.State.FORFEITED: "and ends with the account, which is terminated: the wallet stays "
        "forfeited",
        Wallet.State.CLOSED: "and waits for its decision: the wallet stays closed, and is frozen "
        "if it is reopened before",
    }.get(Wallet.State(state), "")
    return Done(f"{claim} is recorded {then}.", admin_url("wallet_claim_change", claim.pk))


def waits(_person: Any, decision: Decision) -> bool:
    """Whether the request is to be decided still."""
    return bool(decision.state == Decision.State.REQUESTED)


def is_own(person: Any, decision: Decision) -> bool:
    """Whether this person may take the request back."""
    own: bool = decision.requested_by_id == person.pk
    return decision.state == Decision.State.REQUESTED and own


actions.register(
    "wallet.Correction",
    Action(
        name="confirm",
        label="Confirm",
        explains="The money moves now.",
        form=NoteForm,
        permission="wallet.confirm_correction",
        offered=waits,
        why_not=corrections.why_not_confirm,
        run=lambda person, correction, typed: Done(
            f"{corrections.confirm(person, correction.pk, **without_key(typed))} is confirmed "
            "and the money has moved."
        ),
    ),
    Action(
        name="reject",
        label="Reject",
        explains="Nothing moves. The one who requested it sees your reason.",
        form=ReasonForm,
        permission="wallet.confirm_correction",
        offered=waits,
        why_not=why_not_decide,
        run=lambda person, correction, typed: Done(
            f"{corrections.reject(person, correction.pk, **without_key(typed))} is rejected."
        ),
    ),
    Action(
        name="withdraw",
        label="Withdraw",
        explains="Take your request back. Nothing moves.",
        form=ActionForm,
        offered=is_own,
        run=lambda person, correction, typed: Done(
            f"{corrections.withdraw(person, correction.pk, **without_key(typed))} is withdrawn."
        ),
    ),
)


def _add_files(person: Any, claim: Claim, typed: dict[str, Any]) -> Done:
    sent = [Upload(file.name, file.read()) for file in typed["evidence"]]
    return Done(f"The files are kept with {claim_files.add(person, claim.pk, sent)}.")


actions.register(
    "wallet.Claim",
    Action(
        name="files",
        label="Add files",
        explains="What the provider sent, as it is: a screenshot, a letter, a mail. Whoever "
        "decides can take it.",
        form=FilesForm,
        permission="wallet.record_claim",
        offered=lambda _person, _claim: True,
        run=_add_files,
    ),
    Action(
        name="dismiss",
        label="Dismiss the claim",
        explains="The claim comes to nothing. The wallet is unfrozen if nothing else keeps it "
        "frozen.",
        form=ReasonForm,
        permission="wallet.decide_claim",
        offered=lambda _person, claim: claim.state == Claim.State.OPEN,
        run=lambda person, claim, typed: Done(
            f"{claims.dismiss(person, claim.pk, **without_key(typed))} is dismissed."
        ),
    ),
)


# --- pages ---


class DecisionAdmin(ReadOnlyAdmin):
    """What one person requested and another decides."""

    history_permission = ""

    def state_badge(self, decision: Decision) -> SafeString:
        state = Decision.State(decision.state)
        return badge(state.label, TONES[state])

    def asked(self, decision: Decision) -> SafeString:
        return moment(decision.requested_at)

    state_badge.short_description = "State"  # type: ignore[attr-defined]
    asked.short_description = "Requested (UTC)"  # type: ignore[attr-defined]

    def decision_facts(self, obj: Decision) -> Facts:
        """Who asked, who decided, when and why."""
        return Facts(
            "Decision",
            [
                ("State", self.state_badge(obj)),
                ("Requested by", str(obj.requested_by)),
                ("Requested (UTC)", moment(obj.requested_at)),
                ("Reason", obj.reason),
                ("Decided by", str(obj.decided_by) if obj.decided_by else NOTHING),
                ("Decided (UTC)", moment(obj.decided_at)),
                ("Note", obj.decision_reason or NOTHING),
            ],
        )

    @staticmethod
    def transfer_link(transfer: Transfer | None, user: Any) -> SafeString:
        return _named(str(transfer), "transfer", transfer.pk).html(user) if transfer else NOTHING


@admin.register(Correction)
class CorrectionAdmin(DecisionAdmin):
    """Goodwill, adjustments and reversals."""

    related = ("customer__wallet", "requested_by", "decided_by", "transfer", "reverses")
    list_display = (
        "id",
        "asked",
        "kind",
        "state_badge",
        "customer_name",
        "amount_usd",
        "requested_by",
        "decided_by",
    )
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("kind", ChoicesDropdownFilter),
    )
    linked_lookups = ("customer",)
    history_permission = "wallet.view_historicalcorrection"

    @display(description="Customer")
    def customer_name(self, correction: Correction) -> SafeString:
        return customer_link(correction.customer) if correction.customer else NOTHING

    @display(description="Amount, USD")
    def amount_usd(self, correction: Correction) -> SafeString:
        return signed(correction.amount)

    def facts(self, request: HttpRequest, obj: Correction) -> Iterable[Facts]:
        yield Facts(
            "Correction",
            [
                ("What", Correction.Kind(obj.kind).label),
                ("Customer", self.customer_name(obj)),
                ("Amount, USD", signed(obj.amount)),
                *self._held(obj),
                ("Reverses", self.transfer_link(obj.reverses, request.user)),
                ("Moved by", self.transfer_link(obj.transfer, request.user)),
            ],
        )
        yield self.decision_facts(obj)

    @staticmethod
    def _held(obj: Correction) -> list[tuple[str, Any]]:
        """What the wallet holds, for whoever decides it."""
        if obj.customer is None or obj.state != Decision.State.REQUESTED:
            return []
        return [("Wallet holds now, USD", money(obj.customer.wallet.balance))]


@admin.register(Claim)
class ClaimAdmin(ReadOnlyAdmin):
    """Chargeback claims against deposits."""

    related = ("deposit__transfer__wallet__customer", "recorded_by", "decided_by")
    list_display = ("reference", "recorded", "state_badge", "customer_name", "amount_usd")
    list_filter = (("state", ChoicesDropdownFilter),)
    search_fields = ("reference",)
    search_help_text = (
        "Provider's reference, deposit's reference, or customer's id, email or wallet number — "
        "exactly"
    )
    detail_template = "wallet/claim.html"
    history_permission = "wallet.view_historicalclaim"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wallets = named_customers(term)
        if (pk := whole_number(term)) is not None:
            wallets.append(pk)
        named = Deposit.objects.filter(reference=term).values_list("pk", flat=True)[:100]
        found = Q(reference=term) | Q(deposit__in=list(named))
        if wallets:
            found |= Q(deposit__transfer__wallet__in=wallets)
        return queryset.filter(found), False

    def detail_context(self, request: HttpRequest, obj: Claim) -> dict[str, Any]:
        takes = claim_files.may_read(request.user)
        return {
            "files": [
                {
                    "name": file.name,
                    "content_type": file.content_type,
                    "size": number(file.size),
                    "sha256": mono(file.sha256),
                    "added_at": moment(file.added_at),
                    "added_by": file.added_by,
                    "url": admin_url("wallet_claim_file", file.pk) if takes else "",
                }
                for file in obj.files.defer("content").select_related("added_by").order_by("pk")
            ]
        }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.file_view)
        return [path("file/<int:pk>/", view, name="wallet_claim_file"), *super().get_urls()]

    def file_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A file as it was sent, to save (POST, as the taking is written down)."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            found = claim_files.read(request.user, pk)
        except claim_files.ClaimFileUnknown as refusal:
            raise Http404(refusal.message) from None
        response = HttpResponse(bytes(found.content), content_type=UNKNOWN_TYPE, headers=SAVED_ONLY)
        response["Content-Disposition"] = str(
            content_disposition_header(as_attachment=True, filename=found.name)
        )
        return response

    @display(description="Recorded (UTC)")
    def recorded(self, claim: Claim) -> SafeString:
        return moment(claim.recorded_at)

    @display(description="State")
    def state_badge(self, claim: Claim) -> SafeString:
        state = Claim.State(claim.state)
        return badge(state.label, CLAIM_TONES[state])

    @display(description="Customer")
    def customer_name(self, claim: Claim) -> SafeString:
        wallet = claim.deposit.transfer.wallet
        return customer_link(wallet.customer) if wallet else NOTHING

    @display(description="Deposit, USD")
    def amount_usd(self, claim: Claim) -> SafeString:
        return money(claim.deposit.transfer.amount)

    def title_of(self, obj: Claim) -> str:
        return f"Chargeback claim {obj.reference}"

    def facts(self, request: HttpRequest, obj: Claim) -> Iterable[Facts]:
        deposit: Deposit = obj.deposit
        yield Facts(
            "Claim",
            [
                ("Provider's reference", mono(obj.reference)),
                ("Against deposit", _named(str(deposit), "deposit", deposit.pk).html(request.user)),
                ("Deposit, USD", money(deposit.transfer.amount)),
                ("Customer", self.customer_name(obj)),
                ("Recorded by", str(obj.recorded_by)),
                ("Recorded (UTC)", moment(obj.recorded_at)),
                ("Evidence", obj.evidence),
            ],
        )
        yield Facts(
            "Decision",
            [
                ("State", self.state_badge(obj)),
                ("Decided by", str(obj.decided_by) if obj.decided_by else NOTHING),
                ("Decided (UTC)", moment(obj.decided_at)),
                ("Reason", obj.decision_reason or NOTHING),
            ],
        )


@admin.register(Termination)
class TerminationAdmin(DecisionAdmin):
    """Ends of customers' accounts."""

    related = ("customer__wallet", "claim", "requested_by", "decided_by", "transfer")
    list_display = (
        "id",
        "asked",
        "state_badge",
        "customer_name",
        "amount_usd",
        "requested_by",
        "decided_by",
        "reinstated",
    )
    list_filter = (("state", ChoicesDropdownFilter),)
    history_permission = "wallet.view_historicaltermination"

    @display(description="Customer")
    def customer_name(self, termination: Termination) -> SafeString:
        return customer_link(termination.customer)

    @display(description="Forfeited, USD")
    def amount_usd(self, termination: Termination) -> SafeString:
        confirmed = termination.state == Decision.State.CONFIRMED
        return money(termination.forfeited if confirmed else None)

    def facts(self, request: HttpRequest, obj: Termination) -> Iterable[Facts]:
        claim = (
            _named(str(obj.claim), "claim", obj.claim.pk).html(request.user)
            if obj.claim
            else NOTHING
        )
        yield Facts(
            "Termination",
            [
                ("Customer", self.customer_name(obj)),
                ("Chargeback claim", claim),
                *self._amounts(obj),
                ("Moved by", self.transfer_link(obj.transfer, request.user)),
                ("Reinstated", "Yes" if obj.reinstated else "No"),
            ],
        )
        yield self.decision_facts(obj)

    @staticmethod
    def _amounts(obj: Termination) -> list[tuple[str, Any]]:
        """What it took; what it would take the floor of orders shows."""
        if obj.state != Decision.State.CONFIRMED:
            return []
        return [
            ("From the wallet, USD", money(obj.wallet_amount)),
            ("From open orders, USD", money(obj.orders_amount)),
            ("Open orders ended", str(obj.orders_ended)),
        ]


@admin.register(Reinstatement)
class ReinstatementAdmin(DecisionAdmin):
    """Terminated customers who were let in again."""

    related = ("termination__customer", "requested_by", "decided_by", "transfer")
    list_display = ("id", "asked", "state_badge", "customer_name", "amount_usd", "requested_by")
    list_filter = (("state", ChoicesDropdownFilter),)
    history_permission = "wallet.view_historicalreinstatement"

    @display(description="Customer")
    def customer_name(self, reinstatement: Reinstatement) -> SafeString:
        return customer_link(reinstatement.termination.customer)

    @display(description="Given back, USD")
    def amount_usd(self, reinstatement: Reinstatement) -> SafeString:
        return money(reinstatement.amount)

    def facts(self, request: HttpRequest, obj: Reinstatement) -> Iterable[Facts]:
        ended = obj.termination
        yield Facts(
            "Reinstatement",
            [
                ("Customer", self.customer_name(obj)),
                ("From", _named(str(ended), "termination", ended.pk).html(request.user)),
                ("Given back, USD", money(obj.amount)),
                ("Moved by", self.transfer_link(obj.transfer, request.user)),
            ],
        )
        yield self.decision_facts(obj)


@admin.register(RoleLimit)
class RoleLimitAdmin(ReasonedAdmin):
    """How much the members of each role may move; changed by administrators, who say why."""

    related = ("role",)
    list_display = ("role", "decision", "each_usd", "daily_usd")
    readonly_fields = ("role_name",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Why is asked of those who may change it."""
        if self.has_change_permission(request, obj):
            return ("role", "decision", "each", "daily", "reason")
        # The role as a word: not everybody who sees its limits may open it.
        return ("role_name", "decision", "each", "daily")

    @display(description="Role")
    def role_name(self, limit: RoleLimit) -> str:
        return str(limit.role)

    def write(self, obj: Any, fields: list[str], *, person: Any, reason: str) -> None:
        """Through the limits' verb."""
        limits.save(obj, fields, person=person, reason=reason)

    @display(description="Limit each, USD")
    def each_usd(self, limit: RoleLimit) -> SafeString:
        return money(limit.each)

    @display(description="Limit a day, USD")
    def daily_usd(self, limit: RoleLimit) -> SafeString:
        return money(limit.daily)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A limit of 0 says the same, and its history stays."""
        return False


def wallet_badge(wallet: Wallet) -> SafeString:
    """The state of a wallet."""
    state = Wallet.State(wallet.state)
    tone = {Wallet.State.ACTIVE: GOOD, Wallet.State.CLOSED: QUIET}.get(state, BAD)
    return badge(state.value.capitalize(), tone)
