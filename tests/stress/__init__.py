"""Long random runs against the real server: `make fuzz` and `make chaos`."""

import argparse
import sys
from collections import Counter
from secrets import randbelow

SHOWN = 20
"""The number of faults that are shown in full."""


def options(description: str, what: str, count: int, *flags: str) -> argparse.Namespace:
    """Return the number, the seed and the flags on the command line; print the seed."""
    parser = argparse.ArgumentParser(description=description)
    for flag in flags:
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument(f"--{what}", type=int, default=count, dest="count")
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    return given


def report(figures: str, faults: list[str]) -> None:
    """Print the results; exit with status 1 if something broke."""
    print(figures)
    for fault, times in list(Counter(faults).items())[:SHOWN]:
        print(f"BROKEN ({times} times): {fault}")
    sys.exit(bool(faults))
