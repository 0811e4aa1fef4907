"""The endpoints: one file and one blueprint for each resource."""

from routes import accounts, auth, awards, callbacks, events, health, standings, teams

BLUEPRINTS = (
    accounts.blp,
    teams.blp,
    awards.blp,
    standings.blp,
    callbacks.blp,
    events.blp,
    auth.blp,
    health.blp,
)
