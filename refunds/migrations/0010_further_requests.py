from pathlib import Path

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """What was decided for good is opened again by a further request; the rules of further.sql."""

    dependencies = [
        ('orders', '0008_sms_readings'),
        ('refunds', '0009_reports'),
        ('wallet', '0017_rare_transfers'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='historicalrefundrequest',
            name='evidence',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AddField(
            model_name='historicalrefundrequest',
            name='evidence_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='historicalrefundrequest',
            name='further_to',
            field=models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='refunds.refundrequest'),
        ),
        migrations.AddField(
            model_name='refundrequest',
            name='evidence',
            field=models.CharField(blank=True, db_default='', default='', max_length=200),
        ),
        migrations.AddField(
            model_name='refundrequest',
            name='evidence_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='refundrequest',
            name='further_to',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='further', to='refunds.refundrequest'),
        ),
        migrations.AddIndex(
            model_name='refundrequest',
            index=models.Index(condition=models.Q(('further_to__isnull', False)), fields=['-id'], name='request_further_newest'),
        ),
        migrations.AddConstraint(
            model_name='refundrequest',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('evidence', ''), ('evidence_at__isnull', True), ('further_to__isnull', True)), models.Q(models.Q(('evidence', ''), _negated=True), ('evidence_at__isnull', False), ('further_to__isnull', False)), _connector='OR'), name='request_further_names_its_evidence'),
        ),
        migrations.RunSQL((SQL / "further.sql").read_text(), (SQL / "further_reverse.sql").read_text()),
    ]
