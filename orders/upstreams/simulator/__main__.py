"""Run the simulated wholesaler: ``python -m orders.upstreams.simulator --port 8181``."""

from __future__ import annotations

import argparse
import sys
import threading
import time
from decimal import Decimal

from orders.upstreams.simulator import Behaviour, Dialect, Simulator


def _span(text: str) -> tuple[float, float]:
    """``3..20`` or ``5``: seconds, from and to."""
    first, _, last = text.partition("..")
    span = float(first), float(last or first)
    if not 0 <= span[0] <= span[1]:
        raise argparse.ArgumentTypeError("expected seconds as 3..20")
    return span


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError("expected a probability of 0 to 1")
    return share


def _parser() -> argparse.ArgumentParser:
    usual = Behaviour()
    parser = argparse.ArgumentParser(
        prog="python -m orders.upstreams.simulator", description=__doc__
    )
    add = parser.add_argument
    add("--port", type=int, default=8181, help="0 takes a free one (default: 8181)")
    add("--seed", type=int, default=1, help="same seed, same fates (default: 1)")
    add("--key", default="simulator-key", help="the API key to accept")
    add("--balance", type=Decimal, default=Decimal(1000), help="our money there, USD")
    add("--price", type=Decimal, default=Decimal("0.25"), help="price of any number, USD")
    add("--lifetime", type=float, default=1200.0, help="of an activation, seconds")
    add("--early-cancel", type=float, default=120.0, help="no cancel before, seconds")
    add("--sms-after", type=_span, default=usual.sms_after, help="seconds, as 3..20")
    add("--silent", type=_share, default=usual.silent, help="share that never gets an SMS")
    add("--broken", type=_share, default=usual.broken, help="share taken back by the wholesaler")
    add("--no-numbers", type=_share, default=usual.no_numbers, help="share of purchases refused")
    add("--lost", type=_share, default=usual.lost, help="share of purchases never answered")
    add("--late", type=_share, default=usual.late, help="share with an SMS after a cancel")
    add("--errors", choices=("text", "json"), default="text", help="dialect of errors")
    add("--utc-offset", type=float, default=3.0, help="zone of the times it prints, hours")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    options = _parser().parse_args(arguments)
    simulator = Simulator(
        options.port,
        api_key=options.key,
        seed=options.seed,
        balance=options.balance,
        price=options.price,
        lifetime=options.lifetime,
        early_cancel=options.early_cancel,
        # A real wholesaler never sells a reference twice; a world that is made anew must not, too.
        first_ref=int(time.time() * 100),
        dialect=Dialect(errors=options.errors, utc_offset=options.utc_offset),
        behaviour=Behaviour(
            sms_after=options.sms_after,
            silent=options.silent,
            broken=options.broken,
            no_numbers=options.no_numbers,
            lost=options.lost,
            late=options.late,
        ),
    )
    with simulator:
        sys.stdout.write(f"A wholesaler of numbers listens at {simulator.url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write("\n")


if __name__ == "__main__":
    main()
