from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of support/sql/outbox.sql."""

    dependencies = [("support", "0006_outbox"), ("wallet", "0004_movement_rules")]

    operations = [
        migrations.RunSQL((SQL / "outbox.sql").read_text(), (SQL / "outbox_reverse.sql").read_text()),
    ]
