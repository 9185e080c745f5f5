"""Celery tasks of the wallet: each calls one verb. All may run twice, late or never."""

from __future__ import annotations

from celery import shared_task


@shared_task
def write_export(export_id: int) -> bool:
    """Write a queued export: reads much, on a queue of its own."""
    from wallet import exports

    return exports.write(export_id)


@shared_task
def tend_exports() -> None:
    """Begin what was interrupted or never queued again, and let go of files that have expired."""
    from wallet import exports

    exports.tend()
