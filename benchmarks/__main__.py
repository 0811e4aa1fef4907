"""Measure the server and print three tables: `make bench`, `make bench OPTIONS="--table 2"`.

The machine may be shared and noisy, so only comparisons count: each is of medians over rounds in
which both sides were measured one after the other.
"""

import argparse
import os
import shutil
import sys

from benchmarks import databases, large, shares
from tests.support.server import ROOT


def main() -> None:
    """Measure what the options say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--table", type=int, choices=(1, 2, 3), help="print only this table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="how long a round lasts")
    parser.add_argument(
        "--connections", type=int, default=8, help="how many at once, in tables 1 and 3"
    )
    parser.add_argument("--only", default="", help="the rows of table 1 that contain this")
    parser.add_argument("--large", type=int, default=20_000, help="accounts in table 2, to 50000")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("This needs wrk: `apt install wrk`.")
    load = shares.Load(options.rounds, options.seconds, options.connections)
    if options.table in {1, None}:
        shares.measure(load, options.only)
    if options.table == 2 or not (options.table or options.only):
        large.measure(options.large, options.rounds, options.seconds)
    if options.table == 3 or not (options.table or options.only):
        databases.measure(load)


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
