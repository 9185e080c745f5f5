"""What customers say elsewhere, entered by a person: over the one way in, as the wires will be."""

from __future__ import annotations

from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from smsactivator.common import actions
from smsactivator.common.actions import Action, ActionForm, Done
from smsactivator.common.links import admin_url
from support import casework, inbound
from support.models import LONGEST_BODY, LONGEST_SUBJECT, Ticket
from wallet.models import Customer


class EnterForm(ActionForm):
    """The customer's words, and the thread they belong to."""

    ticket = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="The customer's ticket that it belongs to. Empty: a new one is opened.",
    )
    subject = forms.CharField(
        required=False,
        max_length=LONGEST_SUBJECT,
        widget=UnfoldAdminTextInputWidget,
        help_text="Of a new ticket, in one line.",
    )
    channel = forms.ChoiceField(
        label="Answered by",
        choices=Ticket.Channel.choices,
        widget=UnfoldAdminSelectWidget,
        help_text="How replies on a new ticket reach the customer.",
    )
    body = forms.CharField(
        label="What the customer said",
        strip=False,
        max_length=LONGEST_BODY,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6}),
        help_text="In the customer's own words. It cannot be changed afterwards.",
    )


def _enter(person: Any, customer: Customer, typed: dict[str, Any]) -> Done:
    message = inbound.enter(
        person,
        customer,
        ticket_id=typed["ticket"],
        subject=typed["subject"],
        channel=typed["channel"],
        body=typed["body"],
        key=str(typed["key"]),
    )
    return Done(
        f"{message} is kept on {message.ticket}.",
        admin_url("support_ticket_change", message.ticket_id),
    )


actions.register(
    "wallet.Customer",
    Action(
        name="enter",
        label="Enter a message",
        explains="What the customer said elsewhere is kept as their message, and shown as entered "
        "by you, to them too: it proves nothing that only the customer can say. An answer is due "
        "within one business day. After a denied refund it disputes the denial, as any message of "
        "the customer does; who entered it does not decide that dispute.",
        form=EnterForm,
        permission=casework.ANSWER,
        offered=lambda _person, _customer: True,
        run=_enter,
    ),
)
