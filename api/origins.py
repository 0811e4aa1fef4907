"""Other web sites: those that may call the API from a browser, and what the rest cannot do."""

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden

from api.middleware import REQUEST_ID

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
FOREIGN = (
    "A website may do this only with a script, and only if the server's host has named the site in "
    "ALLOWED_ORIGINS."
)


def init_app(app: Flask) -> None:
    """Refuse what other web sites may not do before looking at anything else in a request."""
    allowed = {origin.lower() for origin in app.extensions["settings"].allowed_origins}

    def is_allowed() -> bool:
        return "*" in allowed or request.headers.get("Origin") in allowed

    @app.before_request
    def refuse_writes() -> None:
        # A browser may hold Basic credentials, and sends them with any page's form. It also says
        # where a request comes from, which no page can change.
        if (
            request.method not in SAFE_METHODS
            and request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}
            and (request.headers.get("Sec-Fetch-Mode") == "navigate" or not is_allowed())
        ):
            raise Forbidden(FOREIGN)

    if not allowed:
        return

    @app.after_request
    def share(response: Response) -> Response:
        if "*" not in allowed:
            response.vary.add("Origin")
        if is_allowed():
            origin = "*" if "*" in allowed else request.headers["Origin"]
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = f"Retry-After, {REQUEST_ID}"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, *"
                response.headers["Access-Control-Allow-Methods"] = "DELETE, GET, PATCH, POST, PUT"
                response.headers["Access-Control-Max-Age"] = "600"
        return response
