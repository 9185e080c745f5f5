"""The environment the processes start in, read once and checked before anything else happens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

DEVELOPMENT = "development"
PRODUCTION = "production"
DEVELOPMENT_SECRET_KEY = "development-only-secret-key-never-used-in-production-0000"  # noqa: S105
SHORTEST_SECRET_KEY = 50
ENCODED = "Write what is no letter or digit in its password as %xx."


@dataclass
class Environment:
    """Reads values and collects every problem, so that a person mends all of them at once."""

    values: Mapping[str, str] = field(default_factory=lambda: os.environ)
    problems: list[str] = field(default_factory=list)

    @property
    def production(self) -> bool:
        """True unless SMSACTIVATOR_ENV says development: forgetting it must be the safe mistake."""
        return self.text("SMSACTIVATOR_ENV", PRODUCTION) != DEVELOPMENT

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, "").strip() or default

    def required(self, name: str, what: str) -> str:
        value = self.text(name)
        if not value:
            self.problems.append(f"{name} is missing: {what}.")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        raw = self.text(name, str(default))
        if not raw.isascii() or not raw.isdigit() or not least <= int(raw) <= most:
            self.problems.append(
                f"{name} must be a whole number from {least} to {most}, not {raw!r}."
            )
            return default
        return int(raw)

    def boolean(self, name: str, default: bool) -> bool:
        raw = self.text(name, str(default)).lower()
        if raw not in {"true", "false", "1", "0"}:
            self.problems.append(f"{name} must be true or false, not {raw!r}.")
            return default
        return raw in {"true", "1"}

    def words(self, name: str) -> list[str]:
        return [word.strip() for word in self.text(name).split(",") if word.strip()]

    def by_prefix(self, prefix: str) -> dict[str, str]:
        """The values whose names start with ``prefix``, by the rest of their names."""
        return {
            name.removeprefix(prefix): value.strip()
            for name, value in self.values.items()
            if name.startswith(prefix) and value.strip()
        }

    def secret_key(self) -> str:
        if not self.production:
            return self.text("SECRET_KEY", DEVELOPMENT_SECRET_KEY)
        key = self.required(
            "SECRET_KEY", f"a random text of {SHORTEST_SECRET_KEY} characters or more"
        )
        if key and (
            len(key) < SHORTEST_SECRET_KEY or len(set(key)) < 8 or key == DEVELOPMENT_SECRET_KEY
        ):
            self.problems.append(
                f"SECRET_KEY is unsafe: use {SHORTEST_SECRET_KEY} random characters or more, "
                "and never the development key."
            )
        return key

    def allowed_hosts(self) -> list[str]:
        if not self.production:
            return self.words("ALLOWED_HOSTS") or ["localhost", "127.0.0.1", "[::1]"]
        self.required("ALLOWED_HOSTS", "the host names this site answers to, separated by commas")
        hosts = self.words("ALLOWED_HOSTS")
        if any(host.startswith("*") for host in hosts):
            self.problems.append("ALLOWED_HOSTS is unsafe: name each host, not a wildcard.")
        return hosts

    def trusted_origins(self) -> list[str]:
        origins = self.words("CSRF_TRUSTED_ORIGINS")
        wrong = [o for o in origins if urlsplit(o).scheme not in {"http", "https"} or "*" in o]
        if wrong or (self.production and any(urlsplit(o).scheme != "https" for o in origins)):
            self.problems.append(
                "CSRF_TRUSTED_ORIGINS is unsafe: name each origin in full, with https://."
            )
        return origins

    def site_address(self, hosts: list[str]) -> str:
        """The origin under which people reach the admin."""
        host = hosts[0].lstrip(".") if hosts else "localhost"
        default = f"https://{host}" if self.production else f"http://{host}:8000"
        address = self.text("SITE_ADDRESS", default).rstrip("/")
        parts = urlsplit(address)
        wrong = parts.scheme not in {"http", "https"} or not parts.netloc or parts.path
        if wrong or (self.production and parts.scheme != "https"):
            self.problems.append(
                "SITE_ADDRESS must be an origin in full: https://back-office.example.com."
            )
        return address

    def database(self) -> dict[str, object]:
        """The PostgreSQL connection, from any URL libpq understands (TCP or Unix socket)."""
        url = self.required("DATABASE_URL", "postgresql://user:password@host:5432/database")
        if not url:
            return {}
        if urlsplit(url).scheme not in {"postgres", "postgresql"}:
            self.problems.append("DATABASE_URL must name a PostgreSQL server: postgresql://…")
            return {}
        try:
            parts = conninfo_to_dict(url)
        except ProgrammingError:
            # The library's words repeat a part of it, which may be the password.
            self.problems.append(f"DATABASE_URL is no URL that libpq understands. {ENCODED}")
            return {}
        options = {
            name: value
            for name, value in parts.items()
            if name not in {"dbname", "user", "password", "host", "port"}
        }
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.get("dbname", ""),
            "USER": parts.get("user", ""),
            "PASSWORD": parts.get("password", ""),
            "HOST": parts.get("host", ""),
            "PORT": parts.get("port", ""),
            "OPTIONS": options,
        }

    def redis_url(self) -> str:
        url = self.required("REDIS_URL", "redis://host:6379/0")
        if url and urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
            self.problems.append("REDIS_URL must name a Redis server: redis://…")
        elif url and not _is_readable(url):
            self.problems.append(f"REDIS_URL has no host, or a port that is no number. {ENCODED}")
        return url

    def refuse_if_wrong(self) -> None:
        """Raise ImproperlyConfigured that lists every problem found so far."""
        if self.problems:
            listed = "\n".join(f"  - {problem}" for problem in self.problems)
            hint = (
                "\n(SMSACTIVATOR_ENV is not 'development', so production rules apply; "
                "`make run` starts a development copy, .env.example lists every value.)"
                if self.production
                else ""
            )
            raise ImproperlyConfigured(f"The environment is not fit to start:\n{listed}{hint}")


def _is_readable(url: str) -> bool:
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) or parts.scheme == "unix"
