"""Celery tasks of orders: each calls one verb. All may run twice, late or never."""

from __future__ import annotations

from celery import shared_task


@shared_task
def allocate(order_id: int) -> None:
    from orders import allocation

    allocation.allocate(order_id)


@shared_task
def allocate_forgotten() -> int:
    from orders import allocation

    return allocation.allocate_forgotten()


@shared_task
def finish_delivered() -> int:
    from orders import delivery

    return delivery.finish_delivered()


@shared_task
def release_due_numbers() -> int:
    from orders import releasing

    return releasing.release_due()
