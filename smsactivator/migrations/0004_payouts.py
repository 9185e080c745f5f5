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
    """What the roles may do with payouts, their batches and results, closes and exports."""

    dependencies = [
        ("smsactivator", "0003_refunds_by_ticket"),
        ("wallet", "0016_payout_by_time"),
        ("support", "0012_ticket_payout_rules"),
    ]

    operations = [migrations.RunPython(sync, migrations.RunPython.noop)]
