"""What the wallet's floor has sealed beside the histories."""

from __future__ import annotations

from wallet.evidence import Evidence, register, unrecorded
from wallet.models import (
    AccountOutcome,
    BatchLine,
    ClaimFile,
    ClaimFileReading,
    Close,
    CloseFigure,
    Deposit,
    Export,
    ExportDownload,
    FileDownload,
    Holding,
    LiabilityCheck,
    PayoutFile,
    PayoutMove,
    PayoutOutcome,
    ResultFile,
    ResultLine,
    Transfer,
)

_POSTED = "SELECT posted_at FROM wallet_transfer WHERE id = t.transfer_id"

register(
    Evidence(Transfer, "t.posted_at"),
    Evidence(Deposit, _POSTED),
    Evidence(ClaimFile, "t.added_at"),
    Evidence(ClaimFileReading, "t.read_at"),
    Evidence(PayoutMove, _POSTED),
    Evidence(PayoutOutcome, "t.at", without=("told_at",)),
    Evidence(AccountOutcome, "t.at", without=("told_at",)),
    Evidence(
        BatchLine,
        "SELECT made_at FROM wallet_payoutbatch WHERE id = t.batch_id",
        without=("live",),
    ),
    Evidence(PayoutFile, "SELECT exported_at FROM wallet_payoutbatch WHERE id = t.batch_id"),
    Evidence(FileDownload, "t.at"),
    Evidence(ResultFile, "t.uploaded_at"),
    Evidence(ResultLine, "t.applied_at"),
    Evidence(ExportDownload, "t.at"),
    Evidence(Close, "t.closed_at"),
    Evidence(CloseFigure, "SELECT closed_at FROM wallet_close WHERE id = t.close_id"),
    Evidence(Holding, "t.entered_at"),
    Evidence(LiabilityCheck, "t.checked_at"),
)
# How far a worker has come.
unrecorded(
    Export,
    *("state", "attempt", "read_at", "rows_expected"),
    *("size", "sha256", "finished_at", "expires_at", "problem"),
)
