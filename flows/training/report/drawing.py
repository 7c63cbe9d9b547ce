"""Draws small pictures as SVG. Colours and fonts are those of the style sheet.

A `Frame` maps values to places. Marks are SVG texts within a frame, and `draw` puts them together.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from training.report.markup import say

WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 22, 12, 44
# More points of a curve would not be visible, and would make the file large.
MAX_POINTS = 200
N_SERIES = 4
MAX_TICK = 12  # characters of a tick's label
CHARACTER = 7.0  # width of a character of a label, or a little more
MAX_LABELS = 7
SMALLEST = 1e-290  # ticks of smaller steps would be 0

Tick = tuple[float, str]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its title, its ends, and the values that are marked on it."""

    title: str
    low: float
    high: float
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture's two axes.

    Parameters
    ----------
    x, y : Axis
        The axes.
    left : float, default=LEFT
        Room for the labels of the vertical axis.
    """

    x: Axis
    y: Axis
    left: float = LEFT

    def place_x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        return self.left + _share(value, self.x) * (WIDTH - self.left - RIGHT)

    def place_y(self, value: float) -> float:
        """Return the vertical place of a value."""
        return HEIGHT - BOTTOM - _share(value, self.y) * (HEIGHT - TOP - BOTTOM)


def _share(value: float, axis: Axis) -> float:
    if not math.isfinite(value):
        return 0.0
    return min(max((value - axis.low) / (axis.high - axis.low), 0.0), 1.0)


def make_axis(
    title: str, values: Iterable[float], *, start: float | None = None
) -> Axis:
    """Return an axis that holds all finite values, with round ticks.

    Parameters
    ----------
    title : str
        Its title.
    values : iterable of float
        What it has to hold.
    start : float, optional
        A value that it holds besides.

    Returns
    -------
    Axis
    """
    held = [value for value in values if math.isfinite(value)]
    held += [] if start is None else [start]
    low, high = min(held, default=0.0), max(held, default=1.0)
    if not high - low > max(1e-12 * max(abs(low), abs(high)), SMALLEST):
        margin = abs(high) / 2 if abs(high) > SMALLEST else 0.5
        low, high = low - margin, high + margin
    if not math.isfinite(high - low):  # values of both signs near the largest double
        low, high = low / 4, high / 4
    step = _round_step((high - low) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [number * step for number in range(first, last + 1)]
    return Axis(title, ticks[0], ticks[-1], tuple((t, _label(t, step)) for t in ticks))


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(max(step, 1e-300)))
    choices = (power * factor for factor in (1, 2, 2.5, 5))
    return next((one for one in choices if one >= step), power * 10)


def _label(value: float, step: float) -> str:
    if abs(value) < step / 1e6:
        return "0"
    digits = max(1, math.ceil(math.log10(abs(value) / step)) + 2)
    shown = f"{value:.{min(digits, 6)}g}"
    if "e" in shown and 1e-3 < abs(value) < 1e7:
        shown = f"{value:.0f}"
    return shown.replace("-", "−")


def share_axis(title: str) -> Axis:
    """Return an axis from 0 to 1."""
    return make_axis(title, (0.0, 1.0))


def end_axis(
    title: str, low: float, high: float, write: Callable[[float], str]
) -> Axis:
    """Return an axis from one value to a later one, with its ends and its middle marked.

    Parameters
    ----------
    title : str
        Its title.
    low, high : float
        Its ends, such as two dates in seconds; `low` is below `high`.
    write : callable
        Returns the label of a value.

    Returns
    -------
    Axis
    """
    ticks = (low, low + (high - low) / 2, high)
    return Axis(title, low, high, tuple((tick, write(tick)) for tick in ticks))


def choice_axis(title: str, labels: Sequence[str]) -> Axis:
    """Return an axis of places 0, 1, ..., of which a few are labelled."""
    step = -(-len(labels) // MAX_LABELS)
    ticks = tuple((float(i), labels[i]) for i in range(0, len(labels), step))
    return Axis(title, -0.5, len(labels) - 0.5, ticks)


def line(frame: Frame, points: Sequence[tuple[float, float]], series: int = 0) -> str:
    """Return a curve through the points that have a height; `series` is its place in the legend."""
    drawn = [point for point in points if not math.isnan(point[1])]
    places = " ".join(_pair(frame, x, y) for x, y in thin(drawn))
    return f'<polyline class="line s{series}" points="{places}"/>'


def rule(frame: Frame, start: tuple[float, float], end: tuple[float, float]) -> str:
    """Return a straight line that only guides the eye."""
    return f'<polyline class="guide" points="{_pair(frame, *start)} {_pair(frame, *end)}"/>'


def dots(
    frame: Frame,
    points: Sequence[tuple[float, float]],
    series: str = "s0",
    radius: float = 3,
) -> str:
    """Return a dot at each point; `series` is a class of the style sheet."""
    circles = "".join(
        f'<circle cx="{frame.place_x(x):.1f}" cy="{frame.place_y(y):.1f}" r="{radius:g}"/>'
        for x, y in points
    )
    return f'<g class="dot {series}">{circles}</g>'


def whiskers(
    frame: Frame, bars: Sequence[tuple[float, float, float]], series: int = 0
) -> str:
    """Return a vertical bar at each (x, low, high)."""
    paths = "".join(
        f"M{frame.place_x(x):.1f} {frame.place_y(low):.1f}V{frame.place_y(high):.1f}"
        for x, low, high in bars
    )
    return f'<path class="whisker s{series}" d="{paths}"/>'


def columns(
    frame: Frame,
    bars: Sequence[tuple[float, float, float]],
    series: int = 0,
    base: float = 0.0,
) -> str:
    """Return a filled column for each (left, right, height)."""
    floor = frame.place_y(base)
    rectangles = "".join(
        f'<rect x="{frame.place_x(left):.1f}" y="{frame.place_y(top):.1f}" '
        f'width="{max(frame.place_x(right) - frame.place_x(left) - 1, 1):.1f}" '
        f'height="{max(floor - frame.place_y(top), 0):.1f}"/>'
        for left, right, top in bars
    )
    return f'<g class="fill s{series}">{rectangles}</g>'


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` of the points, the first and the last among them."""
    n = min(len(points), MAX_POINTS)
    if n < 2:
        return list(points)
    return [points[round(i * (len(points) - 1) / (n - 1))] for i in range(n)]


