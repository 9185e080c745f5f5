from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of orders/sql/orders.sql."""

    dependencies = [("wallet", "0002_ledger"), ("orders", "0001_initial")]

    operations = [
        migrations.RunSQL(
            (SQL / "orders.sql").read_text(), (SQL / "orders_reverse.sql").read_text()
        ),
    ]
