import django.db.models.deletion
import smsactivator.common.money
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('orders', '0001_initial'),
        ('wallet', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Sweep',
            fields=[
                ('name', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('finished_at', models.DateTimeField()),
                ('refunded', models.PositiveIntegerField(help_text='Orders refunded by the last run.')),
            ],
        ),
        migrations.CreateModel(
            name='Refund',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('clause', models.CharField(choices=[('auto.no_sms_in_time', 'No SMS within the SLA'), ('auto.cancelled_before_sms', 'Cancelled before any SMS'), ('auto.number_broken', 'Number broken'), ('auto.allocation_failed', 'Allocation failed')], max_length=40)),
                ('policy_version', models.CharField(max_length=10)),
                ('facts', models.JSONField(help_text='What was known when the policy was applied.')),
                ('amount', smsactivator.common.money.MoneyField(decimal_places=4, max_digits=19)),
                ('created_at', models.DateTimeField()),
                ('order', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='refunds', to='orders.order')),
                ('transfer', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='refund', to='wallet.transfer')),
            ],
            options={
                'indexes': [models.Index(fields=['created_at', 'clause'], name='refund_by_day'), models.Index(fields=['clause', '-id'], name='refund_clause_newest')],
                'constraints': [models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='refund_amount_positive'), models.CheckConstraint(condition=models.Q(('clause__in', ['auto.no_sms_in_time', 'auto.cancelled_before_sms', 'auto.number_broken', 'auto.allocation_failed'])), name='refund_clause_known'), models.UniqueConstraint(fields=('order',), name='refund_automatic_once')],
            },
        ),
    ]
