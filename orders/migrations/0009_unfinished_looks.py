from django.db import migrations, models


class Migration(migrations.Migration):
    """A look that could not ask for every number says so."""

    dependencies = [
        ('orders', '0008_sms_readings'),
    ]

    operations = [
        migrations.AddField(
            model_name='upstream',
            name='unfinished_at',
            field=models.DateTimeField(editable=False, help_text='When the last look began, if it left numbers for the next one to ask for.', null=True),
        ),
        migrations.AlterField(
            model_name='upstream',
            name='looked_at',
            field=models.DateTimeField(editable=False, help_text='When the last complete look began; the deadlines before it were all looked at.', null=True),
        ),
    ]
