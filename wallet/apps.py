from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class WalletConfig(AppConfig):
    name = "wallet"
    verbose_name = "Customers and wallets"

    def ready(self) -> None:
        """Know what each floor offers for export and has sealed, also in workers."""
        autodiscover_modules("datasets", "sealed")
