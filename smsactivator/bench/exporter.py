"""One process of the exports' bench: writes an export or takes it, and says what it needed."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Arguments as JSON: act (idle, write or take), export, person."""
    given = json.loads(sys.argv[1])
    import django

    django.setup()
    begun = time.perf_counter()
    done: dict[str, Any] = {"write": _write, "take": _take, "idle": _idle}[given["act"]](given)
    done["seconds"] = round(time.perf_counter() - begun, 1)
    done["peak_mib"] = round(_peak() / 1024, 1)
    sys.stdout.write(json.dumps(done) + "\n")


def _peak() -> int:
    """The most memory that this program ever had resident, in KiB, as Linux counts it.

    Not ``getrusage``: its figure begins with that of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)[0])


def _idle(given: dict[str, Any]) -> dict[str, Any]:
    """The program itself, with all it imports to write and to take."""
    import smsactivator.urls
    from wallet import exports

    return {"loaded": [smsactivator.urls.__name__, exports.__name__]}


def _write(given: dict[str, Any]) -> dict[str, Any]:
    """As the worker's task."""
    from wallet import exports

    if not exports.write(given["export"]):
        raise SystemExit("the export was not written")
    return {}


def _take(given: dict[str, Any]) -> dict[str, Any]:
    """As a person's browser, through the admin's own page."""
    from django.contrib.auth.models import User
    from django.test import Client

    from smsactivator.common.links import admin_url

    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.get(pk=given["person"]))
    answer: Any = client.post(admin_url("wallet_export_download", given["export"]))
    if answer.status_code != 200:
        raise SystemExit(f"the download answers {answer.status_code}")
    digest, size = hashlib.sha256(), 0
    for part in answer.streaming_content:
        digest.update(part)
        size += len(part)
    return {"bytes": size, "sha256": digest.hexdigest()}


if __name__ == "__main__":
    main()
