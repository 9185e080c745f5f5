"""Customers, wallets as statements, the ledger's lines, deposits, storefronts, keys and audits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import display
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.dateparse import parse_date
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RelatedDropdownFilter
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
from smsactivator.common.links import Link, admin_url, anchor, collect, joined, source_for
from wallet import keys, queries
from wallet.ledger import account_name
from wallet.models import (
    FIRST_WALLET,
    ApiKey,
    AuditRun,
    Customer,
    Deposit,
    Storefront,
    Transfer,
    Wallet,
)

LONGEST_ID = 18  # digits that every primary key can have


def whole_number(term: str) -> int | None:
    """A search term as a primary key, if it can be one."""
    digits = term.removeprefix("#")
    if digits.isascii() and digits.isdigit() and len(digits) <= LONGEST_ID:
        return int(digits)
    return None


def named_customers(term: str) -> list[int]:
    """Customers whose id at their storefront, or email, is exactly this: at most 100, by index."""
    return list(
        Customer.objects.filter(Q(external_id=term) | Q(email=term)).values_list("pk", flat=True)[
            :100
        ]
    )


def customer_link(customer: Customer) -> SafeString:
    """A customer by the name its storefront knows it by."""
    return anchor(customer.external_id, admin_url("wallet_customer_change", customer.pk))


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
    list_display = ("external_id", "email", "storefront", "status_badge", "balance", "created")
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

    @display(description="Status")
    def status_badge(self, customer: Customer) -> SafeString:
        if customer.status == Customer.Status.ACTIVE:
            return badge("Active", GOOD)
        return badge("Suspended", BAD)

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
                ("Status", self.status_badge(obj)),
                ("Created (UTC)", moment(obj.created_at)),
            ],
        )
        yield Facts(
            "Wallet",
            [
                ("Number", mono(str(obj.pk))),
                ("Balance, USD", money(obj.wallet.balance)),
                ("Lines", statement.html(request.user)),
            ],
        )


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    """Each wallet's ledger as a statement, newest first."""

    related = ("customer__storefront",)
    ordering = ("-customer_id",)
    list_display = ("number", "customer_name", "storefront", "balance_usd", "lines")
    list_filter = (("customer__storefront", RelatedDropdownFilter),)
    search_fields = ("customer__external_id", "customer__email", "pk")
    search_help_text = "Wallet number, customer's id or email — exactly"
    detail_template = "wallet/statement.html"

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

    def detail_context(self, request: HttpRequest, obj: Wallet) -> dict[str, Any]:
        """One page of the statement: ``?upto=<version>`` or the end of ``?day=<date>``."""
        if not request.user.has_perm("wallet.view_transfer"):
            raise PermissionDenied
        newest = whole_number(request.GET.get("upto", ""))
        day = self._day(request)
        if day is not None:
            end = datetime.combine(day, datetime.min.time(), tzinfo=UTC) + timedelta(days=1)
            newest = queries.version_at(obj, end)
        statement = queries.statement(obj, newest=newest)
        causes = collect("wallet.Transfer", [line.pk for line in statement.lines])
        return {
            "statement": statement,
            "day": day,
            "nothing_by_then": day is not None and newest == 0 and obj.version > 0,
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
            "balance": amount(obj.balance),
        }

    @staticmethod
    def _day(request: HttpRequest) -> Any:
        try:
            day = parse_date(request.GET.get("day", ""))
        except ValueError:
            return None
        return day if day is not None and day.year < 9999 else None


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
    list_filter = (("posted_at", TimeRangeFilter),)
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
                ("Amount, USD", money(obj.amount)),
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
    list_display = ("started", "verdict", "checked", "took")
    list_filter = (("started_at", TimeRangeFilter),)

    @display(description="Started (UTC)")
    def started(self, run: AuditRun) -> SafeString:
        return moment(run.started_at)

    @display(description="Result")
    def verdict(self, run: AuditRun) -> SafeString:
        return badge("Passed", GOOD) if run.passed else badge("Failed", BAD)

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
