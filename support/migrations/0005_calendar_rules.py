from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of support/sql/calendar.sql."""

    dependencies = [("support", "0004_calendar_row"), ("wallet", "0002_ledger")]

    operations = [
        migrations.RunSQL(
            (SQL / "calendar.sql").read_text(), (SQL / "calendar_reverse.sql").read_text()
        ),
    ]
