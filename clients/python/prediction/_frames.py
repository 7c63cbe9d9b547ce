"""The prediction of a frame: many calls, all answered by one model version."""

import re
from array import array
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterator,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import grpc

from prediction import _packed
from prediction._columns import (
    MAX_CHUNK_BYTES,
    TypedColumn,
    Write,
    encode,
    to_request,
    to_requests,
)
from prediction._errors import (
    FieldViolation,
    InvalidInstanceError,
    ModelChangedError,
    ServerError,
)
from prediction._models import Model
from prediction._packed import add_probabilities
from prediction._tables import FrameTable, RowKeys
from prediction._transport import Pending
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
    starts: list[int] = field(default_factory=list)

    @property
    def n_answers(self) -> int:
        return len(self.starts)

    def add(self, start: int, response: pb.BatchPredictResponse) -> None:
        self._check_count(start)
        self.starts.append(start)
        self.positions.extend(response.positions)
        add_probabilities(self.probabilities, response)

    def check(self, n_rows: int, n_classes: int) -> None:
        """Raise ServerError unless these are answers to so many rows."""
        self._check_count(n_rows)
        if len(self.probabilities) != n_rows * n_classes:
            raise _unfit(f"{len(self.probabilities)} probabilities", n_rows, n_classes)
        strange = [p for p in set(self.positions) if not 0 <= p < n_classes]
        if strange:
            raise _unfit(f"class {strange[0]}", n_rows, n_classes)

    def _check_count(self, n_rows: int) -> None:
        # What was answered too much or too little would shift the rows after it.
        if len(self.positions) != n_rows:
            raise _unfit(f"{len(self.positions)} predictions", n_rows)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk in flight, and its first row."""

    start: int
    call: Pending[pb.BatchPredictResponse]

    async def result(self) -> tuple[int, pb.BatchPredictResponse]:
        try:
            return self.start, await self.call.result()
        except InvalidInstanceError as error:
            raise _in_frame(error, self.start) from error


class FrameCall:
    """One call of `PredictionClient.predict_frame`.

    Parameters
    ----------
    table : FrameTable
        The frame.
    send : callable
        Sends one chunk, with the name of its call, and does not wait for its answer.
    fetch_model : callable
        Asks the server for its current model.
    compute : callable
        Does work that takes the processor for longer, and returns its result.
    rows_per_call : int
        Most rows of a chunk, 1 or more.
    calls_at_once : int
        Most chunks in flight at a time, 1 or more.
    ignore_extra : bool
        Whether to leave out columns that the model does not have.
    request_id : str or None
        Begin of the names of the calls; None gives them none.
    """

    def __init__(
        self,
        table: FrameTable,
        *,
        send: Callable[
            [pb.BatchPredictRequest, str | None], Pending[pb.BatchPredictResponse]
        ],
        fetch_model: Callable[[], Awaitable[Model]],
        compute: Callable[[Callable[[], Any]], Awaitable[Any]],
        rows_per_call: int,
        calls_at_once: int,
        ignore_extra: bool,
        request_id: str | None,
    ) -> None:
        self._table = table
        self._send = send
        self._fetch_model = fetch_model
        self._compute = compute
        self._rows_per_call = rows_per_call
        self._calls_at_once = calls_at_once
        self._ignore_extra = ignore_extra
        self._request_id = request_id

    async def run(self, known_model: Model | None) -> Any:
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
        model = known_model or await self._fetch_model()
        is_fresh = known_model is None
        n_resends = 0
        while True:
            try:
                return await self._to_frame(model, await self._answer(model))
            except InvalidInstanceError:
                # The frame may fit the model that the server has loaded since.
                newest = await self._fetch_model()
                is_same = newest.model_version == model.model_version
                if is_same or n_resends == _MAX_RESENDS:
                    raise
                n_resends += is_fresh
            except _OtherVersion as other:
                n_resends += is_fresh or other.n_answers > 0
                if n_resends > _MAX_RESENDS:
                    raise _changed(model.model_version, other.version) from None
                newest = await self._fetch_model()
            model, is_fresh = newest, True

    async def _answer(self, model: Model) -> _Answers:
        """Send all chunks, and raise `_OtherVersion` if another model answers one."""
        columns = await self._compute(
            lambda: encode(self._table, model, ignore_extra=self._ignore_extra)
        )
        if model.takes_packed_rows:
            try:
                return await self._collect(columns, model, _packed.to_request)
            except InvalidInstanceError:
                # An older server of the same name ignores packed rows, and finds none. So the rows
                # are sent once more, in the form that every server takes and names in its errors.
                pass
        return await self._collect(columns, model, to_request)

    async def _collect(
        self, columns: Sequence[TypedColumn], model: Model, write: Write
    ) -> _Answers:
        n_rows = self._table.n_rows
        requests = to_requests(columns, n_rows, self._max_rows(model), write)
        answers = _Answers()
        async with aclosing(self._send_ahead(iter(requests))) as responses:
            async for start, response in responses:
                if response.model_version != model.model_version:
                    raise _OtherVersion(response.model_version, answers.n_answers)
                answers.add(start, response)
        n_classes = len(model.classes)
        await self._compute(lambda: answers.check(n_rows, n_classes))
        return answers

    async def _send_ahead(
        self, requests: Iterator[tuple[int, pb.BatchPredictRequest]]
    ) -> AsyncGenerator[tuple[int, pb.BatchPredictResponse], None]:
        """Yield the answers in the order of the chunks, with the next ones in flight."""
        pending: deque[_Chunk] = deque()
        try:
            while chunk := await self._compute(lambda: next(requests, None)):
                if len(pending) == self._calls_at_once:
                    yield await pending.popleft().result()
                pending.append(self._begin(*chunk))
            while pending:
                yield await pending.popleft().result()
        finally:
            # These are not needed once another chunk has failed.
            for unneeded in pending:
                unneeded.call.cancel()

    def _begin(self, start: int, request: pb.BatchPredictRequest) -> _Chunk:
        return _Chunk(start, self._send(request, self._name(start)))

    def _name(self, start: int) -> str | None:
        return None if self._request_id is None else f"{self._request_id}:{start}"

    def _max_rows(self, model: Model) -> int:
        # Each row is answered with a double for each class.
        fitting = MAX_CHUNK_BYTES // (8 * max(1, len(model.classes)))
        return max(1, min(self._rows_per_call, fitting))

    async def _to_frame(self, model: Model, answers: _Answers) -> Any:
        n_classes = len(model.classes)
        return await self._compute(
            lambda: self._table.to_frame(
                [model.classes[position] for position in answers.positions],
                {
                    f"probability_{label}": answers.probabilities[position::n_classes]
                    for position, label in enumerate(model.classes)
                },
                model.model_version,
                self._row_keys(answers.starts),
            )
        )

    def _row_keys(self, starts: list[int]) -> RowKeys | None:
        if self._request_id is None:
            return None
        keys = RowKeys([], [])
        for start, end in pairwise([*starts, self._table.n_rows]):
            keys.request_ids.extend([f"{self._request_id}:{start}"] * (end - start))
            keys.rows.extend(range(end - start))
        return keys


def _unfit(what: str, n_rows: int, n_classes: int | None = None) -> ServerError:
    of_classes = "" if n_classes is None else f" of a model with {n_classes} classes"
    return ServerError(
        grpc.StatusCode.INTERNAL,
        f"the server answered {what} for {n_rows} rows{of_classes}",
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
