"""`make openapi`: the OpenAPI document of the contract's HTTP routes, printed as YAML.

Knows the part of google.api.http and of protobuf's JSON that the contract uses, and refuses the
rest. The descriptions are the contract's comments; this program adds none to them. The
document states what Envoy's transcoder does with the options of
k8s/components/envoy-json/envoy.yaml.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc_tools
import yaml
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from grpc_tools import protoc

CONTRACT = "prediction/v1/prediction_service.proto"
HEADER = f"# Generated from {CONTRACT} by make openapi; not to be edited.\n"

_Schema = dict[str, Any]

_PORT_REFUSALS: Mapping[str, str] = {
    "401": "The server knows its callers, and no token that it knows came.",
    "403": "The caller may not do this, or a page of another site sent the request.",
    "411": "The request has no Content-Length.",
    "413": "The request is larger than 1 MiB, or than --max-message-bytes.",
    "415": "The Content-Type is not application/json.",
    "429": "The server has more calls than it may. Try again.",
    "501": "The server does not describe its model.",
}

_SCHEMA_BY_SCALAR: Mapping[int, _Schema] = {
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptorProto.TYPE_DOUBLE: {"$ref": "#/components/schemas/Double"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_UINT32: {
        "type": "integer",
        "format": "uint32",
        "minimum": 0,
    },
}
_SCHEMA_BY_WELL_KNOWN: Mapping[str, _Schema] = {
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
}
_DOUBLE: _Schema = {
    "description": "A number in double precision; NaN and the infinities are text.",
    "oneOf": [
        {"type": "number", "format": "double"},
        {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]},
    ],
}
_STATUS: _Schema = {
    "description": "google.rpc.Status, the body of every error.",
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"description": "A google.rpc.Code.", "type": "integer"},
        "message": {"type": "string"},
        "details": {
            "description": "google.rpc.ErrorInfo with the reason. If the request does not fit the "
            "model, also google.rpc.BadRequest with the field_violations. Empty if the request did "
            "not reach the server.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["@type"],
                "properties": {"@type": {"type": "string"}},
            },
        },
    },
}
_ERRORS: Mapping[str, str] = {
    "400": "The request is not JSON, not of this schema, or does not fit the model.",
    "408": "The request did not arrive within 15 seconds.",
    "413": "The request is larger than 1 MiB.",
    "500": "The server failed.",
    "503": "No model is loaded yet, or the server cannot be reached. Try again.",
    "504": "The server did not answer within 10 seconds.",
}


class UnknownToGenerator(Exception):
    """The contract uses something for which this generator has no rule."""


def compile_contract(root: Path, contract: str = CONTRACT) -> FileDescriptorProto:
    """Return the descriptor of a contract, with its comments.

    Parameters
    ----------
    root : Path
        Folder with all contracts.
    contract : str
        Path of the contract below `root`.

    Returns
    -------
    FileDescriptorProto
        The descriptor, with `source_code_info`.

    Raises
    ------
    UnknownToGenerator
        If protoc cannot compile it.
    """
    own = Path(grpc_tools.__file__).parent / "_proto"
    with TemporaryDirectory() as folder:
        output = Path(folder) / "contract.binpb"
        arguments = [f"-I{root}", f"-I{own}", f"--descriptor_set_out={output}"]
        if protoc.main(["protoc", *arguments, "--include_source_info", contract]):
            raise UnknownToGenerator(f"protoc cannot compile {contract}")
        (file,) = FileDescriptorSet.FromString(output.read_bytes()).file
    return file


class Generator:
    """Builds the document of one file with one service."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comment_by_path = {
            tuple(location.path): location.leading_comments
            for location in file.source_code_info.location
        }
        self._message_by_name = {
            f".{file.package}.{message.name}": message for message in file.message_type
        }
        methods = [
            method
            for service in file.service
            for method in service.method
            if method.options.HasExtension(annotations_pb2.http)
        ]
        self._requests = self._reach(method.input_type for method in methods)
        self._responses = self._reach(method.output_type for method in methods)

    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        (service,) = self._file.service
        paths: dict[str, Any] = {}
        for position, method in enumerate(service.method):
            if not method.options.HasExtension(annotations_pb2.http):
                continue  # only gRPC has it
            verb, path = _route(method)
            comment = self._comment(6, 0, 2, position)
            paths.setdefault(path, {})[verb] = self._operation(method, verb, comment)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": service.name,
                "version": self._file.package.rpartition(".")[2],
                "description": self._comment(6, 0),
            },
            "servers": [{"url": "http://localhost:8000"}],
            "paths": paths,
            "components": {
                "responses": dict(_error_responses()),
                "schemas": dict(self._schemas()),
            },
        }

    def _comment(self, *path: int) -> str:
        """Return the comment at `path`, as descriptor.proto's SourceCodeInfo numbers them."""
        lines = self._comment_by_path.get(path, "").strip().split("\n")
        return "\n".join(line.removeprefix(" ") for line in lines)

    def _operation(
        self, method: MethodDescriptorProto, verb: str, comment: str
    ) -> dict[str, Any]:
        operation: dict[str, Any] = {"operationId": method.name, "description": comment}
        if verb == "post":
            operation["requestBody"] = {
                "required": True,
                **_json(self._reference(method.input_type)),
            }
        elif self._message_by_name[method.input_type].field:
            raise UnknownToGenerator(f"{method.name} takes fields in its query")
        answer = self._reference(method.output_type)
        operation["responses"] = {"200": {"description": "OK", **_json(answer)}}
        for status in _ERRORS:
            error = {"$ref": f"#/components/responses/{status}"}
            operation["responses"][status] = error
        return operation

    def _reference(self, name: str) -> _Schema:
        return {"$ref": f"#/components/schemas/{name.rpartition('.')[2]}"}

    def _reach(self, roots: Iterable[str]) -> set[str]:
        return {name for root in roots for name in self._reachable(root)}

    def _reachable(self, name: str) -> Iterator[str]:
        """Yield `name` and the messages of this file that it contains."""
        yield name
        for field in self._message_by_name[name].field:
            if field.type_name in self._message_by_name:
                yield from self._reachable(field.type_name)

    def _schemas(self) -> Iterator[tuple[str, _Schema]]:
        for position, message in enumerate(self._file.message_type):
            name = f".{self._file.package}.{message.name}"
            if not message.field or name not in self._requests | self._responses:
                continue  # a request without a body, or one that only gRPC has
            yield message.name, self._object(message, position)
        for position, enum in enumerate(self._file.enum_type):
            yield enum.name, self._enumeration(enum, position)
        yield "Double", _DOUBLE
        yield "Status", _STATUS

    def _enumeration(self, enum: EnumDescriptorProto, position: int) -> _Schema:
        values = [value.name for value in enum.value]
        lines = [self._comment(5, position), ""]
        for number, name in enumerate(values):
            lines.append(f"- {name}: {self._comment(5, position, 2, number)}")
        return {"description": "\n".join(lines), "type": "string", "enum": values}

    def _object(self, message: DescriptorProto, position: int) -> _Schema:
        schema: _Schema = {
            "description": self._comment(4, position),
            "type": "object",
        }
        schema.update(_alternatives(message))
        name = f".{self._file.package}.{message.name}"
        # The transcoder also prints the fields of an answer that have their default value.
        always = [field.name for field in message.field if _has_no_presence(field)]
        if always and name not in self._requests:
            schema["required"] = always
        schema["properties"] = {
            field.name: {
                "description": self._comment(4, position, 2, number),
                **self._field(field, message),
            }
            for number, field in enumerate(message.field)
        }
        return schema

    def _field(self, field: FieldDescriptorProto, message: DescriptorProto) -> _Schema:
        entry = _map_entry(field, message)
        if entry is not None:
            _, value = entry.field
            return {
                "type": "object",
                "additionalProperties": self._value(value),
            }
        schema = self._value(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return {"type": "array", "items": schema}
        return schema

    def _value(self, field: FieldDescriptorProto) -> _Schema:
        if field.type in _SCHEMA_BY_SCALAR:
            return _SCHEMA_BY_SCALAR[field.type]
        if field.type_name in _SCHEMA_BY_WELL_KNOWN:
            return _SCHEMA_BY_WELL_KNOWN[field.type_name]
        enums = {f".{self._file.package}.{enum.name}" for enum in self._file.enum_type}
        if field.type_name in enums or field.type_name in self._message_by_name:
            return self._reference(field.type_name)
        kind = field.type_name or FieldDescriptorProto.Type.Name(field.type)
        raise UnknownToGenerator(
            f"field {field.name} has the type {kind}, for which there is no rule"
        )


def _route(method: MethodDescriptorProto) -> tuple[str, str]:
    """Return the verb and path of `method`."""
    if method.client_streaming or method.server_streaming:
        raise UnknownToGenerator(f"{method.name} is a stream")
    rule = method.options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    if (verb, rule.body) not in (("get", ""), ("post", "*")):
        raise UnknownToGenerator(
            f'{method.name} is neither a get nor a post with body "*"'
        )
    path: str = getattr(rule, verb)
    if rule.additional_bindings or rule.response_body or "{" in path or ":" in path:
        raise UnknownToGenerator(
            f"{method.name} has a rule that is more than a plain path"
        )
    return verb, path


def _json(schema: _Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _error_responses() -> Iterator[tuple[str, dict[str, Any]]]:
    for status, description in _ERRORS.items():
        schema = {"$ref": "#/components/schemas/Status"}
        yield status, {"description": description, **_json(schema)}


def _alternatives(message: DescriptorProto) -> _Schema:
    """Return the rule that one field of each oneof is set, as the contract's comments require."""
    choices = [
        [field.name for field in message.field if _is_member(field, position)]
        for position in range(len(message.oneof_decl))
    ]
    rules = [
        {"oneOf": [{"required": [name]} for name in names]}
        for names in choices
        if names
    ]
    return {"allOf": rules} if rules else {}


def _is_member(field: FieldDescriptorProto, oneof: int) -> bool:
    return (
        field.HasField("oneof_index")
        and field.oneof_index == oneof
        and not field.proto3_optional
    )


def _has_no_presence(field: FieldDescriptorProto) -> bool:
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return True
    # protoc puts each optional field into a oneof of its own.
    return field.type != FieldDescriptorProto.TYPE_MESSAGE and not field.HasField(
        "oneof_index"
    )


def _map_entry(
    field: FieldDescriptorProto, message: DescriptorProto
) -> DescriptorProto | None:
    """Return the type of the entries if `field` is a map, which descriptors store as pairs."""
    for nested in message.nested_type:
        if field.type_name.endswith(f".{message.name}.{nested.name}"):
            return nested if nested.options.map_entry else None
    return None


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as blocks, and never an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def describe_port(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document of the server's own HTTP port, made of that of the proxy.

    Parameters
    ----------
    document : dict
        The proxy's document.

    Returns
    -------
    dict
        The same operations below /v1, with the refusals of the port.
    """
    responses = document["components"]["responses"]
    own = {
        code: {**responses["400"], "description": text}
        for code, text in _PORT_REFUSALS.items()
    }
    paths = {
        path: {
            verb: operation
            | {
                "responses": operation["responses"]
                | {code: {"$ref": f"#/components/responses/{code}"} for code in own}
            }
            for verb, operation in operations.items()
        }
        for path, operations in document["paths"].items()
    }
    scheme = {"type": "http", "scheme": "bearer"}
    return document | {
        "servers": [{"url": "/v1"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": document["components"]
        | {"responses": responses | own, "securitySchemes": {"token": scheme}},
    }


def main(arguments: Sequence[str]) -> None:
    """Print the document of the contract in the given folder, by default this project's.

    After --port, the document of the server's own HTTP port is printed instead, as JSON.
    """
    folders = [one for one in arguments if one != "--port"]
    root = Path(folders[0]) if folders else Path(__file__).parents[1]
    document = Generator(compile_contract(root)).document()
    if "--port" in arguments:
        sys.stdout.write(json.dumps(describe_port(document), indent=1) + "\n")
        return
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100)
    sys.stdout.write(HEADER + body)


if __name__ == "__main__":
    main(sys.argv[1:])
