from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of orders/sql/forfeited.sql."""

    dependencies = [("orders", "0003_forfeited")]

    operations = [
        migrations.RunSQL(
            (SQL / "forfeited.sql").read_text(), (SQL / "forfeited_reverse.sql").read_text()
        ),
    ]
