from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of wallet/sql/movements.sql."""

    dependencies = [("wallet", "0003_movements")]

    operations = [
        migrations.RunSQL(
            (SQL / "movements.sql").read_text(), (SQL / "movements_reverse.sql").read_text()
        ),
    ]
