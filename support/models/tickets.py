"""Tickets: threads of messages with a customer, their files, and what they are linked to."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models
from django.db.models import F, Q
from django_fsm import FSMModelMixin, transition

from orders.models import Order
from refunds.models import RefundRequest
from smsactivator.common.history import records
from smsactivator.common.states import StateField
from wallet.models import Customer, Payout

LONGEST_SUBJECT = 200
LONGEST_BODY = 20_000  # characters


class Ticket(FSMModelMixin, models.Model):
    """A customer's case: one thread, one state, two clocks.

    ``version`` counts everything that happened to it, so that a reply or a decision made on an
    outdated view is known. ``waiting_since`` is the arrival of the oldest customer message that no
    delivered, public reply of a person has answered yet, ``due_at`` the end of one business day
    from there; both are empty when nothing waits. ``dispute_since`` and ``dispute_due_at`` are the
    same for seniors.
    """

    class State(models.TextChoices):
        NEW = "new", "New"
        OPEN = "open", "Open"
        WAITING = "waiting", "Waiting for customer"
        RESOLVED = "resolved", "Resolved"
        CLOSED = "closed", "Closed"

    class Channel(models.TextChoices):
        API = "api", "Storefront"
        EMAIL = "email", "Email"

    class Queue(models.TextChoices):
        AGENTS = "agents", "Agents"
        SENIORS = "seniors", "Senior agents"

    customer = models.ForeignKey(
        Customer, on_delete=models.PROTECT, related_name="tickets", db_index=False
    )
    subject = models.CharField(max_length=LONGEST_SUBJECT)
    channel = models.CharField(max_length=8, choices=Channel)
    state = StateField(
        default=State.NEW, choices=State, protected=True, max_length=10, editable=False
    )
    queue = models.CharField(max_length=8, choices=Queue, default=Queue.AGENTS)
    opened_at = models.DateTimeField()
    # Of the message that opened it: a customer's key opens one ticket.
    key = models.CharField("idempotency key", max_length=128, default="", blank=True)
    version = models.PositiveIntegerField(default=1)

    waiting_since = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    dispute_since = models.DateTimeField(null=True)
    dispute_due_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)

    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        db_index=False,
    )
    # A claim is a lease: whoever holds it answers, until it runs out.
    claimed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        db_index=False,
    )
    claimed_until = models.DateTimeField(null=True)
    # The closed ticket that this one goes on from: a thread is a chain of tickets.
    follows = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, related_name="followed_by"
    )

    orders = models.ManyToManyField(Order, through="TicketOrder", related_name="tickets")

    # With the version that each change made: what happened since one is read from here.
    history = records(
        excluded_fields=["claimed_by", "claimed_until"],
        no_db_index=["customer", "assignee", "follows"],
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["customer", "key"],
                condition=Q(follows__isnull=True) & ~Q(key=""),
                name="ticket_key_opens_one",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["new", "open", "waiting", "resolved", "closed"]),
                name="ticket_state_known",
            ),
            models.CheckConstraint(condition=~Q(subject=""), name="ticket_has_a_subject"),
            models.CheckConstraint(
                condition=Q(waiting_since__isnull=True, due_at__isnull=True)
                | Q(
                    waiting_since__isnull=False,
                    due_at__isnull=False,
                    due_at__gt=F("waiting_since"),
                ),
                name="ticket_due_while_it_waits",
            ),
            models.CheckConstraint(
                condition=Q(dispute_since__isnull=True, dispute_due_at__isnull=True)
                | Q(
                    dispute_since__isnull=False,
                    dispute_due_at__isnull=False,
                    dispute_due_at__gt=F("dispute_since"),
                ),
                name="ticket_dispute_due_while_it_waits",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["resolved", "closed"], resolved_at__isnull=False)
                | Q(state__in=["new", "open", "waiting"], resolved_at__isnull=True),
                name="ticket_resolved_at_when_resolved",
            ),
            models.CheckConstraint(
                condition=Q(claimed_by__isnull=True, claimed_until__isnull=True)
                | Q(claimed_by__isnull=False, claimed_until__isnull=False),
                name="ticket_claim_has_an_end",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["queue", "due_at", "id"],
                condition=Q(due_at__isnull=False),
                name="ticket_due",
            ),
            models.Index(
                fields=["dispute_due_at", "id"],
                condition=Q(dispute_due_at__isnull=False),
                name="ticket_dispute_due",
            ),
            models.Index(
                fields=["assignee", "due_at", "id"],
                condition=Q(state__in=["new", "open", "waiting"], assignee__isnull=False),
                name="ticket_mine",
            ),
            models.Index(
                fields=["due_at", "id"],
                condition=Q(state__in=["new", "open"], assignee__isnull=True),
                name="ticket_unassigned",
            ),
            models.Index(
                fields=["due_at", "id"],
                condition=Q(state__in=["new", "open", "waiting"], queue="seniors"),
                name="ticket_senior",
            ),
            models.Index(
                fields=["resolved_at"], condition=Q(state="resolved"), name="ticket_to_close"
            ),
            models.Index(fields=["state", "-id"], name="ticket_state_newest"),
            models.Index(fields=["customer", "-id"], name="ticket_customer_newest"),
            GinIndex(SearchVector("subject", config="simple"), name="ticket_words"),
        ]
        permissions = [
            ("answer_ticket", "Can claim, answer and resolve tickets"),
            ("assign_ticket", "Can assign tickets to others and take over claims"),
        ]

    def __str__(self) -> str:
        return f"Ticket {self.pk}"

    @transition("state", source=[State.NEW, State.OPEN], target=State.OPEN)
    def work_on(self) -> None:
        """Somebody took it up."""

    @transition("state", source=[State.NEW, State.OPEN], target=State.WAITING)
    def wait_for_customer(self) -> None:
        """The customer was asked something."""

    @transition("state", source=[State.NEW, State.OPEN, State.WAITING], target=State.RESOLVED)
    def resolve(self) -> None:
        """Nothing is left to do unless the customer replies."""

    @transition("state", source=[State.WAITING, State.RESOLVED], target=State.OPEN)
    def reopen(self) -> None:
        """The customer replied, within the grace period if it was resolved."""

    @transition("state", source=State.RESOLVED, target=State.CLOSED)
    def close(self) -> None:
        """The grace period is over: a later message opens a linked new ticket."""


class Wait(models.Model):
    """One run of a ticket's clock: somebody waits for us since ``since``, until ``due_at``.

    The open one of each clock is what the ticket's own columns show. It is late when ``due_at`` has
    passed while it is open, or before it ended: that is read from these columns, whenever a job
    ran. What was recorded of it (warnings, the breach) is recorded once.
    """

    class Clock(models.TextChoices):
        ANSWER = "answer", "Answer"
        DISPUTE = "dispute", "Dispute"

    class Outcome(models.TextChoices):
        ANSWERED = "answered", "Answered"
        DECIDED = "decided", "Decided"
        WAIVED = "waived", "No answer needed"
        # A bounce opened an earlier run again, which goes on for both.
        JOINED = "joined", "Counted in an earlier run"

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="waits")
    clock = models.CharField(max_length=8, choices=Clock)
    since = models.DateTimeField()
    due_at = models.DateTimeField()
    # When 50 and 75 per cent of the business time until ``due_at`` are over.
    half_at = models.DateTimeField()
    three_quarters_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=8, choices=Outcome, default="", blank=True)
    # Of an answer: the reply that was delivered. A bounce opens the run again.
    reply = models.ForeignKey(
        "Message", on_delete=models.PROTECT, null=True, related_name="ended_waits"
    )
    half_warned_at = models.DateTimeField(null=True)
    three_quarters_warned_at = models.DateTimeField(null=True)
    breach_recorded_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["ticket", "clock"],
                condition=Q(ended_at__isnull=True),
                name="wait_one_open_a_clock",
            ),
            models.CheckConstraint(
                condition=Q(due_at__gt=F("since")), name="wait_due_after_it_began"
            ),
            models.CheckConstraint(
                condition=Q(
                    half_at__gte=F("since"),
                    three_quarters_at__gte=F("half_at"),
                    due_at__gte=F("three_quarters_at"),
                ),
                name="wait_warns_before_it_is_due",
            ),
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True, outcome="", reply__isnull=True)
                | Q(
                    ~Q(outcome=""),
                    ended_at__isnull=False,
                    ended_at__gte=F("since"),
                ),
                name="wait_ended_with_an_outcome",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # What the beat has still to record, each by its moment.
            models.Index(
                fields=["half_at"],
                condition=Q(ended_at__isnull=True, half_warned_at__isnull=True),
                name="wait_to_warn_at_half",
            ),
            models.Index(
                fields=["three_quarters_at"],
                condition=Q(ended_at__isnull=True, three_quarters_warned_at__isnull=True),
                name="wait_to_warn_at_three_quarters",
            ),
            models.Index(
                fields=["due_at"],
                condition=Q(ended_at__isnull=True, breach_recorded_at__isnull=True),
                name="wait_to_record_as_late",
            ),
            models.Index(fields=["since"], name="wait_by_day"),
        ]
        # The reports are of refunds and of waits; their pages are at the list of waits.
        permissions = [("view_reports", "Can see the reports")]

    def __str__(self) -> str:
        return f"Wait {self.pk} of ticket {self.ticket_id}"


class Message(models.Model):
    """One message of a thread. Append-only: nobody edits what was said."""

    class Kind(models.TextChoices):
        CUSTOMER = "customer", "Customer"
        REPLY = "reply", "Reply"
        NOTICE = "notice", "Notice"
        NOTE = "note", "Internal note"

    ticket = models.ForeignKey(
        Ticket, on_delete=models.PROTECT, related_name="messages", db_index=False
    )
    kind = models.CharField(max_length=8, choices=Kind)
    body = models.TextField()
    created_at = models.DateTimeField()
    # Who wrote a reply or a note, or entered what a customer said elsewhere. Nobody of a message
    # that the customer sent: ``via`` names the wire that brought it.
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    via = models.CharField(max_length=200, help_text="By what it came, in words.")
    key = models.CharField("idempotency key", max_length=128)
    # Over what was sent under the key: the same key with other content is refused.
    fingerprint = models.CharField(max_length=64, default="", blank=True)
    # Of a reply: the last customer message that its author had seen.
    answers = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # Two of them, for a customer's key must not stand in the way of one of ours.
            models.UniqueConstraint(
                fields=["ticket", "key"], condition=Q(kind="customer"), name="message_key_once"
            ),
            models.UniqueConstraint(
                fields=["ticket", "key"],
                condition=~Q(kind="customer"),
                name="message_of_ours_key_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["customer", "notice"], answers__isnull=True)
                | Q(kind="note", author__isnull=False, answers__isnull=True)
                | Q(kind="reply", author__isnull=False),
                name="message_of_ours_has_an_author",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["ticket", "id"], name="message_of_ticket"),
            GinIndex(SearchVector("body", config="simple"), name="message_words"),
        ]

    def __str__(self) -> str:
        return f"Message {self.pk}"

    @property
    def public(self) -> bool:
        """Whether the customer sees it. A note never is."""
        return self.kind != self.Kind.NOTE

    @property
    def entered(self) -> bool:
        """Whether one of us entered it as said by the customer: no wire of theirs brought it."""
        return self.kind == self.Kind.CUSTOMER and self.author_id is not None


class Blob(models.Model):
    """The bytes of a file, once per content. The database holds that the hash is theirs."""

    sha256 = models.CharField(max_length=64, primary_key=True, help_text="SHA-256, hexadecimal.")
    content = models.BinaryField()
    size = models.PositiveIntegerField(help_text="Bytes.")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(size__gt=0), name="blob_not_empty"),
        ]

    def __str__(self) -> str:
        return self.sha256


class Attachment(models.Model):
    """A file that came with a message, under the name the sender gave it. Append-only."""

    message = models.ForeignKey(Message, on_delete=models.PROTECT, related_name="attachments")
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="attachments")
    name = models.CharField(max_length=255)
    content_type = models.CharField(
        max_length=100, help_text="As the content shows, whatever the sender called it."
    )

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["message", "blob", "name"], name="attachment_once_a_message"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class AttachmentReading(models.Model):
    """Somebody of ours took a file. Append-only."""

    attachment = models.ForeignKey(Attachment, on_delete=models.PROTECT, related_name="readings")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    read_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["person", "read_at"], name="reading_by_person"),
        ]

    def __str__(self) -> str:
        return f"{self.attachment} read by {self.person} at {self.read_at:%Y-%m-%d %H:%M:%S} UTC"


class TicketOrder(models.Model):
    """An order that a ticket is about."""

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="+", db_index=False)
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["ticket", "order"], name="ticket_order_once"),
        ]

    def __str__(self) -> str:
        return f"{self.ticket} is about {self.order}"


class TicketRefund(models.Model):
    """A refund that is decided on a ticket, and the message that disputed it, if one did."""

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="refunds")
    request = models.OneToOneField(RefundRequest, on_delete=models.PROTECT, related_name="case")
    # One reply may dispute several denials.
    disputed_by = models.ForeignKey(
        Message, on_delete=models.PROTECT, null=True, related_name="disputes"
    )
    # Of a further request to a final decision: what the customer sent after it.
    evidence = models.ForeignKey(
        Message, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )

    def __str__(self) -> str:
        return f"{self.request} on {self.ticket}"


class TicketPayout(models.Model):
    """A payout that was asked for on a ticket: its customer is told there what becomes of it.

    Append-only.
    """

    ticket = models.ForeignKey(Ticket, on_delete=models.PROTECT, related_name="payouts")
    payout = models.OneToOneField(Payout, on_delete=models.PROTECT, related_name="case")

    def __str__(self) -> str:
        return f"{self.payout} on {self.ticket}"
