"""What a demo copy needs to be looked at: people, a storefront, an upstream, offers and canned
replies.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from orders.models import Offer, Upstream
from smsactivator.common import history
from smsactivator.common.history import Actor
from support import macros
from support.models import Macro
from wallet import keys
from wallet.models import ApiKey, Storefront

STOREFRONT = "Demo shop"
KEY_NAME = "Demo traffic"
UPSTREAM = "demo"
KEY_FILE = "storefront.key"
PASSWORD = "demo-password-2026"  # noqa: S105 - printed for everyone who runs the demo
# The login, and the group that makes the role; None is the superuser.
PEOPLE = {
    "agent": "Support agent",
    "agent2": "Support agent",
    "senior": "Senior agent",
    "finance": "Finance",
    "finance2": "Finance",
    "auditor": "Auditor",
    "admin": None,
}
# Service and country codes as the upstream's protocol has them; rental hours or None; price, USD.
OFFERS: list[tuple[str, str, str, int | None, str]] = [
    ("tg", "0", "Telegram, Russia", None, "0.80"),
    ("tg", "6", "Telegram, Indonesia", None, "0.55"),
    ("tg", "187", "Telegram, USA", None, "2.50"),
    ("wa", "0", "WhatsApp, Russia", None, "0.70"),
    ("wa", "6", "WhatsApp, Indonesia", None, "0.45"),
    ("wa", "187", "WhatsApp, USA", None, "1.20"),
    ("go", "0", "Google, Russia", None, "0.15"),
    ("go", "6", "Google, Indonesia", None, "0.10"),
    ("go", "187", "Google, USA", None, "0.60"),
    ("vk", "0", "VK, Russia", None, "0.35"),
    ("tg", "6", "Telegram, Indonesia, 4 hours", 4, "1.50"),
    ("wa", "187", "WhatsApp, USA, 24 hours", 24, "2.25"),
]
# Title and text; the gaps are filled from the case (support/macros.py).
MACROS: list[tuple[str, str]] = [
    (
        "Which message did the service show?",
        (
            "Hello,\n\nthank you for writing. So that we can decide about order {{order}}, please "
            "send us a screenshot of the message that the service showed after you had typed "
            "the code in."
        ),
    ),
    (
        "Refund granted",
        "Hello,\n\nwe are sorry that order {{order}} ({{service}}, {{country}}) did not serve you.",
    ),
    (
        "A code has to be used in time",
        (
            "Hello,\n\nthe SMS for order {{order}} arrived, and the upstream was paid for it. A "
            "code has to be used while the service accepts it, so there is nothing that we can "
            "give back."
        ),
    ),
    (
        "An account was banned later",
        (
            "Hello,\n\nthe code of order {{order}} did its work. What a service does with an "
            "account later is out of our hands, and the number cannot be used again."
        ),
    ),
    (
        "We are asking the upstream",
        (
            "Hello,\n\nwe are asking the upstream about order {{order}} of {{placed}}, and write "
            "again within one business day. Your wallet holds {{balance}}."
        ),
    ),
]
ACTOR = Actor.automatic("demo data")
REASON = "Demo data"


class Command(BaseCommand):
    """Create the demo data, or bring it up to date; running it again changes nothing else.

    The storefront's key is kept in plain text in the data directory, for the demo traffic. Refuses
    in production.
    """

    help = "Create the demo's people, storefront, upstream, offers and texts (development only)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--data-dir", type=Path, required=True, help="Keeps the key's text.")
        parser.add_argument("--upstream-url", required=True, help="Base URL of the simulator.")

    def handle(self, *args: Any, data_dir: Path, upstream_url: str, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("Demo data has no place in production: its passwords are public.")
        with transaction.atomic():
            for username, group in PEOPLE.items():
                _person(username, group)
            _offers(_upstream(upstream_url))
            _storefront_key(data_dir / KEY_FILE)
            _macros()
        for username, group in PEOPLE.items():
            self.stdout.write(f"    {username:<10}  {PASSWORD}  {group or 'everything'}")


def _person(username: str, group: str | None) -> None:
    user, _created = get_user_model().objects.get_or_create(
        username=username,
        defaults={"email": f"{username}@demo.invalid"},
    )
    user.is_staff = user.is_active = True
    user.is_superuser = group is None
    # Setting the same password again would end everyone's sessions.
    if not user.check_password(PASSWORD):
        user.set_password(PASSWORD)
    user.save()
    if group is not None:
        user.groups.set([Group.objects.get_or_create(name=group)[0]])


def _upstream(base_url: str) -> Upstream:
    upstream = Upstream.objects.select_for_update(no_key=True).filter(code=UPSTREAM).first()
    if upstream is None:
        upstream = Upstream(code=UPSTREAM, name="Demo upstream (simulated)", base_url=base_url)
        history.create([upstream], actor=ACTOR, reason=REASON)
    elif upstream.base_url != base_url:
        # The simulator takes a free port at each start.
        upstream.base_url = base_url
        history.save([upstream], ["base_url"], actor=ACTOR, reason=REASON)
    return upstream


def _offers(upstream: Upstream) -> None:
    known = set(upstream.offers.values_list("service", "country", "kind", "rental_hours"))
    offers = [
        Offer(
            upstream=upstream,
            service=service,
            country=country,
            title=title,
            kind=Offer.Kind.RENTAL if hours else Offer.Kind.ACTIVATION,
            rental_hours=hours,
            price=Decimal(price),
        )
        for service, country, title, hours, price in OFFERS
    ]
    missing = [o for o in offers if (o.service, o.country, o.kind, o.rental_hours) not in known]
    history.create(missing, actor=ACTOR, reason=REASON)


def _macros() -> None:
    """The canned replies that lack. A senior agent keeps them."""
    person = get_user_model().objects.get(username="senior")
    known = set(Macro.objects.values_list("title", flat=True))
    for title, body in MACROS:
        if title not in known:
            macros.save(person, None, title=title, body=body, active=True, reason=REASON)


def _storefront_key(path: Path) -> None:
    """Keep the key that the file holds while it is good; else issue another and keep that."""
    storefront, _created = Storefront.objects.get_or_create(name=STOREFRONT)
    if path.exists():
        key = keys.authenticate(path.read_text().strip())
        if key is not None and key.storefront_id == storefront.pk:
            return
        path.unlink()
    for lost in ApiKey.objects.filter(storefront=storefront, name=KEY_NAME, revoked_at=None):
        keys.revoke(lost.pk, revoked_by="demo data")
    _key, plain = keys.issue(storefront, name=KEY_NAME, created_by="demo data")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(plain + "\n")
