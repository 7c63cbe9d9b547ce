"""Whether the columns of a table are those of the model: said before anything is scored."""

from collections import Counter
from collections.abc import Collection, Iterator

from grpc_server.errors import TableError
from grpc_server.model.kinds import list_names, quote
from grpc_server.model.schema import InputSchema
from grpc_server.score.cells import find_misfit
from grpc_server.score.tables import Table

_MAX_LISTED = 10


def check_fit(table: Table, schema: InputSchema, keep: Collection[str]) -> list[str]:
    """Compare the columns of a table with those of the model.

    Parameters
    ----------
    table : Table
        The table.
    schema : InputSchema
        Columns of the model.
    keep : collection of str
        Further columns that are needed.

    Returns
    -------
    list of str
        What differs and does no harm, in words.

    Raises
    ------
    TableError
        If a column is missing, occurs twice, or is of a type that never fits.
    """
    problems = list(_find_problems(table, schema, keep))
    if problems:
        shown = "; ".join(problems[:_MAX_LISTED])
        more = len(problems) - _MAX_LISTED
        suffix = f" (and {more} more)" if more > 0 else ""
        raise TableError(f"{table.path} does not fit the model: {shown}{suffix}")
    known = {*(feature.name for feature in schema.features), *keep}
    extra = [
        name or f"(column {position}, without a name)"
        for position, name in enumerate(table.names, 1)
        if name not in known
    ]
    if not extra:
        return []
    return [
        f"{table.path}: {len(extra)} columns are not the model's and are left out: "
        f"{list_names(extra)}"
    ]


def _find_problems(
    table: Table, schema: InputSchema, keep: Collection[str]
) -> Iterator[str]:
    counts = Counter(table.names)
    for name in keep:
        if counts[name] != 1:
            yield f"the kept column {quote(name)} {_tell_count(counts[name])}"
    for feature in schema.features:
        if counts[feature.name] != 1:
            count = _tell_count(counts[feature.name])
            yield f"column {quote(feature.name)} {count}; it takes {feature.allowed}"
        elif not table.is_text:
            type_ = table.find_type(feature.name)
            misfit = find_misfit(feature, type_)
            if misfit:
                shown = str(type_)[:80]
                yield f"column {quote(feature.name)} is {shown}; it takes {misfit}"


def _tell_count(count: int) -> str:
    return "is missing" if count == 0 else f"occurs {count} times"
