from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of refunds/sql/requests.sql."""

    dependencies = [("refunds", "0006_requests")]

    operations = [
        migrations.RunSQL(
            (SQL / "requests.sql").read_text(), (SQL / "requests_reverse.sql").read_text()
        ),
    ]
