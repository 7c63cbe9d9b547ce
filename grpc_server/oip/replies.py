"""Writes replies: tensors as bytes or typed, and the reply to one row out of prepared parts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Self

from grpc_server.model import LoadedModel
from grpc_server.model.arrays import Matrix, Vector
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.requests import (
    BASE,
    CONTRIBUTIONS,
    LABEL,
    MAX_ID_BYTES,
    OUTPUTS,
    PREDICTION,
    PROBABILITIES,
)
from grpc_server.oip.rows import is_numeric
from grpc_server.oip.tensors import write_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The datatype of each output.
DATATYPES = {
    LABEL: "BYTES",
    PREDICTION: "INT32",
    PROBABILITIES: "FP64",
    CONTRIBUTIONS: "FP64",
    BASE: "FP64",
}
# Tags of the response's id and raw_output_contents.
_ID_TAG, _RAW_TAG = b"\x1a", b"\x32"
# What KServe's client adds to each input.
IGNORED = frozenset({"binary_data_size"})


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says of rows.

    Parameters
    ----------
    model : LoadedModel
        The model.
    positions : sequence of int, shape (n_rows,)
        Positions of the predicted classes.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probabilities of the classes.
    contributions : ndarray of float64, shape (n_rows, n_features), or None
        What each feature contributed to the raw score; None if it is not asked for.
    base : ndarray of float64, shape (n_rows,), or None
        The raw score without any feature.
    """

    model: LoadedModel
    positions: Sequence[int]
    probabilities: Matrix
    contributions: Matrix | None = None
    base: Vector | None = None


@dataclass(frozen=True, slots=True)
class RowTemplate:
    """The parts of the raw reply to one row.

    Parameters
    ----------
    model : LoadedModel
        The model.
    name : str
        Name of the model in calls.
    head : bytes
        Encoded name and version.
    tails : tuple of bytes
        For each class, the rest up to the numbers of the probabilities.
    pack : callable
        Encodes the probabilities.
    unpack : callable
        Decodes a row.
    may_be_missing : tuple of bool
        For each feature, whether its value may be missing; empty if one is not numeric.
    """

    model: LoadedModel
    name: str
    head: bytes
    tails: tuple[bytes, ...]
    pack: Callable[..., bytes]
    unpack: Callable[[bytes], tuple[float, ...]]
    may_be_missing: tuple[bool, ...]

    @classmethod
    def of(cls, model: LoadedModel, name: str) -> Self:
        """Prepare the replies of a model."""
        n_classes = len(model.classes.labels)
        head = pb.ModelInferResponse(
            model_name=name, model_version=model.source.version
        )
        numbers = struct.Struct(f"<{n_classes}d")
        shapes = {LABEL: [1], PREDICTION: [1], PROBABILITIES: [1, n_classes]}
        outputs = pb.ModelInferResponse(
            outputs=[_describe(output, shapes[output]) for output in OUTPUTS]
        ).SerializeToString()
        tails = tuple(
            outputs
            + pb.ModelInferResponse(
                raw_output_contents=[label, code]
            ).SerializeToString()
            + _RAW_TAG
            + write_varint(numbers.size)
            for label, code in zip(_raw_labels(model), _raw_codes(model), strict=True)
        )
        features = model.input_schema.features
        return cls(
            model,
            name,
            head.SerializeToString(),
            tails,
            numbers.pack,
            struct.Struct(f"<{len(features)}d").unpack,
            (
                tuple(f.nullable for f in features)
                if is_numeric(model.input_schema)
                else ()
            ),
        )

    def read(self, request: pb.ModelInferRequest) -> tuple[float, ...] | None:
        """Return the row of a request that is one raw tensor of one row of doubles.

        Parameters
        ----------
        request : ModelInferRequest
            A request to any model.

        Returns
        -------
        tuple of float, shape (n_features,), or None
            The row, each number finite, or NaN where one may be missing. None if the request is
            not as simple, or has anything to be refused: `read_question` tells.
        """
        # Kept short: most calls pass here.
        inputs, contents = request.inputs, request.raw_input_contents
        n_features = len(self.may_be_missing)
        if len(contents) != 1 or len(inputs) != 1 or request.model_name != self.name:
            return None
        tensor = inputs[0]
        if (
            not n_features
            or tensor.datatype != "FP64"
            or tensor.shape != [1, n_features]
            or tensor.HasField("contents")
            or request.parameters
            or request.outputs
            or len(request.id) * 4 > MAX_ID_BYTES
            or request.model_version not in ("", self.model.source.version)
            or (tensor.parameters and not IGNORED.issuperset(tensor.parameters))
        ):
            return None
        raw = contents[0]  # a copy, which would cost a batch
        if len(raw) != 8 * n_features:
            return None
        row = self.unpack(raw)
        if isfinite(sum(row)) or self._is_allowed(row):
            return row
        return None

    def _is_allowed(self, row: Sequence[float]) -> bool:
        return all(
            isfinite(value) or (value != value and may_be_missing)
            for value, may_be_missing in zip(row, self.may_be_missing, strict=True)
        )

    def write(self, id: str, position: int, probabilities: Sequence[float]) -> bytes:
        """Return the encoded reply.

        Parameters
        ----------
        id : str
            Identifier of the request; may be empty.
        position : int
            Position of the predicted class.
        probabilities : sequence of float
            n_classes values.

        Returns
        -------
        bytes
            An encoded ModelInferResponse.
        """
        head = self.head
        if id:
            content = id.encode()
            head = head + _ID_TAG + write_varint(len(content)) + content
        return head + self.tails[position] + self.pack(*probabilities)


