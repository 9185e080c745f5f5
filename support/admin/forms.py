"""The forms of a case's page. What was typed is kept when a verb refuses."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from orders.models import Order, State
from smsactivator.common.files import FilesField
from smsactivator.common.money import AmountField
from smsactivator.common.seen import LARGEST
from support.casefile import CaseOrder, Entry
from support.models import LONGEST_BODY
from wallet.methods import as_customers_call_it
from wallet.models import PayoutMethod
from wallet.payouts import CENT

THEN = (
    ("open", "Leave it open"),
    ("waiting", "Wait for the customer"),
    ("resolved", "Resolve"),
)


class CaseForm(forms.Form):
    """A form of the page: ``seen`` is the ticket's version it shows, ``key`` names the form."""

    seen = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)


class ActForm(forms.Form):
    """A button without anything to type. Pressed twice, it changes nothing more."""


class ReplyForm(CaseForm):
    """What the customer is answered, or what colleagues are told."""

    body = forms.CharField(
        label="Text",
        max_length=LONGEST_BODY,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6}),
    )
    then = forms.ChoiceField(
        label="After the reply",
        choices=THEN,
        initial="resolved",
        widget=UnfoldAdminSelectWidget,
    )
    # Where Django's own name for what was sent is taken.
    evidence = FilesField(label="Files", required=False)


class AnsweringForm(CaseForm):
    """A decision with its reason and the reply that goes with it."""

    reason = forms.CharField(
        label="Reason, for us",
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="Kept for good, and read by whoever asks why in years to come.",
    )
    body = forms.CharField(
        label="Reply to the customer",
        max_length=LONGEST_BODY,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="The outcome and the clause in plain words are added to it.",
    )
    then = forms.ChoiceField(
        label="After the reply",
        choices=THEN,
        initial="resolved",
        widget=UnfoldAdminSelectWidget,
    )


class DecideForm(AnsweringForm):
    """What becomes of a request that waits."""

    request = forms.IntegerField(widget=forms.HiddenInput)


