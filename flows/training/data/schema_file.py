"""The schema file: a TOML table for each column on which the user knows better, or all of them.

[zip_code]
kind = "categorical"
unknown = "refuse"
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.schema import Feature, Kind
from training.errors import DataError

DROP = "drop"
KINDS = (*Kind, DROP)
MISSING, REFUSE = "missing", "refuse"
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
MAX_SHOWN_CATEGORIES = 10


@dataclass(frozen=True, slots=True)
class Override:
    """What a user says of a column.

    Parameters
    ----------
    kind : str
        "numeric", "boolean", "categorical" or "drop"; empty to have it inferred.
    unknown : str
        "missing" or "refuse": what a category is that the model does not know; empty for the
        default, "missing".
    """

    kind: str = ""
    unknown: str = ""


def parse_overrides(config: Mapping[str, Any]) -> dict[str, Override]:
    """Read a schema file.

    Parameters
    ----------
    config : mapping
        A table by the column's name, with "kind", "unknown" or both.

    Raises
    ------
    DataError
        If a key or value is none of those.
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
                f"schema: {name!r} has the key {key!r}; it takes {_list(allowed)}"
            )
        if value not in allowed[key]:
            raise DataError(
                f"schema: {key} of {name!r} is {value!r}; it has to be {_list(allowed[key])}"
            )
    override = Override(table.get("kind", ""), table.get("unknown", ""))
    if override.unknown and override.kind not in ("", Kind.CATEGORICAL):
        raise DataError(
            f"schema: {name!r} is {override.kind}; unknown is for categorical columns"
        )
    return override


def _list(values: "Mapping[str, Any] | Sequence[str]") -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}"


def format_schema(features: Sequence[Feature], dropped: Mapping[str, str]) -> str:
    """Write a schema as the file that would give it again.

    Parameters
    ----------
    features : sequence of Feature
        Columns that are used.
    dropped : mapping of str to str
        Why the others are not, by name.
    """
    tables = [_format(feature) for feature in features]
    for name, reason in dropped.items():
        tables.append([f"# {reason}", f"[{_key(name)}]", f'kind = "{DROP}"'])
    return "\n\n".join("\n".join(lines) for lines in tables) + "\n"


def _format(feature: Feature) -> list[str]:
    remarks = [_describe(feature.categories)] if feature.categories else []
    if feature.nullable:
        remarks.append("has gaps")
    lines = [f"# {'; '.join(remarks)}"] if remarks else []
    lines += [f"[{_key(feature.name)}]", f'kind = "{feature.kind}"']
    if feature.kind == Kind.CATEGORICAL:
        lines.append(f'unknown = "{REFUSE if feature.refuse_unknown else MISSING}"')
    return lines


def _describe(categories: Sequence[object]) -> str:
    shown = [
        json.dumps(c, ensure_ascii=False) for c in categories[:MAX_SHOWN_CATEGORIES]
    ]
    more = len(categories) - len(shown)
    return f"{', '.join(shown)}{f' and {more} more' if more else ''}"


def _key(name: str) -> str:
    # A text of JSON is one of TOML.
    return name if BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)
