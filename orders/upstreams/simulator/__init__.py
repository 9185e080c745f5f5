"""A wholesaler of numbers on loopback, speaking handler_api over real HTTP.

For tests it is driven by hand (``Simulator``, ``Fault``); for a demo it lives on its own
(``python -m orders.upstreams.simulator``, ``Behaviour``). Nothing in production imports it.
"""

from orders.upstreams.simulator.faults import Fault
from orders.upstreams.simulator.market import Behaviour, Line, Market
from orders.upstreams.simulator.server import Dialect, Simulator

__all__ = ["Behaviour", "Dialect", "Fault", "Line", "Market", "Simulator"]
