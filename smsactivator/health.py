"""/healthz: whether money is given back in time, and replies are sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.utils.log import log_response
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.backoff import NoBackoff
from redis.retry import Retry

from orders.models import Upstream
from orders.queries import oldest_due, oldest_unlooked
from refunds.models import Sweep
from smsactivator.common.moments import ahead, is_ahead
from support.outbox import oldest_due as oldest_delivery


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 when all is well, else 503; ``problems`` says why. Ages are in seconds."""
    report = check()
    if not report["problems"]:
        return JsonResponse(report)
    response = JsonResponse(report, status=503)
    # Instead of Django's own line at error, which names no problem.
    words = " ".join(report["problems"])
    log_response("/healthz: %s", words, response=response, request=request, level="warning")
    return response


def check() -> dict[str, Any]:
    """The state of the database, the broker, the sweep and the oldest order due for a refund.

    A sweep or an overdue order older than HEALTH_STALE_SECONDS is a problem; so is an order whose
    upstream nobody has looked at, when it has waited for that longer than the grace period as well,
    and a delivery to a customer that nobody has tried. One that failed is for people, not for here.
    A sweep or a look after now is a problem and no age: a clock is wrong, or was.
    """
    problems: list[str] = []
    sweep_age = overdue_age = unlooked_age = delivery_age = None
    stale = settings.HEALTH_STALE.total_seconds()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        now = timezone.now()
        swept_at = (
            Sweep.objects.filter(name="refunds").values_list("finished_at", flat=True).first()
        )
        ahead_by = swept_at - now if swept_at and is_ahead(swept_at, now) else None
        sweep_age = _age(None if ahead_by else swept_at)
        overdue_age = _age(oldest_due())
        if ahead_by is not None:
            problems.append(
                f"The last sweep ran {ahead_by.total_seconds():.0f} s after now: a clock is wrong, "
                "or was when it ran."
            )
        elif sweep_age is None:
            problems.append("No sweep has ever run: are the Celery worker and beat running?")
        elif sweep_age > stale:
            problems.append(f"The last sweep ran {sweep_age:.0f} s ago.")
        if overdue_age is not None and overdue_age > stale:
            problems.append(f"An order has waited {overdue_age:.0f} s for its refund.")
        problems += _looks_after(now)
        unlooked_age = _age(oldest_unlooked())
        if (
            unlooked_age is not None
            and unlooked_age > stale + settings.UPSTREAM_GRACE.total_seconds()
        ):
            problems.append(
                f"An order past its deadline has waited {unlooked_age:.0f} s for a look at its "
                "upstream: is the Celery worker of the queue looks running?"
            )
        delivery_age = _age(oldest_delivery())
        if delivery_age is not None and delivery_age > stale:
            problems.append(
                f"A delivery to a customer has waited {delivery_age:.0f} s: are the Celery workers "
                "of the queues money and mail running?"
            )
    except DatabaseError:
        problems.append("The database does not answer.")
    if not _broker_answers():
        problems.append("The broker does not answer.")
    return {
        "status": "bad" if problems else "ok",
        "problems": problems,
        "last_sweep_age": sweep_age,
        "oldest_overdue_age": overdue_age,
        "oldest_unlooked_age": unlooked_age,
        "oldest_delivery_age": delivery_age,
    }


def _looks_after(now: datetime) -> list[str]:
    looks = Upstream.objects.filter(ahead("looked_at", now)).order_by("pk")
    began = [(one.code, one.looked_at - now) for one in looks if one.looked_at is not None]
    return [
        f"The last look at {code} began {ahead_by.total_seconds():.0f} s after now: a clock is "
        "wrong, or was when it began."
        for code, ahead_by in began
    ]


def _age(moment: datetime | None) -> float | None:
    # A clock that is a little ahead of ours is none that is wrong.
    return max(round((timezone.now() - moment).total_seconds(), 1), 0.0) if moment else None


def _broker_answers() -> bool:
    broker = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=2,
        socket_timeout=2,
        # By itself it would ask a silent one again and again, while the monitor waits.
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(broker.ping())
    except redis.RedisError:
        return False
    finally:
        broker.close()
