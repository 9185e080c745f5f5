"""Seal and close what is over, as the beat does, and print the digests."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from smsactivator import proving
from smsactivator.closing import close_what_is_sealed
from wallet import seals


class Command(BaseCommand):
    help = (
        "Seal the days that are over and close what is sealed, as the beat does each hour, and "
        "print the newest digests, to be kept elsewhere. Running it again does nothing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        made = [*seals.seal_days(), *close_what_is_sealed()]
        self.stdout.write(f"{len(made)} seals and closes were made")
        for digest in proving.newest_digests():
            self.stdout.write(digest)
