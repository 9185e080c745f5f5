"""The Celery application."""

import os
from typing import Any

from celery import Celery
from django.conf import settings
from kombu.connection import Connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "smsactivator.settings")


class App(Celery):
    """Celery, that gives up on a broker which hangs sooner where it queues than where it waits."""

    def connection_for_write(self, url: str | None = None, **kwargs: Any) -> Connection:
        options = settings.BROKER_WRITE_OPTIONS | (kwargs.pop("transport_options", None) or {})
        connection: Connection = super().connection_for_write(
            url, transport_options=options, **kwargs
        )
        return connection


app = App("smsactivator")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
