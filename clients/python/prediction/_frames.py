"""The prediction of a frame: many calls, all answered by one model version."""

import re
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import grpc

from prediction._columns import MAX_CHUNK_BYTES, encode, to_requests
from prediction._errors import FieldViolation, InvalidInstanceError, ModelChangedError
from prediction._models import Model
from prediction._pending import PendingCall
from prediction._tables import FrameTable
from prediction.v1 import prediction_service_pb2 as pb

DEFAULT_ROWS_PER_CALL = 5000
# The server answers one chunk while the client writes and sends the next.
DEFAULT_CALLS_AT_ONCE = 2
_MAX_RESENDS = 1
# The path of a value in a column ends with its row: columns["city"].strings.values[3].
_ROW = re.compile(r"(?<=\.values\[)[0-9]+(?=\]\Z)")


class _OtherVersion(Exception):
    """A chunk was answered by another model than the one the frame was checked against."""

    def __init__(self, version: str, n_answers: int) -> None:
        super().__init__(version, n_answers)
        self.version = version
        self.n_answers = n_answers


@dataclass(slots=True)
class _Answers:
    """The answers to the chunks of a frame, row after row."""

    positions: list[int] = field(default_factory=list)
    probabilities: "array[float]" = field(default_factory=lambda: array("d"))
    n_answers: int = 0

    def add(self, response: pb.BatchPredictResponse) -> None:
        self.positions.extend(response.positions)
        self.probabilities.extend(response.probabilities)
        self.n_answers += 1


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk in flight, and its first row."""

    start: int
    call: PendingCall[pb.BatchPredictResponse]

    def result(self) -> pb.BatchPredictResponse:
        try:
            return self.call.result()
        except InvalidInstanceError as error:
            raise _in_frame(error, self.start) from error


class FrameCall:
    """One call of `PredictionClient.predict_frame`.

    Parameters
    ----------
    table : FrameTable
        The frame.
    send : callable
        Sends one chunk and does not wait for its answer.
    fetch_model : callable
        Asks the server for its current model.
    rows_per_call : int
        Most rows of a chunk, 1 or more.
    calls_at_once : int
        Most chunks in flight at a time, 1 or more.
    ignore_extra : bool
        Whether to leave out columns that the model does not have.
    """

    def __init__(
        self,
        table: FrameTable,
        *,
        send: Callable[[pb.BatchPredictRequest], PendingCall[pb.BatchPredictResponse]],
        fetch_model: Callable[[], Model],
        rows_per_call: int,
        calls_at_once: int,
        ignore_extra: bool,
    ) -> None:
        self._table = table
        self._send = send
        self._fetch_model = fetch_model
        self._rows_per_call = rows_per_call
        self._calls_at_once = calls_at_once
        self._ignore_extra = ignore_extra

    def run(self, known_model: Model | None) -> Any:
        """Predict all rows of the frame.

        Parameters
        ----------
        known_model : Model or None
            The model that answered last, if known. The server may have replaced it since.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            The answer, a frame of the same library.

        Raises
        ------
        ModelChangedError
            If the model changes a second time.
        PredictionError
            If the frame does not fit the model, or a call fails.
        """
        model = known_model or self._fetch_model()
        is_fresh = known_model is None
        n_resends = 0
        while True:
            try:
                return self._to_frame(model, self._answer(model))
            except InvalidInstanceError:
                # The frame may fit the model that the server has loaded since.
                newest = self._fetch_model()
                is_same = newest.model_version == model.model_version
                if is_same or n_resends == _MAX_RESENDS:
                    raise
                n_resends += is_fresh
            except _OtherVersion as other:
                n_resends += is_fresh or other.n_answers > 0
                if n_resends > _MAX_RESENDS:
                    raise _changed(model.model_version, other.version) from None
                newest = self._fetch_model()
            model, is_fresh = newest, True

    def _answer(self, model: Model) -> _Answers:
        """Send all chunks, and raise `_OtherVersion` if another model answers one."""
        columns = encode(self._table, model, ignore_extra=self._ignore_extra)
        requests = to_requests(columns, self._table.n_rows, self._max_rows(model))
        answers = _Answers()
        with closing(self._send_ahead(requests)) as responses:
            for response in responses:
                if response.model_version != model.model_version:
                    raise _OtherVersion(response.model_version, answers.n_answers)
                answers.add(response)
        return answers

    def _send_ahead(
        self, requests: Iterable[tuple[int, pb.BatchPredictRequest]]
    ) -> Generator[pb.BatchPredictResponse, None, None]:
        """Yield the answers in the order of the chunks, with the next ones in flight."""
        pending: deque[_Chunk] = deque()
        try:
            for start, request in requests:
                if len(pending) == self._calls_at_once:
                    yield pending.popleft().result()
                pending.append(_Chunk(start, self._send(request)))
            while pending:
                yield pending.popleft().result()
        finally:
            # These are not needed once another chunk has failed.
            for chunk in pending:
                chunk.call.cancel()

    def _max_rows(self, model: Model) -> int:
        # Each row is answered with a double for each class.
        fitting = MAX_CHUNK_BYTES // (8 * max(1, len(model.classes)))
        return max(1, min(self._rows_per_call, fitting))

    def _to_frame(self, model: Model, answers: _Answers) -> Any:
        n_classes = len(model.classes)
        return self._table.to_frame(
            [model.classes[position] for position in answers.positions],
            {
                f"probability_{label}": answers.probabilities[position::n_classes]
                for position, label in enumerate(model.classes)
            },
            model.model_version,
        )


def _changed(version: str, other_version: str) -> ModelChangedError:
    return ModelChangedError(
        grpc.StatusCode.ABORTED,
        "the model changed while the frame was sent, and again when all rows were sent anew: "
        f"versions {version} and {other_version} answered; call predict_frame again",
    )


def _in_frame(error: InvalidInstanceError, start: int) -> InvalidInstanceError:
    """Return the error of a chunk with row numbers of the whole frame."""
    moved = [
        FieldViolation(
            _ROW.sub(lambda match: str(int(match[0]) + start), violation.field),
            violation.description,
        )
        for violation in error.violations
    ]
    message = error.message
    if moved:
        # The message begins with the first violation.
        message = message.replace(str(error.violations[0]), str(moved[0]), 1)
    in_frame = InvalidInstanceError(error.code, message, moved)
    in_frame.reason, in_frame.metadata = error.reason, error.metadata
    return in_frame
