"""The schema file: the user's settings for columns, as one TOML table for each column.

[zip_code]
kind = "categorical"
unknown = "refuse"
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.schema import Feature, Kind
from training.errors import DataError
from training.text import escape, join_choices, shorten_list

DROP = "drop"
KINDS = (*Kind, DROP)
MISSING, REFUSE = "missing", "refuse"
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Override:
    """The user's settings for a column.

    Parameters
    ----------
    kind : str
        "numeric", "boolean", "categorical" or "drop"; empty to infer it.
    unknown : str
        "missing" or "refuse": how the server treats a category that the model does not know; empty
        for the default, "missing".
    """

    kind: str = ""
    unknown: str = ""


def parse_overrides(config: Mapping[str, Any]) -> dict[str, Override]:
    """Read a schema file.

    Parameters
    ----------
    config : mapping
        Tables with "kind", "unknown" or both, by column.

    Returns
    -------
    dict of str to Override
        The same, typed, by column.

    Raises
    ------
    DataError
        If a table has another key, or a key another value.
    """
    return {name: _parse(name, table) for name, table in config.items()}


def _parse(name: str, table: object) -> Override:
    if not isinstance(table, Mapping):
        raise DataError(
            f'schema: {name!r} is {table!r}; it has to be a table such as kind = "drop"'
        )
    allowed = {"kind": KINDS, "unknown": (MISSING, REFUSE)}
    for key, value in table.items():
        if key not in allowed:
            raise DataError(
                f"schema: {name!r} has the key {key!r}; it takes {join_choices(allowed)}"
            )
        if value not in allowed[key]:
            raise DataError(
                f"schema: {key} of {name!r} is {value!r}; it has to be {join_choices(allowed[key])}"
            )
    override = Override(table.get("kind", ""), table.get("unknown", ""))
    if override.unknown and override.kind not in ("", Kind.CATEGORICAL):
        raise DataError(
            f"schema: {name!r} is {override.kind}, but only categorical columns take unknown; "
            "remove one of the two"
        )
    return override


def format_schema(features: Sequence[Feature], dropped: Mapping[str, str]) -> str:
    """Write a schema file that a later run can read.

    Parameters
    ----------
    features : sequence of Feature
        Columns that the run uses.
    dropped : mapping of str to str
        Reasons for dropping the others, by column.

    Returns
    -------
    str
        TOML; comments state reasons, categories and gaps. No name and no cell changes what it says.
    """
    tables = [_format(feature) for feature in features]
    for name, reason in dropped.items():
        tables.append([f"# {escape(reason)}", f"[{_key(name)}]", f'kind = "{DROP}"'])
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


def _format(feature: Feature) -> list[str]:
    remarks = [_list_categories(feature)] if feature.categories else []
    if feature.nullable:
        remarks.append("has gaps")
    lines = [f"# {'; '.join(remarks)}"] if remarks else []
    lines += [f"[{_key(feature.name)}]", f'kind = "{feature.kind}"']
    if feature.kind == Kind.CATEGORICAL:
        lines.append(f'unknown = "{REFUSE if feature.refuse_unknown else MISSING}"')
    return lines


def _list_categories(feature: Feature) -> str:
    return shorten_list(
        category if isinstance(category, int) else _quote(category)
        for category in feature.categories
    )


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _quote(name)


def _quote(text: str) -> str:
    """Return a basic string of TOML."""
    quoted = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escape(quoted)}"'
