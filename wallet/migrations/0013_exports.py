from pathlib import Path

import django.db.models.deletion
import django_fsm
import simple_history.models
import uuid
from django.conf import settings
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """Exports, and the rules of wallet/sql/exports.sql."""

    dependencies = [
        ('wallet', '0012_batch_rules'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Export',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('queued', 'Waiting for a worker'), ('running', 'Being written'), ('done', 'Done'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('expired', 'Expired')], default='queued', editable=False, max_length=12)),
                ('dataset', models.CharField(max_length=32)),
                ('since', models.DateField(help_text='The first day, UTC.', verbose_name='from')),
                ('until', models.DateField(help_text='The last day, UTC.', verbose_name='to')),
                ('requested_at', models.DateTimeField()),
                ('request_key', models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ('attempt', models.PositiveSmallIntegerField(default=0)),
                ('heartbeat_at', models.DateTimeField(null=True)),
                ('read_at', models.DateTimeField(help_text='The moment that its rows show.', null=True)),
                ('rows_expected', models.BigIntegerField(null=True)),
                ('rows_done', models.BigIntegerField(default=0)),
                ('size', models.BigIntegerField(default=0, help_text='Bytes of the file.')),
                ('sha256', models.CharField(blank=True, default='', max_length=64, verbose_name='SHA-256')),
                ('finished_at', models.DateTimeField(null=True)),
                ('expires_at', models.DateTimeField(null=True)),
                ('problem', models.CharField(blank=True, default='', max_length=200)),
                ('requested_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'permissions': [('export_data', 'Can ask for exports and take them')],
            },
            bases=(django_fsm.FSMModelMixin, models.Model),
        ),
        migrations.CreateModel(
            name='ExportDownload',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField()),
                ('export', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='downloads', to='wallet.export')),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='ExportPart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(help_text='From 0 on, without a gap.')),
                ('rows', models.PositiveIntegerField(help_text='Without the heading.')),
                ('data', models.BinaryField()),
                ('export', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='parts', to='wallet.export')),
            ],
        ),
        migrations.CreateModel(
            name='HistoricalExport',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('history_actor', models.CharField(default='', editable=False, max_length=200)),
                ('state', models.CharField(choices=[('queued', 'Waiting for a worker'), ('running', 'Being written'), ('done', 'Done'), ('failed', 'Failed'), ('cancelled', 'Cancelled'), ('expired', 'Expired')], default='queued', editable=False, max_length=12)),
                ('dataset', models.CharField(max_length=32)),
                ('since', models.DateField(help_text='The first day, UTC.', verbose_name='from')),
                ('until', models.DateField(help_text='The last day, UTC.', verbose_name='to')),
                ('requested_at', models.DateTimeField()),
                ('attempt', models.PositiveSmallIntegerField(default=0)),
                ('read_at', models.DateTimeField(help_text='The moment that its rows show.', null=True)),
                ('rows_expected', models.BigIntegerField(null=True)),
                ('size', models.BigIntegerField(default=0, help_text='Bytes of the file.')),
                ('sha256', models.CharField(blank=True, default='', max_length=64, verbose_name='SHA-256')),
                ('finished_at', models.DateTimeField(null=True)),
                ('expires_at', models.DateTimeField(null=True)),
                ('problem', models.CharField(blank=True, default='', max_length=200)),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField()),
                ('history_change_reason', models.TextField(null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requested_by', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'historical export',
                'verbose_name_plural': 'historical exports',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(condition=models.Q(('state__in', ['queued', 'running'])), fields=['requested_at'], name='export_open'),
        ),
        migrations.AddIndex(
            model_name='export',
            index=models.Index(condition=models.Q(('state', 'done')), fields=['expires_at'], name='export_to_expire'),
        ),
        migrations.AddConstraint(
            model_name='export',
            constraint=models.CheckConstraint(condition=models.Q(('since__lte', models.F('until'))), name='export_days_in_order'),
        ),
        migrations.AddConstraint(
            model_name='export',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('expires_at__isnull', True), ('finished_at__isnull', True), ('heartbeat_at__isnull', True), ('rows_done', 0), ('rows_expected__isnull', True), ('sha256', ''), ('state', 'queued')), models.Q(('attempt__gt', 0), ('expires_at__isnull', True), ('finished_at__isnull', True), ('heartbeat_at__isnull', False), ('sha256', ''), ('state', 'running')), models.Q(('expires_at__isnull', True), ('finished_at__isnull', False), ('heartbeat_at__isnull', True), ('sha256', ''), ('state__in', ['failed', 'cancelled'])), models.Q(('expires_at__isnull', False), ('finished_at__isnull', False), ('heartbeat_at__isnull', True), ('read_at__isnull', False), ('rows_done', models.F('rows_expected')), ('rows_expected__isnull', False), ('sha256__regex', '^[0-9a-f]{64}$'), ('size__gt', 0), ('state__in', ['done', 'expired'])), _connector='OR'), name='export_fits_its_state'),
        ),
        migrations.AddConstraint(
            model_name='exportpart',
            constraint=models.UniqueConstraint(fields=('export', 'number'), name='export_part_once'),
        ),
        migrations.RunSQL(
            (SQL / "exports.sql").read_text(), (SQL / "exports_reverse.sql").read_text()
        ),
    ]
