"""Customers, wallets as statements, the ledger's lines, deposits, storefronts, keys and audits."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from smsactivator.common.admin import BoundedAdmin, Facts, ReadOnlyAdmin, Table, TimeRangeFilter
from smsactivator.common.display import (
    BAD,
    GOOD,
    NOTHING,
    amount,
    badge,
    duration,
    moment,
    money,
    mono,
    number,
)
from smsactivator.common.links import Link, admin_url, collect, joined, source_for
from wallet import admin_batches as admin_batches
from wallet import admin_decisions as admin_decisions
from wallet import admin_exports as admin_exports
from wallet import admin_payout_methods as admin_payout_methods
from wallet import admin_payouts as admin_payouts
from wallet import admin_refused_addresses as admin_refused_addresses
from wallet import evidence, keys, queries, statements
from wallet import timelines as timelines
from wallet.admin_decisions import wallet_badge
from wallet.ledger import account_name
from wallet.models import (
    FIRST_WALLET,
    ApiKey,
    AuditRun,
    Customer,
    Deposit,
    Seal,
    Storefront,
    Transfer,
    Wallet,
)
from wallet.pages import customer_link, named_customers, whole_number
from wallet.statements import PeriodForm

log = logging.getLogger(__name__)


@source_for("wallet.Transfer")
def deposits_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The deposits that these transfers credited."""
    return {
        deposit.transfer_id: [
            Link(
                f"Deposit {deposit.reference}",
                admin_url("wallet_deposit_change", deposit.pk),
                "wallet.view_deposit",
            )
        ]
        for deposit in Deposit.objects.filter(transfer_id__in=pks)
    }


@source_for("wallet.Transfer")
def reversals_of_transfers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """What these transfers reverse, and what reversed them."""
    links: dict[int, list[Link]] = defaultdict(list)
    pairs = Transfer.objects.filter(Q(pk__in=pks) | Q(reverses__in=pks), reverses__isnull=False)
    for reversal, original in pairs.values_list("pk", "reverses_id"):
        for pk, word, other in (
            (reversal, "Reverses", original),
            (original, "Reversed by", reversal),
        ):
            links[pk].append(
                Link(
                    f"{word} transfer {other}",
                    admin_url("wallet_transfer_change", other),
                    "wallet.view_transfer",
                )
            )
    return {pk: links[pk] for pk in pks if pk in links}


@source_for("wallet.Customer")
def money_of_customers(pks: Sequence[int]) -> Mapping[int, Iterable[Link]]:
    """The statements and the deposits of these customers."""
    return {
        pk: [
            Link("Wallet statement", admin_url("wallet_wallet_change", pk), "wallet.view_wallet"),
            Link(
                "Deposits",
                admin_url("wallet_deposit_changelist", transfer__wallet=pk),
                "wallet.view_deposit",
            ),
        ]
        for pk in pks
    }


