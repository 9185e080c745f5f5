"""The storefront API of customers, deposits and wallets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from django.http import HttpRequest
from ninja import Field, Router, Schema
from ninja.responses import Status
from ninja.security import HttpBearer
from pydantic import WithJsonSchema

from smsactivator.common.api import AmountIn, AmountOut, Body, Email, ExternalId, Problem, Reference
from smsactivator.common.history import Actor
from wallet import customers, deposits, keys, standing
from wallet.models import ApiKey, Customer, Deposit

router = Router(tags=["Customers"])


class StorefrontKey(HttpBearer):
    """A storefront's bearer key; ``request.auth`` is the live ApiKey."""

    def authenticate(self, request: HttpRequest, token: str) -> ApiKey | None:
        return keys.authenticate(token)


class StorefrontRequest(HttpRequest):
    """A request that a storefront's key has let in."""

    auth: ApiKey


def actor_of(request: StorefrontRequest) -> Actor:
    """Who acts through this request, for the history."""
    return Actor.api_key(request.auth.storefront.name, request.auth.prefix)


WalletState = Annotated[
    Literal["active", "frozen", "forfeited", "closed"],
    Field(
        description="A frozen wallet spends nothing, and refunds and deposits still arrive. A "
        "forfeited one is of a terminated account, and a closed one of a customer who left: "
        "nothing moves on either."
    ),
]


class CustomerIn(Body):
    email: Email | None = Field(None, description="Left as it is when not given.")
    status: Literal["active", "suspended"] | None = Field(
        None, description="Left as it is when not given; a new customer is active."
    )


class CustomerOut(Schema):
    id: str
    email: str
    status: str
    wallet_state: WalletState
    created_at: datetime

    @staticmethod
    def resolve_id(customer: Customer) -> str:
        return customer.external_id

    @staticmethod
    def resolve_wallet_state(customer: Customer) -> str:
        return str(customer.wallet.state)


# More than nothing, at most a million (``deposits.deposit``), with up to 15 digits.
PAYMENT = (
    r"^(?=[0.]*[1-9])"
    r"(0{0,9}[0-9]{1,6}(\.[0-9]{1,4})?|0{0,8}1000000(\.0{1,4})?)$"
)
Payment = Annotated[
    AmountIn, WithJsonSchema({"type": "string", "pattern": PAYMENT, "examples": ["12.50"]})
]


class DepositIn(Body):
    amount: Payment
    reference: Reference


class DepositOut(Schema):
    reference: str
    amount: AmountOut
    balance_after: AmountOut
    posted_at: datetime

    @staticmethod
    def resolve_amount(deposit: Deposit) -> object:
        return deposit.transfer.amount

    @staticmethod
    def resolve_balance_after(deposit: Deposit) -> object:
        return deposit.transfer.balance_after

    @staticmethod
    def resolve_posted_at(deposit: Deposit) -> datetime:
        return deposit.transfer.posted_at


class WalletOut(Schema):
    customer: str
    currency: Literal["USD"] = "USD"
    balance: AmountOut
    version: int
    state: WalletState
    reason: str = Field(
        description="Why nothing is spent from it, in words for the customer and with the refund "
        "policy's clause; empty of an active wallet."
    )


@router.put(
    "/customers/{external_id}",
    response={200: CustomerOut, 201: CustomerOut, 422: Problem},
    summary="Create or update a customer",
)
def put_customer(
    request: StorefrontRequest, external_id: ExternalId, body: CustomerIn
) -> Status[Customer]:
    """The customer as given. A new one gets an empty wallet."""
    customer, created = customers.create_or_update(
        request.auth.storefront_id,
        external_id,
        email=body.email,
        status=body.status,
        actor=actor_of(request),
    )
    return Status(201 if created else 200, customer)


@router.get(
    "/customers/{external_id}",
    response={200: CustomerOut, 404: Problem},
    summary="Read a customer",
)
def get_customer(request: StorefrontRequest, external_id: ExternalId) -> Customer:
    return customers.find(request.auth.storefront_id, external_id)


@router.post(
    "/customers/{external_id}/deposits",
    response={
        200: DepositOut,
        201: DepositOut,
        403: Problem,
        404: Problem,
        409: Problem,
        422: Problem,
    },
    summary="Credit a crypto payment",
)
def post_deposit(
    request: StorefrontRequest, external_id: ExternalId, body: DepositIn
) -> Status[Deposit]:
    """Credit a payment to the wallet, once per payment reference: a repeat answers 200.

    403 for a customer whose wallet is forfeited or closed; a person decides about that payment.
    """
    customer = customers.find(request.auth.storefront_id, external_id)
    deposit, created = deposits.deposit(customer, amount=body.amount, reference=body.reference)
    return Status(201 if created else 200, deposit)


@router.get(
    "/customers/{external_id}/wallet",
    response={200: WalletOut, 404: Problem},
    summary="Read a wallet",
)
def get_wallet(request: StorefrontRequest, external_id: ExternalId) -> WalletOut:
    customer = customers.find(request.auth.storefront_id, external_id)
    wallet = customer.wallet
    return WalletOut(
        customer=customer.external_id,
        balance=wallet.balance,
        version=wallet.version,
        state=wallet.state,
        reason=standing.explain(wallet),
    )
