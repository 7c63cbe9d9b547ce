"""Translates a request of REST v2 to ModelInferRequest, whose service checks what it says.

Each tensor becomes raw: that of the binary extension as it is, and that of JSON by `cells`. So the
outputs come raw too, and a caller gets them as JSON or as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grpc_server.model.kinds import quote
from grpc_server.model.schema import InputSchema
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.requests import MISSING_ROWS, TIMEOUT
from grpc_server.oip.rows import is_matrix
from grpc_server.oip.tensors import Tensor
from grpc_server.rest.binary import HEADER, BinaryData
from grpc_server.rest.cells import RawTensor, is_unicode, to_raw
from grpc_server.rest.places import Place
from grpc_server.rest.refusals import Refusal

_MEMBERS = {"id", "parameters", "inputs", "outputs"}
_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
_MEMORY = "shared_memory_"
_MAX_SIZE = 2**63 - 1
_FIELDS: Mapping[type, str] = {
    bool: "bool_param",
    int: "int64_param",
    str: "string_param",
    float: "double_param",
}

Parameters = dict[str, bool | int | str | float]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request.

    Parameters
    ----------
    message : ModelInferRequest
        What the service is asked.
    is_binary : bool
        Whether the caller wants the outputs as binary data.
    is_binary_by_output : mapping of str to bool
        The same for outputs that say it themselves.
    """

    message: pb.ModelInferRequest
    is_binary: bool
    is_binary_by_output: Mapping[str, bool]

    def wants_binary(self, output: str) -> bool:
        """Return whether the caller wants an output as binary data."""
        return self.is_binary_by_output.get(output, self.is_binary)

    @property
    def seconds(self) -> float | None:
        """Time that the caller gives the request; None if it states none."""
        if TIMEOUT not in self.message.parameters:  # to look would make it
            return None
        microseconds = self.message.parameters[TIMEOUT].int64_param
        return microseconds / 1e6 if microseconds > 0 else None


def read_request(
    value: Any, place: Place, schema: InputSchema, binary: BinaryData
) -> InferRequest:
    """Translate a request.

    Parameters
    ----------
    value : object
        What its JSON says.
    place : Place
        Names the model.
    schema : InputSchema
        Schema of its rows.
    binary : BinaryData
        What follows the JSON.

    Returns
    -------
    InferRequest
        The request.

    Raises
    ------
    InvalidInstance
        If values of JSON do not fit their shape or datatype.
    Refusal
        If it is no request.
    """
    members = _object(value, "the body")
    if unknown := sorted(members.keys() - _MEMBERS):
        raise Refusal(
            f"{quote(unknown[0])} is no member of a request; known are "
            f"{', '.join(sorted(_MEMBERS))}"
        )
    parameters = _read_parameters(members, "the request")
    is_binary = _take_flag(parameters, _ALL_BINARY, "the request") or False
    message = pb.ModelInferRequest(model_name=place.model)
    if place.version:
        message.model_version = place.version
    if members.get("id") is not None:
        message.id = _text(members["id"], "id")
    _fill(message.parameters, parameters)
    _add_inputs(message, members.get("inputs"), schema, binary)
    return InferRequest(message, is_binary, _add_outputs(message, members))


def _add_inputs(
    message: pb.ModelInferRequest, value: Any, schema: InputSchema, binary: BinaryData
) -> None:
    if not isinstance(value, list) or not value:
        raise Refusal("inputs must be a list of one or more tensors")
    only = schema if len(value) == 1 else None
    for number, item in enumerate(value):
        _add_input(message, _object(item, f"inputs[{number}]"), number, only, binary)
    if binary.n_left:
        raise Refusal(f"{binary.n_left} bytes of binary data belong to no input")


def _add_input(
    message: pb.ModelInferRequest,
    members: Mapping[str, Any],
    number: int,
    only: InputSchema | None,
    binary: BinaryData,
) -> None:
    """Add an input; if it is the only one, it may hold all features of the schema `only`."""
    name = _text(members.get("name"), f"inputs[{number}].name")
    place = f"inputs[{quote(name)}]"
    datatype = _text(members.get("datatype"), f"{place}.datatype")
    shape = _read_shape(members.get("shape"), f"{place}.shape")
    parameters = _read_parameters(members, place)
    if _SIZE in parameters:
        size = _read_size(parameters.pop(_SIZE), members, place)
        raw = RawTensor(datatype, binary.take(size, place))
    elif any(parameter.startswith(_MEMORY) for parameter in parameters):
        raw = RawTensor(datatype, b"")  # the service refuses it
    elif "data" not in members:
        raise Refusal(f"{place}.data is missing")
    else:
        cells = _flatten(members["data"], shape, f"{place}.data")
        tensor = Tensor(name, datatype, shape, None, cells)
        raw = to_raw(tensor, only is not None and is_matrix(only, [tensor]))
    if raw.gaps:
        parameters[MISSING_ROWS] = _merge_gaps(parameters, raw)
    added = message.inputs.add(name=name, datatype=raw.datatype, shape=shape)
    _fill(added.parameters, parameters)
    message.raw_input_contents.append(raw.data)