@admin.register(Customer)
class CustomerAdmin(ReadOnlyAdmin):
    """A storefront's customers; created and changed by their storefront alone."""

    related = ("storefront", "wallet")
    list_display = (
        "external_id",
        "email",
        "storefront",
        "status_badge",
        "wallet_state",
        "balance",
        "created",
    )
    list_filter = (
        ("storefront", RelatedDropdownFilter),
        "status",
        ("created_at", TimeRangeFilter),
    )
    search_fields = ("external_id", "email", "pk")
    search_help_text = "Id at the storefront, email, or wallet number — exactly"
    history_permission = "wallet.view_historicalcustomer"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            pks = named_customers(term)
            if (number := whole_number(term)) is not None:
                pks.append(number)
            queryset = queryset.filter(pk__in=pks)
        return queryset, False

    @display(description="At the storefront")
    def status_badge(self, customer: Customer) -> SafeString:
        if customer.status == Customer.Status.ACTIVE:
            return badge("Active", GOOD)
        return badge("Suspended", BAD)

    @display(description="Wallet")
    def wallet_state(self, customer: Customer) -> SafeString:
        return wallet_badge(customer.wallet)

    @display(description="Balance, USD")
    def balance(self, customer: Customer) -> SafeString:
        return money(customer.wallet.balance)

    @display(description="Created (UTC)")
    def created(self, customer: Customer) -> SafeString:
        return moment(customer.created_at)

    def title_of(self, obj: Customer) -> str:
        return f"Customer {obj.external_id}"

    def facts(self, request: HttpRequest, obj: Customer) -> Iterable[Facts]:
        statement = Link(
            f"Statement of {obj.wallet.version:,} lines",
            admin_url("wallet_wallet_change", obj.pk),
            "wallet.view_wallet",
        )
        yield Facts(
            "Customer",
            [
                ("Id at the storefront", mono(obj.external_id)),
                ("Email", obj.email or NOTHING),
                ("Storefront", obj.storefront.name),
                ("Status at the storefront", self.status_badge(obj)),
                ("Created (UTC)", moment(obj.created_at)),
            ],
        )
        yield Facts(
            "Wallet",
            [
                ("Number", mono(str(obj.pk))),
                ("State", wallet_badge(obj.wallet)),
                ("Balance, USD", money(obj.wallet.balance)),
                ("Lines", statement.html(request.user)),
            ],
        )


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    """Each wallet's ledger as a statement, newest first."""

    related = ("customer__storefront",)
    ordering = ("-customer_id",)
    list_display = ("number", "customer_name", "storefront", "state_shown", "balance_usd", "lines")
    list_filter = (
        ("customer__storefront", RelatedDropdownFilter),
        ("state", ChoicesDropdownFilter),
    )
    search_fields = ("customer__external_id", "customer__email", "pk")
    search_help_text = "Wallet number, customer's id or email — exactly"
    detail_template = "wallet/statement.html"
    history_permission = "wallet.view_historicalwallet"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            pks = named_customers(term)
            if (number := whole_number(term)) is not None:
                pks.append(number)
            queryset = queryset.filter(pk__in=pks)
        return queryset, False

    @display(description="Wallet")
    def number(self, wallet: Wallet) -> SafeString:
        return mono(str(wallet.pk))

    @display(description="Customer")
    def customer_name(self, wallet: Wallet) -> SafeString:
        return customer_link(wallet.customer)

    @display(description="Storefront")
    def storefront(self, wallet: Wallet) -> str:
        return wallet.customer.storefront.name

    @display(description="Balance, USD")
    def balance_usd(self, wallet: Wallet) -> SafeString:
        return money(wallet.balance)

    @display(description="State")
    def state_shown(self, wallet: Wallet) -> SafeString:
        return wallet_badge(wallet)

    @display(description="Lines")
    def lines(self, wallet: Wallet) -> SafeString:
        return number(wallet.version)

    def title_of(self, obj: Wallet) -> str:
        return f"Statement of wallet {obj.pk}"

    def links(self, request: HttpRequest, obj: Wallet) -> list[Link]:
        customer = Link(
            f"Customer {obj.customer.external_id}",
            admin_url("wallet_customer_change", obj.pk),
            "wallet.view_customer",
        )
        others = collect("wallet.Customer", [obj.pk])[obj.pk]
        here = admin_url("wallet_wallet_change", obj.pk)
        return [customer, *(link for link in others if link.url != here)]

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/statement.csv", view(self.csv_view), name="wallet_wallet_csv"),
            path("<int:pk>/statement/print/", view(self.print_view), name="wallet_wallet_print"),
            *super().get_urls(),
        ]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The statement; 400 for a period that is none, which the page says."""
        response = super().changeform_view(request, object_id, form_url, extra_context)
        if isinstance(response, TemplateResponse) and (response.context_data or {}).get("errors"):
            response.status_code = 400
        return response

    def detail_context(self, request: HttpRequest, obj: Wallet) -> dict[str, Any]:
        """One page of a period: ``?since=<day>&until=<day>&upto=<version>``; ``?at=<moment>``."""
        if not request.user.has_perm("wallet.view_transfer"):
            raise PermissionDenied
        form = PeriodForm(request.GET)
        period = form.period_of(obj)
        newest = whole_number(request.GET.get("upto", ""))
        statement = queries.statement(period, newest=newest)
        causes = collect("wallet.Transfer", [line.pk for line in statement.lines])
        days = self._days(form)
        query = urlencode(days)
        moment_asked = form.cleaned_data.get("at") if form.is_valid() else None
        # Lines show their second: who asks for one means its lines as well.
        standing = queries.at(obj, moment_asked + timedelta(seconds=1)) if moment_asked else None
        return {
            "state": wallet_badge(obj),
            "form": form,
            "errors": [error for errors in form.errors.values() for error in errors],
            "period": period,
            "periods": self._periods(),
            "days": days,
            "query": query,
            "csv_url": admin_url("wallet_wallet_csv", obj.pk) + f"?{query}",
            "print_url": admin_url("wallet_wallet_print", obj.pk) + f"?{query}",
            "standing": standing
            and {
                "at": moment(moment_asked),
                "balance": amount(standing.balance),
                "version": standing.version,
            },
            "statement": statement,
            "oldest_page": min(period.first + 49, period.last),
            "lines": [
                {
                    "version": line.wallet_version,
                    "at": moment(line.posted_at),
                    "kind": Transfer.Kind(line.kind).label,
                    "url": admin_url("wallet_transfer_change", line.pk),
                    "causes": joined(link.html(request.user) for link in causes[line.pk]),
                    "debit": amount(line.amount) if line.change < 0 else "",
                    "credit": amount(line.amount) if line.change > 0 else "",
                    "balance": amount(line.balance_after),
                }
                for line in statement.lines
            ],
            "brought_forward": amount(statement.brought_forward),
            "closing": amount(period.closing),
            "balance": amount(obj.balance),
        }

    def csv_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The statement of a period as CSV, streamed."""
        wallet, form = self._asked(request, pk)
        if not form.is_valid():
            raise BadRequest("; ".join(str(e) for errors in form.errors.values() for e in errors))
        period = form.period_of(wallet)
        log.info(
            "user %s takes the statement of wallet %s as CSV: %s, %s lines",
            request.user.pk,
            pk,
            form.words(),
            period.count,
        )
        response = StreamingHttpResponse(
            statements.as_csv(period), content_type="text/csv; charset=utf-8"
        )
        name = f"wallet-{pk}_{form.words()}.csv"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response

    def print_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The statement of a period for printing."""
        wallet, form = self._asked(request, pk)
        if not form.is_valid():
            raise BadRequest("; ".join(str(e) for errors in form.errors.values() for e in errors))
        period = form.period_of(wallet)
        too_long = period.count > statements.PRINTED
        lines = [] if too_long else list(statements.lines(period))
        context = {
            "period": period,
            "customer": wallet.customer,
            "now": timezone.now(),
            "opening": amount(period.opening),
            "closing": amount(period.closing),
            "debits": amount(sum((line.debit or Decimal(0) for line in lines), Decimal(0))),
            "credits": amount(sum((line.credit or Decimal(0) for line in lines), Decimal(0))),
            "too_long": too_long,
            "limit": statements.PRINTED,
            "lines": [
                {
                    "version": line.transfer.wallet_version,
                    "at": f"{line.transfer.posted_at:%Y-%m-%d %H:%M:%S}",
                    "what": line.what,
                    "cause": line.cause,
                    "debit": amount(line.debit) if line.debit else "",
                    "credit": amount(line.credit) if line.credit else "",
                    "balance": amount(line.transfer.balance_after),
                }
                for line in lines
            ],
        }
        return TemplateResponse(request, "wallet/statement_print.html", context)

    def _asked(self, request: HttpRequest, pk: int) -> tuple[Wallet, PeriodForm]:
        """The wallet and the period that a download names, for those who may see its lines."""
        if not request.user.has_perms(("wallet.view_wallet", "wallet.view_transfer")):
            raise PermissionDenied
        wallet = self.get_object(request, str(pk))
        if wallet is None:
            raise Http404(f"There is no wallet {pk}.")
        return wallet, PeriodForm(request.GET)

    @staticmethod
    def _days(form: PeriodForm) -> list[tuple[str, str]]:
        """The days that were asked for, as an address names them."""
        days = [(name, form.data.get(name, "")) for name in ("since", "until")]
        return [(name, day) for name, day in days if day and form.is_valid()]

    @staticmethod
    def _periods() -> list[tuple[str, str]]:
        """Periods that people ask for, each with its query."""
        this = timezone.now().date().replace(day=1)
        last = (this - timedelta(days=1)).replace(day=1)
        return [
            ("This month", urlencode({"since": this.isoformat()})),
            (
                "Last month",
                urlencode({"since": last.isoformat(), "until": str(this - timedelta(days=1))}),
            ),
            ("All", ""),
        ]


def account_html(number: int, user: Any) -> SafeString | str:
    """An account in words; a wallet leads to its statement."""
    if number < FIRST_WALLET:
        return account_name(number)
    url = admin_url("wallet_wallet_change", number)
    return Link(f"Wallet {number}", url, "wallet.view_wallet").html(user)


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    """The ledger's lines."""

    time_field = "posted_at"
    list_display = ("id", "posted", "kind", "debited", "credited", "amount_usd", "key")
    list_filter = (("kind", ChoicesDropdownFilter), ("posted_at", TimeRangeFilter))
    search_fields = ("pk", "key")
    search_help_text = "Transfer number, idempotency key, customer's id or email — exactly"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            pks = list(queryset.model.objects.filter(key=term).values_list("pk", flat=True))
            if (number := whole_number(term)) is not None:
                pks.append(number)
            customers = named_customers(term)
            queryset = queryset.filter(
                Q(wallet_id__in=customers) if customers and not pks else Q(pk__in=pks)
            )
        return queryset, False

    @display(description="Posted (UTC)")
    def posted(self, transfer: Transfer) -> SafeString:
        return moment(transfer.posted_at)

    @display(description="Debit")
    def debited(self, transfer: Transfer) -> str:
        return account_name(transfer.debit_account).capitalize()

    @display(description="Credit")
    def credited(self, transfer: Transfer) -> str:
        return account_name(transfer.credit_account).capitalize()

    @display(description="Amount, USD")
    def amount_usd(self, transfer: Transfer) -> SafeString:
        return money(transfer.amount)

    def facts(self, request: HttpRequest, obj: Transfer) -> Iterable[Facts]:
        yield Facts(
            "Transfer",
            [
                ("What", Transfer.Kind(obj.kind).label),
                ("Posted (UTC)", moment(obj.posted_at)),
                ("Debit", account_html(obj.debit_account, request.user)),
                ("Credit", account_html(obj.credit_account, request.user)),
                (f"Amount, {obj.currency}", money(obj.amount)),
                ("Idempotency key", mono(obj.key)),
            ],
        )
        if obj.wallet_id is not None:
            line = Link(
                f"Line {obj.wallet_version}",
                admin_url("wallet_wallet_change", obj.wallet_id, upto=obj.wallet_version),
                "wallet.view_wallet",
            )
            yield Facts(
                "On the wallet's statement",
                [
                    ("Line", line.html(request.user)),
                    ("Balance after, USD", money(obj.balance_after)),
                ],
            )


