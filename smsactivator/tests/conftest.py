from refunds.tests.conftest import add_version, sim, upstream

__all__ = ["add_version", "sim", "upstream"]
