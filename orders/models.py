"""Offers, orders and the SMS they bring."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django_fsm import FSMModelMixin, transition

from smsactivator.common.constraints import Explained
from smsactivator.common.history import records
from smsactivator.common.money import MoneyField
from smsactivator.common.states import StateField
from wallet.models import Customer, Transfer

LEAST_REASON = 5  # characters that say why somebody reads SMS in full


class Upstream(models.Model):
    """A wholesaler we buy numbers from. Its key is in the environment: UPSTREAM_KEY_<CODE>."""

    code = models.SlugField(max_length=32, unique=True, help_text="Also names UPSTREAM_KEY_<CODE>.")
    name = models.CharField(max_length=100)
    # Two rows of one account would each take the other's numbers for nobody's.
    base_url = models.URLField(help_text="Without /stubs/handler_api.php.")
    # Written by the polling alone (orders/polling.py).
    looked_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="When the last complete look began; the deadlines before it were all looked at.",
    )
    unfinished_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="When the last look began, if it left numbers for the next one to ask for.",
    )
    failing_since = models.DateTimeField(
        null=True, editable=False, help_text="The first failed look since the last complete one."
    )
    failed_at = models.DateTimeField(
        null=True, editable=False, help_text="When the last failed look began."
    )
    look_lease_until = models.DateTimeField(null=True, editable=False)
    last_error = models.CharField(max_length=200, default="", editable=False)

    history = records(
        excluded_fields=[
            "looked_at",
            "unfinished_at",
            "failing_since",
            "failed_at",
            "look_lease_until",
            "last_error",
        ]
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["base_url"], name="upstream_base_url_once"),
        ]

    def __str__(self) -> str:
        return self.name


class Offer(Explained, models.Model):
    """What a storefront may sell: a service in a country, for one SMS or for a rental."""

    sentences = {
        "offer_price_positive": ("price", "A price is more than 0 USD."),
        "offer_rental_hours_fit_its_kind": (
            "rental_hours",
            "A rental lasts 2 to 1344 hours; an activation has no hours.",
        ),
        "offer_once": (
            "service",
            "There is an offer of this service, country, kind and hours at this upstream already.",
        ),
    }

    class Kind(models.TextChoices):
        ACTIVATION = "activation", "Activation"
        RENTAL = "rental", "Rental"

    upstream = models.ForeignKey(Upstream, on_delete=models.PROTECT, related_name="offers")
    service = models.CharField(max_length=32, help_text="The service's code at the upstream.")
    country = models.CharField(max_length=16, help_text="The country's code at the upstream.")
    title = models.CharField(max_length=100)
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.ACTIVATION)
    rental_hours = models.PositiveIntegerField(null=True, blank=True)
    price = MoneyField(help_text="USD.")
    active = models.BooleanField(default=True)

    history = records()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(price__gt=0), name="offer_price_positive"),
            models.CheckConstraint(
                condition=Q(kind="activation", rental_hours__isnull=True)
                # A CHECK passes on NULL, so that it is not NULL must be said.
                | Q(kind="rental", rental_hours__isnull=False, rental_hours__range=(2, 1344)),
                name="offer_rental_hours_fit_its_kind",
            ),
            models.UniqueConstraint(
                fields=["upstream", "service", "country", "kind", "rental_hours"],
                nulls_distinct=False,
                name="offer_once",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class State(models.TextChoices):
    """Where an order stands, as the customer sees it."""

    PLACED = "placed", "Placed"
    AWAITING_SMS = "awaiting_sms", "Awaiting SMS"
    ACTIVE = "active", "Active rental"
    SMS_RECEIVED = "sms_received", "SMS received"
    COMPLETED = "completed", "Completed"
    ENDED = "ended", "Rental ended"
    ALLOCATION_FAILED = "allocation_failed", "Allocation failed"
    EXPIRED = "expired", "Expired"
    CANCELLED = "cancelled", "Cancelled"
    NUMBER_BROKEN = "number_broken", "Number broken"
    FORFEITED = "forfeited", "Forfeited"


# The price of an open order is in escrow; of a delivered one in sales; of a refunded one back in
# the wallet; of a forfeited one (its customer was terminated) in forfeitures.
OPEN = (State.PLACED, State.AWAITING_SMS, State.ACTIVE)
DELIVERED = (State.SMS_RECEIVED, State.COMPLETED, State.ENDED)
REFUNDED = (State.ALLOCATION_FAILED, State.EXPIRED, State.CANCELLED, State.NUMBER_BROKEN)


class UpstreamSide(models.TextChoices):
    """What we hold at the upstream for an order, and whether we get our own money back."""

    NONE = "none", "Nothing bought"
    BUYING = "buying", "Being bought"
    UNKNOWN = "unknown", "Perhaps bought"
    HELD = "held", "Number held"
    RELEASING = "releasing", "Being given back"
    RELEASED = "released", "Given back"
    LOST = "lost", "Kept by the upstream"
    FINISHED = "finished", "Used"


def deadline_has_passed(order: Any) -> bool:
    """Its deadline has passed."""
    return bool(order.deadline and order.deadline < timezone.now())


def no_sms_arrived(order: Any) -> bool:
    """No SMS has arrived yet."""
    return bool(order.first_sms_at is None)


def reported_broken(order: Any) -> bool:
    """The upstream reported the number broken."""
    return bool(order.broken_at)


def not_reported_broken(order: Any) -> bool:
    """The upstream has not reported the number broken: if it has, the price goes back by itself."""
    return not order.broken_at


def rental_is_over(order: Any) -> bool:
    """The rented time is over."""
    return bool(order.rental_ends_at and order.rental_ends_at <= timezone.now())


class Order(FSMModelMixin, models.Model):
    """A customer's order of one number. Its states change through its transitions alone.

    The transitions change the instance only; the verb that calls one holds the row's lock, moves
    the money and saves the row with its history in the same transaction.
    """

    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="orders", db_index=False
    )
    # Without an index: an offer with orders is switched off, and never deleted.
    offer = models.ForeignKey(
        Offer, on_delete=models.PROTECT, related_name="orders", db_index=False
    )
    # As they were when the order was placed; the offer may change.
    upstream = models.ForeignKey(
        Upstream, on_delete=models.PROTECT, related_name="orders", db_index=False
    )
    kind = models.CharField(max_length=16, choices=Offer.Kind)
    service = models.CharField(max_length=32)
    country = models.CharField(max_length=16)
    rental_hours = models.PositiveIntegerField(null=True)
    price = MoneyField()

    state = StateField(default=State.PLACED, choices=State, protected=True, max_length=20)
    idempotency_key = models.CharField(max_length=128)
    placed_at = models.DateTimeField()
    allocated_at = models.DateTimeField(null=True)
    deadline = models.DateTimeField(null=True, help_text="An SMS must be at the upstream by then.")
    rental_ends_at = models.DateTimeField(null=True)
    first_sms_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    # Facts that call for a refund; the refunds floor acts on them.
    refused_at = models.DateTimeField(null=True, help_text="When the upstream refused to sell.")
    refusal_code = models.CharField(max_length=64, default="")
    broken_at = models.DateTimeField(null=True, help_text="When the upstream reported it broken.")
    broken_signal = models.CharField(max_length=64, default="")

    phone = models.CharField(max_length=20, default="")
    upstream_side = StateField(
        default=UpstreamSide.NONE, choices=UpstreamSide, protected=True, max_length=12
    )
    upstream_ref = models.CharField(max_length=64, default="")
    upstream_cost = MoneyField(null=True, help_text="USD, as the upstream charged us.")
    upstream_due_at = models.DateTimeField(
        null=True, help_text="When to speak with the upstream about this number again."
    )
    allocation_started_at = models.DateTimeField(null=True)

    # The money: in by `purchase`, out by exactly one `settlement` (a delivery or a refund).
    purchase = models.OneToOneField(
        Transfer, on_delete=models.PROTECT, related_name="purchased_order"
    )
    settlement = models.OneToOneField(
        Transfer, on_delete=models.PROTECT, null=True, related_name="settled_order"
    )

    history = records(
        no_db_index=["purchase", "settlement", "customer", "offer", "upstream"],
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(price__gt=0), name="order_price_positive"),
            models.CheckConstraint(condition=Q(state__in=State.values), name="order_state_known"),
            models.CheckConstraint(
                condition=Q(upstream_side__in=UpstreamSide.values), name="order_upstream_side_known"
            ),
            # An order ends in exactly one of delivered and refunded, and not without its money.
            models.CheckConstraint(
                condition=Q(state__in=OPEN, settlement__isnull=True, ended_at__isnull=True)
                | Q(
                    state=State.SMS_RECEIVED,
                    settlement__isnull=False,
                    first_sms_at__isnull=False,
                    ended_at__isnull=True,
                )
                | Q(
                    state__in=[s for s in State if s not in (*OPEN, State.SMS_RECEIVED)],
                    settlement__isnull=False,
                    ended_at__isnull=False,
                ),
                name="order_settled_exactly_when_not_open",
            ),
            models.CheckConstraint(
                condition=~Q(settlement=F("purchase")), name="order_settled_by_another_transfer"
            ),
            models.CheckConstraint(
                condition=~Q(state=State.AWAITING_SMS) | Q(deadline__isnull=False),
                name="order_awaiting_has_a_deadline",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.ACTIVE) | Q(rental_ends_at__isnull=False),
                name="order_active_rental_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(state=State.COMPLETED) | Q(first_sms_at__isnull=False),
                name="order_completed_has_an_sms",
            ),
            models.UniqueConstraint(
                fields=["customer", "idempotency_key"], name="order_idempotency_key_once"
            ),
            models.UniqueConstraint(
                fields=["upstream", "upstream_ref"],
                condition=~Q(upstream_ref=""),
                name="order_upstream_ref_once",
            ),
        ]
        # One small partial index for each thing a beat looks for, so an idle beat costs nothing.
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["upstream", "deadline"],
                condition=Q(state=State.AWAITING_SMS),
                name="order_awaiting",
            ),
            models.Index(
                fields=["broken_at"],
                condition=Q(state__in=[State.AWAITING_SMS, State.ACTIVE], broken_at__isnull=False),
                name="order_broken",
            ),
            models.Index(
                fields=["placed_at"], condition=Q(state=State.PLACED), name="order_unallocated"
            ),
            models.Index(
                fields=["deadline"], condition=Q(state=State.SMS_RECEIVED), name="order_to_complete"
            ),
            models.Index(
                fields=["rental_ends_at"], condition=Q(state=State.ACTIVE), name="order_rental_ends"
            ),
            models.Index(
                fields=["upstream", "upstream_due_at"],
                condition=Q(upstream_due_at__isnull=False),
                name="order_upstream_due",
            ),
            models.Index(
                fields=["upstream", "upstream_side"],
                condition=Q(upstream_side__in=["buying", "unknown", "releasing"]),
                name="order_upstream_unsettled",
            ),
            models.Index(fields=["phone"], condition=~Q(phone=""), name="order_phone"),
            models.Index(fields=["state", "-id"], name="order_state_newest"),
            models.Index(fields=["customer", "-id"], name="order_customer_newest"),
            models.Index(fields=["upstream", "-id"], name="order_upstream_newest"),
            models.Index(fields=["placed_at"], name="order_placed_at"),
            models.Index(
                fields=["ended_at", "id"],
                condition=Q(ended_at__isnull=False),
                name="order_ended",
            ),
            models.Index(fields=["-id"], condition=Q(kind="rental"), name="order_rental_newest"),
        ]

    def __str__(self) -> str:
        return f"Order {self.pk}"

    # --- what the customer sees -----------------------------------------------------------------

    @transition("state", source=State.PLACED, target=State.AWAITING_SMS)
    def await_sms(self, *, at: datetime, deadline: datetime) -> None:
        """A number for one SMS was handed out; the SLA clock starts."""
        self.allocated_at = at
        self.deadline = deadline

    @transition("state", source=State.PLACED, target=State.ACTIVE)
    def start_rental(self, *, at: datetime, ends_at: datetime) -> None:
        """A number was rented."""
        self.allocated_at = at
        self.rental_ends_at = ends_at

    @transition("state", source=State.AWAITING_SMS, target=State.SMS_RECEIVED)
    def receive_sms(self, *, at: datetime) -> None:
        """The first SMS arrived: the order is delivered."""
        self.first_sms_at = at

    @transition(
        "state", source=State.SMS_RECEIVED, target=State.COMPLETED, conditions=[deadline_has_passed]
    )
    def complete(self, *, at: datetime) -> None:
        """No further SMS can come."""
        self.ended_at = at

    @transition("state", source=State.ACTIVE, target=State.ENDED, conditions=[rental_is_over])
    def end_rental(self, *, at: datetime) -> None:
        """The rented time was delivered."""
        self.ended_at = at

    @transition("state", source=State.ACTIVE, target=State.ENDED, conditions=[not_reported_broken])
    def cut_short(self, *, at: datetime) -> None:
        """A person found the rental dead: it is of no more use, and what was lost is refunded."""
        self.ended_at = at

    @transition(
        "state",
        source=State.AWAITING_SMS,
        target=State.EXPIRED,
        conditions=[deadline_has_passed, no_sms_arrived],
    )
    def expire(self, *, at: datetime) -> None:
        """No SMS within the SLA."""
        self.ended_at = at

    @transition(
        "state",
        source=[State.PLACED, State.AWAITING_SMS, State.ACTIVE],
        target=State.CANCELLED,
        conditions=[no_sms_arrived],
    )
    def cancel(self, *, at: datetime) -> None:
        """The customer cancelled before any SMS."""
        self.ended_at = at

    @transition(
        "state",
        source=[State.AWAITING_SMS, State.ACTIVE],
        target=State.NUMBER_BROKEN,
        conditions=[reported_broken],
    )
    def break_number(self, *, at: datetime) -> None:
        """The upstream reported the number broken or dead."""
        self.ended_at = at

    @transition("state", source=State.PLACED, target=State.ALLOCATION_FAILED)
    def fail_allocation(self, *, at: datetime) -> None:
        """No number was allocated in time."""
        self.ended_at = at

    @transition("state", source=list(OPEN), target=State.FORFEITED)
    def forfeit(self, *, at: datetime) -> None:
        """Its customer was terminated."""
        self.ended_at = at

    # --- what we hold at the upstream -----------------------------------------------------------

    @transition("upstream_side", source=UpstreamSide.NONE, target=UpstreamSide.BUYING)
    def start_buying(self, *, at: datetime) -> None:
        """The purchase is about to be sent, once."""
        self.allocation_started_at = at

    @transition("upstream_side", source=UpstreamSide.BUYING, target=UpstreamSide.NONE)
    def not_bought(self) -> None:
        """The upstream certainly sold nothing."""

    @transition("upstream_side", source=UpstreamSide.BUYING, target=UpstreamSide.UNKNOWN)
    def perhaps_bought(self) -> None:
        """The answer to the purchase was lost."""

    @transition(
        "upstream_side",
        source=[UpstreamSide.BUYING, UpstreamSide.UNKNOWN],
        target=UpstreamSide.HELD,
    )
    def hold(self) -> None:
        """The upstream sold us a number."""

    @transition("upstream_side", source=UpstreamSide.HELD, target=UpstreamSide.RELEASING)
    def release(self, *, due_at: datetime) -> None:
        """The number is not needed: ask for our money back, from ``due_at`` on."""
        self.upstream_due_at = due_at

    @transition("upstream_side", source=UpstreamSide.RELEASING, target=UpstreamSide.RELEASED)
    def released(self) -> None:
        """The upstream gave our money back, or the number had ended by itself."""
        self.upstream_due_at = None

    @transition("upstream_side", source=UpstreamSide.RELEASING, target=UpstreamSide.LOST)
    def lose(self) -> None:
        """The upstream keeps our money."""
        self.upstream_due_at = None

    @transition("upstream_side", source=UpstreamSide.HELD, target=UpstreamSide.FINISHED)
    def finish(self) -> None:
        """The number served its order."""
        self.upstream_due_at = None


class Sms(models.Model):
    """An SMS as the upstream gave it. A late one came after the end: no customer sees it."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="messages")
    digest = models.CharField(max_length=64, editable=False)
    code = models.CharField(max_length=64, default="")
    text = models.TextField(default="")
    sender = models.CharField(max_length=64, default="")
    received_at = models.DateTimeField()
    late = models.BooleanField(default=False)

    class Meta:
        verbose_name = "SMS"
        verbose_name_plural = "SMS"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # The same text is polled again and again.
            models.UniqueConstraint(fields=["order", "digest"], name="sms_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-id"], condition=Q(late=True), name="sms_late_newest"),
        ]
        permissions = [
            ("view_sms_text", "Can read the text and code of SMS"),
        ]

    def __str__(self) -> str:
        return f"SMS {self.pk}"


class SmsReading(models.Model):
    """Somebody read SMS of an order in full: who, which, when and why. Append-only.

    Written by ``orders.reading`` before the texts are shown. The database holds that ``shown``
    names SMS of this order (orders/sql/readings.sql).
    """

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="sms_readings")
    shown = ArrayField(models.BigIntegerField(), help_text="The SMS whose texts were shown.")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    reason = models.TextField(help_text="Why, for whoever reads this in years.")
    read_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name = "SMS reading"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(reason__regex=rf"^\S.{{{LEAST_REASON - 2},}}\S$"),
                name="sms_reading_has_a_reason",
            ),
            models.CheckConstraint(condition=Q(shown__len__gt=0), name="sms_reading_shows_some"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["person", "-id"], name="sms_reading_by_person"),
        ]

    def __str__(self) -> str:
        return f"SMS reading {self.pk}"
