from refunds.tests.conftest import sim, upstream

__all__ = ["sim", "upstream"]