class ApproveForm(DecideForm):
    """As ``DecideForm``; an approval in agreement with the policy needs no reason."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False


class RefundForm(AnsweringForm):
    """How much of which order goes back, under which clause, and why."""

    order = forms.TypedChoiceField(coerce=int, widget=UnfoldAdminSelectWidget)
    clause = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget, help_text="Behind each: what the policy says of it here."
    )
    amount = AmountField(
        label="Amount, USD",
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "0.0001"}),
    )
    field_order: Sequence[str] = ("order", "clause", "amount", "reason", "body", "then")
    # Whether it is about orders on which a decision was final.
    further = False

    def __init__(self, *args: Any, orders: Sequence[CaseOrder], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "body"
        ].help_text = (
            "Sent as a reply. To a denial the outcome and the clause in plain words are added."
        )
        # What was sent is the verb's to refuse, with the reason, and stays on the page.
        refundable = [
            one
            for one in orders
            if self.is_bound or (one.refundable and bool(one.final) == self.further)
        ]
        self.fields["order"].choices = [  # type: ignore[attr-defined]
            (
                one.order.pk,
                f"{one.order}: {one.order.service} / {one.order.country}, {one.left} USD left",
            )
            for one in refundable
        ]
        clauses: dict[str, dict[str, str]] = {"Refunded by ticket": {}, "Not refunded": {}}
        for one in refundable:
            for option in one.options:
                group = "Refunded by ticket" if option.rule.outcome == "ticket" else "Not refunded"
                said = (
                    "for you to judge" if group == "Refunded by ticket" else "as goodwill at most"
                )
                if not option.supported:
                    said = "the facts do not bear it out"
                words = f"{option.rule.title} — {said}"
                if len(refundable) > 1 and clauses[group].get(option.rule.clause, words) != words:
                    words = f"{option.rule.title} — it depends on the order"
                clauses[group][option.rule.clause] = words
        self.fields["clause"].choices = [  # type: ignore[attr-defined]
            ("", "Choose…"),
            *((group, list(found.items())) for group, found in clauses.items()),
        ]
        if refundable:
            self.fields["amount"].help_text = "Suggested: " + ", ".join(
                f"{one.suggested} for order {one.order.pk}" for one in refundable
            )
            self.fields["amount"].initial = refundable[0].suggested


class FurtherForm(RefundForm):
    """A refund of an order on which a decision was final, and what came since."""

    evidence = forms.TypedChoiceField(
        label="New evidence",
        coerce=int,
        widget=UnfoldAdminSelectWidget,
        help_text="What the customer sent after the final decision. Its files go with it.",
    )
    field_order = ("order", "evidence", "clause", "amount", "reason", "body", "then")
    further = True

    def __init__(self, *args: Any, evidence: Sequence[Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["evidence"].choices = [  # type: ignore[attr-defined]
            ("", "Choose…"),
            *((entry.message.pk, _named(entry)) for entry in evidence),
        ]


def _named(entry: Entry) -> str:
    said = entry.message
    files = len(entry.attachments)
    with_files = f", {files} file{'s' * (files > 1)}" if files else ""
    return f"{said} of {said.created_at:%Y-%m-%d %H:%M:%S}{with_files}: {said.body[:60]}"


class PayoutForm(AnsweringForm):
    """What a customer who leaves is sent, in which coin, and to where."""

    method = forms.ChoiceField(label="Coin and network", widget=UnfoldAdminSelectWidget)
    address = forms.CharField(
        max_length=200,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Copied from the customer's message, never typed.",
    )
    memo = forms.CharField(
        label="Memo (tag)",
        max_length=100,
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        help_text="Where the customer's exchange asks for one.",
    )
    share = forms.ChoiceField(label="How much", widget=UnfoldAdminSelectWidget)
    amount = AmountField(
        label="Amount of a part, USD",
        required=False,
        widget=UnfoldAdminDecimalFieldWidget(attrs={"step": "0.01"}),
    )
    field_order = ("method", "address", "memo", "share", "amount", "reason", "body", "then")

    def __init__(
        self,
        *args: Any,
        methods: Sequence[PayoutMethod],
        payable: Decimal,
        minimum: Decimal,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        choices = [(method.code, as_customers_call_it(method)) for method in methods]
        self.fields["method"].choices = [("", "Choose…"), *choices]  # type: ignore[attr-defined]
        self.fields["share"].choices = [  # type: ignore[attr-defined]
            ("whole", f"The whole balance, {payable} USD"),
            ("part", "A part of it"),
        ]
        least = f"{minimum.quantize(CENT)} USD"
        self.fields["amount"].help_text = (
            f"In whole cents, at least {least}. Less than {least} that stay in the wallet cannot "
            "be paid out later."
        )
        self.fields["reason"].label = "What the customer asked for"
        self.fields[
            "body"
        ].help_text = (
            "The customer is told of the payout, with its amount and address, in a notice after it."
        )
        self.fields["then"].initial = "open"

    def clean(self) -> dict[str, Any]:
        """The whole balance is asked for without an amount, a part with one."""
        typed = super().clean() or {}
        share, amount = typed.get("share"), typed.get("amount")
        if share == "part" and amount is None and "amount" not in self.errors:
            self.add_error("amount", "Say how much, or choose the whole balance.")
        if share == "whole" and amount is not None:
            self.add_error("amount", "Choose “A part of it”, or leave the amount out.")
        return typed


class WithdrawPayoutForm(CaseForm):
    """One's own payout, taken back as the page showed it."""

    payout = forms.IntegerField(widget=forms.HiddenInput)
    payout_seen = forms.IntegerField(min_value=0, max_value=LARGEST, widget=forms.HiddenInput)


class LinkForm(forms.Form):
    """An order of the same customer that the ticket is about, too. Linked twice, it is once."""

    order = forms.TypedChoiceField(coerce=int, widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, orders: Sequence[Order], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["order"].choices = [  # type: ignore[attr-defined]
            (order.pk, f"{order}: {order.service} / {order.country}, {State(order.state).label}")
            for order in orders
        ]
