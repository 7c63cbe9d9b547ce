"""The table from errors to statuses is complete."""

import grpc
import pytest

from grpc_server import errors
from grpc_server.statuses import STATUS_BY_ERROR, to_status


def descendants(kind: type[errors.DomainError]) -> set[type[errors.DomainError]]:
    return {kind}.union(*map(descendants, kind.__subclasses__()))


OF_CALLS = descendants(errors.DomainError) - descendants(errors.StartupError)


@pytest.mark.parametrize("kind", sorted(OF_CALLS - {errors.DomainError}, key=str))
def test_every_error_of_a_call_has_a_status(kind: type[errors.DomainError]) -> None:
    error = (
        kind([errors.Violation("features", "is odd")])
        if kind is errors.InvalidInstance
        else kind("because")
    )

    status = to_status(error)

    assert STATUS_BY_ERROR[kind] not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    assert status.code == STATUS_BY_ERROR[kind].value[0]
    assert status.message == str(error)


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    names = {kind.__name__ for kind in descendants(errors.DomainError)}

    assert all(name in (errors.__doc__ or "") for name in names)
