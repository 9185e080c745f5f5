"""Prove all that was sealed, closed and booked again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from smsactivator import proving


class Command(BaseCommand):
    help = (
        "Prove the seals, the rows and their histories, the closes and the whole audit again. "
        "Names each difference by row and day, and exits 1 on any."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--expect",
            action="append",
            default=[],
            metavar="DIGEST",
            help="the digest of a seal or of a close as you kept it; may be given several times",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        differences = proving.verify_books(options["expect"])
        for part, label in proving.PARTS.items():
            found = [one.what for one in differences if one.part == part]
            if part == proving.EXPECTED and not options["expect"]:
                continue
            many = "difference" if len(found) == 1 else "differences"
            self.stdout.write(f"{label}: {f'{len(found)} {many}' if found else 'ok'}")
            for what in found:
                self.stdout.write(f"    {what}")
        for digest in proving.newest_digests():
            self.stdout.write(digest)
        if differences:
            raise SystemExit(1)
