"""Files as evidence: kept byte by byte in the database, known by what they contain, and handed out
to people of ours only, each time noted (decision 0021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

from smsactivator.common.errors import NotFound
from smsactivator.common.files import Prepared
from support.models import Attachment, AttachmentReading, Blob, Message
from wallet.limits import require


class AttachmentUnknown(NotFound):
    """There is no such attachment."""

    code = "unknown_attachment"


def store(files: Sequence[Prepared]) -> None:
    """Keep the bytes of the files, once per content: one statement, in the order of the hashes.

    Comes first in its transaction, so that no ticket is locked while megabytes travel.
    """
    rows = {file.sha256: file for file in files}
    Blob.objects.bulk_create(
        [
            Blob(sha256=sha256, content=rows[sha256].content, size=len(rows[sha256].content))
            for sha256 in sorted(rows)
        ],
        ignore_conflicts=True,
    )


def attach(message: Message, files: Sequence[Prepared]) -> None:
    """Hang stored files on a new message: one statement."""
    Attachment.objects.bulk_create(
        Attachment(
            message=message, blob_id=file.sha256, name=file.name, content_type=file.content_type
        )
        for file in files
    )


def read(person: Any, attachment_id: int) -> Attachment:
    """An attachment with its bytes, for a person of ours; that they took it is written down.

    Raises PermissionDenied, AttachmentUnknown.
    """
    require(person, "support.view_attachment")
    with transaction.atomic():
        found = Attachment.objects.select_related("blob").filter(pk=attachment_id).first()
        if found is None:
            raise AttachmentUnknown(f"There is no attachment {attachment_id}.")
        AttachmentReading.objects.create(attachment=found, person=person, read_at=timezone.now())
        return found
