from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of wallet/sql/ledger.sql."""

    dependencies = [("wallet", "0001_initial")]

    operations = [
        migrations.RunSQL(
            (SQL / "ledger.sql").read_text(), (SQL / "ledger_reverse.sql").read_text()
        ),
    ]
