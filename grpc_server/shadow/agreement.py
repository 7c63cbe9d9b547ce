"""Compares what a shadow answers with what callers were answered, row by row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grpc_server.doubles import read_probabilities
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.observe.records import CHUNK, PREDICT, Record
from grpc_server.rpc.requests import RequestDecoder
from grpc_server.rpc.servicer import PredictionServicer
from prediction.v1 import prediction_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the rows of one call.

    Parameters
    ----------
    version : str
        Version of the model that gave them.
    labels : tuple of str
        Label of each row.
    classes : tuple of str
        Classes in the order of the probabilities; empty if the reply does not name them.
    probabilities : sequence of float
        n_rows * n_classes values, [0, 1], row by row.
    """

    version: str
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Sequence[float]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two answers to the rows of one call agree.

    Parameters
    ----------
    n_same, n_other : int
        Rows with the same label, and with another.
    difference : float
        Sum over the rows of the largest absolute difference of a probability.
    n_compared : int
        Rows of that sum: none if the models have different classes.
    """

    n_same: int
    n_other: int
    difference: float
    n_compared: int


def read_answers(record: Record) -> Answers:
    """Return what the caller was answered."""
    if record.kind == PREDICT:
        one = pb.PredictResponse.FromString(record.reply)
        return Answers(one.model_version, (one.label,), (), one.probabilities)
    if record.kind == CHUNK:
        return _read_batch(pb.StreamPredictResponse.FromString(record.reply).chunk)
    return _read_batch(pb.BatchPredictResponse.FromString(record.reply))


def compare(
    given: Answers, classes: Sequence[str], shadow: Answers, own: Sequence[str]
) -> Agreement:
    """Compare the answers to the same rows.

    Parameters
    ----------
    given, shadow : Answers
        What the caller was answered, and what the shadow answers.
    classes, own : sequence of str
        Classes of the model that answered, and of the shadow.

    Returns
    -------
    Agreement
        Counts and sum.
    """
    same = sum(a == b for a, b in zip(given.labels, shadow.labels, strict=True))
    n_rows = len(given.labels)
    if sorted(classes) != sorted(own):
        return Agreement(same, n_rows - same, 0.0, 0)
    places = [own.index(label) for label in classes]
    difference = sum(
        max(abs(p - theirs[place]) for p, place in zip(ours, places, strict=True))
        for ours, theirs in zip(
            _cut(given.probabilities, len(classes)),
            _cut(shadow.probabilities, len(own)),
            strict=True,
        )
    )
    return Agreement(same, n_rows - same, difference, n_rows)


class Shadow:
    """One version of the shadow.

    Parameters
    ----------
    model : LoadedModel
        The model.
    servicer : PredictionServicer
        Answers with the model in `slot`.
    decoder : RequestDecoder
        Decodes the requests that fit the model in `slot`.
    slot : ModelSlot
        Holds the model.
    """

    def __init__(
        self,
        model: LoadedModel,
        servicer: PredictionServicer,
        decoder: RequestDecoder,
        slot: ModelSlot,
    ) -> None:
        self.model = model
        self._servicer, self._decoder = servicer, decoder
        slot.put(model)

    def answer(self, record: Record) -> Answers:
        """Answer a call again.

        Raises
        ------
        CallError
            If the request does not fit the model.
        """
        if record.kind == PREDICT:
            request = self._decoder.predict(record.request)
            # What the caller asked to have explained costs more than the prediction.
            request.explain_top_k = 0
            one = self._servicer.Predict(request, None)  # type: ignore[arg-type]
            return Answers(one.model_version, (one.label,), (), one.probabilities)
        if record.kind == CHUNK:
            chunk = self._decoder.chunk(record.request)
            return _read_batch(self._servicer.answer_chunk(self.model, 0, chunk))
        batch = self._decoder.batch(record.request)
        return _read_batch(self._servicer.BatchPredict(batch, None))  # type: ignore[arg-type]


def _read_batch(reply: pb.BatchPredictResponse) -> Answers:
    classes = tuple(reply.classes)
    labels = tuple(classes[position] for position in reply.positions)
    return Answers(reply.model_version, labels, classes, read_probabilities(reply))


def _cut(values: Sequence[float], width: int) -> Iterator[Sequence[float]]:
    return (values[begin : begin + width] for begin in range(0, len(values), width))
