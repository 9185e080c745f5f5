import django.db.models.deletion
import django_fsm
import simple_history.models
import smsactivator.common.money
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('wallet', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Offer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('service', models.CharField(help_text="The service's code at the upstream.", max_length=32)),
                ('country', models.CharField(help_text="The country's code at the upstream.", max_length=16)),
                ('title', models.CharField(max_length=100)),
                ('kind', models.CharField(choices=[('activation', 'Activation'), ('rental', 'Rental')], default='activation', max_length=16)),
                ('rental_hours', models.PositiveIntegerField(blank=True, null=True)),
                ('price', smsactivator.common.money.MoneyField(decimal_places=4, help_text='USD.', max_digits=19)),
                ('active', models.BooleanField(default=True)),
            ],
        ),
        migrations.CreateModel(
            name='HistoricalUpstream',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('history_actor', models.CharField(default='', editable=False, max_length=200)),
                ('code', models.SlugField(help_text='Also names UPSTREAM_KEY_<CODE>.', max_length=32)),
                ('name', models.CharField(max_length=100)),
                ('base_url', models.URLField(help_text='Without /stubs/handler_api.php.')),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField()),
                ('history_change_reason', models.TextField(null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'historical upstream',
                'verbose_name_plural': 'historical upstreams',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='Upstream',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('code', models.SlugField(help_text='Also names UPSTREAM_KEY_<CODE>.', max_length=32, unique=True)),
                ('name', models.CharField(max_length=100)),
                ('base_url', models.URLField(help_text='Without /stubs/handler_api.php.')),
                ('looked_at', models.DateTimeField(editable=False, help_text='When the last complete look began.', null=True)),
                ('failing_since', models.DateTimeField(editable=False, help_text='The first failed look since the last complete one.', null=True)),
                ('failed_at', models.DateTimeField(editable=False, help_text='When the last failed look began.', null=True)),
                ('look_lease_until', models.DateTimeField(editable=False, null=True)),
                ('last_error', models.CharField(default='', editable=False, max_length=200)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('base_url',), name='upstream_base_url_once')],
            },
        ),
        migrations.CreateModel(
            name='Order',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('activation', 'Activation'), ('rental', 'Rental')], max_length=16)),
                ('service', models.CharField(max_length=32)),
                ('country', models.CharField(max_length=16)),
                ('rental_hours', models.PositiveIntegerField(null=True)),
                ('price', smsactivator.common.money.MoneyField(decimal_places=4, max_digits=19)),
                ('state', models.CharField(choices=[('placed', 'Placed'), ('awaiting_sms', 'Awaiting SMS'), ('active', 'Active rental'), ('sms_received', 'SMS received'), ('completed', 'Completed'), ('ended', 'Rental ended'), ('allocation_failed', 'Allocation failed'), ('expired', 'Expired'), ('cancelled', 'Cancelled'), ('number_broken', 'Number broken')], default='placed', max_length=20)),
                ('idempotency_key', models.CharField(max_length=128)),
                ('placed_at', models.DateTimeField()),
                ('allocated_at', models.DateTimeField(null=True)),
                ('deadline', models.DateTimeField(help_text='An SMS must be at the upstream by then.', null=True)),
                ('rental_ends_at', models.DateTimeField(null=True)),
                ('first_sms_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('refused_at', models.DateTimeField(help_text='When the upstream refused to sell.', null=True)),
                ('refusal_code', models.CharField(default='', max_length=64)),
                ('broken_at', models.DateTimeField(help_text='When the upstream reported it broken.', null=True)),
                ('broken_signal', models.CharField(default='', max_length=64)),
                ('phone', models.CharField(default='', max_length=20)),
                ('upstream_side', models.CharField(choices=[('none', 'Nothing bought'), ('buying', 'Being bought'), ('unknown', 'Perhaps bought'), ('held', 'Number held'), ('releasing', 'Being given back'), ('released', 'Given back'), ('lost', 'Kept by the upstream'), ('finished', 'Used')], default='none', max_length=12)),
                ('upstream_ref', models.CharField(default='', max_length=64)),
                ('upstream_cost', smsactivator.common.money.MoneyField(decimal_places=4, help_text='USD, as the upstream charged us.', max_digits=19, null=True)),
                ('upstream_due_at', models.DateTimeField(help_text='When to speak with the upstream about this number again.', null=True)),
                ('allocation_started_at', models.DateTimeField(null=True)),
                ('customer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='wallet.customer')),
                ('offer', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='orders.offer')),
                ('purchase', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='purchased_order', to='wallet.transfer')),
                ('settlement', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='settled_order', to='wallet.transfer')),
                ('upstream', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='orders', to='orders.upstream')),
            ],
            bases=(django_fsm.FSMModelMixin, models.Model),
        ),
        migrations.AddField(
            model_name='offer',
            name='upstream',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='offers', to='orders.upstream'),
        ),
        migrations.CreateModel(
            name='HistoricalOrder',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('history_actor', models.CharField(default='', editable=False, max_length=200)),
                ('kind', models.CharField(choices=[('activation', 'Activation'), ('rental', 'Rental')], max_length=16)),
                ('service', models.CharField(max_length=32)),
                ('country', models.CharField(max_length=16)),
                ('rental_hours', models.PositiveIntegerField(null=True)),
                ('price', smsactivator.common.money.MoneyField(decimal_places=4, max_digits=19)),
                ('state', models.CharField(choices=[('placed', 'Placed'), ('awaiting_sms', 'Awaiting SMS'), ('active', 'Active rental'), ('sms_received', 'SMS received'), ('completed', 'Completed'), ('ended', 'Rental ended'), ('allocation_failed', 'Allocation failed'), ('expired', 'Expired'), ('cancelled', 'Cancelled'), ('number_broken', 'Number broken')], default='placed', max_length=20)),
                ('idempotency_key', models.CharField(max_length=128)),
                ('placed_at', models.DateTimeField()),
                ('allocated_at', models.DateTimeField(null=True)),
                ('deadline', models.DateTimeField(help_text='An SMS must be at the upstream by then.', null=True)),
                ('rental_ends_at', models.DateTimeField(null=True)),
                ('first_sms_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('refused_at', models.DateTimeField(help_text='When the upstream refused to sell.', null=True)),
                ('refusal_code', models.CharField(default='', max_length=64)),
                ('broken_at', models.DateTimeField(help_text='When the upstream reported it broken.', null=True)),
                ('broken_signal', models.CharField(default='', max_length=64)),
                ('phone', models.CharField(default='', max_length=20)),
                ('upstream_side', models.CharField(choices=[('none', 'Nothing bought'), ('buying', 'Being bought'), ('unknown', 'Perhaps bought'), ('held', 'Number held'), ('releasing', 'Being given back'), ('released', 'Given back'), ('lost', 'Kept by the upstream'), ('finished', 'Used')], default='none', max_length=12)),
                ('upstream_ref', models.CharField(default='', max_length=64)),
                ('upstream_cost', smsactivator.common.money.MoneyField(decimal_places=4, help_text='USD, as the upstream charged us.', max_digits=19, null=True)),
                ('upstream_due_at', models.DateTimeField(help_text='When to speak with the upstream about this number again.', null=True)),
                ('allocation_started_at', models.DateTimeField(null=True)),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField()),
                ('history_change_reason', models.TextField(null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('customer', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='wallet.customer')),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('purchase', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='wallet.transfer')),
                ('settlement', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='wallet.transfer')),
                ('offer', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='orders.offer')),
                ('upstream', models.ForeignKey(blank=True, db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='orders.upstream')),
            ],
            options={
                'verbose_name': 'historical order',
                'verbose_name_plural': 'historical orders',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='HistoricalOffer',
            fields=[
                ('id', models.BigIntegerField(auto_created=True, blank=True, db_index=True, verbose_name='ID')),
                ('history_actor', models.CharField(default='', editable=False, max_length=200)),
                ('service', models.CharField(help_text="The service's code at the upstream.", max_length=32)),
                ('country', models.CharField(help_text="The country's code at the upstream.", max_length=16)),
                ('title', models.CharField(max_length=100)),
                ('kind', models.CharField(choices=[('activation', 'Activation'), ('rental', 'Rental')], default='activation', max_length=16)),
                ('rental_hours', models.PositiveIntegerField(blank=True, null=True)),
                ('price', smsactivator.common.money.MoneyField(decimal_places=4, help_text='USD.', max_digits=19)),
                ('active', models.BooleanField(default=True)),
                ('history_id', models.BigAutoField(editable=False, primary_key=True, serialize=False)),
                ('history_date', models.DateTimeField()),
                ('history_change_reason', models.TextField(null=True)),
                ('history_type', models.CharField(choices=[('+', 'Created'), ('~', 'Changed'), ('-', 'Deleted')], max_length=1)),
                ('history_user', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('upstream', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='orders.upstream')),
            ],
            options={
                'verbose_name': 'historical offer',
                'verbose_name_plural': 'historical offers',
                'ordering': ('-history_date', '-history_id'),
                'get_latest_by': ('history_date', 'history_id'),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name='Sms',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('digest', models.CharField(editable=False, max_length=64)),
                ('code', models.CharField(default='', max_length=64)),
                ('text', models.TextField(default='')),
                ('sender', models.CharField(default='', max_length=64)),
                ('received_at', models.DateTimeField()),
                ('late', models.BooleanField(default=False)),
                ('order', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='orders.order')),
            ],
            options={
                'verbose_name': 'SMS',
                'verbose_name_plural': 'SMS',
                'permissions': [('view_sms_text', 'Can read the text and code of SMS')],
                'indexes': [models.Index(condition=models.Q(('late', True)), fields=['-id'], name='sms_late_newest')],
                'constraints': [models.UniqueConstraint(fields=('order', 'digest'), name='sms_once')],
            },
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state', 'awaiting_sms')), fields=['upstream', 'deadline'], name='order_awaiting'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('broken_at__isnull', False), ('state__in', ['awaiting_sms', 'active'])), fields=['broken_at'], name='order_broken'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state', 'placed')), fields=['placed_at'], name='order_unallocated'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state', 'sms_received')), fields=['deadline'], name='order_to_complete'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('state', 'active')), fields=['rental_ends_at'], name='order_rental_ends'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('upstream_due_at__isnull', False)), fields=['upstream', 'upstream_due_at'], name='order_upstream_due'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('upstream_side__in', ['buying', 'unknown', 'releasing'])), fields=['upstream', 'upstream_side'], name='order_upstream_unsettled'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('phone', ''), _negated=True), fields=['phone'], name='order_phone'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(fields=['state', '-id'], name='order_state_newest'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(fields=['customer', '-id'], name='order_customer_newest'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(fields=['upstream', '-id'], name='order_upstream_newest'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(fields=['placed_at'], name='order_placed_at'),
        ),
        migrations.AddIndex(
            model_name='order',
            index=models.Index(condition=models.Q(('kind', 'rental')), fields=['-id'], name='order_rental_newest'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(('price__gt', 0)), name='order_price_positive'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['placed', 'awaiting_sms', 'active', 'sms_received', 'completed', 'ended', 'allocation_failed', 'expired', 'cancelled', 'number_broken'])), name='order_state_known'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(('upstream_side__in', ['none', 'buying', 'unknown', 'held', 'releasing', 'released', 'lost', 'finished'])), name='order_upstream_side_known'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('ended_at__isnull', True), ('settlement__isnull', True), ('state__in', ('placed', 'awaiting_sms', 'active'))), models.Q(('ended_at__isnull', True), ('first_sms_at__isnull', False), ('settlement__isnull', False), ('state', 'sms_received')), models.Q(('ended_at__isnull', False), ('settlement__isnull', False), ('state__in', ['completed', 'ended', 'allocation_failed', 'expired', 'cancelled', 'number_broken'])), _connector='OR'), name='order_settled_exactly_when_not_open'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(('settlement', models.F('purchase')), _negated=True), name='order_settled_by_another_transfer'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'awaiting_sms'), _negated=True), ('deadline__isnull', False), _connector='OR'), name='order_awaiting_has_a_deadline'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'active'), _negated=True), ('rental_ends_at__isnull', False), _connector='OR'), name='order_active_rental_has_an_end'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'completed'), _negated=True), ('first_sms_at__isnull', False), _connector='OR'), name='order_completed_has_an_sms'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(fields=('customer', 'idempotency_key'), name='order_idempotency_key_once'),
        ),
        migrations.AddConstraint(
            model_name='order',
            constraint=models.UniqueConstraint(condition=models.Q(('upstream_ref', ''), _negated=True), fields=('upstream', 'upstream_ref'), name='order_upstream_ref_once'),
        ),
        migrations.AddConstraint(
            model_name='offer',
            constraint=models.CheckConstraint(condition=models.Q(('price__gt', 0)), name='offer_price_positive'),
        ),
        migrations.AddConstraint(
            model_name='offer',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'activation'), ('rental_hours__isnull', True)), models.Q(('kind', 'rental'), ('rental_hours__isnull', False), ('rental_hours__range', (2, 1344))), _connector='OR'), name='offer_rental_hours_fit_its_kind'),
        ),
        migrations.AddConstraint(
            model_name='offer',
            constraint=models.UniqueConstraint(fields=('upstream', 'service', 'country', 'kind', 'rental_hours'), name='offer_once', nulls_distinct=False),
        ),
    ]
