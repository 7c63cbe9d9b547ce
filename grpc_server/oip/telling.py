"""Tells observers of calls of ModelInfer, as calls of prediction.v1 with the same rows."""

from collections.abc import Sequence

from grpc_server.model import LoadedModel
from grpc_server.model.kinds import Boolean
from grpc_server.model.schema import Feature
from grpc_server.observe.tap import Tap
from grpc_server.oip.replies import Scores
from grpc_server.oip.rows import Rows
from grpc_server.oip.tensors import BYTES, Tensor, read_numbers, read_texts
from grpc_server.rpc.calls import Call
from grpc_server.rpc.observed import observe
from prediction.v1 import prediction_service_pb2 as pb


class Teller:
    """Tells observers of answered calls; for any thread.

    Parameters
    ----------
    of_rows, of_batches : Tap
        Take calls of one row, and calls of any number of rows.
    """

    def __init__(self, of_rows: Tap, of_batches: Tap) -> None:
        self._of_rows = of_rows
        self._of_batches = of_batches

    def tell_row(
        self,
        call: Call,
        model: LoadedModel,
        row: Sequence[float],
        position: int,
        probabilities: Sequence[float],
    ) -> None:
        """Tell of one row by position, as Predict."""
        request = pb.PredictRequest(features=row)
        reply = pb.PredictResponse(
            model=model.display_name,
            prediction=model.classes.predictions[position],
            label=model.classes.labels[position],
            probabilities=probabilities,
            model_version=model.source.version,
        )
        observe(
            call, self._of_rows, request.SerializeToString(), reply.SerializeToString()
        )

    def tell_batch(self, call: Call, rows: Rows, scores: Scores) -> None:
        """Tell of rows, as BatchPredict."""
        model = scores.model
        request = pb.BatchPredictRequest()
        if rows.tensor_by_name:
            for feature in model.input_schema.features:
                tensor = rows.tensor_by_name[feature.name]
                request.columns.append(to_column(feature, tensor))
        else:
            request.values.extend(rows.X.ravel().tolist())
        reply = pb.BatchPredictResponse(
            model=model.display_name,
            classes=model.classes.labels,
            positions=scores.positions,
            probabilities=scores.probabilities.ravel().tolist(),
            model_version=model.source.version,
        )
        observe(
            call,
            self._of_batches,
            request.SerializeToString(),
            reply.SerializeToString(),
        )


def to_column(feature: Feature, tensor: Tensor) -> pb.Column:
    """Return the column of prediction.v1 with the same values.

    Parameters
    ----------
    feature : Feature
        The feature.
    tensor : Tensor
        Its values, which are checked.
    """
    column = pb.Column(name=tensor.name)
    missing = set(map(int, filter(None, tensor.missing_rows.split(","))))
    if tensor.datatype == BYTES:
        column.strings.values.extend(read_texts(tensor))
    elif isinstance(feature.kind, Boolean):
        numbers = read_numbers(tensor)[0].tolist()
        missing |= {row for row, number in enumerate(numbers) if number != number}
        column.booleans.values.extend([number == 1 for number in numbers])
    else:
        column.doubles.values.extend(read_numbers(tensor)[0].tolist())
    column.missing_rows.extend(sorted(missing))
    return column
