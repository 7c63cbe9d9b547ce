"""Writes HTML: every text of somebody else goes through `say`, which cuts and escapes it.

It knows tables, lists and sections, and nothing of runs or models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape as escape_html

from training.text import shorten

# Characters of a name or a label; the rest would push everything else off the page.
MAX_NAME = 60
MAX_SENTENCE = 2000


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report.

    Parameters
    ----------
    key : str
        Its anchor: letters and hyphens.
    title : str
        Its heading, which is ours.
    body : str
        HTML.
    """

    key: str
    title: str
    body: str


def say(text: object, n_characters: int = MAX_SENTENCE) -> str:
    """Return a text as HTML: one line, cut, without markup.

    Parameters
    ----------
    text : object
        What to show. Its author may be hostile.
    n_characters : int
        Most characters that are shown.

    Returns
    -------
    str
        HTML. Characters that do not show, such as marks of direction, are escaped as in TOML.
    """
    return escape_html(shorten(str(text), n_characters))


def name(text: object, n_characters: int = MAX_NAME) -> str:
    """Return a name or a label as HTML that does not turn the direction of its neighbours."""
    return f"<bdi>{say(text, n_characters)}</bdi>"


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of our own words; `kind` is a class of the style sheet."""
    mark = f' class="{kind}"' if kind else ""
    return f"<p{mark}>{text}</p>"


def bullets(items: Iterable[str]) -> str:
    """Return a list of HTML texts; nothing if there are none."""
    lines = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""


def code(lines: Sequence[str]) -> str:
    """Return commands as they are typed, one a line."""
    shown = "\n".join(say(line) for line in lines)
    return f'<pre tabindex="0"><code>{shown}</code></pre>'


def fold(summary: str, body: str) -> str:
    """Return what a reader opens by a click or by Enter."""
    return f"<details><summary>{summary}</summary>{body}</details>"


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], n_texts: int = 1
) -> str:
    """Return a table that scrolls by itself where the page is narrow.

    Parameters
    ----------
    caption : str
        What the table is about, without markup.
    header : sequence of str
        Titles of the columns, as HTML.
    rows : iterable of sequence of str
        Cells, as HTML. The first of each row is its heading.
    n_texts : int
        So many columns hold words; the others hold numbers and are aligned right.

    Returns
    -------
    str
        HTML.
    """
    marks = ['class="t"' if i < n_texts else 'class="n"' for i in range(len(header))]
    titles = "".join(
        f'<th scope="col" {mark}>{title}</th>'
        for title, mark in zip(header, marks, strict=True)
    )
    body = "".join(f"<tr>{_write_cells(row, marks)}</tr>" for row in rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{say(caption)}"><table>'
        f"<caption>{say(caption)}</caption><thead><tr>{titles}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _write_cells(row: Sequence[str], marks: Sequence[str]) -> str:
    first, *others = row
    cells = [f'<th scope="row" {marks[0]}>{first}</th>']
    cells += [
        f"<td {mark}>{cell}</td>" for cell, mark in zip(others, marks[1:], strict=True)
    ]
    return "".join(cells)


def number(value: float, digits: int = 4) -> str:
    """Return a number with a few digits; a dash if there is none."""
    if value != value:  # NaN
        return "–"
    shown = f"{value:.{digits}g}"
    return shown.replace("-", "−") if shown.startswith("-") else shown


def percent(share: float) -> str:
    """Return a share in [0, 1] as a percentage; a dash if there is none."""
    return "–" if share != share else f"{share * 100:.3g} %"


def fixed(value: float, decimals: int) -> str:
    """Return a number with as many decimals as its neighbours; a dash if there is none."""
    return "–" if value != value else f"{value:.{decimals}f}".replace("-", "−")


def count(n: int) -> str:
    """Return a count with separated thousands."""
    return f"{n:,}"


def plural(n: int, word: str) -> str:
    """Return a count with its noun, such as "1 row" or "2 rows"."""
    return f"{count(n)} {word}{'' if n == 1 else 's'}"
