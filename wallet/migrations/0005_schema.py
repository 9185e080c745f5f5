from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of wallet/sql/schema.sql."""

    dependencies = [("wallet", "0004_movement_rules")]

    operations = [
        migrations.RunSQL(
            (SQL / "schema.sql").read_text(), (SQL / "schema_reverse.sql").read_text()
        ),
    ]
