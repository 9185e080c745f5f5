from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "smsactivator"
    verbose_name = "smsactivator"

    def ready(self) -> None:
        """Connect what listens for log-ins."""
        from smsactivator import sessions as sessions
