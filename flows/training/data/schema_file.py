"""The schema file: the user's settings for columns, as one TOML table for each column.

[zip_code]
kind = "categorical"
unknown = "refuse"
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from date_columns.forms import DateForm
from training.data.cells import MAX_SHOWN_CHARACTERS
from training.data.schema import TEMPORAL, WITH_CATEGORIES, Feature, Kind
from training.errors import DataError
from training.text import escape, join_choices, shorten_list

DROP, HASH = "drop", "hash"
KINDS = (*Kind, DROP)
MISSING, REFUSE = "missing", "refuse"
# What each key takes; "gaps" takes a list of texts, and "format" a format of dates.
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "kind": KINDS,
    "unknown": (MISSING, REFUSE),
    "decimal": (".", ","),
    "log": (DROP, HASH),
}
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Override:
    """The user's settings for a column.

    Parameters
    ----------
    kind : str
        "numeric", "boolean", "date", "time", "means", "categorical" or "drop"; empty to infer it.
    unknown : str
        "missing" or "refuse": how the server treats a category that the model does not know; empty
        for the default, "missing".
    gaps : tuple of str or None
        Texts that count as gaps, beside empty cells; None for the usual ones, `training.data.gaps`.
    decimal : str
        Decimal mark of its numbers, "." or ","; empty to decide by the cells.
    format : str
        Form of its dates or times, such as "%d/%m/%Y"; empty to decide by the cells.
    log : str
        "drop" or "hash": what the server's prediction log writes of its values; empty for all.
    """

    kind: str = ""
    unknown: str = ""
    gaps: tuple[str, ...] | None = None
    decimal: str = ""
    format: str = ""
    log: str = ""


def parse_overrides(config: Mapping[str, Any]) -> dict[str, Override]:
    """Read a schema file.

    Parameters
    ----------
    config : mapping
        Tables with some of "kind", "unknown", "gaps", "decimal", "format" and "log", by column.

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
    for key, value in table.items():
        _check(name, key, value)
    gaps = table.get("gaps")
    override = Override(
        kind=table.get("kind", ""),
        unknown=table.get("unknown", ""),
        gaps=None if gaps is None else tuple(gaps),
        decimal=table.get("decimal", ""),
        format=table.get("format", ""),
        log=table.get("log", ""),
    )
    _check_format(name, override)
    if override.unknown and override.kind not in ("", *WITH_CATEGORIES):
        raise DataError(
            f"schema: {name!r} is {override.kind}, but only columns of categories take unknown; "
            "remove one of the two"
        )
    if override.log and override.kind == DROP:
        raise DataError(
            f"schema: {name!r} is dropped, so the server never gets it; remove its log"
        )
    return override


def _check_format(name: str, override: Override) -> None:
    """Raise DataError if a format is none of dates, or its column holds none."""
    if not override.format:
        return
    if override.kind not in TEMPORAL:
        raise DataError(
            f'schema: {name!r} has a format, which only dates and times take; add kind = "date" or '
            '"time", or remove it'
        )
    try:
        DateForm(override.kind, override.format)
    except ValueError as error:
        raise DataError(
            f"schema: format of {name!r}: {error}; write it as in %d/%m/%Y %H:%M"
        ) from None


def _check(name: str, key: str, value: object) -> None:
    """Raise DataError if a key is not known, or its value is none of those that it takes."""
    if key == "gaps":
        is_list = isinstance(value, list) and all(isinstance(x, str) for x in value)
        if not is_list:
            raise DataError(
                f"schema: gaps of {name!r} is {value!r}; it has to be a list of texts such as "
                '["?", "unknown"]'
            )
        return
    if key == "format":
        if not isinstance(value, str):
            raise DataError(
                f"schema: format of {name!r} is {value!r}; it has to be a text such as %d/%m/%Y"
            )
        return
    if key not in ALLOWED:
        raise DataError(
            f"schema: {name!r} has the key {key!r}; it takes "
            f"{join_choices((*ALLOWED, 'gaps', 'format'))}"
        )
    if value not in ALLOWED[key]:
        raise DataError(
            f"schema: {key} of {name!r} is {value!r}; it has to be {join_choices(ALLOWED[key])}"
        )


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
    if feature.parts:
        remarks.append(f"the model gets {', '.join(feature.parts)}")
    lines = [f"# {'; '.join(remarks)}"] if remarks else []
    lines += [f"[{_key(feature.name)}]", f'kind = "{feature.kind}"']
    if feature.kind in WITH_CATEGORIES:
        lines.append(f'unknown = "{REFUSE if feature.refuse_unknown else MISSING}"')
    if feature.gaps is not None:
        lines.append(f"gaps = [{', '.join(map(_quote, feature.gaps))}]")
    if feature.format:
        lines.append(f"format = {_quote(feature.format)}")
    if feature.decimal:
        lines.append(f'decimal = "{feature.decimal}"')
    if feature.redaction:
        lines.append(f'log = "{feature.redaction}"')
    return lines


def _list_categories(feature: Feature) -> str:
    return shorten_list(
        category if isinstance(category, int) else _quote(_cut(category))
        for category in feature.categories
    )


def _cut(text: str) -> str:
    """Return the beginning of a long category; a comment names it, and nobody reads it back."""
    return (
        text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
    )


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _quote(name)


def _quote(text: str) -> str:
    """Return a basic string of TOML."""
    quoted = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escape(quoted)}"'
