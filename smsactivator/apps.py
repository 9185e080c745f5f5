from django.apps import AppConfig
from django.core.signals import got_request_exception

from smsactivator.common import logs


class SiteConfig(AppConfig):
    name = "smsactivator"
    verbose_name = "smsactivator"

    def ready(self) -> None:
        """Connect what listens for log-ins and for requests that failed."""
        from smsactivator import alarms
        from smsactivator import sessions as sessions

        logs.install()
        got_request_exception.connect(
            alarms.keep_failed_request, dispatch_uid="smsactivator.alarms"
        )
