"""Workers that write exports: processes of their own, also killed by SIGKILL."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from smsactivator.common import exports as datasets
from smsactivator.common.periods import this_month
from smsactivator.tests.test_end_to_end import (
    PROJECT,
    database_url,
    empty_broker,
    until,
    worker,
)
from wallet import exports
from wallet.models import Export, ExportPart
from wallet.tests import world
from wallet.tests.exported import NUMBERS, asked, days, file_of, fresh, read

__all__ = ["empty_broker"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_asked_for_reaches_the_workers_of_exports(tmp_path: Path) -> None:
    customer = world.customer("12.5")
    export = asked(world.person("Finance"), "transfers", this_month())

    with worker(tmp_path, "-Q", "exports"):
        until(lambda: fresh(export).state == Export.State.DONE)

    [row] = read(file_of(export))
    assert (row["customer"], row["amount"]) == (customer.external_id, "12.5000")


WRITE = """
import sys, django
django.setup()
from smsactivator.common.exports import register
from wallet import exports
from wallet.tests.exported import NUMBERS
register(NUMBERS)
exports.PART = 100  # so that there is a middle to be killed in
exports.write(int(sys.argv[1]))
"""


def test_a_worker_killed_in_the_middle_leaves_one_whole_file_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(datasets._datasets, "numbers", NUMBERS)
    monkeypatch.setattr("wallet.tasks.write_export.apply_async", lambda args, **options: None)
    fiona: Any = world.person("Finance")
    export = asked(fiona, "numbers", days(30))
    killed = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(export.pk)],
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": database_url()},
    )
    try:
        until(lambda: ExportPart.objects.filter(export=export, number=5).exists())
    finally:
        killed.kill()
        killed.wait()
    assert fresh(export).state == Export.State.RUNNING
    assert 0 < fresh(export).rows_done < 60_000
    assert not exports.write(export.pk)

    with time_machine.travel(timezone.now() + exports.LEASE + timedelta(seconds=1)):
        exports.tend()
        assert exports.write(export.pk)

    assert [row["number"] for row in read(file_of(export))] == [
        str(number) for number in range(1, 60_001)
    ]
    assert fresh(export).attempt == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors")
        assert cursor.fetchone() == (0,)
