"""Production refuses to start on a missing or unsafe value, and names each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from smsactivator.environment import DEVELOPMENT_SECRET_KEY, Environment

PROJECT = Path(__file__).resolve().parents[2]
SAFE = {
    "SECRET_KEY": "kT3-vQ9_xN7.mB1:zR5;wL8,pH2!cF6?dJ4+gS0=yA/eU*iO^tK1-",
    "ALLOWED_HOSTS": "back-office.example.com",
    "DATABASE_URL": "postgresql://app:secret@db.example.com:5432/smsactivator",
    "REDIS_URL": "redis://redis.example.com:6379/0",
}


def problems(**changed: str) -> list[str]:
    """What production finds wrong with the safe values, changed so."""
    environment = Environment(SAFE | changed)
    environment.secret_key()
    environment.site_address(environment.allowed_hosts())
    environment.trusted_origins()
    environment.database()
    environment.redis_url()
    return environment.problems


def manage(*words: str, **values: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py in an environment of these values alone."""
    return subprocess.run(
        [sys.executable, PROJECT / "manage.py", *words],
        env={"PATH": os.environ["PATH"]} | values,
        capture_output=True,
        text=True,
        check=False,
    )


def test_safe_values_are_accepted():
    assert problems() == []


def test_people_reach_the_site_at_its_first_host_unless_told_otherwise():
    assert Environment(SAFE).site_address(["a.example", "b.example"]) == "https://a.example"
    other = SAFE | {"SITE_ADDRESS": "https://b.example:8443/"}
    assert Environment(other).site_address(["a.example"]) == "https://b.example:8443"


def test_what_is_not_called_development_is_production():
    assert Environment({}).production
    assert Environment({"SMSACTIVATOR_ENV": "staging"}).production
    assert not Environment({"SMSACTIVATOR_ENV": "development"}).production


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("empty", ["", "   "])
def test_a_missing_value_is_named(name, empty):
    [problem] = problems(**{name: empty})
    assert problem.startswith(f"{name} is missing: ")


@pytest.mark.parametrize(
    ("name", "unsafe"),
    [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "a" * 60),
        ("SECRET_KEY", DEVELOPMENT_SECRET_KEY),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "back-office.example.com, *.example.com"),
        ("CSRF_TRUSTED_ORIGINS", "http://back-office.example.com"),
        ("CSRF_TRUSTED_ORIGINS", "https://*.example.com"),
        ("CSRF_TRUSTED_ORIGINS", "back-office.example.com"),
        ("SITE_ADDRESS", "http://back-office.example.com"),
        ("SITE_ADDRESS", "back-office.example.com"),
        ("SITE_ADDRESS", "https://back-office.example.com/admin"),
        ("DATABASE_URL", "sqlite:///db.sqlite3"),
        ("DATABASE_URL", "mysql://root@db.example.com/smsactivator"),
        ("REDIS_URL", "amqp://rabbit.example.com"),
    ],
)
def test_an_unsafe_value_is_named(name, unsafe):
    [problem] = problems(**{name: unsafe})
    assert problem.startswith(name)


@pytest.mark.parametrize(
    ("name", "unreadable"),
    [
        ("DATABASE_URL", "postgresql://app:hunter%zz@db.example.com/smsactivator"),
        ("REDIS_URL", "redis://:/hunter@redis.example.com:6379/0"),
        ("REDIS_URL", "redis://redis.example.com:hunter/0"),
    ],
)
def test_a_url_that_cannot_be_read_is_named_without_its_password(name, unreadable):
    [problem] = problems(**{name: unreadable})
    assert problem.startswith(name)
    assert "hunter" not in problem


@pytest.mark.parametrize("raw", ["4", "86401", "-5", "1.5", "²", "soon"])
def test_a_number_out_of_range_is_named_with_its_range(raw):
    environment = Environment({"ORDER_SLA_SECONDS": raw})
    assert environment.integer("ORDER_SLA_SECONDS", 1200, least=5, most=86_400) == 1200
    assert environment.problems == [
        f"ORDER_SLA_SECONDS must be a whole number from 5 to 86400, not {raw!r}."
    ]


def test_a_boolean_that_is_neither_is_named():
    environment = Environment({"DEBUG": "yes please"})
    assert environment.boolean("DEBUG", default=False) is False
    assert environment.problems == ["DEBUG must be true or false, not 'yes please'."]


def test_the_refusal_lists_every_problem_and_no_secret():
    environment = Environment({"SECRET_KEY": "hunter2", "ALLOWED_HOSTS": "*"})
    environment.secret_key()
    environment.site_address(environment.allowed_hosts())
    environment.database()
    with pytest.raises(ImproperlyConfigured) as refusal:
        environment.refuse_if_wrong()
    said = str(refusal.value)
    for name in ("SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL"):
        assert f"  - {name} " in said
    assert "hunter2" not in said


def test_without_an_environment_manage_says_why_it_does_not_start():
    result = manage("check")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for name in SAFE:
        assert f"  - {name} is missing: " in result.stderr


def test_debug_in_production_is_refused():
    result = manage("check", **SAFE, DEBUG="true")
    assert result.returncode == 1
    assert "DEBUG must be off in production." in result.stderr


def test_safe_values_pass_every_deployment_check():
    result = manage("check", "--deploy", "--fail-level", "WARNING", **SAFE)
    assert result.returncode == 0, result.stderr


def test_every_value_is_in_the_example():
    # given the names that the code reads from its environment
    code = "".join(
        (PROJECT / "smsactivator" / name).read_text() for name in ("environment.py", "settings.py")
    )
    read = set(re.findall(r'\.(?:text|required|integer|boolean|words)\(\s*"([A-Z][A-Z_]+)"', code))
    assert {"SECRET_KEY", "DATABASE_POOL_SIZE", "BEAT_SECONDS"} <= read  # the pattern still fits
    # then the example has each, with the upstreams' keys whose names depend on their codes
    example = (PROJECT / ".env.example").read_text()
    listed = set(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=", example, flags=re.MULTILINE))
    assert listed == read | {"UPSTREAM_KEY_EXAMPLE"}
