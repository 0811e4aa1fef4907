"""The endpoints: one file and one blueprint for each resource."""

from routes import accounts, auth, awards, health, teams

BLUEPRINTS = (accounts.blp, teams.blp, awards.blp, auth.blp, health.blp)
