import uuid
from pathlib import Path

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import smsactivator.common.money

SQL = Path(__file__).resolve().parent.parent / "sql"

# What is said of each claim that is changed.
WRITTEN = """
INSERT INTO wallet_historicalclaim (
    id, reference, evidence, froze, recorded_at, state, decided_at, decision_reason, deposit_id,
    recorded_by_id, decided_by_id,
    history_date, history_type, history_change_reason, history_actor
)
SELECT
    id, reference, evidence, froze, recorded_at, state, decided_at, decision_reason, deposit_id,
    recorded_by_id, decided_by_id,
    now(), '~', '{}', 'automatic: migration'
FROM changed;
"""

# Claims of before: a deposit could have another one once the first was upheld. One stands: what a
# termination in force or asked for rests on, or else the newest.
ONE_A_DEPOSIT = """
WITH standing AS (
    SELECT DISTINCT ON (claim.deposit_id) claim.id
    FROM wallet_claim AS claim
    WHERE claim.state <> 'dismissed'
    ORDER BY claim.deposit_id, EXISTS (
        SELECT FROM wallet_termination AS ended
        WHERE ended.claim_id = claim.id AND (
            ended.state = 'requested' OR ended.state = 'confirmed' AND NOT ended.reinstated)
    ) DESC, claim.id DESC
), changed AS (
    UPDATE wallet_claim
    SET state = 'dismissed',
        decided_by_id = coalesce(decided_by_id, recorded_by_id),
        decided_at = coalesce(decided_at, now()),
        decision_reason = coalesce(
            nullif(decision_reason, ''), 'Another claim on the deposit stands')
    WHERE state <> 'dismissed' AND id NOT IN (SELECT id FROM standing)
    RETURNING *
)
""" + WRITTEN.format("Another claim on the deposit stands")

# One is over when its account is; one whose account was given back is no more.
FOLLOW = """
WITH changed AS (
    UPDATE wallet_claim AS claim
    SET state = CASE WHEN wallet.state = 'forfeited' THEN 'terminated' ELSE 'dismissed' END
    FROM wallet_deposit AS deposit
    JOIN wallet_transfer AS paid ON paid.id = deposit.transfer_id
    JOIN wallet_wallet AS wallet ON wallet.customer_id = paid.wallet_id
    WHERE deposit.id = claim.deposit_id AND (
        claim.state IN ('open', 'upheld') AND wallet.state = 'forfeited'
        OR claim.state = 'upheld' AND wallet.state <> 'forfeited' AND NOT EXISTS (
            SELECT FROM wallet_termination AS asked
            WHERE asked.claim_id = claim.id AND asked.state = 'requested'
        )
    )
    RETURNING claim.*
)
""" + WRITTEN.format("Its state follows the account from now on")

# A table that has rows to be looked at on commit is not altered.
LOOKED_AT = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;"


