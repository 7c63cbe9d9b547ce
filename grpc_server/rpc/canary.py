"""Gives each call to the canary or to the champion; the champion answers what the canary cannot.

::

    call ── canary serves? ── no ───────────────────────────> champion
                 │ yes
            place of the key, or by chance ── not its share ─> champion
                 │
            canary decodes, predicts ── any error ───────────> champion, counted as the canary's
                 │                                             error if the champion can answer
               reply

Both models read the bytes of the request themselves, because the input schema bounds the decoding.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import random
from time import perf_counter
from typing import Any, Protocol, TypeVar

from grpc_server.canary.judge import Answer
from grpc_server.canary.keeper import CanaryKeeper, Ended, Pair
from grpc_server.canary.split import KEY_NAME, WITHOUT_CANARY, Arm, Split, find_place
from grpc_server.canary.status import State, Status
from grpc_server.doubles import read_probabilities
from grpc_server.drift.monitor import DriftMonitor
from grpc_server.errors import CallError
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.rpc.calls import Call
from grpc_server.rpc.requests import RequestDecoder
from grpc_server.rpc.servicer import PredictionServicer, note_rows
from prediction.v1 import prediction_service_pb2 as pb

# Time that no call should take: a part for itself, and a part for each of its rows.
_SLOW_SECONDS, _SLOW_SECONDS_PER_ROW = 0.010, 0.000_02
_MAX_UINT32 = 2**32 - 1
# Most rows of a batch whose probabilities are looked at.
_MAX_TOPS = 100
_STATES = {
    State.WAITING: pb.CANARY_STATE_WAITING,
    State.SERVING: pb.CANARY_STATE_SERVING,
    State.SAME: pb.CANARY_STATE_SAME,
    State.INCOMPATIBLE: pb.CANARY_STATE_INCOMPATIBLE,
    State.ABORTED: pb.CANARY_STATE_ABORTED,
}


class Versioned(Protocol):
    """A reply that tells which version has answered."""

    @property
    def model_version(self) -> str:
        """Version that has answered."""
        ...


_R = TypeVar("_R", bound=Versioned)
_log = logging.getLogger(__name__)


class Undecoded:
    """Leaves requests as bytes, for a servicer that decodes them itself."""

    def predict(self, message: bytes) -> bytes:
        """Return the message."""
        return message

    batch = chunk = predict


class _Side:
    """One model's way from the bytes of a request to a reply."""

    def __init__(
        self,
        slot: ModelSlot,
        metrics: Metrics,
        max_rows: int,
        drift: DriftMonitor | None,
    ) -> None:
        self.slot = slot
        self.decoder = RequestDecoder(slot, max_rows)
        self.servicer = PredictionServicer(slot, metrics, max_rows, drift)

    def predict(self, message: bytes, context: Any) -> pb.PredictResponse:
        request = self.decoder.predict(message)
        context.note_decoded()
        return self.servicer.Predict(request, context)

    def batch(self, message: bytes, context: Any) -> pb.BatchPredictResponse:
        request = self.decoder.batch(message)
        context.note_decoded()
        return self.servicer.BatchPredict(request, context)

    def chunk(self, message: bytes, number: int) -> pb.BatchPredictResponse:
        request = self.decoder.chunk(message)
        return self.servicer.answer_chunk(self.slot.get(), number, request)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The arm of one call, or of one stream, while a canary serves."""

    pair: Pair
    arm: Arm
    place: float | None


class CanaryServicer:
    """Implements the service with two models; takes undecoded requests.

    Parameters
    ----------
    slot : ModelSlot
        Holds the champion.
    metrics : Metrics
        Counts the predictions of both.
    max_batch_rows : int
        Most rows of one batch, 1 or more.
    drift : DriftMonitor or None
        Counts the champion's rows: it leaves out those of a model that it does not watch.
    keeper : CanaryKeeper
        Knows the canary, and judges it.
    """

    def __init__(
        self,
        slot: ModelSlot,
        metrics: Metrics,
        max_batch_rows: int,
        drift: DriftMonitor | None,
        keeper: CanaryKeeper,
    ) -> None:
        self._slot = slot
        self._keeper = keeper
        self._split = Split(keeper.share)
        self._metrics = metrics
        self._max_batch_rows = max_batch_rows
        self._drift = drift
        self._champion = _Side(slot, metrics, max_batch_rows, drift)
        # Any thread may replace them, in one step.
        self._canary: tuple[LoadedModel, _Side] | None = None
        self._failed_model: LoadedModel | None = None

    def Predict(self, message: bytes, context: Call) -> pb.PredictResponse:
        """Predict the class of one instance."""
        choice = self._choose(context)
        if choice is None:
            return self._champion.predict(message, context)
        answer: pb.PredictResponse = self._answer(
            choice,
            self._champion,
            lambda side: side.predict(message, context),
            _read_one,
        )
        return answer

    def BatchPredict(self, message: bytes, context: Call) -> pb.BatchPredictResponse:
        """Predict the classes of many instances."""
        choice = self._choose(context)
        if choice is None:
            return self._champion.batch(message, context)
        answer: pb.BatchPredictResponse = self._answer(
            choice,
            self._champion,
            lambda side: side.batch(message, context),
            _read_batch,
        )
        return answer

    def StreamPredict(
        self, messages: Iterator[bytes], context: Call
    ) -> Iterator[pb.StreamPredictResponse]:
        """Predict the classes of instances, chunk by chunk, with one model for the whole stream.

        A canary that fails, or is aborted, leaves the rest of the stream to the champion.
        """
        choice = self._choose(context)
        champion = self._pin(self._slot.get())
        for number, message in enumerate(messages):
            if choice is None or self._has_fallen(choice):
                choice, chunk = None, champion.chunk(message, number)
            else:
                chunk = self._answer(
                    choice,
                    champion,
                    lambda side, *args: side.chunk(*args),
                    _read_batch,
                    message,
                    number,
                )
                if self._is_champions(choice, chunk):
                    choice = None
            note_rows(context, chunk)
            yield pb.StreamPredictResponse(chunk=chunk)

    def divide(
        self,
        call: Call,
        answer: Callable[[LoadedModel], _R],
        read: Callable[[_R, float], tuple[int, Answer]],
    ) -> _R:
        """Answer a call of another service with one of the two models.

        Parameters
        ----------
        call : Call
            The call.
        answer : callable
            Answers with a model; raises domain errors.
        read : callable
            Returns the number of rows of an answer that took some seconds, and its summary.

        Returns
        -------
        _R
            The answer.
        """
        choice = self._choose(call)
        if choice is None:
            return answer(self._slot.get())
        return self._answer(
            choice, self._champion, lambda side: answer(side.slot.get()), read
        )

    def GetModel(
        self, request: pb.GetModelRequest, context: Any
    ) -> pb.GetModelResponse:
        """Describe the champion, and the canary beside it."""
        response = self._champion.servicer.GetModel(request, context)
        response.canary.CopyFrom(_describe(self._keeper.status))
        return response

    def _choose(self, call: Call) -> _Choice | None:
        """Return the arm of a call; None if no canary serves, or the caller wants none."""
        pair = self._keeper.pair
        if pair is None:
            return None
        key = ""
        for name, value in call.metadata:
            if name == KEY_NAME:
                key = key or str(value)
            elif (name, value) == WITHOUT_CANARY:
                return None
        place = find_place(key) if key else None
        arm = self._split.find_arm(random() if place is None else place)
        return _Choice(pair, arm, place)

    def _answer(
        self,
        choice: _Choice,
        champion: _Side,
        predict: Callable[..., _R],
        read: Callable[[_R, float], tuple[int, Answer]],
        *args: object,
    ) -> _R:
        """Let the chosen model answer, and the champion if that is a canary that cannot."""
        begin = perf_counter()
        if choice.arm is not Arm.CANARY:
            response = predict(champion, *args)
            self._note_champion(choice, response, perf_counter() - begin, read)
            return response
        version = choice.pair.canary.source.version
        try:
            response = predict(self._find_side(choice.pair.canary), *args)
            n_rows, answer = read(response, perf_counter() - begin)
        except Exception as error:
            outcome = self._explain(choice.pair.canary, error)
        else:
            self._note(choice, "answered", version, n_rows, answer)
            return response
        # If it cannot answer either, the request is at fault, and the canary is not.
        response = predict(champion, *args)
        self._note(choice, outcome, version)
        return response

    def _note_champion(
        self,
        choice: _Choice,
        response: _R,
        seconds: float,
        read: Callable[[_R, float], tuple[int, Answer]],
    ) -> None:
        version = choice.pair.champion.source.version
        n_rows, answer = 0, None
        # Another champion may have taken over since the choice.
        if choice.arm is Arm.CONTROL and response.model_version == version:
            n_rows, answer = read(response, seconds)
        self._note(choice, "answered", response.model_version, n_rows, answer)

    def _note(
        self,
        choice: _Choice,
        outcome: str,
        version: str,
        n_rows: int = 0,
        answer: Answer | None = None,
    ) -> None:
        pair, arm, place = choice.pair, choice.arm, choice.place
        self._keeper.note(Ended(pair, arm, place, outcome, version, n_rows, answer))

    def _explain(self, model: LoadedModel, error: Exception) -> str:
        """Return the outcome of a call that a canary cannot answer; log a version's first fault."""
        if isinstance(error, CallError):
            return "misfit"
        if self._failed_model is not model:
            self._failed_model = model
            fields = {"canary_version": model.source.version}
            _log.error("canary failed", exc_info=error, extra={"fields": fields})
        return "failed"

    def _has_fallen(self, choice: _Choice) -> bool:
        is_canary = choice.arm is Arm.CANARY
        return is_canary and self._keeper.is_aborted(choice.pair.canary)

    def _is_champions(self, choice: _Choice, chunk: pb.BatchPredictResponse) -> bool:
        """Return whether the champion has answered for the canary."""
        is_canary = choice.arm is Arm.CANARY
        return is_canary and chunk.model_version != choice.pair.canary.source.version

    def _find_side(self, model: LoadedModel) -> _Side:
        known = self._canary
        if known is None or known[0] is not model:
            known = self._canary = (model, self._pin(model))
        return known[1]

    def _pin(self, model: LoadedModel) -> _Side:
        """Return a side that keeps its model."""
        slot = ModelSlot()
        slot.put(model)
        return _Side(slot, self._metrics, self._max_batch_rows, self._drift)


