from decimal import Decimal

from django.db import migrations

from smsactivator import roles


def sync(apps, schema_editor):
    roles.sync()
    group = apps.get_model("auth", "Group")
    limit = apps.get_model("wallet", "RoleLimit")
    for role, limits in roles.LIMITS.items():
        for decision, (each, daily) in limits.items():
            limit.objects.get_or_create(
                role=group.objects.get(name=role),
                decision=decision,
                defaults={"each": Decimal(each), "daily": Decimal(daily)},
            )


class Migration(migrations.Migration):
    """What the roles may decide, and how much of it."""

    dependencies = [
        ("smsactivator", "0001_roles"),
        ("wallet", "0004_movement_rules"),
        ("orders", "0004_forfeited_rules"),
        ("refunds", "0004_decided_rules"),
    ]

    operations = [migrations.RunPython(sync, migrations.RunPython.noop)]
