"""The pages of what finance holds, and of whether it covers what customers are owed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from smsactivator.common.actions import ActionForm, Done
from smsactivator.common.admin import Facts, ReadOnlyAdmin, Table
from smsactivator.common.display import BAD, GOOD, NOTHING, amount, badge, moment, money, signed
from smsactivator.common.errors import Refused
from smsactivator.common.links import Link, admin_url, anchor
from smsactivator.common.money import AmountField
from smsactivator.finance import OWED
from wallet import closes, holdings
from wallet.closes import Balances
from wallet.holdings import is_recent
from wallet.models import Holding, LiabilityCheck


def _latest() -> str:
    return f"{timezone.now() - holdings.SETTLES_IN:%Y-%m-%d %H:%M:%S}"


class HoldingForm(ActionForm):
    """What is held, where, and how we know."""

    name = forms.CharField(
        label="Where",
        max_length=60,
        widget=UnfoldAdminTextInputWidget,
        help_text="The same words each time, such as “CoinsPaid USDT”.",
    )
    amount = AmountField(
        label="Amount, USD",
        widget=UnfoldAdminDecimalFieldWidget,
        help_text="0 when nothing is held there any more.",
    )
    as_of = forms.DateTimeField(
        label="As of (UTC)", widget=UnfoldAdminTextInputWidget, initial=_latest
    )
    source = forms.CharField(
        label="Source",
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Where the figure comes from, as a statement's name. Kept for good.",
    )


class CheckForm(ActionForm):
    """The moment to compare at."""

    at = forms.DateTimeField(label="At (UTC)", widget=UnfoldAdminTextInputWidget, initial=_latest)
    note = forms.CharField(
        label="Note",
        max_length=2000,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )


class EnteredAdmin(ReadOnlyAdmin):
    """Rows that finance enters by a form of their own, and nobody changes."""

    entered_by_form: type[ActionForm]
    explains = ""
    enter = ""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whether the person may enter one."""
        return bool(request.user.has_perm(holdings.PERMISSION))

    def entered(self, person: Any, given: dict[str, Any]) -> Done:
        """Call the verb."""
        raise NotImplementedError

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Ask (GET) and enter (POST); what the verb refuses is said above the form."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = self.entered_by_form(request.POST if request.method == "POST" else None)
        form.show(None, holdings.known())
        status = 200
        if request.method == "POST" and not form.is_valid():
            status = 422
        elif request.method == "POST":
            try:
                done = self.entered(request.user, form.cleaned_data)
            except Refused as refusal:
                form.show(None, holdings.known())
                form.refuse(refusal)
                status = refusal.status
            else:
                messages.success(request, done.message)
                return HttpResponseRedirect(done.url)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.enter,
            "action": {"label": self.enter, "explains": self.explains},
            "form": form,
            "back": admin_url(f"wallet_{self.opts.model_name}_changelist"),
        }
        return TemplateResponse(request, "smsactivator/action.html", context, status=status)


@admin.register(Holding)
class HoldingAdmin(EnteredAdmin):
    """What finance says it holds."""

    empty_list = "Finance enters each place where money is held, with the + at the top."
    related = ("entered_by",)
    list_display = ("name", "amount_usd", "moment_held", "who", "entered_at_shown")
    entered_by_form = HoldingForm
    enter = "Enter what is held"
    explains = (
        "An entry stays as it is. The newest one of a place counts: what was entered wrongly is "
        "entered again."
    )

    @display(description="Amount, USD")
    def amount_usd(self, holding: Holding) -> SafeString:
        return money(holding.amount)

    @display(description="As of (UTC)")
    def moment_held(self, holding: Holding) -> SafeString:
        return moment(holding.as_of)

    @display(description="Entered by")
    def who(self, holding: Holding) -> str:
        return holding.entered_by.get_username()

    @display(description="Entered (UTC)")
    def entered_at_shown(self, holding: Holding) -> SafeString:
        return moment(holding.entered_at)

    def title_of(self, obj: Holding) -> str:
        return f"Held at {obj.name}"

    def facts(self, request: HttpRequest, obj: Holding) -> Iterable[Facts]:
        yield Facts(
            "Holding",
            [
                ("Where", obj.name),
                ("Amount, USD", money(obj.amount)),
                ("As of (UTC)", moment(obj.as_of)),
                ("Source", obj.source),
                ("Entered by", self.who(obj)),
                ("Entered (UTC)", moment(obj.entered_at)),
            ],
        )

    def entered(self, person: Any, given: dict[str, Any]) -> Done:
        holding = holdings.record(person, **given)
        return Done(
            f"{amount(holding.amount)} USD at {holding.name} are entered.",
            admin_url("wallet_holding_changelist"),
        )


