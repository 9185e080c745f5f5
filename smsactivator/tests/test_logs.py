"""What requests leave in the log."""

from __future__ import annotations

import logging

import pytest

from smsactivator.common.links import admin_url
from wallet.tests.world import person

pytestmark = pytest.mark.django_db


def test_a_request_that_is_forbidden_is_logged_in_one_line_and_nothing_else(client, caplog):
    client.force_login(person("Support agent"))
    page = admin_url("wallet_auditrun_changelist")

    assert client.get(page, {"q": "a secret"}).status_code == 403
    assert client.post(page, {"password": "a secret"}).status_code == 403

    line = (logging.WARNING, f"Forbidden (Permission denied): {page}", None, None)
    assert [
        (record.levelno, record.getMessage(), record.exc_info, record.exc_text)
        for record in caplog.records
        if record.name == "django.request"
    ] == [line, line]
    assert "Traceback" not in caplog.text
    assert "a secret" not in caplog.text


def test_an_error_of_ours_keeps_its_traceback(caplog):
    log = logging.getLogger("django.request")

    log.error("Internal Server Error: /", exc_info=ValueError("ours"))

    assert "ValueError: ours" in caplog.text
