"""What the orders' floor has sealed beside the histories. Of an SMS only a hash is kept."""

from __future__ import annotations

from orders.models import Order, Sms, SmsReading
from wallet.evidence import Evidence, register, unrecorded

register(Evidence(Sms, "t.received_at"), Evidence(SmsReading, "t.read_at"))
# When to speak with the upstream again.
unrecorded(Order, "upstream_due_at")
