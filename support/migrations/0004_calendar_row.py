from datetime import time

from django.db import migrations
from django.utils import timezone

HOURS = {
    "id": 1,
    "zone": "UTC",
    "opens": time(9),
    "closes": time(18),
    **dict.fromkeys(("monday", "tuesday", "wednesday", "thursday", "friday"), True),
    **dict.fromkeys(("saturday", "sunday"), False),
    # Where the people who answer sit is for an administrator to say.
    "country": "",
    "subdivision": "",
}


def make(apps, schema_editor):
    apps.get_model("support", "Calendar").objects.create(**HOURS)
    apps.get_model("support", "HistoricalCalendar").objects.create(
        **HOURS,
        history_date=timezone.now(),
        history_type="+",
        history_change_reason="The hours to begin with",
        history_actor="automatic: migration",
    )


class Migration(migrations.Migration):
    """The one business calendar, as it is before anybody has changed it."""

    dependencies = [("support", "0003_calendar")]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
