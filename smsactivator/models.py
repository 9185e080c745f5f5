"""What the site itself keeps: alarms, and what belongs to the people who work here."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class Draft(models.Model):
    """What somebody typed into a form and has not sent: theirs alone, and not for long.

    ``at`` is the address of the page, ``form`` tells its forms apart, and ``page`` one opening of
    the page. A form that was sent stays as an empty row: what that opening of the page saves late
    is not a draft again.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="drafts")
    at = models.CharField(max_length=300)
    form = models.CharField(max_length=200)
    page = models.CharField(max_length=40)
    fields = models.JSONField(default=dict)
    sent = models.BooleanField(default=False)
    saved_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "at", "form"], name="draft_is_one"),
            models.CheckConstraint(
                condition=Q(sent=False) | Q(fields={}), name="draft_sent_is_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} at {self.at}"


class Alarm(models.Model):
    """A cause that the administrators are told of, once for all its occurrences of a day.

    It names a place in our code, never a person, an address or a value.
    """

    cause = models.CharField(max_length=200, unique=True)
    text = models.TextField()
    count = models.PositiveBigIntegerField(default=0)
    first_at = models.DateTimeField("first")
    last_at = models.DateTimeField("last")
    mailed_at = models.DateTimeField("mailed", null=True, blank=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                condition=Q(last_at__gte=F("first_at")), name="alarm_last_after_first"
            ),
        ]

    def __str__(self) -> str:
        return self.cause


class StaffChange(models.Model):
    """What was changed about one of our people or a role, by whom and why. Written once."""

    class About(models.TextChoices):
        PERSON = "auth.User", "Person"
        ROLE = "auth.Group", "Role"

    about = models.CharField(max_length=16, choices=About)
    row = models.BigIntegerField()
    at = models.DateTimeField()
    actor = models.CharField(max_length=200)
    actor_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    what = models.CharField(max_length=200)
    reason = models.TextField(blank=True)
    # [field, before, after] in words.
    changes = models.JSONField(default=list)

    class Meta:
        indexes = [models.Index(fields=["about", "row", "id"], name="staff_change_by_row")]

    def __str__(self) -> str:
        return f"{self.what} by {self.actor}"


class PasswordLink(models.Model):
    """That somebody is to be mailed a link to choose a password by. The link is nowhere kept."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="password_links"
    )
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="password_link_unsent", condition=Q(sent_at=None))
        ]

    def __str__(self) -> str:
        return f"Link for {self.user}"


class AddressNotice(models.Model):
    """That the address which somebody had before is to hear of this change."""

    change = models.OneToOneField(StaffChange, models.PROTECT, related_name="+")
    attempts = models.PositiveIntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], name="address_notice_unsent", condition=Q(sent_at=None))
        ]

    def __str__(self) -> str:
        return f"Notice of {self.change}"