class Migration(migrations.Migration):
    """Claims end with their accounts (wallet/sql/claims.sql), have files, and may come again."""

    dependencies = [
        ('wallet', '0017_rare_transfers'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AccountOutcome',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('what', models.CharField(choices=[('frozen', 'Wallet frozen'), ('unfrozen', 'Wallet unfrozen'), ('terminated', 'Account terminated'), ('reinstated', 'Account reinstated')], max_length=16)),
                ('ground', models.CharField(choices=[('claim', 'A chargeback claim'), ('termination', 'A termination'), ('review', 'Somebody of ours')], max_length=16)),
                ('amount', smsactivator.common.money.MoneyField(decimal_places=4, help_text='USD that were forfeited or given back.', max_digits=19, null=True)),
                ('at', models.DateTimeField()),
                ('told_at', models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name='ClaimFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255)),
                ('content_type', models.CharField(help_text='As the content shows, whatever the sender called it.', max_length=100)),
                ('content', models.BinaryField()),
                ('size', models.PositiveIntegerField(help_text='Bytes.')),
                ('sha256', models.CharField(help_text='SHA-256, hexadecimal.', max_length=64)),
                ('added_at', models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name='ClaimFileReading',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('read_at', models.DateTimeField()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name='claim',
            name='claim_reference_once',
        ),
        migrations.RemoveConstraint(
            model_name='claim',
            name='claim_one_open_a_deposit',
        ),
        migrations.RemoveConstraint(
            model_name='claim',
            name='claim_decided_with_a_reason',
        ),
        # While no rule is in force: neither the old ones, nor the new ones that this makes true.
        migrations.RunSQL([ONE_A_DEPOSIT, FOLLOW, LOOKED_AT], migrations.RunSQL.noop),
        # A key of its own for each claim that there is.
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    "ALTER TABLE wallet_claim ADD COLUMN request_key uuid NOT NULL UNIQUE "
                    "DEFAULT gen_random_uuid(); "
                    "ALTER TABLE wallet_claim ALTER COLUMN request_key DROP DEFAULT",
                    "ALTER TABLE wallet_claim DROP COLUMN request_key",
                )
            ],
            [
                migrations.AddField(
                    model_name='claim',
                    name='request_key',
                    field=models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
                ),
            ],
        ),
        migrations.AlterField(
            model_name='claim',
            name='state',
            field=models.CharField(choices=[('open', 'Open'), ('dismissed', 'Dismissed'), ('upheld', 'Termination requested'), ('terminated', 'Account terminated')], default='open', max_length=16),
        ),
        migrations.AlterField(
            model_name='historicalclaim',
            name='state',
            field=models.CharField(choices=[('open', 'Open'), ('dismissed', 'Dismissed'), ('upheld', 'Termination requested'), ('terminated', 'Account terminated')], default='open', max_length=16),
        ),
        migrations.AddIndex(
            model_name='claim',
            index=models.Index(fields=['reference'], name='claim_by_reference'),
        ),
        migrations.AddConstraint(
            model_name='claim',
            constraint=models.UniqueConstraint(condition=models.Q(('state', 'dismissed'), _negated=True), fields=('deposit',), name='claim_one_a_deposit'),
        ),
        migrations.AddConstraint(
            model_name='claim',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', True), ('decided_by__isnull', True), ('state__in', ['open', 'terminated'])), models.Q(models.Q(('decision_reason', ''), _negated=True), ('decided_at__isnull', False), ('decided_by__isnull', False), ('state__in', ['dismissed', 'upheld', 'terminated'])), _connector='OR'), name='claim_decided_with_a_reason'),
        ),
        migrations.AddField(
            model_name='accountoutcome',
            name='customer',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='outcomes', to='wallet.customer'),
        ),
        migrations.AddField(
            model_name='claimfile',
            name='added_by',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='claimfile',
            name='claim',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='files', to='wallet.claim'),
        ),
        migrations.AddField(
            model_name='claimfilereading',
            name='file',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='readings', to='wallet.claimfile'),
        ),
        migrations.AddField(
            model_name='claimfilereading',
            name='person',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddIndex(
            model_name='accountoutcome',
            index=models.Index(condition=models.Q(('told_at__isnull', True)), fields=['id'], name='account_outcome_untold'),
        ),
        migrations.AddConstraint(
            model_name='accountoutcome',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('amount__isnull', True), ('ground__in', ['claim', 'termination', 'review']), ('what__in', ['frozen', 'unfrozen'])), models.Q(('amount__gte', 0), ('ground__in', ['claim', 'termination']), ('what__in', ['terminated', 'reinstated'])), _connector='OR'), name='account_outcome_known'),
        ),
        migrations.AddConstraint(
            model_name='claimfile',
            constraint=models.UniqueConstraint(fields=('claim', 'sha256', 'name'), name='claim_file_once'),
        ),
        migrations.AddConstraint(
            model_name='claimfile',
            constraint=models.CheckConstraint(condition=models.Q(('size__gt', 0)), name='claim_file_not_empty'),
        ),
        migrations.AddIndex(
            model_name='claimfilereading',
            index=models.Index(fields=['person', 'read_at'], name='claim_reading_by_person'),
        ),
        migrations.RunSQL((SQL / "claims.sql").read_text(), (SQL / "claims_reverse.sql").read_text()),
    ]
