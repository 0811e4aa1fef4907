"""Time as it would pass on an idle machine."""

import time
from pathlib import Path
from typing import Self


def _waited() -> float:
    """Return for how long this thread has waited for a processor, in seconds."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class Stopwatch:
    """Measures what a thread does: all the time, and that without its waits for a processor.

    A bound on `own_seconds` holds on a machine that has other things to do, too.
    """

    def __enter__(self) -> Self:
        self.begun, self.had_waited = time.monotonic(), _waited()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self.begun
        self.waited = _waited() - self.had_waited

    @property
    def own_seconds(self) -> float:
        return self.seconds - self.waited
