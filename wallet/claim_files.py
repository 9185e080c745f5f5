"""The files that show a chargeback claim: kept byte by byte in the database, as what customers send
(decision 0021), and handed out to people of ours only, each time noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from smsactivator.common.errors import NotFound
from smsactivator.common.files import Prepared, Upload, prepare
from wallet.claims import ClaimIncomplete, ClaimUnknown
from wallet.limits import require
from wallet.models import Claim, ClaimFile, ClaimFileReading

# Who works on claims takes their files, which is written down: an auditor writes nothing.
TAKERS = ("wallet.record_claim", "wallet.decide_claim", "wallet.confirm_termination")


class ClaimFileUnknown(NotFound):
    """There is no such file of a claim."""

    code = "unknown_claim_file"


def add(person: Any, claim_id: int, files: Sequence[Upload]) -> Claim:
    """Keep what shows a claim; the same file again is one. Evidence comes in every state.

    Raises PermissionDenied, ClaimUnknown, ClaimIncomplete without a file, FileRefused.
    """
    require(person, "wallet.record_claim")
    prepared = prepare(files, of="claim")
    if not prepared:
        raise ClaimIncomplete("Choose the files that show the claim.")
    with transaction.atomic():
        claim = Claim.objects.filter(pk=claim_id).first()
        if claim is None:
            raise ClaimUnknown(f"There is no chargeback claim {claim_id}.")
        keep(claim, person, prepared)
        return claim


def keep(claim: Claim, person: Any, files: Sequence[Prepared]) -> None:
    """Hang files that were looked at on a claim: one statement."""
    now = timezone.now()
    ClaimFile.objects.bulk_create(
        [
            ClaimFile(
                claim=claim,
                name=file.name,
                content_type=file.content_type,
                content=file.content,
                size=len(file.content),
                sha256=file.sha256,
                added_by=person,
                added_at=now,
            )
            for file in files
        ],
        ignore_conflicts=True,
    )


def may_read(person: Any) -> bool:
    """Whether the person may take files of claims."""
    return any(person.has_perm(permission) for permission in TAKERS)


def read(person: Any, file_id: int) -> ClaimFile:
    """A file with its bytes, for a person of ours; that they took it is written down.

    Raises PermissionDenied, ClaimFileUnknown.
    """
    if not may_read(person):
        raise PermissionDenied
    with transaction.atomic():
        found = ClaimFile.objects.filter(pk=file_id).first()
        if found is None:
            raise ClaimFileUnknown(f"There is no file {file_id} of a claim.")
        ClaimFileReading.objects.create(file=found, person=person, read_at=timezone.now())
        return found
