"""A real SMTP server on loopback that behaves as it is told to."""

# ruff: noqa: N802 - aiosmtpd finds hooks by their names
from __future__ import annotations

import asyncio
import email
import email.policy
from dataclasses import dataclass
from email.message import EmailMessage
from threading import Event, Thread
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session, syntax

PATIENCE = 30
OK = "250 OK"


@dataclass(frozen=True)
class Letter:
    """A mail as it was taken: the envelope, its bytes, and what they say."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return email.message_from_bytes(self.raw, policy=email.policy.default)


class Answers:
    """What the server says at each step; DROP cuts the connection and HANG never answers."""

    DROP, HANG, GATE = "drop", "hang", "gate"

    def __init__(self) -> None:
        self.mail = self.rcpt = self.data = self.taken = self.quit = OK
        self.letters: list[Letter] = []
        self.gate_reached = Event()
        self.gate: asyncio.Event | None = None

    async def say(self, answer: str, server: SMTP) -> str:
        if answer == self.DROP:
            server.transport.abort()
        elif answer == self.GATE:
            self.gate_reached.set()
            await self.gate.wait()
            return OK
        if answer in {self.DROP, self.HANG}:
            await asyncio.Event().wait()  # until the connection ends, which cancels it
        return answer

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self.say(self.mail, server)
        if answer == OK:
            envelope.mail_from = address
        return answer

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self.say(self.rcpt, server)
        if answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.taken[0] not in "45":
            self.letters.append(
                Letter(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.original_content)
            )
        return await self.say(self.taken, server)

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await self.say(self.quit, server)
        return "221 Bye" if answer == OK else answer


class _Smtp(SMTP):
    """``data`` is what is said to the command DATA, before the mail itself."""

    @syntax("DATA")
    async def smtp_DATA(self, arg: str) -> None:
        answers: Answers = self.event_handler
        if answers.data == "354 then drop":
            await self.push("354 Go on")
            await answers.say(Answers.DROP, self)
        answer = await answers.say(answers.data, self)
        if answer == OK:
            await super().smtp_DATA(arg)
        else:
            await self.push(answer)


class MailServer(Answers):
    """The server, as a context manager; ``port`` is where it listens."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.options = options
        self.thread = Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> MailServer:
        self.thread.start()
        self._in_loop(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._in_loop(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.close()

    def open_the_gate(self) -> None:
        """Let whoever waits at GATE go on."""
        self.loop.call_soon_threadsafe(self.gate.set)

    async def _open(self) -> None:
        self.gate = asyncio.Event()
        self.server = await self.loop.create_server(
            lambda: _Smtp(self, hostname="mail.test", loop=self.loop, **self.options),
            "127.0.0.1",
            0,
        )
        self.port: int = self.server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self.server.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _in_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)


def accepts_everyone(*_: Any) -> AuthResult:
    """An authenticator for which every password is right."""
    return AuthResult(success=True)


def refuses_everyone(*_: Any) -> AuthResult:
    """An authenticator for which every password is wrong."""
    return AuthResult(success=False, handled=False)
