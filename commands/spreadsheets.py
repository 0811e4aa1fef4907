"""CSV as spreadsheets write and read it: separators, formulas, and the places of cells."""

import csv
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple


class BadTableError(Exception):
    """A table that cannot be read any further."""


class Row(NamedTuple):
    """A row of a table: where it begins, its cells by column, and those after the last column.

    Empty cells are left out.
    """

    line: int
    cells: dict[str, str]
    extra: list[str]


class Table:
    """A table whose first line names its columns, and whose rows are read one by one.

    Commas or semicolons separate cells, whichever the first line has more of. Anything else raises
    `BadTableError`.
    """

    def __init__(
        self, stream: IO[str], *, required: Collection[str], known: Collection[str]
    ) -> None:
        self._stream = stream
        with _decoding():
            heading = stream.readline()
        self._separator = ";" if heading.count(";") > heading.count(",") else ","
        (names,) = csv.reader([heading], delimiter=self._separator)
        self.columns = [name.strip().lower() for name in names]
        while self.columns and not self.columns[-1]:
            self.columns.pop()  # some spreadsheets write a separator after the last one
        _check_columns(self.columns, required, known)

    def __iter__(self) -> Iterator[Row]:
        reader = csv.reader(self._stream, delimiter=self._separator, strict=True)
        line = 2
        while (cells := _next(reader, line)) is not None:
            named = dict(zip(self.columns, map(plain, cells), strict=False))
            filled = {name: cell for name, cell in named.items() if cell}
            extra = [cell for cell in cells[len(self.columns) :] if cell]
            if filled or extra:
                yield Row(line, filled, extra)
            line = reader.line_num + 2


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise BadTableError("It is not UTF-8: save it as CSV in UTF-8.") from None


def _next(reader: Iterator[list[str]], line: int) -> list[str] | None:
    try:
        with _decoding():
            return next(reader, None)
    except csv.Error as error:
        reason = f"{error}".replace("unexpected end of data", "a quote is opened and never closed")
        raise BadTableError(f"Line {line}: {reason}.") from None


def _check_columns(columns: list[str], required: Collection[str], known: Collection[str]) -> None:
    if not any(columns):
        raise BadTableError("It is empty: its first line must name the columns.")
    for name in required:
        if name not in columns:
            raise BadTableError(f"Its first line, which names the columns, has no `{name}`.")
    for name in columns:
        if name not in known:
            raise BadTableError(
                f"The column `{name}` is unknown. The known ones are: {', '.join(known)}."
            )
        if columns.count(name) > 1:
            raise BadTableError(f"Two columns are called `{name}`.")


def printable(text: str) -> str:
    """Return a text with escapes in place of anything that a terminal would act on."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def harmless(text: str) -> str:
    """Put an apostrophe before each part that a spreadsheet could take for a formula.

    Some spreadsheets begin a new cell at each semicolon.
    """
    return ";".join(f"'{part}" if _looks_like_formula(part) else part for part in text.split(";"))


def plain(text: str) -> str:
    """Return the text from before `harmless` put apostrophes into it."""
    return ";".join(
        part[1:] if part.startswith("'") and _looks_like_formula(part[1:]) else part
        for part in text.split(";")
    )


def _looks_like_formula(text: str) -> bool:
    """Return whether a text begins with one of `=+-@`, or with a tab or an end of line.

    These may be of another width, or behind something invisible, or behind apostrophes, which
    `plain` could not tell from one that `harmless` put there.
    """
    text = text.lstrip("'")
    visible = (letter for letter in unicodedata.normalize("NFKC", text) if letter.isprintable())
    first = next((letter for letter in visible if letter != " "), "")
    return first in set("=+-@") or text[:1] in set("\t\r\n")
