"""Celery tasks of refunds: each calls one verb. All may run twice, late or never."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings

from orders import polling, rentals
from orders.models import Upstream
from refunds import automatic


@shared_task
def sweep() -> int:
    """Refund what is due. The beat calls it; a look at an upstream ends with it too."""
    return automatic.sweep()


@shared_task
def look_at_upstreams() -> None:
    """Queue a look at each upstream, apart from each other."""
    for upstream_id in Upstream.objects.values_list("pk", flat=True):
        look_at_upstream.apply_async(args=[upstream_id], expires=settings.TASK_EXPIRES)
        look_at_rentals.apply_async(args=[upstream_id], expires=settings.TASK_EXPIRES)


@shared_task
def look_at_upstream(upstream_id: int) -> None:
    """Look at one upstream, then refund what the look made due."""
    if polling.look(upstream_id):
        automatic.sweep()


@shared_task
def look_at_rentals(upstream_id: int) -> None:
    """Ask about one upstream's rentals, then refund those that broke."""
    if rentals.look_at_rentals(upstream_id):
        automatic.sweep()
