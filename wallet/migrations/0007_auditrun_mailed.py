from django.db import migrations, models


class Migration(migrations.Migration):
    """An alarm that the mail server did not take is sent again."""

    dependencies = [("wallet", "0006_seals")]

    operations = [
        migrations.AddField(
            model_name="auditrun",
            name="mailed",
            field=models.BooleanField(db_default=False, default=False),
        ),
    ]
