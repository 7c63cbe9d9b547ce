"""prediction.v1.PredictionService: from request to model to response."""

from collections import Counter
from collections.abc import Sequence

import grpc

from grpc_server.errors import InvalidInstance, Violation
from grpc_server.metrics import Metrics
from grpc_server.model import LoadedModel, ModelSlot, read_batch
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1 import prediction_service_pb2_grpc as pb_grpc


class PredictionServicer(pb_grpc.PredictionServiceServicer):
    """Answers with the model in `slot`; raises errors of the domain, which the edge translates."""

    def __init__(self, slot: ModelSlot, metrics: Metrics, max_batch_rows: int) -> None:
        self._slot = slot
        self._metrics = metrics
        self._max_batch_rows = max_batch_rows

    def Predict(
        self, request: pb.PredictRequest, context: grpc.ServicerContext
    ) -> pb.PredictResponse:
        """Predict the class of one instance."""
        model = self._slot.get()
        probabilities = model.estimator.predict_probabilities(_row(request, model))
        position = model.classes.decide(probabilities)
        label = model.classes.labels[position]
        self._metrics.count_prediction(label)
        return pb.PredictResponse(
            model=model.display_name,
            prediction=model.classes.predictions[position],
            label=label,
            probabilities=probabilities,
            model_version=model.source.version,
        )

    def BatchPredict(
        self, request: pb.BatchPredictRequest, context: grpc.ServicerContext
    ) -> pb.BatchPredictResponse:
        """Predict the classes of many instances."""
        model = self._slot.get()
        rows = read_batch(model.input_schema, request, self._max_batch_rows)
        positions: list[int] = []
        flat: list[float] = []
        for probabilities in model.estimator.predict_batch(rows):
            positions.append(model.classes.decide(probabilities))
            flat.extend(probabilities)
        self._metrics.count_batch(
            {model.classes.labels[p]: n for p, n in Counter(positions).items()}
        )
        return pb.BatchPredictResponse(
            model=model.display_name,
            classes=model.classes.labels,
            positions=positions,
            probabilities=flat,
            model_version=model.source.version,
        )

    def GetModel(
        self, request: pb.GetModelRequest, context: grpc.ServicerContext
    ) -> pb.GetModelResponse:
        """Describe the model that answers."""
        return _describe(self._slot.get())


def _row(request: pb.PredictRequest, model: LoadedModel) -> Sequence[float]:
    if not request.HasField("record"):
        return model.input_schema.row_from_features(request.features)
    if request.features:
        raise InvalidInstance(
            [Violation("record", "is set beside features; send one of the two")]
        )
    return model.input_schema.row_from_record(request.record.fields)


def _describe(model: LoadedModel) -> pb.GetModelResponse:
    response = pb.GetModelResponse(
        model=model.display_name,
        registered_model=model.source.registered_model,
        model_version=model.source.version,
        run_id=model.source.run_id,
        features=[
            pb.Feature(name=f.name, kind=pb.FEATURE_KIND_NUMERIC, nullable=f.nullable)
            for f in model.input_schema.features
        ],
        classes=model.classes.labels,
        threshold=model.classes.threshold,
        calibration=pb.CALIBRATION_NONE,
        metrics=model.provenance.metrics,
        create_time=model.provenance.create_time,
    )
    response.load_time.FromDatetime(model.load_time)
    return response
