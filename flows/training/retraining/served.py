"""What the servers of one model export: which version answers, and what they have counted.

Counts of servers add up, which indices of drift do not. So this module adds counts, and everything
else is computed from the sums.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from training.errors import SignalError
from training.retraining.pages import MAX_SHOWN, Page
from training.text import escape, shorten

INFO = "prediction_model_info"
BINS = "prediction_feature_bin_total"
REFERENCE = "prediction_feature_reference_ratio"
EXPECTED = "prediction_expected_outcomes_total"
# Rows, scores and squares of scores, by fine bin of the score; only of two classes.
SCORE_SUMS = (
    "prediction_score_rows_total",
    "prediction_score_probability_total",
    "prediction_score_probability_squares_total",
)
EXPECTED_VALID = "prediction_expected_valid"
# Labels of each series of counts.
COUNTS: Mapping[str, tuple[str, str]] = {
    BINS: ("feature", "bin"),
    EXPECTED: ("predicted", "actual"),
}
MAX_COUNT = 2.0**53
_VERSION = re.compile(r"[0-9]{1,18}")
SHARES_TOLERANCE = 0.01
Cells = dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Served:
    """What one server exports about the model that answers.

    Parameters
    ----------
    url : str
        Its page.
    version : str
        The version that answers.
    bins, expected : dict of (str, str) to float
        Counts by feature and bin, and by predicted and actual class, 0 or more.
    reference : dict of (str, str) to float
        Shares of the bins in the table that the version learned from, [0, 1].
    scores : dict of (str, str) to float
        Sums by fine bin of the score and by name in `SCORE_SUMS`, 0 or more.
    """

    url: str
    version: str
    bins: Cells
    expected: Cells
    reference: Cells
    scores: Cells = field(default_factory=dict)


def read_served(page: Page, model_name: str) -> Served:
    """Read what a server exports.

    Parameters
    ----------
    page : Page
        The server's page.
    model_name : str
        The registered model that it should serve.

    Returns
    -------
    Served
        The version that answers, and its counts.

    Raises
    ------
    SignalError
        If no model answers, or another one, or a count or share cannot be.
    """
    version = find_version(page, model_name)
    is_valid = all(sample.value == 1 for sample in page.find(EXPECTED_VALID))
    # While a model takes over, the page may still have counts of the one before.
    page = page.of_version(version)
    reference = _read_cells(page, REFERENCE, ("feature", "bin"), 1.0)
    _check_shares(page.url, reference)
    return Served(
        page.url,
        version,
        _read_cells(page, BINS, COUNTS[BINS], MAX_COUNT),
        _read_cells(page, EXPECTED, COUNTS[EXPECTED], MAX_COUNT) if is_valid else {},
        reference,
        _read_scores(page) if is_valid else {},
    )


def find_version(page: Page, model_name: str) -> str:
    """Return the version that answers; SignalError if it is not one of the model."""
    answering = [sample.labels for sample in page.find(INFO) if sample.value == 1]
    if len(answering) != 1:
        raise SignalError(
            f"--metrics {page.url}: {INFO} names {len(answering)} models that answer, not one; "
            "wait until the server is ready, or give a server's own page"
        )
    name = answering[0].get("registered_model", "")
    if name != model_name:
        raise SignalError(
            f"--metrics {page.url} is of the model {shorten(name, MAX_SHOWN)!r}, not of "
            f"{model_name!r}; give its name with --model_name"
        )
    version = answering[0].get("model_version", "")
    if not _VERSION.fullmatch(version):
        raise SignalError(
            f"--metrics {page.url}: the model answers as version {shorten(version, MAX_SHOWN)!r}, "
            "which no registry has"
        )
    return version


def _read_cells(
    page: Page, name: str, labels: tuple[str, str], largest: float
) -> Cells:
    cells: Cells = {}
    for sample in page.find(name):
        key = tuple(escape(sample.labels.get(label, "")) for label in labels)
        if not 0 <= sample.value <= largest:
            raise SignalError(
                f"--metrics {page.url}: {name} of {shorten(' '.join(key), MAX_SHOWN)!r} is "
                f"{sample.value:g}, which cannot be"
            )
        cells[key[0], key[1]] = cells.get((key[0], key[1]), 0.0) + sample.value
    return cells


def _read_scores(page: Page) -> Cells:
    cells: Cells = {}
    for name in SCORE_SUMS:
        for (edge, _), value in _read_cells(page, name, ("bin", ""), MAX_COUNT).items():
            _check_edge(page.url, name, edge)
            cells[edge, name] = value
    return cells


def _check_edge(url: str, name: str, edge: str) -> None:
    try:
        is_number = not math.isnan(float(edge))
    except ValueError:
        is_number = False
    if not is_number:
        raise SignalError(
            f"--metrics {url}: {name} has the bin {shorten(edge, MAX_SHOWN)!r}, not a number"
        )


def _check_shares(url: str, reference: Cells) -> None:
    for feature, shares in by_first(reference).items():
        total = sum(shares.values())
        if abs(total - 1) > SHARES_TOLERANCE:
            raise SignalError(
                f"--metrics {url}: the shares of {shorten(feature, MAX_SHOWN)!r} in {REFERENCE} "
                f"add up to {total:.3g}, not 1"
            )


def by_first(cells: Cells) -> dict[str, dict[str, float]]:
    """Return cells as a dictionary of dictionaries, by the first of their two labels."""
    groups: dict[str, dict[str, float]] = {}
    for (first, second), value in cells.items():
        groups.setdefault(first, {})[second] = value
    return groups


def subtract(before: Served, after: Served) -> Served:
    """Return what a server has counted between two looks.

    Parameters
    ----------
    before, after : Served
        Two looks at the same page.

    Returns
    -------
    Served
        The differences. If a count went back, the server has started again, and all that it has
        counted since then is what there is.

    Raises
    ------
    SignalError
        If another version answers than before.
    """
    if before.version != after.version:
        raise SignalError(
            f"--metrics {after.url}: version {after.version} answers, and version "
            f"{before.version} did at the first look; look again"
        )
    pairs = (
        (before.bins, after.bins),
        (before.expected, after.expected),
        (before.scores, after.scores),
    )
    if any(new.get(key, 0.0) < old for olds, new in pairs for key, old in olds.items()):
        return after
    bins, expected, scores = (
        {key: value - olds.get(key, 0.0) for key, value in new.items()}
        for olds, new in pairs
    )
    return Served(after.url, after.version, bins, expected, after.reference, scores)


def add_up(servers: Sequence[Served]) -> Served:
    """Return what the servers of one version have counted together.

    Parameters
    ----------
    servers : sequence of Served
        One or more.

    Returns
    -------
    Served
        The sums.

    Raises
    ------
    SignalError
        If they serve different versions, or have different references.
    """
    first = servers[0]
    for other in servers[1:]:
        if other.version != first.version:
            raise SignalError(
                f"--metrics {first.url} and {other.url} serve version {first.version} and version "
                f"{other.version}; wait until the roll-out is over"
            )
        if other.reference != first.reference:
            raise SignalError(
                f"--metrics {first.url} and {other.url} have different references for version "
                f"{first.version}; one of them is not of this model"
            )
    return Served(
        ", ".join(server.url for server in servers),
        first.version,
        _sum(server.bins for server in servers),
        _sum(server.expected for server in servers),
        first.reference,
        _sum(server.scores for server in servers),
    )


def _sum(all_cells: Iterable[Cells]) -> Cells:
    total: Cells = {}
    for cells in all_cells:
        for key, value in cells.items():
            total[key] = total.get(key, 0.0) + value
    return total
