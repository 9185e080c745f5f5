"""The outbox: what is to reach a customer, and whether it did."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django_fsm import FSMModelMixin, transition

from smsactivator.common.history import records
from smsactivator.common.states import StateField
from support.models.tickets import Message

MOST_TRIES = 8


class Outbound(FSMModelMixin, models.Model):
    """The delivery of one public message by one way. ``key`` names it: it is queued once.

    An attempt is noted before anything is sent. When the outcome of an attempt is not known, a
    person looks and decides; nothing is sent blindly again. The database holds that a note is never
    among them, and that states follow each other as here (support/sql/outbox.sql).
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        SENDING = "sending", "Being sent"
        SENT = "sent", "Delivered"
        FAILED = "failed", "Failed"
        UNKNOWN = "unknown", "Perhaps sent"

    class Way(models.TextChoices):
        API = "api", "Storefront"
        EMAIL = "email", "Email"

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="deliveries")
    way = models.CharField(max_length=8, choices=Way)
    key = models.CharField("idempotency key", max_length=200, unique=True)
    state = StateField(
        default=State.QUEUED, choices=State, protected=True, max_length=8, editable=False
    )
    queued_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    # Attempts until it is given up; a person who sends it again allows as many anew.
    tries_left = models.PositiveSmallIntegerField(default=MOST_TRIES)
    # When it is tried next; of one being sent, when the attempt counts as lost.
    due_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    mail_id = models.CharField("Message-ID", max_length=255, default="", blank=True)
    # Where the last attempt went: the customer's address may change.
    sent_to = models.EmailField(default="", blank=True)
    problem = models.CharField(max_length=200, default="", blank=True)

    history = records(excluded_fields=["queued_at"], no_db_index=["message"])

    class Meta:
        verbose_name = "delivery"
        verbose_name_plural = "deliveries"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(state="sent", sent_at__isnull=False, due_at__isnull=True)
                | Q(state__in=["queued", "sending"], sent_at__isnull=True, due_at__isnull=False)
                | Q(state__in=["failed", "unknown"], sent_at__isnull=True, due_at__isnull=True),
                name="outbound_sent_at_when_sent",
            ),
            models.UniqueConstraint(fields=["message", "way"], name="outbound_once_a_way"),
            models.UniqueConstraint(
                fields=["mail_id"], condition=~Q(mail_id=""), name="outbound_mail_id_once"
            ),
            models.CheckConstraint(
                condition=~Q(way="email", state__in=["sending", "sent", "unknown"])
                | (~Q(mail_id="") & ~Q(sent_to="")),
                name="outbound_mail_has_an_id_and_an_address",
            ),
            models.CheckConstraint(
                condition=Q(way__in=["api", "email"]), name="outbound_way_known"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="outbound_due"),
            # The lists of what has not arrived; almost all has.
            models.Index(
                fields=["state", "-id"],
                condition=Q(state__in=["queued", "sending", "failed", "unknown"]),
                name="outbound_undelivered_newest",
            ),
        ]
        permissions = [("retry_outbound", "Can send failed deliveries again")]

    def __str__(self) -> str:
        return f"Delivery {self.pk}"

    @transition("state", source=State.QUEUED, target=State.SENDING)
    def begin(self) -> None:
        """An attempt is about to be made."""

    # An attempt that outlived its lease counts as lost until it ends after all.
    @transition("state", source=[State.SENDING, State.UNKNOWN], target=State.SENT)
    def succeed(self) -> None:
        """It was accepted for the customer, or a person found that it had been."""

    @transition("state", source=[State.SENDING, State.UNKNOWN], target=State.QUEUED)
    def try_later(self) -> None:
        """Surely not sent; tried again after a while."""

    @transition(
        "state",
        source=[State.QUEUED, State.SENDING, State.UNKNOWN, State.SENT],
        target=State.FAILED,
    )
    def fail(self) -> None:
        """Surely not delivered, and not tried again by itself: refused, given up, or bounced.

        Also what has nowhere to go any more.
        """

    @transition("state", source=State.SENDING, target=State.UNKNOWN)
    def lose(self) -> None:
        """The attempt was interrupted: it may have been sent."""

    @transition("state", source=[State.FAILED, State.UNKNOWN], target=State.QUEUED)
    def retry(self) -> None:
        """A person decided to send it again."""
