"""The server in a real browser: its pages, the API's documentation, and other web sites."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from api.origins import FOREIGN
from app import create_app
from config import Settings
from database import db
from tests.api.test_pages import HOSTILE
from tests.support.community import Community
from tests.support.databases import Database, NewDatabase, url_of
from tests.support.server import ROOT, Demo, Server, create_bot

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",  # root cannot use one
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
    """Send a request from the documentation; return the response's status and body."""
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
    page.get_by_role("contentinfo").get_by_role("link", name="documentation").click()
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


def test_documentation_on_a_phone(server: Server, page: Page) -> None:
    """Nothing is wider than the window, and an endpoint shows only its own errors."""
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto(f"{server.url}/docs")
    endpoint = page.locator(".opblock", has=page.locator('[data-path="/teams/new"]'))
    endpoint.locator(".opblock-summary-control").click()
    statuses = endpoint.locator("tbody .response-col_status")
    statuses.first.wait_for()
    assert statuses.all_inner_texts() == ["201", "403", "422"]
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 375
    for guide in ("The API", "Callbacks"):
        page.get_by_label("Documentation").get_by_role("link", name=guide).click()
        page.get_by_role("heading", level=1, name=guide).wait_for()
        assert page.evaluate(width) == 375


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
"""A form can post this as text: its field's name, an equals sign, and the field's value."""


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another site", "the same site"])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_form_of_another_site(
    database: Database, page: Page, site: str, host: str, allowed: bool
) -> None:
    """A form of another site changes nothing, even with credentials that the browser keeps."""
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


SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 375, "height": 800}}
PAGES = {
    "standings": "/",
    "teams": "/teams",
    "team": "/teams/1",
    "team, page 2": "/teams/1?page=2",
    "awards of a team": "/teams/1/awards",
    "member": "/members/{member}",
    "awards": "/awards",
    "award": "/awards/1",
    "search": "/search?q=an",
    "search for nothing": "/search?q=there+is+no+such+thing",
    "numbers": "/numbers",
    "no such team": "/teams/999",
}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FOCUSABLE = "a[href], input, button, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the demo's community."""
    folder = tmp_path_factory.mktemp("demo")
    with Demo(folder / "unused.db", TMPDIR=str(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def member(demo: Server) -> str:
    """Return the id of a member who has an award."""
    award = requests.get(f"{demo.url}/award/1", timeout=60).json()
    return str(award["awardees"][0]["id"])


@pytest.fixture(scope="module")
def hostile_server(new_database: NewDatabase, empty_database: Database) -> Iterator[Server]:
    """Serve a community whose names are meant to do harm."""
    with new_database(empty_database) as database:
        app = create_app(Settings(database_url=url_of(database)))
        community = Community(app)
        for key, name in enumerate(HOSTILE.values(), 1):
            team = community.team(name)
            community.account(key, 1, name=name)
            community.award(team, *{1, key}, title=name, points=1000 - key)
        with app.app_context():
            db.engine.dispose()
        with Server(database) as server:
            yield server


def visit(page: Page, url: str) -> None:
    """Open a page, and everything that can be opened in it."""
    page.goto(url)
    for summary in page.locator("summary").all():
        summary.click()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")  # loads the pictures at the bottom
    page.wait_for_load_state("networkidle")


def is_too_wide(page: Page) -> bool:
    """Return whether a page must be scrolled sideways to be read."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages(demo: Server, member: str, browser: Browser, size: str, scheme: str) -> None:
    asked: list[str] = []
    said: list[str] = []
    with browser.new_context(viewport=SIZES[size], color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for name, path in PAGES.items():
            visit(page, demo.url + path.format(member=member))
            if name == "no such team":
                assert "status of 404" in said.pop()
            assert said == [], name
            assert not is_too_wide(page), name
            options = {"runOnly": WCAG, "resultTypes": ["violations"]}
            found = Axe().run(page, options=options).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], name
    assert {url for url in asked if not url.startswith(f"{demo.url}/")} == set()
    assert any(url.startswith(f"{demo.url}/pages/badges/") for url in asked)


@pytest.mark.parametrize("size", SIZES)
def test_hostile_names(hostile_server: Server, browser: Browser, size: str) -> None:
    """They stay in their boxes, and do nothing."""
    said: list[str] = []
    with browser.new_context(viewport=SIZES[size]) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.route("https://example.com/**", lambda route: route.abort())
        for key in range(1, len(HOSTILE) + 1):
            for kind in ("teams", "members", "awards"):
                page.goto(f"{hostile_server.url}/{kind}/{key}")
                assert not is_too_wide(page), (kind, key)
        for path in ("/", "/teams", "/awards", "/numbers", "/search?q=a"):
            visit(page, hostile_server.url + path)
            assert not is_too_wide(page), path
    assert said == []


@pytest.mark.parametrize("size", SIZES)
def test_keyboard(demo: Server, member: str, browser: Browser, size: str) -> None:
    """The Tab key reaches everything that can be used and seen, in the order of the page."""
    with browser.new_context(viewport=SIZES[size]) as context:  # type: ignore[arg-type]
        page = context.new_page()
        for name in ("standings", "team", "member", "award", "search", "numbers"):
            page.goto(demo.url + PAGES[name].format(member=member))
            wanted = page.evaluate(
                f"""[...document.querySelectorAll("{FOCUSABLE}")]
                    .filter((one) => one.checkVisibility()).map((one) => one.outerHTML)"""
            )
            reached = []
            for _ in wanted:
                page.keyboard.press("Tab")
                reached.append(page.evaluate("document.activeElement.outerHTML"))
            assert reached == wanted, name
        page.goto(demo.url)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"


def test_without_scripts(demo: Server, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(demo.url)
        page.get_by_role("searchbox").fill("crimson")
        page.keyboard.press("Enter")
        page.get_by_role("main").get_by_role("link", name="Crimson Foxes").click()
        assert page.url == f"{demo.url}/teams/1"
        page.get_by_role("link", name="Numbers").click()
        assert not page.get_by_role("row", name="Until").is_visible()
        page.get_by_text("The figures as a table").first.click()
        assert page.get_by_role("row", name="Until").is_visible()


def test_pictures_keep_their_place(hostile_server: Server, browser: Browser) -> None:
    """One that does not load leaves initials of the same size."""
    boxes = []
    picture = ROOT / "pages/static/preview.png"
    for answer in (lambda route: route.abort(), lambda route: route.fulfill(path=picture)):
        with browser.new_context() as context:
            page = context.new_page()
            page.route("https://example.com/**", answer)
            page.goto(f"{hostile_server.url}/awards/1")
            page.wait_for_load_state("networkidle")
            image = page.locator("main img")
            boxes.append(image.bounding_box())
            assert image.evaluate("one => getComputedStyle(one, '::after').content") == '"SA"'
    assert boxes[0] == boxes[1]


def test_screenshot(
    demo: Server, browser: Browser, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Take the picture of the README; `make screenshots` keeps it."""
    folder = Path(request.config.getoption("screenshots") or tmp_path)
    with browser.new_context(viewport={"width": 1200, "height": 1180}) as context:
        page = context.new_page()
        page.goto(demo.url)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / "standings.png")
    assert (folder / "standings.png").stat().st_size > 20_000
