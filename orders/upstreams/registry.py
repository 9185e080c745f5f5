"""The client of each upstream."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from orders import models
from orders.upstreams.base import Upstream, UpstreamAuth
from orders.upstreams.handler_api import HandlerApi


def client_for(upstream: models.Upstream) -> Upstream:
    """The upstream's client; its connections are kept open and shared by a process's threads.

    Raises UpstreamAuth when the environment holds no key for it.
    """
    key = settings.UPSTREAM_KEYS.get(upstream.code.upper().replace("-", "_"), "")
    if not key:
        raise UpstreamAuth(f"the environment holds no key for the upstream {upstream.code}")
    return _client(upstream.base_url, key, upstream.code)


@lru_cache(maxsize=64)
def _client(base_url: str, api_key: str, name: str) -> Upstream:
    return HandlerApi(base_url, api_key, name=name)
