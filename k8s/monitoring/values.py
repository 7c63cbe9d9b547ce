"""What dashboards and rules are made of, before Grafana's and Prometheus' formats."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PAGE, TICKET = "page", "ticket"


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one family of lines, of a panel.

    Parameters
    ----------
    expression : str
        PromQL with the variables of the dashboards.
    legend : str
        Name of a line, with labels in double braces.
    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a dashboard.

    Parameters
    ----------
    title, description : str
        What it shows, and how to read it.
    unit : str
        Grafana's name of the unit, such as "s" or "percentunit".
    queries : tuple of Query
        One or more.
    needs : str
        What a server must have so that the panel is not empty, such as a flag; else empty.
    is_table : bool
        Whether it shows the labels of now instead of lines.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    needs: str = ""
    is_table: bool = False


def draw(
    title: str,
    description: str,
    unit: str,
    expression: str,
    legend: str,
    needs: str = "",
) -> Panel:
    """Return a panel with one query."""
    return Panel(title, description, unit, (Query(expression, legend),), needs)


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard.

    Parameters
    ----------
    uid : str
        Its fixed name, which links use; up to 40 characters.
    title, description : str
        As Grafana shows them.
    rows : tuple of Row
        From top to bottom.
    """

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording rule.

    Parameters
    ----------
    name, expression : str
        The new series, and what it is computed from.
    labels : mapping of str to str
        Labels that it gets.
    needs : str
        As in `Panel`.
    """

    name: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule.

    Parameters
    ----------
    name : str
        In capital letters and small ones; its entry of the runbook has the same name.
    expression : str
        PromQL that is empty while all is well.
    hold : str
        Time for which it must hold, such as "15m".
    severity : str
        PAGE wakes somebody; TICKET is for working hours.
    summary : str
        One sentence, with labels and the value as templates of Prometheus.
    needs : str
        As in `Panel`.
    """

    name: str
    expression: str
    hold: str
    severity: str
    summary: str
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other."""

    name: str
    rules: tuple[Recording | Alert, ...]
