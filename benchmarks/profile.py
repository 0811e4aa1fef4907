"""Show where the time of a request goes: `python -m benchmarks.profile [PATH]`."""

import cProfile
import pstats
import sys
import tempfile
from pathlib import Path

from app import create_app
from benchmarks.seed import seed
from config import Settings

REQUESTS = 500


def main() -> None:
    """Profile one GET of a community of 10,000, without the server around it."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/accounts/search"
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "laurels.db"
        auth = seed(database, 10_000)
        client = create_app(Settings(database_url=f"sqlite:///{database}")).test_client()
        client.get(path, auth=auth)
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(REQUESTS):
            client.get(path, auth=auth)
        profile.disable()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(40)


if __name__ == "__main__":
    main()
