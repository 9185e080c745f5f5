from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "sql"


class Migration(migrations.Migration):
    """Who read SMS in full, when and why, with the rules of orders/sql/readings.sql."""

    dependencies = [
        ('orders', '0007_order_ended'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='SmsReading',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('shown', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), help_text='The SMS whose texts were shown.', size=None)),
                ('reason', models.TextField(help_text='Why, for whoever reads this in years.')),
                ('read_at', models.DateTimeField(db_index=True)),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='sms_readings', to='orders.order')),
                ('person', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'SMS reading',
                'indexes': [models.Index(fields=['person', '-id'], name='sms_reading_by_person')],
                'constraints': [models.CheckConstraint(condition=models.Q(('reason__regex', '^\\S.{3,}\\S$')), name='sms_reading_has_a_reason'), models.CheckConstraint(condition=models.Q(('shown__len__gt', 0)), name='sms_reading_shows_some')],
            },
        ),
        migrations.RunSQL(
            (SQL / "readings.sql").read_text(), (SQL / "readings_reverse.sql").read_text()
        ),
    ]
