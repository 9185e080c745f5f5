from django.db import migrations

from smsactivator import roles


def sync(apps, schema_editor):
    roles.sync()


def remove(apps, schema_editor):
    roles.remove()


class Migration(migrations.Migration):
    # Permissions are made for the models as they are now, whatever migration made their tables.
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("wallet", "0002_ledger"),
        ("orders", "0001_initial"),
        ("refunds", "0002_refunds"),
    ]

    operations = [migrations.RunPython(sync, remove)]
