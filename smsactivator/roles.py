"""The three roles of the people who work here, and what each may see.

Only administrators (superusers) change anything: offers, upstreams, storefronts, keys, users. A
role changed here reaches a running copy by a new migration that calls ``sync`` again.
"""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

_EVERYONE = (
    "wallet.view_customer",
    "wallet.view_wallet",
    "wallet.view_transfer",
    "wallet.view_deposit",
    "orders.view_order",
    "orders.view_sms",
    "refunds.view_refund",
)
_HISTORY = ("wallet.view_historicalcustomer", "orders.view_historicalorder")

SUPPORT_AGENT = "Support agent"
SENIOR_AGENT = "Senior agent"
FINANCE = "Finance"

ROLES: dict[str, tuple[str, ...]] = {
    SUPPORT_AGENT: (*_EVERYONE, *_HISTORY),
    SENIOR_AGENT: (*_EVERYONE, *_HISTORY, "orders.view_sms_text", "wallet.view_auditrun"),
    FINANCE: (*_EVERYONE, "wallet.view_auditrun"),
}


def sync() -> None:
    """Give each role's group exactly its permissions, making groups and permissions that lack.

    Running it again changes nothing. Raises LookupError for a permission that no model declares.
    """
    for config in apps.get_app_configs():
        create_permissions(config, verbosity=0)
    for role, names in ROLES.items():
        group, _ = Group.objects.get_or_create(name=role)
        group.permissions.set([_permission(name) for name in names])


def remove() -> None:
    """Remove the roles' groups; their members keep nothing of them."""
    Group.objects.filter(name__in=ROLES).delete()


def _permission(name: str) -> Permission:
    label, codename = name.split(".")
    try:
        return Permission.objects.get(content_type__app_label=label, codename=codename)
    except Permission.DoesNotExist:
        raise LookupError(f"No model declares the permission {name}.") from None
