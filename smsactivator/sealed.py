"""What the site has sealed: who let whom do what."""

from __future__ import annotations

from smsactivator.models import StaffChange
from wallet.evidence import Evidence, register

register(Evidence(StaffChange, "t.at"))
