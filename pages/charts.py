"""Charts that the server draws: lines or columns, and the axes beside them.

A plot is 1,000 wide, which the page stretches to the space available, and `HEIGHT` pixels high.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from markupsafe import Markup

from pages.text import date, day

WIDTH, HEIGHT = 1000, 240
ABOVE, BELOW = 12, 2
"""The pixels left free in a plot, so that no line is cut off."""
LABEL_HEIGHT = 19
STEPS = (1, 2, 3, 7, 14, 28, 91, 364)
"""The days from one point to the next: one of these, or a multiple of the last."""
MOST_POINTS = 24
WEEK = 7
MOST_WEEKS = 26
LONG = 300
"""The number of days beyond which years are shown."""
ANCHORS: dict[float, str] = {0: "start", 100: "end"}
"""The end of a text that is placed at an edge."""
MONDAY = 4
"""The first day that was a Monday: day 0 is 1 January 1970."""


class Tick(NamedTuple):
    """A value on an axis, and its place in pixels or in percent."""

    place: float
    value: int


class Line(NamedTuple):
    """A line, its values, and the places of its end and its name."""

    id: int
    name: str
    values: Sequence[int]
    points: str
    end: float
    label: float


class Column(NamedTuple):
    """A column of a chart, in its plot."""

    day: int
    value: int
    x: float
    y: float


@dataclass(frozen=True)
class Chart:
    """The axes of a plot: values on its left, days below it."""

    ticks: Sequence[Tick]
    days: Sequence[Tick]

    @property
    def is_long(self) -> bool:
        """Whether a day has no meaning without its year."""
        return self.days[-1].value - self.days[0].value > LONG

    @property
    def grid(self) -> Markup:
        """The lines across the plot, as SVG."""
        return _joined(
            f'<line class="grid" x2="{WIDTH}" y1="{place}" y2="{place}"/>'
            for place, _ in self.ticks
        )

    @property
    def left(self) -> Markup:
        """The values on the left, as SVG."""
        return _joined(
            f'<text x="100%" y="{place + 4}" text-anchor="end">{value:,}</text>'
            for place, value in self.ticks
        )

    @property
    def below(self) -> Markup:
        """The days below, as SVG; on a narrow page only the first and the last."""
        write = date if self.is_long else day
        wide = ' class="wide"'
        return _joined(
            f'<text x="{place}%" y="16" text-anchor="{ANCHORS.get(place, "middle")}"'
            f"{'' if value in (self.days[0].value, self.days[-1].value) else wide}>"
            f"{write(value)}</text>"
            for place, value in self.days
        )


@dataclass(frozen=True)
class LineChart(Chart):
    """Lines over days."""

    lines: Sequence[Line]
    points: Sequence[int]
    """The days of the lines' values."""

    @property
    def rows(self) -> Markup:
        """The figures, as rows of a table."""
        values = zip(*(line.values for line in self.lines), strict=True)
        return _joined(_row(date(point), of) for point, of in zip(self.points, values, strict=True))


@dataclass(frozen=True)
class ColumnChart(Chart):
    """Columns for weeks, each named by its first day."""

    columns: Sequence[Column]
    width: float
    """The width of a column."""

    @property
    def rows(self) -> Markup:
        """The figures, as rows of a table."""
        return _joined(_row(date(column.day), [column.value]) for column in self.columns)


def lines(
    names: Mapping[int, str], changes: Iterable[tuple[int, int | None, int]], today: int
) -> LineChart:
    """Return a chart of growing sums, from changes of an id's sum on a day or, if unknown, None.

    Changes without a day count from the start.
    """
    before, by_day = dict.fromkeys(names, 0), {key: dict[int, int]() for key in names}
    for key, when, value in changes:
        if when is None:
            before[key] += value
        else:
            by_day[key][when] = by_day[key].get(when, 0) + value
    known = [when for of in by_day.values() for when in of]
    points = _points(min(known, default=today), max([today, *known]))
    values = {key: _sums(before[key], by_day[key], points) for key in names}
    top, ticks = _scale(max((of[-1] for of in values.values()), default=0))
    ends = [_place(of[-1], top) for of in values.values()]
    drawn = [
        Line(key, names[key], of, _line(of, top), end, label)
        for (key, of), end, label in zip(values.items(), ends, _spread(ends), strict=True)
    ]
    return LineChart(ticks, _spaced(points, 0, 100), drawn, points)


