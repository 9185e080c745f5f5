from pathlib import Path

import django.db.models.deletion
import simple_history.models
from django.conf import settings
from django.db import migrations, models
from django.utils import timezone

SQL = Path(__file__).resolve().parent.parent / "sql"

# As the coins' issuers publish them.
CONTRACTS = {
    "USDT-TRON": "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t",
    "USDC-TRON": "TEkxiTehnzSmSe2XqrBj4w32RUN966rdz8",
    "USDT-ETHEREUM": "0xdAC17F958D2ee523a2206206994597C13D831ec7",
    "USDC-ETHEREUM": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
}
# Beside those: what is known of these and of other networks; finance adds to it.
REFUSED = (
    # network, address format, address, its key, why, note
    ("TRON", "tron", "TLsV52sRDL79HXGGm9yzwKibb6BeruhUzy", "", "burn", "black hole"),
    ("ETHEREUM", "evm", "0xdEAD000000000000000042069420694206942069", "", "burn", ""),
    ("ETHEREUM", "evm", "0xdEad000000000000000000000000000000000000", "", "burn", ""),
    ("BSC", "evm", "0x55d398326f99059fF775485246999027B3197955", "", "contract", "USDT"),
    ("BSC", "evm", "0x8AC76a51cc950d9822D68b83fE1Ad97B32Cd580d", "", "contract", "USDC"),
    ("POLYGON", "evm", "0xc2132D05D31c914a87C6611C10748AEb04B58e8F", "", "contract", "USDT"),
    ("POLYGON", "evm", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "", "contract", "USDC"),
    ("POLYGON", "evm", "0x2791Bca1f2de4661ED88A30C99A7a9449Aa84174", "", "contract", "USDC.e"),
    ("SOLANA", "solana", "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", "", "contract", "USDT"),
    ("SOLANA", "solana", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "", "contract", "USDC"),
    (
        *("SOLANA", "solana", "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA", ""),
        *("contract", "the token program"),
    ),
    ("SOLANA", "solana", "1nc1nerator11111111111111111111111111111111", "", "burn", "incinerator"),
    (
        *("STELLAR", "stellar", "GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN", ""),
        *("contract", "the issuer of USDC"),
    ),
    (
        *("TON", "ton", "EQCxE6mUtQJKFnGfaROTKOt1lZbDiiX1kCixRv7Nw2Id_sDs"),
        *("00b113a994b5024a16719f69139328eb759596c38a25f59028b146fecdc3621dfe", "contract", "USDT"),
    ),
)
MIGRATED = {"history_actor": "automatic: migration"}


def columns(row):
    return {field.name: getattr(row, field.name) for field in row._meta.fields}


def add_known(apps, schema_editor):
    method = apps.get_model("wallet", "PayoutMethod")
    past = apps.get_model("wallet", "HistoricalPayoutMethod")
    for row in method.objects.filter(code__in=CONTRACTS).order_by("pk"):
        row.contract = CONTRACTS[row.code]
        row.save(update_fields=["contract"])
        past.objects.create(
            **columns(row),
            **MIGRATED,
            history_date=timezone.now(),
            history_type="~",
            history_change_reason="The contract as the coin's issuer publishes it",
        )
    refused = apps.get_model("wallet", "RefusedAddress")
    past = apps.get_model("wallet", "HistoricalRefusedAddress")
    for network, address_format, address, key, why, note in REFUSED:
        row = refused.objects.create(
            network=network,
            address_format=address_format,
            address=address,
            key=key or (address.lower() if address_format == "evm" else address),
            why=why,
            note=note,
        )
        past.objects.create(
            **columns(row),
            **MIGRATED,
            history_date=timezone.now(),
            history_type="+",
            history_change_reason="What is known from the beginning",
        )


class Migration(migrations.Migration):
    """Where nothing is paid out to: wallet/sql/refused_addresses.sql."""

    dependencies = [
        ('wallet', '0019_sealed_rows'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='historicalpayoutmethod',
            name='contract',
            field=models.CharField(blank=True, db_default='', default='', help_text="Its address on the network, as the coin's issuer publishes it. Nothing is paid out to it.", max_length=128, verbose_name="the token's contract"),
        ),
        migrations.AddField(
            model_name='payoutmethod',
            name='contract',
            field=models.CharField(blank=True, db_default='', default='', help_text="Its address on the network, as the coin's issuer publishes it. Nothing is paid out to it.", max_length=128, verbose_name="the token's contract"),
        ),
        migrations.CreateModel(
            name='HistoricalRefusedAddress',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('history_actor', models.CharField(default='', editable=False, max_length=200)),
                ('network', models.CharField(help_text='As TRON.', max_length=32)),
                ('address_format', models.CharField(choices=[('tron', 'Tron (T…, Base58Check)'), ('evm', 'Ethereum and networks like it (0x…, EIP-55)'), ('solana', 'Solana (Base58 of 32 bytes)'), ('stellar', 'Stellar (G…, StrKey)'), ('ton', 'TON (user-friendly, CRC-16)')], max_length=16)),
                ('address', models.CharField(max_length=128)),
                ('key', models.CharField(editable=False, max_length=128)),
                ('why', models.CharField(choices=[('contract', 'The contract of a token'), ('burn', 'One of which nobody has the key'), ('ours', 'Our own, where customers pay in'), ('other', 'Refused as its note says')], max_length=16)),
                ('note', models.CharField(blank=True, help_text='As: USDC.', max_length=200)),
                ('active', models.BooleanField(default=True, help_text='Off: payouts may go there.')),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField()),
                ('history_change_reason', models.TextField(null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'historical refused address',
                'verbose_name_plural': 'historical refused addresses',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='RefusedAddress',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('network', models.CharField(help_text='As TRON.', max_length=32)),
                ('address_format', models.CharField(choices=[('tron', 'Tron (T…, Base58Check)'), ('evm', 'Ethereum and networks like it (0x…, EIP-55)'), ('solana', 'Solana (Base58 of 32 bytes)'), ('stellar', 'Stellar (G…, StrKey)'), ('ton', 'TON (user-friendly, CRC-16)')], max_length=16)),
                ('address', models.CharField(max_length=128)),
                ('key', models.CharField(editable=False, max_length=128)),
                ('why', models.CharField(choices=[('contract', 'The contract of a token'), ('burn', 'One of which nobody has the key'), ('ours', 'Our own, where customers pay in'), ('other', 'Refused as its note says')], max_length=16)),
                ('note', models.CharField(blank=True, help_text='As: USDC.', max_length=200)),
                ('active', models.BooleanField(default=True, help_text='Off: payouts may go there.')),
            ],
            options={
                'verbose_name_plural': 'refused addresses',
                'permissions': [('refuse_address', 'Can say where nothing is paid out to')],
                'constraints': [models.UniqueConstraint(fields=('address_format', 'key'), name='refused_address_once'), models.CheckConstraint(condition=models.Q(models.Q(('why', 'other'), _negated=True), models.Q(('note', ''), _negated=True), _connector='OR'), name='refused_for_a_reason')],
            },
        ),
        migrations.AddConstraint(
            model_name='payoutmethod',
            constraint=models.CheckConstraint(condition=models.Q(('contract__regex', '^([A-Za-z0-9][A-Za-z0-9_-]{19,127})?$')), name='payout_method_contract_plain'),
        ),
        migrations.RunSQL(
            (SQL / "refused_addresses.sql").read_text(),
            (SQL / "refused_addresses_reverse.sql").read_text(),
        ),
        migrations.RunPython(add_known, migrations.RunPython.noop),
    ]