def write_reply(
    name: str, id: str, scores: Scores, outputs: Sequence[str], *, is_raw: bool
) -> bytes:
    """Return an encoded reply.

    Parameters
    ----------
    name : str
        Name of the model in calls.
    id : str
        Identifier of the request; may be empty.
    scores : Scores
        What the model says.
    outputs : sequence of str
        Names of the outputs to send, in their order.
    is_raw : bool
        Whether they are sent as bytes rather than typed.

    Returns
    -------
    bytes
        An encoded ModelInferResponse.
    """
    reply = pb.ModelInferResponse(
        model_name=name, model_version=scores.model.source.version, id=id
    )
    for output in outputs:
        tensor = _describe(output, _find_shape(scores, output))
        if is_raw:
            reply.raw_output_contents.append(_to_bytes(scores, output))
        else:
            tensor.contents.CopyFrom(_to_contents(scores, output))
        reply.outputs.append(tensor)
    return reply.SerializeToString()


def _find_shape(scores: Scores, output: str) -> list[int]:
    if output in (LABEL, PREDICTION):
        return [len(scores.positions)]
    return list(_find_array(scores, output).shape)


def _find_array(scores: Scores, output: str) -> NDArray[Any]:
    """Return an output of doubles."""
    array = {
        PROBABILITIES: scores.probabilities,
        CONTRIBUTIONS: scores.contributions,
        BASE: scores.base,
    }[output]
    assert array is not None
    return array


def _to_contents(scores: Scores, output: str) -> pb.InferTensorContents:
    positions, classes = scores.positions, scores.model.classes
    if output == LABEL:
        labels = [label.encode() for label in classes.labels]
        return pb.InferTensorContents(bytes_contents=[labels[p] for p in positions])
    if output == PREDICTION:
        codes = classes.predictions
        return pb.InferTensorContents(int_contents=[codes[p] for p in positions])
    numbers = _find_array(scores, output).ravel().tolist()
    return pb.InferTensorContents(fp64_contents=numbers)


def _to_bytes(scores: Scores, output: str) -> bytes:
    if output in (LABEL, PREDICTION):
        # Whole numbers and texts alike: each row is one of few, which are encoded once.
        encode = _raw_labels if output == LABEL else _raw_codes
        encoded = encode(scores.model)
        return b"".join([encoded[position] for position in scores.positions])
    array = _find_array(scores, output)
    return bytes(array.astype("<f8", copy=False).tobytes())


def _raw_labels(model: LoadedModel) -> list[bytes]:
    return [write_texts([label.encode()]) for label in model.classes.labels]


def _raw_codes(model: LoadedModel) -> list[bytes]:
    return [struct.pack("<i", number) for number in model.classes.predictions]


def _describe(
    output: str, shape: Sequence[int]
) -> pb.ModelInferResponse.InferOutputTensor:
    return pb.ModelInferResponse.InferOutputTensor(
        name=output, datatype=DATATYPES[output], shape=shape
    )


def write_varint(number: int) -> bytes:
    """Return a number as protobuf encodes it; 0 or more."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
