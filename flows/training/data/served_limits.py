"""What the server takes of a schema, checked before anything is searched.

The limits are the server's own, `grpc_server.model.artifact_limits`, and those of a reply that its
clients take.
"""

from training.data.schema import Feature, Schema
from training.errors import DataError

MAX_CLASSES = 10_000
# Characters of a column's name, and of a label.
MAX_CHARACTERS = 10_000
# Bytes of all categories and of all labels in UTF-8. A reply has room for both in the 4 MiB that
# gRPC's clients take by default.
MAX_CATEGORY_BYTES = 3 * 2**20
MAX_LABEL_BYTES = 2**19
SHOWN_CHARACTERS = 40


def check_labels(labels: tuple[int, ...] | tuple[str, ...]) -> None:
    """Raise DataError if labels, unique and sorted, are more or longer than the server takes."""
    if len(labels) > MAX_CLASSES:
        raise DataError(
            f"the label column has {len(labels):,} classes, such as {_quote(labels[0])}, and the "
            f"server takes {MAX_CLASSES:,}; is it a name or a measurement?"
        )
    longest = max(map(str, labels), key=len)
    n_bytes = sum(map(_count_bytes, labels))
    if len(longest) > MAX_CHARACTERS or n_bytes > MAX_LABEL_BYTES:
        raise DataError(
            f"the label {_quote(longest)}... has {len(longest):,} characters, and all classes have "
            f"{n_bytes:,} bytes; the server takes {MAX_CHARACTERS:,} and {MAX_LABEL_BYTES:,}, so "
            "shorten them"
        )


def check_columns(schema: Schema) -> None:
    """Raise DataError if names of columns or categories are longer than the server takes."""
    longest = max(schema.feature_names, key=len)
    if len(longest) > MAX_CHARACTERS:
        raise DataError(
            f"a column has a name of {len(longest):,} characters, {_quote(longest)}..., and the "
            f"server takes {MAX_CHARACTERS:,}; shorten it"
        )
    sizes = {feature.name: _measure(feature) for feature in schema.features}
    total = sum(sizes.values())
    if total > MAX_CATEGORY_BYTES:
        name = max(sizes, key=lambda each: sizes[each])
        raise DataError(
            f"all categories have {total:,} bytes, {sizes[name]:,} of them in column {name!r}, and "
            f'the server takes {MAX_CATEGORY_BYTES:,}; shorten them, or set kind = "drop" for the '
            "column in the file of --config schema"
        )


def _measure(feature: Feature) -> int:
    return sum(map(_count_bytes, feature.categories))


def _count_bytes(text: object) -> int:
    return len(str(text).encode("utf-8", "surrogatepass"))


def _quote(text: object) -> str:
    return repr(str(text)[:SHOWN_CHARACTERS])
