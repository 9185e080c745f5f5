import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("smsactivator", "0009_refused_addresses")]

    operations = [
        migrations.CreateModel(
            name="AddressNotice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("attempts", models.PositiveIntegerField(default=0)),
                ("tried_at", models.DateTimeField(null=True)),
                ("sent_at", models.DateTimeField(null=True)),
                ("change", models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="smsactivator.staffchange")),
            ],
            options={
                "indexes": [models.Index(condition=models.Q(("sent_at", None)), fields=["id"], name="address_notice_unsent")],
            },
        ),
    ]
