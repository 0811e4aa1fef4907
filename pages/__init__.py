"""Pages for people: the community's, and the API's documentation."""

from flask import Flask

from config import Settings
from pages import docs, guides, views


def init_app(app: Flask, settings: Settings) -> None:
    """Serve the pages or, if they are not public, only a page that says what this server is."""
    app.register_blueprint(docs.blp)
    app.register_blueprint(guides.blp)
    if settings.public_pages:
        views.init_app(app)
    else:
        app.add_url_rule("/", "index", docs.index)
