"""The API in a real browser: its documentation's page, and web sites of other origins."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from playwright.sync_api import Browser, Page, sync_playwright

from api.origins import FOREIGN
from tests.support.databases import Database
from tests.support.server import Server, create_bot

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",  # which root cannot have
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: `apt install chromium`")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page in a window of its own."""
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(10_000)
        yield page


def try_out(page: Page, path: str, body: str | None = None) -> tuple[str, object]:
    """Open an endpoint of the documentation, send a request, give the answer's status and body."""
    endpoint = page.locator(".opblock", has=page.locator(f'[data-path="{path}"]'))
    endpoint.locator(".opblock-summary-control").click()
    endpoint.get_by_role("button", name="Try it out").click()
    if body is not None:
        endpoint.locator("textarea.body-param__text").fill(body)
    endpoint.get_by_role("button", name="Execute").click()
    answer = endpoint.locator(".live-responses-table .response")
    status = answer.locator(".response-col_status").inner_text().split()[0]
    return status, json.loads(answer.locator(".highlight-code code").first.inner_text())


def test_documentation(server: Server, page: Page) -> None:
    username, password = create_bot(server.database, "--all")
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))

    page.goto(server.url)
    page.get_by_role("link", name="documentation").click()
    page.locator(".auth-wrapper").get_by_role("button", name="Authorize").click()
    login = page.locator(".dialog-ux")
    login.get_by_label("Username").fill(username)
    login.get_by_label("Password").fill(password)
    login.get_by_role("button", name="Apply credentials").click()
    login.get_by_role("button", name="Close").last.click()

    me = {"name": "bot", "permissions": 95, "username": username}
    assert try_out(page, "/auth/me") == ("200", me)
    status, team = try_out(page, "/teams/new", '{"name": "Red"}')
    assert status == "201"
    assert team == requests.get(f"{server.url}/team/1", timeout=60).json()

    hint = "verbose: [DOM] Input elements should have autocomplete attributes"  # not shown
    assert [line for line in said if not line.startswith(hint)] == []
    assert {url for url in asked if not url.startswith(("data:", f"{server.url}/"))} == set()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """Serve an empty page from an origin of its own; return the origin."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<!DOCTYPE html><link rel=icon href='data:,'>")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = partial(Handler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize("allowed", [True, False])
def test_a_site_of_another_origin(database: Database, page: Page, site: str, allowed: bool) -> None:
    username, password = create_bot(database, "--all")
    origins = f"https://other.example,{site}" if allowed else "https://other.example"
    with Server(database, ALLOWED_ORIGINS=origins) as server:
        team = {"name": "Red"}
        url, auth = f"{server.url}/team/1", (username, password)
        requests.post(f"{server.url}/teams/new", json=team, auth=auth, timeout=60)
        page.goto(site)
        answer = page.evaluate(
            """([url, login]) => fetch(url, {
                method: "PATCH",
                headers: {"Authorization": "Basic " + btoa(login), "Content-Type": "text/json"},
                body: '{"name": "Blue"}',
            }).then((answer) => answer.headers.has("X-Request-ID") && answer.json(), () => null)""",
            [url, f"{username}:{password}"],
        )
        now = requests.get(url, timeout=60).json()
    assert now["name"] == ("Blue" if allowed else "Red")
    assert answer == (now if allowed else None)


ATTACKS = {
    "/teams/new": '{"name": "Evil="}',
    "/accounts/new": '{"id": 5, "discriminator": 0, "permissions": 111, "name": "Evil="}',
    "/auth/reset_token": "=",
}
"""What a form can post as text: the name of its field, an equals sign, and the field's value."""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "the same site"])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_form_of_another_site(
    database: Database, page: Page, site: str, host: str, allowed: bool
) -> None:
    """A form of another site changes nothing with credentials that the browser keeps."""
    username, password = create_bot(database, "--all")
    site = site.replace("127.0.0.1", host)
    with Server(database, ALLOWED_ORIGINS=site if allowed else "") as server:
        page.goto(f"{server.url.replace('//', f'//{username}:{password}@')}/auth/me")
        page.goto(f"{server.url}/docs")
        me = {"name": "bot", "permissions": 95, "username": username}
        assert try_out(page, "/auth/me") == ("200", me)  # without "Authorize"
        status, team = try_out(page, "/teams/new", '{"name": "Red"}')
        assert status == "201"

        for path, text in ATTACKS.items():
            page.goto(site)
            with page.expect_navigation() as navigation:
                page.evaluate(
                    """([url, text]) => {
                        const form = document.createElement("form");
                        const field = document.createElement("input");
                        Object.assign(form, {method: "post", enctype: "text/plain", action: url});
                        [field.name, field.value] = text.split("=");
                        form.append(field);
                        document.body.append(form);
                        form.submit();
                    }""",
                    [server.url + path, text],
                )
            response = navigation.value
            assert response.url == server.url + path
            assert (response.status, response.json()) == (403, {"detail": FOREIGN})

        mine = requests.get(f"{server.url}/auth/me", auth=(username, password), timeout=60)
        assert (mine.status_code, mine.json()) == (200, me)
        for path, records in (("/teams/search", [team]), ("/accounts/search", [])):
            assert requests.get(server.url + path, timeout=60).json()["data"] == records
