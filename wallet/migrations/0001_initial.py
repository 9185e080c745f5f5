import django.db.models.deletion
import simple_history.models
import smsactivator.common.money
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('started_at', models.DateTimeField(db_index=True)),
                ('finished_at', models.DateTimeField()),
                ('passed', models.BooleanField()),
                ('checks', models.JSONField(help_text='A list of {name, seconds, count, differences, figures}.')),
            ],
        ),
        migrations.CreateModel(
            name='Storefront',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name='Transfer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('debit_account', models.BigIntegerField()),
                ('credit_account', models.BigIntegerField()),
                ('amount', smsactivator.common.money.MoneyField(decimal_places=4, max_digits=19)),
                ('kind', models.CharField(choices=[('deposit', 'Deposit'), ('purchase', 'Purchase'), ('delivery', 'Delivery'), ('auto_refund', 'Automatic refund'), ('upstream_cost', 'Upstream cost')], max_length=16)),
                ('key', models.CharField(max_length=200, verbose_name='idempotency key')),
                ('posted_at', models.DateTimeField(db_index=True)),
                ('wallet_version', models.BigIntegerField(null=True)),
                ('balance_after', smsactivator.common.money.MoneyField(decimal_places=4, max_digits=19, null=True)),
            ],
        ),
        migrations.CreateModel(
            name='HistoricalCustomer',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('history_actor', models.CharField(default='', editable=False, max_length=200)),
                ('external_id', models.CharField(help_text="The customer's id at the storefront.", max_length=64, verbose_name="storefront's id")),
                ('email', models.EmailField(blank=True, max_length=254)),
                ('status', models.CharField(choices=[('active', 'Active'), ('suspended', 'Suspended (no new orders; refunds still arrive)')], default='active', max_length=16)),
                ('created_at', models.DateTimeField()),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField()),
                ('history_change_reason', models.TextField(null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('storefront', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='wallet.storefront')),
            ],
            options={
                'verbose_name': 'historical customer',
                'verbose_name_plural': 'historical customers',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='Customer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('external_id', models.CharField(help_text="The customer's id at the storefront.", max_length=64, verbose_name="storefront's id")),
                ('email', models.EmailField(blank=True, max_length=254)),
                ('status', models.CharField(choices=[('active', 'Active'), ('suspended', 'Suspended (no new orders; refunds still arrive)')], default='active', max_length=16)),
                ('created_at', models.DateTimeField()),
                ('storefront', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='customers', to='wallet.storefront')),
            ],
        ),
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='Where this key is used.', max_length=100)),
                ('prefix', models.CharField(editable=False, max_length=12)),
                ('digest', models.CharField(editable=False, max_length=64)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.CharField(default='', editable=False, max_length=150)),
                ('revoked_at', models.DateTimeField(editable=False, null=True)),
                ('revoked_by', models.CharField(default='', editable=False, max_length=150)),
                ('storefront', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='keys', to='wallet.storefront')),
            ],
            options={
                'verbose_name': 'API key',
            },
        ),
        migrations.CreateModel(
            name='Deposit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reference', models.CharField(max_length=128, verbose_name='payment reference')),
                ('storefront', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deposits', to='wallet.storefront')),
                ('transfer', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='deposit', to='wallet.transfer')),
            ],
        ),
        migrations.CreateModel(
            name='Wallet',
            fields=[
                ('customer', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, related_name='wallet', serialize=False, to='wallet.customer')),
                ('balance', smsactivator.common.money.MoneyField(decimal_places=4, default=0, editable=False, max_digits=19)),
                ('version', models.BigIntegerField(default=0, editable=False)),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('balance__gte', 0)), name='wallet_not_overdrawn')],
            },
        ),
        migrations.AddField(
            model_name='transfer',
            name='wallet',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='transfers', to='wallet.wallet'),
        ),
        migrations.AddIndex(
            model_name='customer',
            index=models.Index(fields=['external_id'], name='customer_external_id'),
        ),
        migrations.AddIndex(
            model_name='customer',
            index=models.Index(fields=['email'], name='customer_email'),
        ),
        migrations.AddIndex(
            model_name='customer',
            index=models.Index(condition=models.Q(('status', 'suspended')), fields=['-id'], name='customer_suspended_newest'),
        ),
        migrations.AddConstraint(
            model_name='customer',
            constraint=models.UniqueConstraint(fields=('storefront', 'external_id'), name='customer_once_per_storefront'),
        ),
        migrations.AddConstraint(
            model_name='customer',
            constraint=models.CheckConstraint(condition=models.Q(('id__gte', 1000)), name='customer_id_is_a_wallet_account'),
        ),
        migrations.AddConstraint(
            model_name='customer',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['active', 'suspended'])), name='customer_status'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.UniqueConstraint(fields=('digest',), name='api_key_digest_once'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.UniqueConstraint(condition=models.Q(('revoked_at', None)), fields=('storefront', 'name'), name='api_key_live_name_once'),
        ),
        migrations.AddConstraint(
            model_name='deposit',
            constraint=models.UniqueConstraint(fields=('storefront', 'reference'), name='deposit_reference_once'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='transfer_amount_positive'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(('debit_account', models.F('credit_account')), _negated=True), name='transfer_between_two_accounts'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('debit_account__in', [1, 2, 3, 4, 5]), ('debit_account__gte', 1000), _connector='OR'), models.Q(('credit_account__in', [1, 2, 3, 4, 5]), ('credit_account__gte', 1000), _connector='OR')), name='transfer_accounts_known'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('credit_account__gte', 1000), ('debit_account', 1), ('kind', 'deposit')), models.Q(('credit_account', 2), ('debit_account__gte', 1000), ('kind', 'purchase')), models.Q(('credit_account', 3), ('debit_account', 2), ('kind', 'delivery')), models.Q(('credit_account__gte', 1000), ('debit_account', 2), ('kind', 'auto_refund')), models.Q(('credit_account', 5), ('debit_account', 4), ('kind', 'upstream_cost')), _connector='OR'), name='transfer_kind_names_its_accounts'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('balance_after__isnull', True), ('credit_account__lt', 1000), ('debit_account__lt', 1000), ('wallet__isnull', True), ('wallet_version__isnull', True)), models.Q(models.Q(models.Q(('credit_account__lt', 1000), ('debit_account', models.F('wallet'))), models.Q(('credit_account', models.F('wallet')), ('debit_account__lt', 1000)), _connector='OR'), ('balance_after__gte', 0), ('balance_after__isnull', False), ('wallet__isnull', False), ('wallet_version__isnull', False)), _connector='OR'), name='transfer_wallet_is_its_one_wallet_side'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.UniqueConstraint(fields=('key',), name='transfer_key_once'),
        ),
        migrations.AddConstraint(
            model_name='transfer',
            constraint=models.UniqueConstraint(fields=('wallet', 'wallet_version'), name='transfer_wallet_version_once'),
        ),
    ]