@admin.register(LiabilityCheck)
class LiabilityCheckAdmin(EnteredAdmin):
    """What customers were owed beside what was held, and now."""

    related = ("checked_by",)
    list_display = ("moment_checked", "owed", "held_usd", "difference", "verdict", "who")
    list_before_template = "smsactivator/liabilities.html"
    entered_by_form = CheckForm
    enter = "Check liabilities"
    explains = (
        "Sets what customers were owed at this moment, from the ledger, beside the newest entry of "
        "each place as of then, and keeps it."
    )

    @display(description="At (UTC)")
    def moment_checked(self, check: LiabilityCheck) -> SafeString:
        return moment(check.at)

    @display(description="Owed, USD")
    def owed(self, check: LiabilityCheck) -> SafeString:
        return money(check.owed)

    @display(description="Held, USD")
    def held_usd(self, check: LiabilityCheck) -> SafeString:
        return money(check.held)

    @display(description="Difference, USD")
    def difference(self, check: LiabilityCheck) -> SafeString:
        return signed(check.difference)

    @display(description="Result")
    def verdict(self, check: LiabilityCheck) -> SafeString:
        return result(check.difference, oldest=check.oldest, at=check.at)

    @display(description="Checked by")
    def who(self, check: LiabilityCheck) -> str:
        return check.checked_by.get_username()

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The past checks, under how it stands now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        now = timezone.now()
        held = holdings.held_at(now)
        owed = closes.owed_at(now)
        return super().changelist_view(
            request,
            {
                # The button below says what the list's own "+" would do.
                "has_add_permission": False,
                "tables": [_comparison(f"Now, {now:%Y-%m-%d %H:%M:%S} UTC", owed, held, now)],
                "actions_here": [
                    link
                    for link in (
                        Link(
                            "Enter what is held…",
                            admin_url("wallet_holding_add"),
                            holdings.PERMISSION,
                        ),
                        Link(
                            "Check liabilities…",
                            admin_url("wallet_liabilitycheck_add"),
                            holdings.PERMISSION,
                        ),
                    )
                    if link.allowed(request.user)
                ],
                **(extra_context or {}),
            },
        )

    def title_of(self, obj: LiabilityCheck) -> str:
        return f"Liabilities at {obj.at:%Y-%m-%d %H:%M:%S} UTC"

    def facts(self, request: HttpRequest, obj: LiabilityCheck) -> Iterable[Facts]:
        oldest = Holding.objects.filter(pk__in=obj.holdings).order_by("as_of", "name").first()
        place = oldest.name if oldest else ""
        yield Facts(
            "Check",
            [
                ("At (UTC)", moment(obj.at)),
                ("Result", result(obj.difference, oldest=obj.oldest, at=obj.at, place=place)),
                ("Checked by", self.who(obj)),
                ("Checked (UTC)", moment(obj.checked_at)),
                ("Note", obj.note or NOTHING),
            ],
        )

    def tables(self, request: HttpRequest, obj: LiabilityCheck) -> Iterable[Table]:
        held = Holding.objects.filter(pk__in=obj.holdings).order_by("name")
        yield _comparison(
            "Owed and held", Balances(obj.wallets, obj.escrow, obj.payouts), list(held), obj.at
        )

    def entered(self, person: Any, given: dict[str, Any]) -> Done:
        made = holdings.check(person, **given)
        return Done(
            f"{_said(made.difference, made.oldest, made.at)}; at {made.at:%Y-%m-%d %H:%M:%S} UTC.",
            admin_url("wallet_liabilitycheck_change", made.pk),
        )


def result(difference: Decimal, *, oldest: datetime, at: datetime, place: str = "") -> SafeString:
    """Whether what is held covers what is owed, in words; not by entries that are too old.

    ``oldest`` is when the oldest of the entries was so, and ``place`` where, if it is to be named.
    """
    fine = difference >= 0 and is_recent(oldest, at)
    return badge(_said(difference, oldest, at, place), GOOD if fine else BAD)


def _said(difference: Decimal, oldest: datetime, at: datetime, place: str = "") -> str:
    if not is_recent(oldest, at):
        entry = f"the entry of {place}" if place else "an entry"
        return f"Not comparable: {entry} is of {oldest:%Y-%m-%d %H:%M}"
    return f"Short by {amount(-difference)} USD" if difference < 0 else "Covered"


def _comparison(title: str, owed: Balances, held: Sequence[Holding], at: datetime) -> Table:
    """What is owed and what is held, line by line, and what is left."""
    total_held = sum((holding.amount for holding in held), Decimal(0))
    rows: list[tuple[SafeString | str, ...]] = [
        ("" if place else "Owed", label, "", money(getattr(owed, name)))
        for place, (name, label) in enumerate(OWED)
    ]
    rows.append(("", "All that is owed", "", money(owed.owed)))
    rows += [
        (
            "" if place else "Held",
            anchor(holding.name, admin_url("wallet_holding_change", holding.pk)),
            moment(holding.as_of)
            if is_recent(holding.as_of, at)
            else format_html("{} {}", moment(holding.as_of), badge("Too old", BAD)),
            money(holding.amount),
        )
        for place, holding in enumerate(held)
    ]
    if held:
        difference = total_held - owed.owed
        rows.append(("", "All that is held", "", money(total_held)))
        oldest = min(held, key=lambda holding: (holding.as_of, holding.name))
        said = result(difference, oldest=oldest.as_of, at=at, place=oldest.name)
        rows.append(("Difference", said, "", signed(difference)))
    else:
        rows.append(("Held", "Nothing was entered, so nobody knows whether it is covered.", "", ""))
    return Table(title, ("", "What", "As of (UTC)", "USD"), rows, "", frozenset({"USD"}))