def columns(counts: Iterable[tuple[int, int]], first: int, today: int) -> ColumnChart:
    """Return a chart of the sum of each week's counts, from a day on."""
    weeks = dict.fromkeys(range(monday(first), max(today, first) + 1, WEEK), 0)
    for when, value in counts:
        weeks[monday(when)] = weeks.get(monday(when), 0) + value
    top, ticks = _scale(max(weeks.values()))
    room = WIDTH / len(weeks)
    drawn = [
        Column(week, value, round((number + 0.15) * room, 1), _place(value, top))
        for number, (week, value) in enumerate(sorted(weeks.items()))
    ]
    middle = 50 / len(weeks)
    days = _spaced([column.day for column in drawn], middle, 100 - middle)
    return ColumnChart(ticks, days, drawn, round(room * 0.7, 1))


def _joined(parts: Iterable[str]) -> Markup:
    return Markup("".join(parts))


def _row(head: str, values: Iterable[int]) -> str:
    cells = "".join(f"<td>{value:,}</td>" for value in values)
    return f'<tr><th scope="row">{head}</th>{cells}</tr>\n'


def monday(number: int) -> int:
    """Return the first day of a day's week."""
    return number - (number - MONDAY) % WEEK


def _points(first: int, last: int) -> list[int]:
    """Return the days that have a point: the last, and even steps back to before the first."""
    length = max(last - first + 1, 1)
    most = STEPS[-1]
    step = next((step for step in STEPS if length <= step * MOST_POINTS), 0)
    step = step or most * -(-length // (most * MOST_POINTS))
    return list(range(last - step * -(-length // step), last + 1, step))


def _sums(before: int, by_day: Mapping[int, int], points: Sequence[int]) -> list[int]:
    steps = [0] * len(points)
    for when, value in by_day.items():
        steps[bisect_left(points, when)] += value
    return list(accumulate(steps, initial=before))[1:]


def _scale(most: int) -> tuple[int, list[Tick]]:
    """Return the value at the top of a plot, and from three to six round values on its axis."""
    step = 1
    while step * 5 < most:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    top = max(most, step)
    return top, [Tick(_place(value, top), value) for value in range(0, top + 1, step)]


def _place(value: int, top: int) -> float:
    return round(HEIGHT - BELOW - value / top * (HEIGHT - ABOVE - BELOW), 1)


def _line(values: Sequence[int], top: int) -> str:
    step = WIDTH / max(len(values) - 1, 1)
    return " ".join(
        f"{number * step:.0f},{_place(value, top)}" for number, value in enumerate(values)
    )


def _spread(places: Sequence[float]) -> list[float]:
    """Return places for names that are near these, in their order, and apart."""
    order = sorted(range(len(places)), key=lambda number: (places[number], number))
    free: list[float] = []
    for number in order:
        free.append(max(places[number], free[-1] + LABEL_HEIGHT if free else LABEL_HEIGHT / 2))
    lowest = HEIGHT - LABEL_HEIGHT / 2
    for index in reversed(range(len(free))):
        free[index] = min(free[index], lowest)
        lowest = free[index] - LABEL_HEIGHT
    spread = dict(zip(order, free, strict=True))
    return [spread[number] for number in range(len(places))]


def _spaced(days: Sequence[int], left: float, right: float) -> list[Tick]:
    """Return up to five of the days, the first and the last among them, in percent of the width."""
    last = len(days) - 1
    chosen = sorted({round(last * part / 4) for part in range(5)})
    return [
        Tick(round(left + (right - left) * number / max(last, 1), 1), days[number])
        for number in chosen
    ]
