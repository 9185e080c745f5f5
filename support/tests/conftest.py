from __future__ import annotations

import socket

import pytest

BACKEND = "support.smtp.EmailBackend"


@pytest.fixture
def mails_go_to(settings):
    """Let mail go to a port of this machine, as in production."""

    def to(port: int) -> None:
        settings.EMAIL_BACKEND = BACKEND
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
        settings.EMAIL_TIMEOUT = 30
        settings.SUPPORT_EMAIL = "help@shop.test"

    return to


@pytest.fixture
def server(mails_go_to):
    """A mail server on loopback that takes everything until it is told otherwise."""
    from support.tests.mailserver import MailServer

    with MailServer() as running:
        mails_go_to(running.port)
        yield running


@pytest.fixture
def silent_port(mails_go_to):
    """Mail goes to a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        mails_go_to(listening.getsockname()[1])
        yield


@pytest.fixture
def closed_port(mails_go_to):
    """Mail goes to a port where nobody listens, and nobody else will meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        mails_go_to(taken.getsockname()[1])
        yield
