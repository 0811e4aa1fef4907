"""Time as it would pass on an idle machine."""

import time
from pathlib import Path
from typing import Self


def _waited() -> float:
    """Return how many seconds this thread has waited for a processor."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class Stopwatch:
    """Measures a thread's time: in all, and without its waits for a processor.

    A bound on `own_seconds` holds on a busy machine, too.
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
