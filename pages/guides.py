"""The guides for the authors of bots and sites: Markdown in `docs`, made into pages once."""

import re
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

from flask import Blueprint, Response, render_template
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

DOCS = Path(__file__).parents[1] / "docs"
TITLES = {"api": "The API", "callbacks": "Callbacks"}
"""The guides that are served, by their names."""

HEADERS = {
    "Cache-Control": "public, max-age=3600",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}

blp = Blueprint("guides", __name__, template_folder="templates")


@blp.route(f"/docs/<any({', '.join(TITLES)}):name>")
def guide(name: str) -> Response:
    """Show a guide."""
    page = render_template("guide.html", here=name, titles=TITLES, content=_content(name))
    return Response(page, mimetype="text/html", headers=HEADERS)


@cache
def _content(name: str) -> Markup:
    """Return a guide as HTML; any HTML in it is shown as text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse((DOCS / f"{name}.md").read_text(encoding="utf-8"))
    for token, following in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", _anchor(following.content))
        _lead_on(token.children or [])
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704 - see above


def _anchor(heading: str) -> str:
    """Return a heading's name in links, the same as on sites that show Markdown."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _lead_on(tokens: Iterable[Token]) -> None:
    """Make links to the guides lead to their pages, and remove links to other files."""
    tag = "a"
    for token in tokens:
        if token.type == "link_open":
            target = str(token.attrs["href"])
            file = re.fullmatch(r"(\w+)\.md(#.*)?", target)
            if file and file[1] in TITLES:
                token.attrSet("href", f"/docs/{file[1]}{file[2] or ''}")
            elif not re.match(r"#|https?:", target):
                token.tag, token.attrs = "span", {}
            tag = token.tag
        elif token.type == "link_close":
            token.tag = tag
