from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of wallet/sql/closes.sql."""

    dependencies = [("wallet", "0014_closes")]

    operations = [
        migrations.RunSQL(
            (SQL / "closes.sql").read_text(), (SQL / "closes_reverse.sql").read_text()
        ),
    ]