@admin.register(Deposit)
class DepositAdmin(ReadOnlyAdmin):
    """Crypto payments that arrived."""

    related = ("storefront", "transfer__wallet__customer")
    time_field = "transfer__posted_at"
    list_display = ("reference", "arrived", "customer", "storefront", "amount_usd")
    list_filter = (("storefront", RelatedDropdownFilter), ("transfer__posted_at", TimeRangeFilter))
    linked_lookups = ("transfer__wallet",)
    search_fields = ("reference",)
    search_help_text = "Payment reference, customer's id or email — exactly"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if term:
            # Named storefronts let the (storefront, reference) index find the reference.
            storefronts = list(Storefront.objects.values_list("pk", flat=True))
            found = queryset.filter(storefront_id__in=storefronts, reference=term)
            customers = named_customers(term)
            if customers and not found.exists():
                found = queryset.filter(transfer__wallet_id__in=customers)
            queryset = found
        return queryset, False

    @display(description="Arrived (UTC)")
    def arrived(self, deposit: Deposit) -> SafeString:
        return moment(deposit.transfer.posted_at)

    @display(description="Customer")
    def customer(self, deposit: Deposit) -> SafeString:
        wallet = deposit.transfer.wallet
        return customer_link(wallet.customer) if wallet else NOTHING

    @display(description="Amount, USD")
    def amount_usd(self, deposit: Deposit) -> SafeString:
        return money(deposit.transfer.amount)

    def title_of(self, obj: Deposit) -> str:
        return f"Deposit {obj.reference}"

    def facts(self, request: HttpRequest, obj: Deposit) -> Iterable[Facts]:
        transfer = Link(
            str(obj.transfer),
            admin_url("wallet_transfer_change", obj.transfer_id),
            "wallet.view_transfer",
        )
        yield Facts(
            "Deposit",
            [
                ("Payment reference", mono(obj.reference)),
                ("Storefront", obj.storefront.name),
                ("Arrived (UTC)", moment(obj.transfer.posted_at)),
                ("Amount, USD", money(obj.transfer.amount)),
                ("Customer", self.customer(obj)),
                ("Transfer", transfer.html(request.user)),
            ],
        )


