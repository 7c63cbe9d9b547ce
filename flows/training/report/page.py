"""Puts sections together as one page that needs nothing else: no script, no font, no request."""

from collections.abc import Sequence
from html import escape as escape_html

from training.report.markup import Section, name, say
from training.report.style import STYLE

# A browser that is shown the page asks nobody for anything, whatever the page holds.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def make_page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return a page.

    Parameters
    ----------
    title : str
        Name of the model; somebody else's.
    subtitle : str
        Where the page comes from.
    sections : sequence of Section
        Its parts, in order.

    Returns
    -------
    str
        HTML.
    """
    links = "".join(f'<li><a href="#{s.key}">{s.title}</a></li>' for s in sections)
    bodies = "".join(
        f'<section id="{s.key}" aria-labelledby="{s.key}-title">'
        f'<h2 id="{s.key}-title">{s.title}</h2>{s.body}</section>'
        for s in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Report: {say(title, 100)}</title><style>{STYLE}</style></head><body>"
        f'<a class="skip" href="#content">Skip to the content</a>'
        f"<header><h1>{name(title, 100)}</h1>"
        f'<p class="soft">{say(subtitle)}</p>'
        f'<nav aria-label="Parts of the report"><ul>{links}</ul></nav></header>'
        f'<main id="content" tabindex="-1">{bodies}</main>'
        "<footer></footer></body></html>\n"
    )


def make_frame(page: str) -> str:
    """Return a page as a frame that another page can hold, on one line.

    Parameters
    ----------
    page : str
        HTML of `make_page`.

    Returns
    -------
    str
        HTML. The frame's styles do not meet those around it.
    """
    inner = escape_html(page.strip()).replace("\n", "&#10;")
    return (
        '<iframe title="Report of the run" sandbox '
        'style="width:100%;height:90vh;border:0" '
        f'srcdoc="{inner}"></iframe>'
    )
