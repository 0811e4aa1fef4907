"""The API's documentation, to read and try out, and the files that all pages use."""

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, current_app, send_from_directory

STATIC = Path(__file__).parent / "static"
SWAGGER_UI = Path(str(files("flask_swagger_ui") / "dist"))
KEPT = 60 * 60
"""How many seconds browsers need not ask again."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may load nothing from elsewhere, and use no script or style in its own text."""

blp = Blueprint("docs", __name__)


def index() -> Response:
    """Say what this server is, if there are no other pages."""
    return guard(_file(STATIC, "index.html"))


@blp.route("/docs")
def docs() -> Response:
    """Show the API's documentation, to read and try out."""
    return _file(STATIC, "docs.html")


@blp.route("/pages/<path:name>")
def page_file(name: str) -> Response:
    """Return a file that the pages use."""
    return _file(STATIC, name)


@blp.route("/pages/own.css")
def own_style() -> Response:
    """Return the host's additions to the style of the pages."""
    return _file(Path(current_app.instance_path), "style.css")


@blp.route("/pages/swagger-ui/<path:name>")
def swagger_ui_file(name: str) -> Response:
    """Return a file of Swagger UI."""
    return _file(SWAGGER_UI, name)


@blp.after_request
def guard(response: Response) -> Response:
    """Let the page use its own scripts and styles."""
    response.headers["Content-Security-Policy"] = POLICY
    return response


def _file(folder: Path, name: str) -> Response:
    return send_from_directory(folder, name, conditional=False, max_age=KEPT)
