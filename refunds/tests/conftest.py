from __future__ import annotations

import pytest

from refunds.tests import versions

KEY = "a-secret-key-of-the-simulated-wholesaler"


@pytest.fixture
def sim(settings):
    """A wholesaler on loopback that allows a cancel at once."""
    from orders.upstreams import registry
    from orders.upstreams.simulator import Simulator

    settings.UPSTREAM_KEYS = {"SIM": KEY}
    with Simulator(api_key=KEY, early_cancel=0) as simulator:
        yield simulator
        # What the registry kept open for it is of no more use, and would be found unclosed.
        registry._client(simulator.url, KEY, "sim").close()
        registry._client.cache_clear()


@pytest.fixture
def upstream(db, sim):
    """The wholesaler as a row of ours."""
    from orders.models import Upstream

    return Upstream.objects.create(code="sim", name="Simulator", base_url=sim.url)


@pytest.fixture
def add_version(tmp_path):
    """Adds a version of the policy by adding its file."""
    with versions.added(tmp_path) as add:
        yield add
