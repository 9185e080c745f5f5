"""Working together: canned replies, and who has a ticket open."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from smsactivator.common.constraints import Explained
from smsactivator.common.history import records
from support.models.tickets import LONGEST_BODY, Ticket


class Macro(Explained, models.Model):
    """A canned reply. ``{{name}}`` in it stands for a fact of the case (support/macros.py).

    It is text and nothing else: a macro never moves money.
    """

    sentences = {"macro_has_a_text": ("title", "A canned reply has a title and a text.")}

    title = models.CharField(max_length=100, unique=True)
    body = models.TextField(max_length=LONGEST_BODY)
    active = models.BooleanField(default=True)

    history = records()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=~Q(title="") & ~Q(body=""), name="macro_has_a_text"),
        ]
        verbose_name = "canned reply"
        verbose_name_plural = "canned replies"

    def __str__(self) -> str:
        return self.title


class Viewing(models.Model):
    """That a person had a ticket's page open at ``seen_at``. Overwritten; no history."""

    ticket = models.ForeignKey(
        Ticket, on_delete=models.PROTECT, related_name="viewings", db_index=False
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    seen_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["ticket", "person"], name="viewing_once_a_person"),
        ]

    def __str__(self) -> str:
        return f"{self.person} looks at {self.ticket}"