@admin.register(Storefront)
class StorefrontAdmin(BoundedAdmin):
    """The shop fronts that sell in our name."""

    list_display = ("name", "created")
    fields = ("name",)

    @display(description="Created (UTC)")
    def created(self, storefront: Storefront) -> SafeString:
        return moment(storefront.created_at)


class IssueForm(forms.ModelForm):  # type: ignore[type-arg]
    """For whom a key is, and where it will be used."""

    class Meta:
        model = ApiKey
        fields = ("storefront", "name")
        widgets = {"storefront": UnfoldAdminSelectWidget, "name": UnfoldAdminTextInputWidget}


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """The storefronts' keys: issued and revoked, never edited, shown in full once."""

    related = ("storefront",)
    list_display = ("shown", "name", "storefront", "standing", "created", "created_by")
    list_filter = (("storefront", RelatedDropdownFilter),)
    detail_template = "wallet/api_key.html"

    @display(description="Key")
    def shown(self, key: ApiKey) -> SafeString:
        return mono(f"{key.prefix}…")

    @display(description="State")
    def standing(self, key: ApiKey) -> SafeString:
        return badge("Revoked", BAD) if key.revoked_at else badge("In use", GOOD)

    @display(description="Issued (UTC)")
    def created(self, key: ApiKey) -> SafeString:
        return moment(key.created_at)

    def facts(self, request: HttpRequest, obj: ApiKey) -> Iterable[Facts]:
        yield Facts(
            "Key",
            [
                ("Begins with", mono(f"{obj.prefix}…")),
                ("Used at", obj.name),
                ("Storefront", obj.storefront.name),
                ("State", self.standing(obj)),
                ("Issued (UTC)", moment(obj.created_at)),
                ("Issued by", obj.created_by or NOTHING),
                ("Revoked (UTC)", moment(obj.revoked_at)),
                ("Revoked by", obj.revoked_by or NOTHING),
            ],
        )

    def detail_context(self, request: HttpRequest, obj: ApiKey) -> dict[str, Any]:
        return {
            "revoke_url": None
            if obj.revoked_at or not request.user.has_perm("wallet.change_apikey")
            else admin_url("wallet_apikey_revoke", obj.pk)
        }

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whether the user may issue keys."""
        return bool(request.user.has_perm("wallet.add_apikey"))

    def get_urls(self) -> list[URLPattern]:
        revoke = path(
            "<int:key_id>/revoke/",
            self.admin_site.admin_view(self.revoke_view),
            name="wallet_apikey_revoke",
        )
        return [revoke, *super().get_urls()]

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Issue a key. Its text is in the answer to this POST and nowhere else, ever."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = IssueForm(request.POST if request.method == "POST" else None)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Issue an API key",
            "form": form,
        }
        if form.is_valid():
            try:
                context["key"], context["plain"] = keys.issue_by_person(
                    request.user, form.cleaned_data["storefront"], name=form.cleaned_data["name"]
                )
            except keys.KeyNameTaken as taken:
                form.add_error("name", taken.message)
            else:
                context["title"] = "API key issued"
                request.taken = True  # type: ignore[attr-defined]  # its draft is needed no more
        return TemplateResponse(request, "wallet/issue_key.html", context)

    def revoke_view(self, request: HttpRequest, key_id: int) -> HttpResponse:
        """Ask whether to revoke a key (GET), and revoke it (POST)."""
        if not request.user.has_perm("wallet.change_apikey"):
            raise PermissionDenied
        key = self.get_object(request, str(key_id))
        if key is None:
            raise Http404(f"There is no API key {key_id}.")
        if request.method == "POST":
            if keys.revoke_by_person(request.user, key.pk):
                messages.success(request, f"The key {key} is revoked: it is refused from now on.")
            else:
                messages.info(request, f"The key {key} was revoked before.")
            return HttpResponseRedirect(admin_url("wallet_apikey_change", key.pk))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Revoke an API key",
            "key": key,
            "back": admin_url("wallet_apikey_change", key.pk),
        }
        return TemplateResponse(request, "wallet/revoke_key.html", context)


@admin.register(AuditRun)
class AuditRunAdmin(ReadOnlyAdmin):
    """What each audit of the books checked and found."""

    time_field = "started_at"
    ordering = ("-started_at", "-id")
    list_display = ("started", "verdict", "looked_at", "checked", "took")
    list_filter = (("started_at", TimeRangeFilter),)

    @display(description="Started (UTC)")
    def started(self, run: AuditRun) -> SafeString:
        return moment(run.started_at)

    @display(description="Result")
    def verdict(self, run: AuditRun) -> SafeString:
        return badge("Passed", GOOD) if run.passed else badge("Failed", BAD)

    @display(description="Looked at")
    def looked_at(self, run: AuditRun) -> str:
        return "All transfers" if run.full else f"Transfers after {run.after_id}"

    @display(description="Checks")
    def checked(self, run: AuditRun) -> str:
        failed = sum(bool(check["count"]) for check in run.checks)
        return (
            f"{len(run.checks)} checks, {failed} failed" if failed else f"{len(run.checks)} checks"
        )

    @display(description="Took")
    def took(self, run: AuditRun) -> str:
        return duration(run.finished_at - run.started_at)

    def facts(self, request: HttpRequest, obj: AuditRun) -> Iterable[Facts]:
        yield Facts(
            "Audit",
            [
                ("Result", self.verdict(obj)),
                ("Started (UTC)", moment(obj.started_at)),
                ("Finished (UTC)", moment(obj.finished_at)),
                ("Took", self.took(obj)),
                ("Looked at", self.looked_at(obj)),
                ("Settled through", f"Transfer {obj.through_id}"),
            ],
        )

    def tables(self, request: HttpRequest, obj: AuditRun) -> Iterable[Table]:
        yield Table(
            title="Checks",
            headers=("Check", "Result", "Differences", "Took", "Figures, USD"),
            rows=[
                (
                    check["name"],
                    badge("Differs", BAD) if check["count"] else badge("Agrees", GOOD),
                    number(check["count"]),
                    f"{check['seconds']:.3f} s",
                    ", ".join(
                        f"{name.replace('_', ' ')} {value}"
                        for name, value in check["figures"].items()
                    )
                    or NOTHING,
                )
                for check in obj.checks
            ],
            empty="This audit checked nothing.",
            numeric=frozenset({"Differences", "Took"}),
        )
        for check in obj.checks:
            if check["count"]:
                named = len(check["differences"])
                cut = f" (first {named} of {check['count']:,})" if named < check["count"] else ""
                yield Table(
                    title=f"Differences: {check['name']}{cut}",
                    headers=("Difference",),
                    rows=[(difference,) for difference in check["differences"]],
                    empty="",
                )


@admin.register(Seal)
class SealAdmin(ReadOnlyAdmin):
    """The daily seals of the books."""

    ordering = ("-day",)
    list_display = ("day_sealed", "count", "digest_shown", "sealed")

    @display(description="Day (UTC)")
    def day_sealed(self, seal: Seal) -> str:
        return f"{seal.day:%Y-%m-%d}"

    @display(description="Transfers")
    def count(self, seal: Seal) -> SafeString:
        return number(seal.transfers)

    @display(description="Digest")
    def digest_shown(self, seal: Seal) -> SafeString:
        return mono(seal.digest)

    @display(description="Sealed (UTC)")
    def sealed(self, seal: Seal) -> SafeString:
        return moment(seal.sealed_at)

    def facts(self, request: HttpRequest, obj: Seal) -> Iterable[Facts]:
        day = f"{obj.day:%Y-%m-%d}"
        yield Facts(
            "Seal",
            [
                ("Day (UTC)", day),
                (
                    "Transfers",
                    Link(
                        f"{obj.transfers:,}",
                        admin_url(
                            "wallet_transfer_changelist",
                            posted_at_from_0=day,
                            posted_at_to_0=day,
                        ),
                        "wallet.view_transfer",
                    ).html(request.user),
                ),
                ("Covers", obj.get_version_display()),
                ("SHA-256", mono(obj.digest)),
                ("Of the day before", mono(obj.previous)),
                ("Sealed (UTC)", moment(obj.sealed_at)),
            ],
        )

    def tables(self, request: HttpRequest, obj: Seal) -> Iterable[Table]:
        yield Table(
            title="Rows that it covers beside its own list of transfers",
            headers=("What", "Rows"),
            rows=[(what, number(rows)) for what, rows in evidence.covered(obj.day)],
            empty="It covers the transfers alone.",
            numeric=frozenset({"Rows"}),
        )
