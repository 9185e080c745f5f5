"""What requests leave in the log."""

from __future__ import annotations

import logging
import sys
from logging.handlers import SMTPHandler

import pytest
from django.utils.log import AdminEmailHandler
from django.views.debug import get_exception_reporter_class, get_exception_reporter_filter

from smsactivator.common import logs
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


def fails(at):
    raise ValueError(f"Error at {at}")


SECRETS = [
    ("redis://:hunter2@redis.example.com:6379/0", "redis://:********@redis.example.com:6379/0"),
    ("rediss://app:hunter2@[::1]:6379", "rediss://app:********@[::1]:6379"),
    ("redis://:hun@ter:2@redis:6379/0", "redis://:********@redis:6379/0"),
    (
        "postgresql://app:hunter2@db/shop?sslmode=require",
        "postgresql://app:********@db/shop?sslmode=require",
    ),
    (
        "postgresql:///shop?user=app&password=hunter2&port=1",
        "postgresql:///shop?user=app&password=********&port=1",
    ),
    ("host=db password=hunter2 user=app", "host=db password=******** user=app"),
    ("host=db password='hunter2 a' user=app", "host=db password=******** user=app"),
    (
        "https://key:hunter2@up.example.com/a@b and ann@example.com",
        "https://key:********@up.example.com/a@b and ann@example.com",
    ),
]
HARMLESS = [
    "redis://redis.example.com:6379/0",
    "https://example.com:8443/x@y?next=http://b/",
    "postgresql:///nowhere",
    "mail to ann@example.com: 12:30@noon",
]  # fmt: skip


@pytest.mark.parametrize(("text", "scrubbed"), SECRETS)
def test_no_log_line_and_no_traceback_shows_a_password_of_a_url(text, scrubbed, caplog):
    log = logging.getLogger("celery.worker")

    log.error("cannot connect to %s", text)
    try:
        fails(text)
    except ValueError:
        log.exception("failed")

    assert caplog.records[0].getMessage() == f"cannot connect to {scrubbed}"
    assert f"ValueError: Error at {scrubbed}" in caplog.text
    assert "hunter2" not in caplog.text
    assert "hun@ter" not in caplog.text


@pytest.mark.parametrize("text", HARMLESS)
def test_other_addresses_stay_readable(text):
    assert logs.scrub(text) == text


def test_an_errors_page_and_report_show_no_password_of_a_url(settings, rf):
    # The page shows these lines too.
    password = "2retnuh"[::-1]
    settings.REDIS_URL = settings.CELERY_BROKER_URL = f"redis://:{password}@redis:6379/0"
    settings.EXTRA = {"nested": [f"postgresql://app:{password}@db/shop"]}
    address = f"amqp://app:{password}@broker"
    request = rf.get("/", headers={"x-broker": address})
    try:
        fails(address)
    except ValueError:
        reporter = get_exception_reporter_class(request)(request, *sys.exc_info())
    del password

    for text in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "2retnuh"[::-1] not in text
        assert "redis://:********@redis:6379/0" in text
        assert "amqp://app:********@broker" in text
        assert "postgresql://app:********@db/shop" in text
    shown = get_exception_reporter_filter(request).get_safe_settings()
    assert shown["CELERY_BROKER_URL"] == "redis://:********@redis:6379/0"


def test_nothing_mails_from_inside_a_request():
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]

    handlers = [handler for logger in loggers for handler in logger.handlers]
    assert not [one for one in handlers if isinstance(one, (AdminEmailHandler, SMTPHandler))]
