from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of refunds/sql/once.sql."""

    dependencies = [("refunds", "0004_decided_rules"), ("orders", "0006_settled_once")]

    operations = [
        migrations.RunSQL(
            (SQL / "once.sql").read_text(), (SQL / "once_reverse.sql").read_text()
        ),
    ]
