"""Whether the wall clock can be trusted to say how old something is.

It may jump: a small computer's is wrong until it has a network, and a host may set it by hand. So
nothing is deleted for its age until the clock has been steady for an hour.
"""

import time

JUMP = 60
"""A clock that is off by more seconds than this has jumped."""

GRACE = 3600
"""How many seconds after its start, or a jump, a process begins to trust its clock."""


class WallClock:
    """The wall clock, watched since the start of the process."""

    def __init__(self) -> None:
        self._watch()

    def _watch(self) -> None:
        self.since = time.monotonic()
        self.ahead = time.time() - self.since

    def is_steady(self) -> bool:
        """Return whether the clock has kept pace with the monotonic one for long enough."""
        if abs(time.time() - time.monotonic() - self.ahead) > JUMP:
            self._watch()
        return time.monotonic() - self.since >= GRACE


wall_clock = WallClock()
