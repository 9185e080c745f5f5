"""What support has sealed beside the histories. Of a message and a file only a hash is kept."""

from __future__ import annotations

from support.models import (
    Attachment,
    AttachmentReading,
    Message,
    TicketOrder,
    TicketPayout,
    TicketRefund,
)
from wallet.evidence import Evidence, register

register(
    Evidence(Message, "t.created_at"),
    Evidence(
        Attachment,
        "SELECT created_at FROM support_message WHERE id = t.message_id",
        # Its bytes, whatever they are said to be.
        also={"bytes": "SELECT sha256(content) FROM support_blob WHERE sha256 = t.blob_id"},
    ),
    Evidence(AttachmentReading, "t.read_at"),
    Evidence(TicketOrder),
    Evidence(
        TicketRefund,
        "SELECT requested_at FROM refunds_refundrequest WHERE id = t.request_id",
        without=("disputed_by_id",),
    ),
    Evidence(TicketPayout, "SELECT requested_at FROM wallet_payout WHERE id = t.payout_id"),
)
