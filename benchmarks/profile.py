"""Show where the time of a request goes: `python -m benchmarks.profile [PATH]`."""

import cProfile
import pstats
import sys
import tempfile
from pathlib import Path

from app import create_app
from benchmarks.seed import seed
from config import Settings
from tests.support.server import flask

REQUESTS = 500


def main() -> None:
    """Profile one GET of a community of 10,000, without the server around it."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/accounts/search"
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "laurels.db"
        flask(database, "db", "upgrade")
        app = create_app(Settings(database_url=f"sqlite:///{database}"))
        with app.app_context():
            auth = seed(10_000)
        client = app.test_client()
        client.get(path, auth=auth)
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(REQUESTS):
            client.get(path, auth=auth)
        profile.disable()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(40)


if __name__ == "__main__":
    main()
