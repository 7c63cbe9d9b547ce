"""Reads messages of inference.ModelInferRequest into what this server can ask its model."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from grpc_server.errors import (
    InvalidInstance,
    MalformedMessage,
    NotSupported,
    Violation,
)
from grpc_server.model import ModelSlot
from grpc_server.model.kinds import quote
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.scan import Bounds, RequestScan
from grpc_server.oip.tensors import Tensor

LABEL, PREDICTION, PROBABILITIES = "label", "prediction", "probabilities"
CONTRIBUTIONS, BASE = "contributions", "base"
OUTPUTS = (LABEL, PREDICTION, PROBABILITIES)
EXPLAINED_OUTPUTS = (*OUTPUTS, CONTRIBUTIONS, BASE)
EXPLAIN, IGNORE_EXTRA, MISSING_ROWS = "explain_top_k", "ignore_extra", "missing_rows"
TIMEOUT = "timeout"
MAX_ID_BYTES = 256
# A message up to this size is decoded in 3 ms at most, whatever it contains.
_UNSCANNED_BYTES = 64 * 1024
_FIELD_BY_DATATYPE: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_T = TypeVar("_T", bool, int, str)


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks.

    Parameters
    ----------
    tensors : tuple of Tensor
        The inputs, not checked yet.
    outputs : tuple of str
        The outputs to send, of `EXPLAINED_OUTPUTS`.
    is_raw : bool
        Whether the outputs are sent as bytes rather than typed.
    explains : bool
        Whether contributions are asked for.
    ignores_extra : bool
        Whether inputs that are no features are left out rather than refused.
    timeout_seconds : float
        Time from the arrival of the call after which no reply is wanted, > 0; may be infinite.
    """

    tensors: tuple[Tensor, ...]
    outputs: tuple[str, ...] = OUTPUTS
    is_raw: bool = True
    explains: bool = False
    ignores_extra: bool = False
    timeout_seconds: float = inf


def make_decoder(
    slot: ModelSlot, max_batch_rows: int
) -> Callable[[bytes], pb.ModelInferRequest]:
    """Return a decoder of requests, which first refuses those with more parts than the model needs.

    Parameters
    ----------
    slot : ModelSlot
        Holds the current model.
    max_batch_rows : int
        Most rows of one call, 1 or more.
    """
    from_string = pb.ModelInferRequest.FromString

    def decode(message: bytes) -> pb.ModelInferRequest:
        if len(message) > _UNSCANNED_BYTES:
            n_features = len(slot.get().input_schema.features)
            RequestScan(message, Bounds(n_features, max_batch_rows)).check()
        try:
            return from_string(message)
        except DecodeError:
            raise MalformedMessage(
                "the bytes are not a message of type inference.ModelInferRequest; its names must "
                "be UTF-8",
                message_type="inference.ModelInferRequest",
            ) from None

    return decode


def read_question(request: pb.ModelInferRequest) -> Question:
    """Read a request.

    Parameters
    ----------
    request : ModelInferRequest
        The request; its model is checked already.

    Returns
    -------
    Question
        What it asks.

    Raises
    ------
    InvalidInstance
        If its parts do not fit each other, or a parameter has no allowed value.
    NotSupported
        If it asks for shared memory or Triton's classification.
    """
    if len(request.id.encode()) > MAX_ID_BYTES:
        raise _refuse("id", f"has more than {MAX_ID_BYTES} bytes")
    parameters = request.parameters
    for name in parameters:
        if name.startswith("sequence_"):
            raise _refuse(_path(name), "the model has no sequences")
    is_raw = len(request.raw_input_contents) > 0
    explains = _read(parameters, EXPLAIN, int, 0)
    if explains < 0:
        raise _refuse(_path(EXPLAIN), f"{explains} is not allowed; it takes 1 or more")
    return Question(
        _read_tensors(request, is_raw),
        _read_outputs(request, explains > 0),
        _read(parameters, "binary_data_output", bool, is_raw),
        explains > 0,
        _read(parameters, IGNORE_EXTRA, bool, False),
        _read_timeout(parameters),
    )


