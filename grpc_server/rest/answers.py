"""Translates replies of the Open Inference Protocol to the JSON of REST v2."""

from collections.abc import Iterable, Sequence
from typing import Any

from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.tensors import Tensor
from grpc_server.rest.cells import to_list
from grpc_server.rest.infer_request import InferRequest
from grpc_server.rest.json_text import write_json

# Values of an answer that are written at once.
_PIECE = 5_000


def write_metadata(reply: pb.ModelMetadataResponse) -> bytes:
    """Return the metadata of a model as JSON; texts of several values are JSON themselves."""
    return write_json(
        {
            "name": reply.name,
            "versions": list(reply.versions),
            "platform": reply.platform,
            "inputs": _describe_all(reply.inputs),
            "outputs": _describe_all(reply.outputs),
            "properties": dict(reply.properties),
        }
    )


def write_answer(
    request: InferRequest, reply: pb.ModelInferResponse
) -> tuple[bytes, bytes | None]:
    """Return the answer to a request.

    Parameters
    ----------
    request : InferRequest
        The request.
    reply : ModelInferResponse
        The service's reply, whose outputs are raw.

    Returns
    -------
    text : bytes
        The answer's JSON.
    data : bytes or None
        The outputs that the caller wants as binary data; None if there are none.
    """
    start: dict[str, Any] = {
        "model_name": reply.model_name,
        "model_version": reply.model_version,
    }
    if reply.id:
        start["id"] = reply.id
    tensors, binary = [], []
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        described = _describe(output)
        if request.wants_binary(output.name):
            binary.append(raw)
            described["parameters"] = {"binary_data_size": len(raw)}
            tensors.append(write_json(described))
        else:
            shape = tuple(output.shape)
            values = to_list(Tensor(output.name, output.datatype, shape, raw))
            listed = _write_list(values)
            tensors.append(_add_member(write_json(described), b"data", listed))
    all_outputs = b"[" + b", ".join(tensors) + b"]"
    text = _add_member(write_json(start), b"outputs", all_outputs)
    return text, b"".join(binary) if binary else None


def _describe_all(tensors: Iterable[Any]) -> list[dict[str, Any]]:
    return [_describe(tensor) for tensor in tensors]


def _describe(tensor: Any) -> dict[str, Any]:
    """Return what metadata and outputs tell alike."""
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
    }


def _add_member(written: bytes, name: bytes, value: bytes) -> bytes:
    return written[:-1] + b', "' + name + b'": ' + value + b"}"


def _write_list(values: Sequence[Any]) -> bytes:
    """Return a list as JSON; other threads can run between its pieces."""
    starts = range(0, len(values), _PIECE)
    pieces = (write_json(values[n : n + _PIECE])[1:-1] for n in starts)
    return b"[" + b", ".join(pieces) + b"]"
