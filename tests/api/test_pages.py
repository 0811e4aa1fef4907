"""The pages for people, as a browser gets them."""

import re

import pytest
from flask.testing import FlaskClient


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/docs/api", "text/html"),
        ("/docs/callbacks", "text/html"),
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
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        response.close()


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/docs/performance",
        "/pages/",
        "/pages/none",
        "/pages/../app.py",
        "/pages/%2e%2e/app.py",
        "/pages/swagger-ui/",
    ],
)
def test_nothing_else(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert set(response.get_json()) == {"detail"}


def test_guides_are_whole_and_lead_on(client: FlaskClient) -> None:
    """Nothing of the Markdown is left, and each link leads to a guide, a heading or elsewhere."""
    pages = {path: client.get(path).text for path in ("/docs/api", "/docs/callbacks")}
    ids = {path: set(re.findall(r'<h\d id="(.+?)">', page)) for path, page in pages.items()}
    assert {"three-surprises", "permissions"} <= ids["/docs/api"]
    for here, page in pages.items():
        assert page.count("<h1 ") == 1
        text = re.sub("<pre>.*?</pre>", "", page, flags=re.DOTALL)
        assert not re.search(r"```|\]\(|^\||&lt;/", text, re.MULTILINE)
        for link in re.findall(r'<a href="(.+?)"', text):
            path, _, fragment = link.partition("#")
            if not path.startswith("https://") and path != "/docs":
                assert not fragment or fragment in ids[path or here], link
                assert path in {"", *pages}
