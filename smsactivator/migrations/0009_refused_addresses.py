from django.db import migrations

from smsactivator import roles


def sync(apps, schema_editor):
    roles.sync()


class Migration(migrations.Migration):
    """Finance keeps the list of addresses that nothing is paid out to; everybody sees it."""

    dependencies = [
        ("smsactivator", "0008_staff"),
        ("wallet", "0020_refused_addresses"),
    ]

    operations = [migrations.RunPython(sync, migrations.RunPython.noop)]