def _read_tensors(request: pb.ModelInferRequest, is_raw: bool) -> tuple[Tensor, ...]:
    contents = request.raw_input_contents
    if is_raw and len(contents) != len(request.inputs):
        raise _refuse(
            "raw_input_contents",
            f"{len(contents)} came; {len(request.inputs)} are needed, one for each input",
        )
    if not is_raw:
        return tuple(_read_typed(tensor) for tensor in request.inputs)
    tensors = []
    for tensor, raw in zip(request.inputs, contents, strict=True):
        # MLServer's codecs send contents without any data.
        if tensor.HasField("contents") and tensor.contents.ListFields():
            raise _refuse(
                f"inputs[{quote(tensor.name)}]",
                "contents field must not be specified when using raw_input_contents for "
                f"{tensor.name[:80]!r} for model {request.model_name[:80]!r}",
            )
        missing_rows = _read_input_parameters(tensor)
        tensors.append(
            Tensor(
                tensor.name, tensor.datatype, tuple(tensor.shape), raw, (), missing_rows
            )
        )
    return tuple(tensors)


def _read_typed(tensor: pb.ModelInferRequest.InferInputTensor) -> Tensor:
    missing_rows = _read_input_parameters(tensor)
    field = _FIELD_BY_DATATYPE.get(tensor.datatype)
    came = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if tensor.datatype == "FP16":
        raise _refuse(
            f"inputs[{quote(tensor.name)}]", "FP16 comes in raw_input_contents only"
        )
    if field is not None and came not in ([], [field]):
        raise _refuse(
            f"inputs[{quote(tensor.name)}]",
            f"{', '.join(came)} came; {tensor.datatype} takes {field} alone",
        )
    values = () if field is None else getattr(tensor.contents, field)
    shape = tuple(tensor.shape)
    return Tensor(tensor.name, tensor.datatype, shape, None, values, missing_rows)


def _read_input_parameters(tensor: pb.ModelInferRequest.InferInputTensor) -> str:
    """Return the parameter missing_rows."""
    parameters = tensor.parameters
    if not parameters:
        return ""
    _check_memory(parameters)
    return _read(parameters, MISSING_ROWS, str, "")


def _read_outputs(request: pb.ModelInferRequest, explains: bool) -> tuple[str, ...]:
    known = EXPLAINED_OUTPUTS if explains else OUTPUTS
    if not request.outputs:
        return known
    names: list[str] = []
    for output in request.outputs:
        _check_memory(output.parameters)
        if "classification" in output.parameters:
            raise NotSupported("the parameter classification is not supported")
        _check_output(output.name, known, names)
        names.append(output.name)
    return tuple(names)


def _check_output(name: str, known: Collection[str], before: Collection[str]) -> None:
    path = f"outputs[{quote(name)}]"
    if name in (CONTRIBUTIONS, BASE) and name not in known:
        raise _refuse(path, f"needs the parameter {EXPLAIN} of 1 or more")
    if name not in known:
        raise _refuse(
            path, f"unexpected inference output; the model has: {', '.join(known)}"
        )
    if name in before:
        raise _refuse(path, "occurs more than once")


def _check_memory(parameters: Mapping[str, pb.InferParameter]) -> None:
    if any(name.startswith("shared_memory_") for name in parameters):
        raise NotSupported("shared memory is not supported; send the data in the call")


def _read_timeout(parameters: Mapping[str, pb.InferParameter]) -> float:
    """Return the parameter timeout, which is in microseconds, in seconds."""
    microseconds = _read(parameters, TIMEOUT, int, 0)
    if microseconds < 0:
        raise _refuse(
            _path(TIMEOUT), f"{microseconds} is not allowed; it takes microseconds"
        )
    return microseconds / 1e6 if microseconds else inf


def _read(
    parameters: Mapping[str, pb.InferParameter], name: str, kind: type[_T], default: _T
) -> _T:
    """Return the value of a parameter; an unsigned integer is an integer too."""
    if name not in parameters:
        return default
    parameter = parameters[name]
    field = parameter.WhichOneof("parameter_choice")
    value: Any = None if field is None else getattr(parameter, field)
    if type(value) is not kind:
        takes = {bool: "a boolean", int: "an integer", str: "a text"}[kind]
        came = "no value" if field is None else field
        raise _refuse(_path(name), f"{came} came; it takes {takes}")
    read: _T = value
    return read


def _path(name: str) -> str:
    return f"parameters[{quote(name)}]"


def _refuse(path: str, description: str) -> InvalidInstance:
    return InvalidInstance([Violation(path, description)])
