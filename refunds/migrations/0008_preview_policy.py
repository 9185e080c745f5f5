from django.db import migrations


class Migration(migrations.Migration):
    """The permission to replay a version of the policy over past orders."""

    dependencies = [("refunds", "0007_request_rules")]

    operations = [
        migrations.AlterModelOptions(
            name="refund",
            options={
                "permissions": [
                    ("preview_policy", "Can replay a version of the policy over past orders")
                ]
            },
        ),
    ]
