from pathlib import Path

from django.db import migrations
from django.utils import timezone

SQL = Path(__file__).resolve().parent.parent / "sql"

# Codes of others as they publish them; the empty ones are for finance to fill in.
METHODS = (
    # code, currency, network, address format, CoinsPaid, Inqud
    ("USDT-TRON", "USDT", "TRON", "tron", "USDTT", "TRON_USDT"),
    ("USDC-TRON", "USDC", "TRON", "tron", "", "TRON_USDC"),
    ("USDT-ETHEREUM", "USDT", "ETHEREUM", "evm", "USDTE", "ETHEREUM_USDT"),
    ("USDC-ETHEREUM", "USDC", "ETHEREUM", "evm", "USDC", "ETHEREUM_USDC"),
)


def add_methods(apps, schema_editor):
    method = apps.get_model("wallet", "PayoutMethod")
    past = apps.get_model("wallet", "HistoricalPayoutMethod")
    for code, currency, network, address_format, coinspaid, inqud in METHODS:
        row = method.objects.create(
            code=code,
            currency=currency,
            network=network,
            address_format=address_format,
            coinspaid_code=coinspaid,
            inqud_code=inqud,
        )
        columns = {field.name: getattr(row, field.name) for field in method._meta.fields}
        past.objects.create(
            **columns,
            history_date=timezone.now(),
            history_type="+",
            history_change_reason="The coins that payouts begin with",
            history_actor="automatic: migration",
        )


class Migration(migrations.Migration):
    """The rules of wallet/sql/payouts.sql."""

    dependencies = [("wallet", "0009_payouts")]

    operations = [
        migrations.RunSQL(
            (SQL / "payouts.sql").read_text(), (SQL / "payouts_reverse.sql").read_text()
        ),
        migrations.RunPython(add_methods, migrations.RunPython.noop),
    ]