def _merge_gaps(parameters: Parameters, raw: RawTensor) -> bool | int | str | float:
    """Return the rows that are null, and those that the caller names."""
    stated = parameters.get(MISSING_ROWS, "")
    if not isinstance(stated, str):
        return stated  # the service refuses it
    known = {word.strip() for word in stated.split(",")} if stated else ()
    more = [str(gap) for gap in raw.gaps if str(gap) not in known]
    return ",".join([stated, *more] if stated else more)


def _add_outputs(
    message: pb.ModelInferRequest, members: Mapping[str, Any]
) -> dict[str, bool]:
    """Add the outputs; return those that say whether they are wanted as binary data."""
    value = members.get("outputs")
    if not isinstance(value, list | None):
        raise Refusal("outputs must be a list of objects with a name")
    is_binary_by_output: dict[str, bool] = {}
    for position, item in enumerate(value or ()):
        place = f"outputs[{position}]"
        output = _object(item, place)
        name = _text(output.get("name"), f"{place}.name")
        parameters = _read_parameters(output, place)
        is_binary = _take_flag(parameters, _BINARY, place)
        if is_binary is not None:
            is_binary_by_output[name] = is_binary
        _fill(message.outputs.add(name=name).parameters, parameters)
    return is_binary_by_output


def _take_flag(parameters: Parameters, name: str, place: str) -> bool | None:
    """Remove a parameter that is for this translation alone; None if it did not come."""
    value = parameters.pop(name, None)
    if not isinstance(value, bool | None):
        raise Refusal(f"the parameter {name} of {place} must be true or false")
    return value


def _read_size(value: Any, members: Mapping[str, Any], place: str) -> int:
    if type(value) is not int or value < 0:
        raise Refusal(f"{place}.parameters.{_SIZE} must be a number of bytes")
    if "data" in members:
        raise Refusal(
            f"{place} has data and {_SIZE}; send one of the two, and {HEADER} with the latter"
        )
    return value


def _read_shape(value: Any, place: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(
        type(size) is int and abs(size) <= _MAX_SIZE for size in value
    ):
        raise Refusal(f"{place} must be a list of sizes, such as [2, 13]")
    return tuple(value)


def _flatten(data: Any, shape: tuple[int, ...], place: str) -> list[Any]:
    """Return the values of flat data, or of one list for each row."""
    if not isinstance(data, list):
        raise Refusal(f"{place} must be a list of values, or a list of lists of them")
    if list not in map(type, data):
        return data
    if len(shape) != 2:
        raise Refusal(f"{place} is nested, but its shape has not two sizes")
    if len(data) != shape[0]:
        raise Refusal(f"{place} has {len(data)} lists; its shape says {shape[0]}")
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != shape[1]:
            raise Refusal(f"{place}[{number}] must be a list of {shape[1]}")
    return [cell for row in data for cell in row]


def _read_parameters(members: Mapping[str, Any], place: str) -> Parameters:
    """Return the parameters, without those that are null."""
    value = members.get("parameters")
    if value is None:
        return {}
    place = f"the parameters of {place}"
    for name, content in _object(value, place).items():
        _text(name, f"a name in {place}")
        if type(content) is int and abs(content) > _MAX_SIZE:
            raise Refusal(f"{quote(name)} in {place} is an integer beyond 64 bits")
        if isinstance(content, dict | list):
            raise Refusal(
                f"{quote(name)} in {place} must be true, false, a number or a text"
            )
        if isinstance(content, str):
            _text(content, f"{quote(name)} in {place}")
    return {name: content for name, content in value.items() if content is not None}


def _fill(target: Any, parameters: Parameters) -> None:
    """Set parameters of a message."""
    for name, value in parameters.items():
        setattr(target[name], _FIELDS[type(value)], value)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(f"{place} must be an object")
    return value


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise Refusal(f"{place} must be a text")
    if not is_unicode(value):
        raise Refusal(f"{place} has half of a pair of surrogates")
    return value
