from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """What a further request to a final decision rests on; the rules of support/sql/evidence.sql."""

    dependencies = [("support", "0013_entered_disputes"), ("refunds", "0010_further_requests")]

    operations = [
        migrations.AddField(
            model_name="ticketrefund",
            name="evidence",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="support.message",
            ),
        ),
        migrations.RunSQL((SQL / "evidence.sql").read_text(), (SQL / "evidence_reverse.sql").read_text()),
    ]
