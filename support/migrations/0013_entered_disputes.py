from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of support/sql/entered.sql."""

    dependencies = [("support", "0012_ticket_payout_rules"), ("refunds", "0009_reports")]

    operations = [
        migrations.RunSQL((SQL / "entered.sql").read_text(), (SQL / "entered_reverse.sql").read_text()),
    ]
