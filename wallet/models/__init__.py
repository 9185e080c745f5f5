"""Storefronts and their customers, wallets, the ledger, and what people decide about money."""

from wallet.models.books import AuditRun, Seal
from wallet.models.customers import (
    CURRENCY,
    FIRST_WALLET,
    ApiKey,
    Customer,
    Storefront,
    Wallet,
)
from wallet.models.decisions import (
    Claim,
    Correction,
    Decision,
    Reinstatement,
    RoleLimit,
    Termination,
)
from wallet.models.ledger import Account, Deposit, Transfer

__all__ = [
    "CURRENCY",
    "FIRST_WALLET",
    "Account",
    "ApiKey",
    "AuditRun",
    "Claim",
    "Correction",
    "Customer",
    "Decision",
    "Deposit",
    "Reinstatement",
    "RoleLimit",
    "Seal",
    "Storefront",
    "Termination",
    "Transfer",
    "Wallet",
]
