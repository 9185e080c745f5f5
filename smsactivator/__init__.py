"""The site: what puts the floors together."""

from smsactivator.celery import app as celery_app

__all__ = ["celery_app"]
