from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "smsactivator"
    verbose_name = "smsactivator"
