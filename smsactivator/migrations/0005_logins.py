from django.db import migrations

from smsactivator import roles


def sync(apps, schema_editor):
    roles.sync()


class Migration(migrations.Migration):
    """Auditors see who logged in."""

    dependencies = [("smsactivator", "0004_payouts"), ("axes", "0010_accessattemptexpiration")]

    operations = [migrations.RunPython(sync, migrations.RunPython.noop)]
