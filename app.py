"""The application factory: configuration, extensions, blueprints, commands."""

import click
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

import commands
import database
import permissions
from api import middleware, origins
from api.endpoints import Api
from commands.doctor import log_start
from config import VERSION, Settings
from pages import views as pages
from routes import BLUEPRINTS

DESCRIPTION = f"""Accounts, teams and awards of a Discord community.

What only reads these needs no credentials. All else is done by an app (username `A1`, made by the
server's host) or by a member's session (`S1`), with their password, by HTTP Basic authentication.
`permissions` is the sum of what they may do: {permissions.LIST}.
"""


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application, with the settings of the environment unless others are given.

    A server, as opposed to a command, does not start on a database that is not up to date.
    """
    settings = settings or Settings.load()
    app = Flask(__name__, static_folder=None)
    app.extensions["settings"] = settings
    app.config.from_mapping(
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        API_TITLE="Laurels",
        API_VERSION=VERSION,
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/",
        API_SPEC_OPTIONS={"info": {"description": DESCRIPTION}},
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider has it
    app.url_map.merge_slashes = False  # a path is taken as it is, never redirected
    app.logger.setLevel(settings.log_level)

    middleware.init_app(app)
    if settings.trusted_proxies:
        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]
    database.init_app(app)
    origins.init_app(app)
    api = Api(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    app.register_blueprint(pages.blp)
    commands.init_app(app)

    command = click.get_current_context(silent=True)
    if command is None or command.info_name == "run":
        with app.app_context():
            database.require_current_schema()
            log_start()
    return app
