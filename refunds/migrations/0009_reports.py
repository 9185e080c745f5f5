from django.db import migrations, models


class Migration(migrations.Migration):
    """Indexes for the reports of a period."""

    dependencies = [("refunds", "0008_preview_policy")]

    operations = [
        migrations.AddIndex(
            model_name="refundrequest",
            index=models.Index(
                condition=models.Q(("decided_at__isnull", False)),
                fields=["decided_at"],
                name="request_decided_by_day",
            ),
        ),
        migrations.AddIndex(
            model_name="refundrequest",
            index=models.Index(
                condition=models.Q(("resolved_at__isnull", False)),
                fields=["resolved_at"],
                name="request_resolved_by_day",
            ),
        ),
    ]
