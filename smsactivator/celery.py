"""The Celery application."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "smsactivator.settings")

app = Celery("smsactivator")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
