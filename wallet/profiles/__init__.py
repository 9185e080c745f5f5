"""Files for whoever sends payouts: a profile is one small class, and its columns are theirs.

Every text goes through ``csvs.cell`` in CSV and is of the type text in XLSX, so that nothing in a
file becomes a formula, whatever a row holds. The same lines make the same CSV; of an XLSX the bytes
that were made first are kept and handed out (``wallet.batches``).
"""

from __future__ import annotations

from wallet.profiles.base import Made, Profile, ProfileUnknown, Row
from wallet.profiles.canonical import Canonical
from wallet.profiles.coinspaid import CoinsPaid
from wallet.profiles.inqud import Inqud

__all__ = ["PROFILES", "Made", "Profile", "ProfileUnknown", "Row", "named"]

PROFILES: dict[str, Profile] = {
    profile.name: profile for profile in (Canonical(), CoinsPaid(), Inqud())
}


def named(name: str) -> Profile:
    """The profile of that name. Raises ProfileUnknown."""
    if name not in PROFILES:
        raise ProfileUnknown(f"There is no profile {name}: choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]
