"""Storefronts and their customers, wallets, the ledger, and what people decide about money."""

from wallet.models.batches import (
    BatchLine,
    FileDownload,
    PayoutBatch,
    PayoutFile,
    ResultFile,
    ResultLine,
)
from wallet.models.books import AuditRun, Seal, SealedRows
from wallet.models.closes import Close, CloseFigure, Holding, LiabilityCheck
from wallet.models.customers import (
    CURRENCY,
    FIRST_WALLET,
    ApiKey,
    Customer,
    Storefront,
    Wallet,
)
from wallet.models.decisions import (
    AccountOutcome,
    Claim,
    ClaimFile,
    ClaimFileReading,
    Correction,
    Decision,
    Reinstatement,
    RoleLimit,
    Termination,
)
from wallet.models.exports import Export, ExportDownload, ExportPart
from wallet.models.ledger import Account, Deposit, Transfer
from wallet.models.payouts import (
    OPEN_PAYOUTS,
    Payout,
    PayoutMethod,
    PayoutMove,
    PayoutOutcome,
    RefusedAddress,
)

__all__ = [
    "CURRENCY",
    "FIRST_WALLET",
    "OPEN_PAYOUTS",
    "Account",
    "AccountOutcome",
    "ApiKey",
    "AuditRun",
    "BatchLine",
    "Claim",
    "ClaimFile",
    "ClaimFileReading",
    "Close",
    "CloseFigure",
    "Correction",
    "Customer",
    "Decision",
    "Deposit",
    "Export",
    "ExportDownload",
    "ExportPart",
    "FileDownload",
    "Holding",
    "LiabilityCheck",
    "Payout",
    "PayoutBatch",
    "PayoutFile",
    "PayoutMethod",
    "PayoutMove",
    "PayoutOutcome",
    "RefusedAddress",
    "Reinstatement",
    "ResultFile",
    "ResultLine",
    "RoleLimit",
    "Seal",
    "SealedRows",
    "Storefront",
    "Termination",
    "Transfer",
    "Wallet",
]
