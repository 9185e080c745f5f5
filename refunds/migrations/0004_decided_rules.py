from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of refunds/sql/decided.sql."""

    dependencies = [("refunds", "0003_decided")]

    operations = [
        migrations.RunSQL(
            (SQL / "decided.sql").read_text(), (SQL / "decided_reverse.sql").read_text()
        ),
    ]
