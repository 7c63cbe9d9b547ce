"""Draws docs/retraining.svg: `python tests/cycle_picture.py`."""

import math
from html import escape
from pathlib import Path

PATH = Path(__file__).resolve().parent.parent / "docs" / "retraining.svg"
STATIONS = (
    ("Serve", "the champion answers"),
    ("Watch", "age, drift, a metric"),
    ("Decide", "registry.py retrain"),
    ("Train", "train_flow.py"),
    ("Compare", "with the champion, on evidence"),
    ("Promote", "or roll back, by the alias"),
)
WIDTH, HEIGHT = 720, 460
BOX_WIDTH, BOX_HEIGHT = 190, 56
RADIUS_X, RADIUS_Y = 240, 165


def place(number: float) -> tuple[float, float]:
    """Return the middle of a station; the first is at the top, the others follow clockwise."""
    angle = math.tau * number / len(STATIONS) - math.pi / 2
    return (
        WIDTH / 2 + RADIUS_X * math.cos(angle),
        HEIGHT / 2 + RADIUS_Y * math.sin(angle),
    )


def draw_station(number: int) -> str:
    """Return a box with a title and a line below it."""
    x, y = place(number)
    title, words = map(escape, STATIONS[number])
    return (
        f'<rect x="{x - BOX_WIDTH / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" '
        f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8" fill="#eef3fa" stroke="#3b6ea5"/>\n'
        f'<text x="{x:.1f}" y="{y - 5:.1f}" font-weight="bold">{title}</text>\n'
        f'<text x="{x:.1f}" y="{y + 15:.1f}" font-size="12">{words}</text>\n'
    )


def draw_arrow(number: int) -> str:
    """Return the arrow from a station to the next one."""
    (x, y), (to_x, to_y) = place(number + 0.4), place(number + 0.62)
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="#3b6ea5" '
        'stroke-width="2" marker-end="url(#head)"/>\n'
    )


def draw() -> str:
    """Return the picture."""
    head = (
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="4" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#3b6ea5"/></marker></defs>\n'
    )
    numbers = range(len(STATIONS))
    parts = [*map(draw_arrow, numbers), *map(draw_station, numbers)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="16" '
        'text-anchor="middle">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f"{head}{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    PATH.write_text(draw())