def _read_one(response: pb.PredictResponse, seconds: float) -> tuple[int, Answer]:
    top = min(1.0, max(response.probabilities))
    return 1, Answer({response.label: 1.0}, top, _is_slow(seconds, 1))


def _read_batch(
    response: pb.BatchPredictResponse, seconds: float
) -> tuple[int, Answer]:
    n_classes, probabilities = len(response.classes), read_probabilities(response)

    def find_top(row: int) -> float:
        return max(probabilities[row * n_classes : (row + 1) * n_classes])

    return summarize(response.classes, response.positions, find_top, seconds)


def summarize(
    labels: Sequence[str],
    positions: Sequence[int],
    find_top: Callable[[int], float],
    seconds: float,
) -> tuple[int, Answer]:
    """Return the number of rows of a batch, and what the judge looks at.

    Parameters
    ----------
    labels : sequence of str
        Labels of the classes.
    positions : sequence of int, shape (n_rows,)
        Positions of the predicted classes.
    find_top : callable
        Returns the largest probability of a row.
    seconds : float
        Time that the batch took.
    """
    n_rows = len(positions)
    shares = {
        labels[position]: n / n_rows for position, n in Counter(positions).items()
    }
    # A part of the rows, evenly spread: a batch may have thousands.
    tops = [find_top(row) for row in range(0, n_rows, 1 + n_rows // _MAX_TOPS)]
    top = min(1.0, sum(tops) / len(tops))
    return n_rows, Answer(shares, top, _is_slow(seconds, n_rows))


def _is_slow(seconds: float, n_rows: int) -> bool:
    return seconds > _SLOW_SECONDS + n_rows * _SLOW_SECONDS_PER_ROW


def _describe(status: Status) -> pb.Canary:
    return pb.Canary(
        model_version=status.version,
        share=status.share,
        state=_STATES[status.state],
        reason=status.reason,
        calls=min(status.n_calls, _MAX_UINT32),
        rows=min(status.n_rows, _MAX_UINT32),
    )
