"""Implements prediction.v1.PredictionService with the current model."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from math import isfinite, nan

import grpc

from grpc_server.drift.monitor import DriftMonitor
from grpc_server.errors import InvalidInstance, Violation
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.model.arrays import MAX_EXCESS, Matrix, find_unlike_one
from grpc_server.rpc.batch import read_batch
from grpc_server.rpc.batch_reply import count_labels, make_reply
from grpc_server.rpc.calls import Call
from grpc_server.rpc.converters import Replies, describe_model, describe_shadow
from grpc_server.rpc.packed import find_place
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1 import prediction_service_pb2_grpc as pb_grpc

# With more classes, a batch may have fewer rows: the reply has one number per row and class.
_CLASSES_OF_FULL_BATCH = 100


class PredictionServicer(pb_grpc.PredictionServiceServicer):
    """Predicts with the model in `slot`; raises domain errors, which `Call` turns into statuses."""

    def __init__(
        self,
        slot: ModelSlot,
        metrics: Metrics,
        max_batch_rows: int,
        drift: DriftMonitor | None = None,
    ) -> None:
        self._slot = slot
        self._metrics = metrics
        self._max_batch_rows = max_batch_rows
        self._drift = drift
        self._offer = None if drift is None else drift.offer
        # Any thread may replace it, in one step.
        self._replies = Replies()

    def Predict(
        self, request: pb.PredictRequest, context: grpc.ServicerContext
    ) -> pb.PredictResponse:
        """Predict the class of one instance."""
        model = self._slot.get()
        row = _row(request, model)
        probabilities = model.estimator.predict_probabilities(row)
        # Written so that NaN fails.
        if not abs(sum(probabilities) - 1.0) <= MAX_EXCESS:
            raise _no_answer(
                "record" if request.HasField("record") else "features", row
            )
        position = model.classes.decide(probabilities)
        self._metrics.count_prediction(model.classes.labels[position])
        if self._offer is not None:
            self._offer(model, row, probabilities, position)
        replies = self._replies
        if replies.model is not model:
            replies = self._replies = Replies.of(model)
        response = pb.PredictResponse()
        response.CopyFrom(replies.by_position[position])
        response.probabilities.extend(probabilities)
        if request.explain_top_k:
            response.explanation.CopyFrom(
                _explain(model, row, position, request.explain_top_k)
            )
        return response

    def BatchPredict(
        self, request: pb.BatchPredictRequest, context: grpc.ServicerContext
    ) -> pb.BatchPredictResponse:
        """Predict the classes of many instances."""
        answer = self._predict_batch(self._slot.get(), request)
        note_rows(context, answer)
        return answer

    def StreamPredict(
        self,
        request_iterator: Iterator[pb.StreamPredictRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[pb.StreamPredictResponse]:
        """Predict the classes of instances, chunk by chunk, with one model for the whole stream."""
        model = self._slot.get()
        for number, request in enumerate(request_iterator):
            chunk = self.answer_chunk(model, number, request)
            note_rows(context, chunk)
            yield pb.StreamPredictResponse(chunk=chunk)

    def answer_chunk(
        self, model: LoadedModel, number: int, request: pb.StreamPredictRequest
    ) -> pb.BatchPredictResponse:
        """Answer one chunk of a stream with its model; `number` counts the chunks from 0."""
        try:
            return self._predict_batch(model, request.chunk)
        except InvalidInstance as error:
            raise error.within(f"chunks[{number}]") from None

    def _predict_batch(
        self, model: LoadedModel, request: pb.BatchPredictRequest
    ) -> pb.BatchPredictResponse:
        X = read_batch(model.input_schema, request, self._find_max_rows(model))
        probabilities = model.estimator.predict_batch(X)
        _check_batch(probabilities, X, request)
        positions = model.classes.decide_batch(probabilities)
        self._metrics.count_batch(count_labels(model, positions))
        if self._drift is not None:
            self._drift.offer_batch(model, X, probabilities, positions)
        return make_reply(
            model, positions, probabilities, is_packed=request.pack_probabilities
        )

    def _find_max_rows(self, model: LoadedModel) -> int:
        return find_max_rows(model, self._max_batch_rows)

    def GetModel(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        """Describe the model that answers."""
        slot = self._slot
        response = describe_model(slot.get(), slot.standing)
        if slot.read_shadow is not None:
            response.shadow.CopyFrom(describe_shadow(slot.read_shadow()))
        return response


def find_max_rows(model: LoadedModel, max_batch_rows: int) -> int:
    """Return the most rows of a batch to `model`: fewer than of others if it has many classes."""
    n_classes = max(len(model.classes.labels), _CLASSES_OF_FULL_BATCH)
    return max(1, max_batch_rows * _CLASSES_OF_FULL_BATCH // n_classes)


def note_rows(context: object, answer: pb.BatchPredictResponse) -> None:
    """Tell the call how many rows it has answered, for the logs."""
    if isinstance(context, Call):
        context.n_rows += len(answer.positions)


def _no_answer(field: str, row: Iterable[float]) -> InvalidInstance:
    largest = max((abs(number) for number in row if number == number), default=nan)
    return InvalidInstance(
        [
            Violation(
                field,
                f"the model cannot score numbers as large as {largest!r}: its score overflows",
            )
        ]
    )


def _check_batch(
    probabilities: Matrix, X: Matrix, request: pb.BatchPredictRequest
) -> None:
    """Refuse a batch if the score of a row overflows."""
    row = find_unlike_one(probabilities, MAX_EXCESS)
    if row is None:
        return
    if request.HasField("packed_rows"):
        path = find_place(request, len(X), row)
    elif request.columns:
        path = f"columns[*].values[{row}]"
    else:
        path = f"values[{row * X.shape[1]}]"
    raise _no_answer(path, X[row].tolist())


def _row(request: pb.PredictRequest, model: LoadedModel) -> Sequence[float]:
    if not request.HasField("record"):
        return model.input_schema.row_from_features(request.features)
    if request.features:
        raise InvalidInstance(
            [Violation("record", "cannot be sent with features; send one of the two")]
        )
    return model.input_schema.row_from_record(request.record.fields)


def _explain(
    model: LoadedModel, row: Sequence[float], position: int, top_k: int
) -> pb.Explanation:
    explained = position if len(model.classes.labels) > 2 else 1
    explanation = model.estimator.explain(row, explained)
    if not isfinite(sum(explanation.contributions, explanation.score)):
        raise _no_answer("explain_top_k", row)
    named = zip(model.input_schema.features, explanation.contributions, strict=True)
    largest = nlargest(top_k, named, key=lambda pair: abs(pair[1]))
    return pb.Explanation(
        label=model.classes.labels[explained],
        score=explanation.score,
        base=explanation.base,
        contributions=[
            pb.Contribution(feature=feature.name, value=value)
            for feature, value in largest
        ],
    )
