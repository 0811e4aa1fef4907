"""The endpoints: one file and one blueprint for each resource."""

from routes import accounts, auth, awards, callbacks, health, teams

BLUEPRINTS = (accounts.blp, teams.blp, awards.blp, callbacks.blp, auth.blp, health.blp)
