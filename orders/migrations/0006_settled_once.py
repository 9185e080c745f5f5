from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of orders/sql/settled_once.sql."""

    dependencies = [("orders", "0005_schema")]

    operations = [
        migrations.RunSQL(
            (SQL / "settled_once.sql").read_text(), (SQL / "settled_once_reverse.sql").read_text()
        ),
    ]
