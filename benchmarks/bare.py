"""The floors: a Flask view that does nothing, and one that only reads a row of the database."""

import os
import sqlite3
from threading import local
from typing import Any

from flask import Flask

app = Flask(__name__)
OBJECT = {"id": "123456789012345678", "name": "Ann", "padding": "x" * 425}
DATABASE = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
thread = local()


@app.route("/")
def view() -> dict[str, str]:
    """Return 485 bytes of JSON."""
    return OBJECT


@app.route("/account/<int:account>")
def row(account: int) -> dict[str, Any]:
    """Return the row of an account as JSON, by the standard library alone."""
    if not hasattr(thread, "connection"):
        thread.connection = sqlite3.connect(DATABASE)
        thread.connection.row_factory = sqlite3.Row
    found = thread.connection.execute("SELECT * FROM accounts WHERE id = ?", (account,))
    return dict(found.fetchone())
