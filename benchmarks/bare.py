"""The floor: a Flask view that returns an object of the size of an account, and does nothing."""

from flask import Flask

app = Flask(__name__)
OBJECT = {"id": "123456789012345678", "name": "Ann", "padding": "x" * 425}


@app.route("/")
def view() -> dict[str, str]:
    """Return 485 bytes of JSON."""
    return OBJECT
