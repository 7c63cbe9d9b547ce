"""What inputs each kind of feature takes, and the errors of those that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from grpc_server.errors import (
    MAX_VIOLATIONS,
    BatchTooLarge,
    InvalidInstance,
    Violation,
    Violations,
)
from grpc_server.model.arrays import Mask
from grpc_server.model.kinds import (
    Boolean,
    IntegerCategories,
    Kind,
    Numeric,
    list_names,
    quote,
    show,
)
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.oip.tensors import (
    BOOL,
    BYTES,
    FLOATS,
    INTEGERS,
    Tensor,
    as_array,
    refuse,
)


def datatypes(kind: Kind, nullable: bool) -> tuple[str, ...]:
    """Return the types of tensors that a feature takes, that of the metadata first."""
    match kind:
        case Numeric():
            return (*FLOATS, *INTEGERS)
        case Boolean():
            return (BOOL, *FLOATS) if nullable else (BOOL,)
        case IntegerCategories():
            return (*INTEGERS, "FP64")
        case _:
            return (BYTES,)


def check_rows(tensor: Tensor, n_rows: int, max_rows: int) -> None:
    """Refuse a batch without rows, or with too many.

    Raises
    ------
    InvalidInstance, BatchTooLarge
        See `read_rows` of `rows`.
    """
    if n_rows == 0:
        raise refuse(tensor, "has no rows; one or more are needed")
    if n_rows > max_rows:
        raise BatchTooLarge(f"{n_rows} rows", max_rows, n_rows=n_rows)


def add_each(
    violations: Violations, wrong: Mask, describe: Callable[[int], Violation]
) -> None:
    """Add a violation per wrong position; those beyond the limit are counted, not described."""
    positions = wrong.nonzero()[0]
    listed = positions[:MAX_VIOLATIONS].tolist()
    for position in listed:
        violations.add(describe, position)
    violations.count(len(positions) - len(listed))


def wrong_datatype(tensor: Tensor, allowed: Sequence[str]) -> InvalidInstance:
    """Return the error of a tensor whose type its feature does not take."""
    return refuse(
        tensor,
        f"the datatype {quote(tensor.datatype)} is not allowed; it takes {list_names(allowed)}",
    )


def unfit(path: str, feature: Feature, value: float | str | None) -> Violation:
    """Return the violation of one value; None is a missing one."""
    shown = "a missing value" if value is None else show(value)
    allowed = feature.allowed_for(value)
    return Violation(
        path,
        f"{shown} is not allowed for {quote(feature.name)}, which takes {allowed}",
    )


def read_value(tensor: Tensor, position: int) -> float:
    """Return one number of a tensor as it came, and not as the double that is nearest."""
    value: float = as_array(tensor)[position].item()
    return value


def unknown(tensor: Tensor, schema: InputSchema) -> Violation:
    """Return the violation of an input that is no feature."""
    return Violation(
        tensor.path,
        f"unexpected inference input; the model has: {schema.names}; the parameter ignore_extra "
        "leaves others out",
    )


def absent(feature: Feature) -> Violation:
    """Return the violation of a feature without an input."""
    accepted = list_names(datatypes(feature.kind, feature.nullable))
    return Violation(
        f"inputs[{quote(feature.name)}]",
        f"is missing; it takes {accepted}, each {feature.allowed}",
    )


def show_shape(shape: Sequence[int]) -> str:
    """Return a shape as an error shows it, cut to eight dimensions."""
    more = ",…" if len(shape) > 8 else ""
    return f"[{','.join(map(str, shape[:8]))}{more}]"
