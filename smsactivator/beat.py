"""The scheduler of the beat: Celery's own, which keeps in a file when each task was last queued."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery.beat import PersistentScheduler

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class Scheduler(PersistentScheduler):
    """Believes neither its file nor itself that a task was queued after now.

    A clock that ran ahead and came back would keep the beat silent for as long as it had been
    ahead. What seems to have been queued after now is queued at once: every task may run twice.
    """

    def tick(self, *args: Any, **kwargs: Any) -> float:
        now = self.app.now()
        ahead = [entry for entry in self.schedule.values() if entry.last_run_at > now]
        for entry in ahead:
            entry.last_run_at = NEVER
        if ahead:
            self._heap = None  # it holds when each is due; it is made anew from the entries
        seconds: float = super().tick(*args, **kwargs)
        return seconds
