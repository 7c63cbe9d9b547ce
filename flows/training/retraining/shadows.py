"""How far a shadow agrees with the version that answers, by what servers export."""

import math
from collections.abc import Iterator, Sequence

from training.errors import SignalError
from training.retraining.pages import MAX_SHOWN, VERSION_LABEL, Page
from training.retraining.served import MAX_COUNT, find_version
from training.text import shorten

ROWS = "prediction_shadow_rows_total"
DIFFERENCE = "prediction_shadow_absolute_difference"
# Every server with a shadow has it, from its start.
DROPPED = "prediction_shadow_dropped_total"
AGREEMENTS = ("same", "other", "misfit", "failed")


def tell_shadow(pages: Sequence[Page], model_name: str, version: str) -> str:
    """Describe the agreement of a version, as the shadow of the servers, with what they answer.

    Parameters
    ----------
    pages : sequence of Page
        The page of each server, one or more.
    model_name : str
        Registered model that the servers should answer with.
    version : str
        Version of the shadow.

    Returns
    -------
    str
        One line: rows, their agreement, and the mean difference of probabilities.

    Raises
    ------
    SignalError
        If a page is of another model, a count cannot be, or no server has scored with the version.
    """
    answering = {find_version(page, model_name) for page in pages}
    for page in pages:
        _check_shadow(page)
    counts = {
        name: _sum(_read(pages, ROWS, version, agreement=name)) for name in AGREEMENTS
    }
    n_scored = counts["same"] + counts["other"]
    n_rows = n_scored + counts["misfit"] + counts["failed"]
    if not n_rows:
        raise SignalError(
            f"--shadow {shorten(pages[0].url, MAX_SHOWN)}: no row was scored with version "
            f"{version}; start the server with --shadow-uri, and wait for calls"
        )
    servers = "1 server" if len(pages) == 1 else f"{len(pages)} servers"
    words = [
        f"Version {version} as a shadow of version {', '.join(sorted(answering))} on {servers}: "
        f"{n_rows:,.0f} rows"
    ]
    if n_scored:
        words.append(f"{counts['same'] / n_scored:.2%} with the same label")
    n_compared = _sum(_read(pages, f"{DIFFERENCE}_count", version))
    if n_compared:
        total = _sum(_read(pages, f"{DIFFERENCE}_sum", version))
        if total > n_compared:
            raise SignalError(
                f"--shadow {shorten(pages[0].url, MAX_SHOWN)}: {DIFFERENCE} adds up to {total:g} "
                f"in {n_compared:g} rows, which cannot be"
            )
        words.append(f"probabilities {total / n_compared:.4f} apart in the mean")
    for name, what in (("misfit", "do not fit it"), ("failed", "failed")):
        if counts[name]:
            words.append(f"{counts[name]:,.0f} {what}")
    return ", ".join(words)


def _check_shadow(page: Page) -> None:
    """Refuse the page of a server without a shadow: its calls would be missing in silence."""
    if not any(page.find(DROPPED)):
        raise SignalError(
            f"--shadow {shorten(page.url, MAX_SHOWN)}: the server has no shadow; start it with "
            "--shadow-uri, or leave its page out"
        )


def _read(
    pages: Sequence[Page], name: str, version: str, **labels: str
) -> Iterator[float]:
    wanted = {**labels, VERSION_LABEL: version}
    for page in pages:
        for sample in page.find(name):
            if wanted.items() <= sample.labels.items():
                if not 0 <= sample.value <= MAX_COUNT:
                    raise SignalError(
                        f"--shadow {page.url}: {name} is {sample.value:g}, which cannot be"
                    )
                yield sample.value


def _sum(values: Iterator[float]) -> float:
    return math.fsum(values)
