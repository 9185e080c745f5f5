from pathlib import Path

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """The rules of support/sql/payouts.sql and support/sql/waits.sql."""

    dependencies = [("support", "0011_ticket_payouts"), ("wallet", "0004_movement_rules")]

    operations = [
        migrations.RunSQL((SQL / "payouts.sql").read_text(), (SQL / "payouts_reverse.sql").read_text()),
        migrations.RunSQL((SQL / "waits.sql").read_text(), (SQL / "waits_reverse.sql").read_text()),
    ]
