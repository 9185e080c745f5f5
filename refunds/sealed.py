"""What the refunds' floor has sealed beside the histories."""

from __future__ import annotations

from refunds.models import Refund
from wallet.evidence import Evidence, register

register(Evidence(Refund, "t.created_at"))
