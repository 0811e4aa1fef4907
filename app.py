"""The application factory: configuration, extensions, blueprints, commands."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

import commands
import database
import pages
from api import errors, middleware, openapi, origins, parsing
from commands.checks import require_current_schema
from commands.doctor import log_start
from config import Settings
from routes import BLUEPRINTS


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application, with the environment's settings unless others are passed.

    A server, as opposed to a command, does not start on a database that is not up to date.
    """
    settings = settings or Settings.load()
    app = Flask(__name__, static_folder=None)
    app.extensions["settings"] = settings
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.merge_slashes = False  # a path is taken as it is, never redirected
    app.logger.setLevel(settings.log_level)

    middleware.init_app(app)
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]
    database.init_app(app)
    origins.init_app(app)
    parsing.init_app(app)
    errors.init_app(app)
    openapi.init_app(app, BLUEPRINTS)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    pages.init_app(app, settings)
    commands.init_app(app)

    if commands.for_server():
        with app.app_context():
            require_current_schema()
            log_start()
    return app
