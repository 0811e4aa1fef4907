"""Whether the wall clock can be believed when it says how old something is.

It may jump: a small computer starts with a wrong one until it has a network, a host sets it by
hand. So what has the wrong age for an hour at most is not deleted for it.
"""

import time

JUMP = 60
"""A clock that is off by more seconds than this has jumped."""

GRACE = 3600
"""How many seconds after its start, or a jump, a process believes its clock."""


class WallClock:
    """The wall clock, watched from the start of the process on."""

    def __init__(self) -> None:
        self._watch()

    def _watch(self) -> None:
        self.since = time.monotonic()
        self.ahead = time.time() - self.since

    def is_steady(self) -> bool:
        """Return whether the clock went as the monotonic one does, for long enough."""
        if abs(time.time() - time.monotonic() - self.ahead) > JUMP:
            self._watch()
        return time.monotonic() - self.since >= GRACE


wall_clock = WallClock()
