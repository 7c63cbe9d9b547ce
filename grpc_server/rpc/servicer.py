"""Implements prediction.v1.PredictionService with the current model."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from math import isfinite, nan

import grpc

from grpc_server.errors import InvalidInstance, Violation
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.model.arrays import Matrix, find_unlike_one
from grpc_server.rpc.batch import read_batch
from grpc_server.rpc.converters import Replies, describe_model
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1 import prediction_service_pb2_grpc as pb_grpc

# Largest difference between 1 and a sum of probabilities, which are rounded.
MAX_EXCESS = 1e-6
# With more classes, a batch may have fewer rows: the reply has one number per row and class.
_CLASSES_OF_FULL_BATCH = 100


class PredictionServicer(pb_grpc.PredictionServiceServicer):
    """Predicts with the model in `slot`; raises domain errors, which `Call` turns into statuses."""

    def __init__(self, slot: ModelSlot, metrics: Metrics, max_batch_rows: int) -> None:
        self._slot = slot
        self._metrics = metrics
        self._max_batch_rows = max_batch_rows
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
        return self._predict_batch(self._slot.get(), request)

    def StreamPredict(
        self,
        request_iterator: Iterator[pb.StreamPredictRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[pb.StreamPredictResponse]:
        """Predict the classes of instances, chunk by chunk, with one model for the whole stream."""
        model = self._slot.get()
        for number, request in enumerate(request_iterator):
            try:
                answer = self._predict_batch(model, request.chunk)
            except InvalidInstance as error:
                raise error.within(f"chunks[{number}]") from None
            yield pb.StreamPredictResponse(chunk=answer)

    def _predict_batch(
        self, model: LoadedModel, request: pb.BatchPredictRequest
    ) -> pb.BatchPredictResponse:
        X = read_batch(model.input_schema, request, self._find_max_rows(model))
        probabilities = model.estimator.predict_batch(X)
        _check_batch(probabilities, X, "columns" if request.columns else "values")
        positions = model.classes.decide_batch(probabilities)
        self._metrics.count_batch(
            {model.classes.labels[p]: n for p, n in Counter(positions).items()}
        )
        return pb.BatchPredictResponse(
            model=model.display_name,
            classes=model.classes.labels,
            positions=positions,
            # protobuf reads a list faster than an array.
            probabilities=probabilities.ravel().tolist(),
            model_version=model.source.version,
        )

    def _find_max_rows(self, model: LoadedModel) -> int:
        n_classes = max(len(model.classes.labels), _CLASSES_OF_FULL_BATCH)
        return max(1, self._max_batch_rows * _CLASSES_OF_FULL_BATCH // n_classes)

    def GetModel(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        """Describe the model that answers."""
        return describe_model(self._slot.get())


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


def _check_batch(probabilities: Matrix, X: Matrix, field: str) -> None:
    """Refuse a batch if the score of a row overflows."""
    row = find_unlike_one(probabilities, MAX_EXCESS)
    if row is not None:
        position = row * X.shape[1]
        path = (
            f"values[{position}]" if field == "values" else f"columns[*].values[{row}]"
        )
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
