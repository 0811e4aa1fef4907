"""The pages for people, as a browser gets them."""

import pytest
from flask.testing import FlaskClient


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/pages/docs.js", "text/javascript"),
        ("/pages/style.css", "text/css"),
        ("/pages/swagger-ui/swagger-ui-bundle.js", "text/javascript"),
    ],
)
def test_pages(client: FlaskClient, path: str, kind: str) -> None:
    for headers in ({}, {"If-Match": '"x"'}, {"Range": "bytes=9999999-"}):
        response = client.get(path, headers=headers)
        assert (response.status_code, response.mimetype) == (200, kind)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        response.close()


@pytest.mark.parametrize(
    "path",
    ["/pages/", "/pages/none", "/pages/../app.py", "/pages/%2e%2e/app.py", "/pages/swagger-ui/"],
)
def test_nothing_else(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert set(response.get_json()) == {"detail"}