def _pair(frame: Frame, x: float, y: float) -> str:
    return f"{frame.place_x(x):.1f},{frame.place_y(y):.1f}"


def figure(
    frame: Frame,
    marks: Sequence[str],
    title: str,
    told: str,
    legend: Sequence[str] = (),
    unseen: str = "",
) -> str:
    """Return a picture with its heading, its legend, and what it tells in words.

    Parameters
    ----------
    frame : Frame
        Its axes.
    marks : sequence of str
        What is in it.
    title : str
        Heading; may hold other people's names.
    told : str
        What it shows, below it.
    legend : sequence of str
        Name of each series, in their order; empty if there is one.
    unseen : str, default=""
        Its values, for those who do not see it.

    Returns
    -------
    str
        HTML.
    """
    picture = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{say(title, 200)}. '
        f'{say(f"{told} {unseen}".strip(), 600)}">{_draw_axes(frame)}{"".join(marks)}</svg>'
    )
    return _frame_picture(picture, title, told, legend)


def _frame_picture(picture: str, title: str, told: str, legend: Sequence[str]) -> str:
    keys = "".join(
        f'<li><svg class="key" viewBox="0 0 28 10" aria-hidden="true">'
        f'<line class="line s{i}" x1="1" y1="5" x2="27" y2="5"/></svg><bdi>{say(label, 40)}'
        "</bdi></li>"
        for i, label in enumerate(legend)
    )
    shown = f'<ul class="legend">{keys}</ul>' if keys else ""
    return (
        f"<figure><h3>{say(title, 100)}</h3>{shown}{picture}"
        f"<figcaption>{say(told, 600)}</figcaption></figure>"
    )


def _draw_axes(frame: Frame) -> str:
    bottom, left, right = HEIGHT - BOTTOM, frame.left, WIDTH - RIGHT
    room = max(MAX_TICK, int(left / CHARACTER) - 1)
    parts = []
    for value, label in frame.y.ticks:
        y = frame.place_y(value)
        parts.append(
            f'<line class="grid" x1="{left:g}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
            f'<text class="end" x="{left - 6:g}" y="{y + 4:.1f}">{say(label, room)}</text>'
        )
    for value, label in frame.x.ticks:
        half = min(len(label), MAX_TICK) * CHARACTER / 2
        x = min(max(frame.place_x(value), half), WIDTH - half)
        parts.append(
            f'<text class="mid" x="{x:.1f}" y="{bottom + 16}">{say(label, MAX_TICK)}</text>'
        )
    middle = (TOP + bottom) / 2
    parts.append(
        f'<line class="axis" x1="{left:g}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
        f'<text class="mid title" x="{(left + right) / 2:g}" y="{HEIGHT - 8}">'
        f"{say(frame.x.title, 56)}</text>"
        f'<text class="mid title" transform="translate(13 {middle}) rotate(-90)">'
        f"{say(frame.y.title, 36)}</text>"
    )
    return "".join(parts)


def gallery(figures: Sequence[str]) -> str:
    """Return pictures side by side, as many as the page has room for."""
    return f'<div class="gallery">{"".join(figures)}</div>'


def meter(share: float, series: int = 0) -> str:
    """Return a small bar for a cell of a table, beside a number that says the same."""
    width = 100 * min(max(share, 0.0), 1.0) if share == share else 0.0
    return (
        '<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true"><rect class="track" width="100" height="10"/>'
        f'<g class="fill s{series}"><rect width="{width:.1f}" height="10"/></g></svg>'
    )


def interval_bar(
    axis: Axis, low: float, middle: float, high: float, mark: float | None = None
) -> str:
    """Return a dot with its interval for a cell of a table, on an axis that the rows share."""
    a, b, c = (100 * _share(value, axis) for value in (low, middle, high))
    guide = (
        ""
        if mark is None
        else (
            f'<line class="axis" x1="{100 * _share(mark, axis):.1f}" y1="0" '
            f'x2="{100 * _share(mark, axis):.1f}" y2="14"/>'
        )
    )
    return (
        '<svg class="interval" viewBox="-3 0 106 14" aria-hidden="true">'
        f'{guide}<path class="whisker s0" d="M{a:.1f} 7H{max(c, a + 0.5):.1f}"/>'
        f'<g class="dot s0"><circle cx="{b:.1f}" cy="7" r="3"/></g></svg>'
    )
