"""Bearer keys of storefronts: issued once, kept as a hash, revoked for good."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.utils import timezone

from smsactivator.common.errors import Refused
from wallet.models import ApiKey, Storefront


class KeyNameTaken(Refused):
    """A live key of that storefront has that name."""

    code = "key_name_taken"


PREFIX = "sf_"
SHOWN = 10  # characters of a key that may be shown again, to tell keys apart


def issue(storefront: Storefront, *, name: str, created_by: str) -> tuple[ApiKey, str]:
    """A new key and its plain text, which exists nowhere else and cannot be had again.

    Raises KeyNameTaken when a live key of the storefront has that name.
    """
    plain = PREFIX + secrets.token_urlsafe(32)
    try:
        with transaction.atomic():
            key = ApiKey.objects.create(
                storefront=storefront,
                name=name,
                prefix=plain[:SHOWN],
                digest=_digest(plain),
                created_by=created_by,
            )
    except IntegrityError:
        if not ApiKey.objects.filter(storefront=storefront, name=name, revoked_at=None).exists():
            raise
        raise KeyNameTaken(
            f"{storefront.name} has a live key named {name!r} already; its text cannot be shown "
            "again. Revoke it first, or choose another name."
        ) from None
    return key, plain


def revoke(key_id: int, *, revoked_by: str) -> bool:
    """Refuse the key from now on. Returns whether this call did it; revoking twice is harmless."""
    return bool(
        ApiKey.objects.filter(pk=key_id, revoked_at=None).update(
            revoked_at=timezone.now(), revoked_by=revoked_by
        )
    )


def issue_by_person(person: Any, storefront: Storefront, *, name: str) -> tuple[ApiKey, str]:
    """``issue`` by a person of ours. Raises PermissionDenied without ``wallet.add_apikey``."""
    if not person.has_perm("wallet.add_apikey"):
        raise PermissionDenied
    return issue(storefront, name=name, created_by=person.get_username())


def revoke_by_person(person: Any, key_id: int) -> bool:
    """``revoke`` by a person of ours. Raises PermissionDenied without ``wallet.change_apikey``."""
    if not person.has_perm("wallet.change_apikey"):
        raise PermissionDenied
    return revoke(key_id, revoked_by=person.get_username())


def authenticate(plain: str) -> ApiKey | None:
    """The live key with this text and its storefront, or None.

    The lookup is by SHA-256 of 256 random bits, so its timing tells nothing about any key.
    """
    return (
        ApiKey.objects.select_related("storefront")
        .filter(digest=_digest(plain), revoked_at=None)
        .first()
    )


def _digest(plain: str) -> str:
    # What a client sends need not be text that UTF-8 can write; it is a key of nobody's then.
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
