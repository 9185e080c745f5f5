from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """What ended in a period is found by when it ended. Built without stopping the shop."""

    atomic = False

    dependencies = [("orders", "0006_settled_once")]

    operations = [
        AddIndexConcurrently(
            model_name="order",
            index=models.Index(
                fields=["ended_at", "id"],
                condition=models.Q(("ended_at__isnull", False)),
                name="order_ended",
            ),
        ),
    ]
