from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('support', '0009_reports'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='macro',
            options={'verbose_name': 'canned reply', 'verbose_name_plural': 'canned replies'},
        ),
        migrations.AlterModelOptions(
            name='historicalmacro',
            options={'get_latest_by': ('history_date', 'history_id'), 'ordering': ('-history_date', '-history_id'), 'verbose_name': 'historical canned reply', 'verbose_name_plural': 'historical canned replies'},
        ),
    ]
