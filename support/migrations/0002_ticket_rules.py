from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of support/sql/tickets.sql."""

    dependencies = [("support", "0001_tickets"), ("wallet", "0004_movement_rules")]

    operations = [
        migrations.RunSQL(
            (SQL / "tickets.sql").read_text(), (SQL / "tickets_reverse.sql").read_text()
        ),
    ]
