"""The table from errors to statuses is complete."""

import base64
import urllib.parse

import grpc
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_server import errors
from grpc_server.errors import InvalidInstance, Violation
from grpc_server.rpc.statuses import (
    INTERNAL_REASON,
    STATUS_BY_ERROR,
    name_call,
    to_status,
)
from prediction.v1.prediction_service_pb2 import ErrorReason

from wire import error_info, field_violations


def descendants(kind: type[errors.DomainError]) -> set[type[errors.DomainError]]:
    return {kind}.union(*map(descendants, kind.__subclasses__()))


OF_CALLS: list[type[errors.CallError]] = sorted(
    errors.CallError.__subclasses__(), key=str
)


def make(kind: type[errors.CallError]) -> errors.CallError:
    if kind is errors.InvalidInstance:
        return errors.InvalidInstance([Violation("features", "is odd")], n_more=2)
    if kind is errors.BatchTooLarge:
        return errors.BatchTooLarge("7 rows", 5, n_rows=7)
    return kind("because", max_seconds=3)


@pytest.mark.parametrize("kind", OF_CALLS)
def test_every_error_of_a_call_has_a_status(kind: type[errors.CallError]) -> None:
    error = make(kind)

    status = to_status(error)

    code, reason = STATUS_BY_ERROR[kind]
    assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    assert status.code == code.value[0]
    assert status.message == str(error)
    info = error_info(status)
    assert (info.domain, info.reason) == ("prediction.v1", reason)


def test_the_values_of_a_message_are_there_for_programs() -> None:
    told = [make(kind).metadata for kind in (errors.BatchTooLarge, InvalidInstance)]

    assert told == [
        {"n_rows": "7", "max_rows": "5", "flag": "--max-batch-rows"},
        {"n_violations": "3"},
    ]


def test_the_reasons_are_those_of_the_contract() -> None:
    reasons = [reason for _, reason in STATUS_BY_ERROR.values()] + [INTERNAL_REASON]

    names = {f"ERROR_REASON_{reason}" for reason in reasons}
    assert len(names) == len(reasons)
    assert names | {"ERROR_REASON_UNSPECIFIED"} == set(ErrorReason.keys())


def test_errors_of_calls_and_of_a_start_are_two_branches() -> None:
    calls, starts = map(descendants, (errors.CallError, errors.StartupError))

    assert not calls & starts
    assert calls | starts | {errors.DomainError} == descendants(errors.DomainError)


def test_the_tree_in_the_documentation_is_the_tree() -> None:
    names = {kind.__name__ for kind in descendants(errors.DomainError)}

    assert all(name in (errors.__doc__ or "") for name in names)


def header_bytes(status: Status) -> int:
    """Return the size of a failed call's trailers in bytes, which clients limit to 8 KiB."""
    trailers = {
        "grpc-status": str(status.code).encode(),
        "grpc-message": urllib.parse.quote(status.message.encode(), safe="").encode(),
        "grpc-status-details-bin": base64.b64encode(status.SerializeToString()),
    }
    # HPACK adds 32 bytes for each header (RFC 7541, 4.1).
    return sum(len(name) + len(value) + 32 for name, value in trailers.items())


texts = st.text(max_size=80)
LONGEST_ID = "x" * 128


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(texts, texts), min_size=1, max_size=40), st.integers(0, 10**9)
)
def test_every_error_fits_into_the_headers_of_any_client(
    violations: list[tuple[str, str]], n_more: int
) -> None:
    """Beyond 8 KiB a client sees RESOURCE_EXHAUSTED. Non-ASCII text takes the most space."""
    made = [Violation(field * 2, text * 4) for field, text in violations]
    error = InvalidInstance(made, n_more)

    status = to_status(error)
    name_call(status, LONGEST_ID)

    assert header_bytes(status) < 8192
    told = [(f, d) for f, d in field_violations(status) if f != "*"]
    assert 1 <= len(told) <= len(made)
    assert told[0][1] == made[0].description


@pytest.mark.parametrize("character", ["a", "%", "\x01", "é", "\N{GRINNING FACE}"])
@pytest.mark.parametrize("length", [900, 3_000, 100_000])
def test_a_text_that_is_too_long_by_itself_is_cut(character: str, length: int) -> None:
    text = character * length
    invalid = to_status(InvalidInstance([Violation(text, text)] * 12))
    other = to_status(errors.MalformedMessage(text))

    name_call(invalid, LONGEST_ID)
    name_call(other, LONGEST_ID)

    told, (_, more) = field_violations(invalid)
    for shown in told:
        assert shown == text or (shown[-3:] == "..." and text.startswith(shown[:-3]))
        assert len(shown.encode()) > min(800, len(text))
    assert more == "11 more fields do not fit"
    assert max(header_bytes(invalid), header_bytes(other)) < 8192
