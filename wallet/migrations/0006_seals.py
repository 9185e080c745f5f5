from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of wallet/sql/seals.sql."""

    dependencies = [("wallet", "0005_schema")]

    operations = [
        migrations.RunSQL(
            (SQL / "seals.sql").read_text(), (SQL / "seals_reverse.sql").read_text()
        ),
    ]
