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
    """What the roles may do with tickets, and with the refunds that people decide on them."""

    dependencies = [
        ("smsactivator", "0002_decisions"),
        ("orders", "0008_sms_readings"),
        ("refunds", "0009_reports"),
        ("support", "0010_canned_replies"),
    ]

    operations = [migrations.RunPython(sync, migrations.RunPython.noop)]
