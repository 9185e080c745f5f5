from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of refunds/sql/refunds.sql."""

    dependencies = [("wallet", "0002_ledger"), ("refunds", "0001_initial")]

    operations = [
        migrations.RunSQL(
            (SQL / "refunds.sql").read_text(), (SQL / "refunds_reverse.sql").read_text()
        ),
    ]
