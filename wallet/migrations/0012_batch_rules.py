from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of wallet/sql/batches.sql."""

    dependencies = [("wallet", "0011_batches")]

    operations = [
        migrations.RunSQL(
            (SQL / "batches.sql").read_text(), (SQL / "batches_reverse.sql").read_text()
        ),
    ]
