"""The OpenAPI document is made from the contract, and the real Envoy and server obey it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from openapi import Generator, UnknownToGenerator, compile_contract
from rest_support import five_feature_artifact, running_envoy
from support import ROOT, running_server, write_artifact

DOCUMENT = ROOT / "proto" / "openapi.yaml"
# Without unsupported_method: Envoy's parser answers the unknown method QUERY with 400.
# Without negative_data_rejection: protobuf's JSON accepts unknown fields, and "1" as a number.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
schema = schemathesis.openapi.from_path(DOCUMENT)


@pytest.fixture(scope="session")
def url(
    tmp_path_factory: pytest.TempPathFactory, clean_environment: None
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("envoy")
    model_dir = write_artifact(folder / "model", five_feature_artifact())
    with (
        running_server(model_dir) as server,
        running_envoy(folder, server.port, server.http_port) as url,
    ):
        yield url


@schema.parametrize()
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_sent_the_answer_is_as_documented(
    case: schemathesis.Case[Any], url: str
) -> None:
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/predict", "POST", {"features": [1, 2, 3, 4, 5]}),
        ("/predict", "POST", {"record": {f"f{n}": n for n in range(5)}}),
        ("/predict/batch", "POST", {"values": [1, 2, 3, 4, 5] * 2}),
        (
            "/predict/batch",
            "POST",
            {
                "columns": [
                    {"name": f"f{n}", "doubles": {"values": [n, 0]}} for n in range(5)
                ]
            },
        ),
        ("/model", "GET", None),
    ],
    ids=["features", "record", "values", "columns", "model"],
)
def test_good_answers_are_as_documented(
    url: str, path: str, method: str, body: Any
) -> None:
    """Random requests hardly ever fit the model."""
    case = schema[path][method].Case(body=body) if body else schema[path][method].Case()

    response = case.call(base_url=url)

    assert response.status_code == 200
    case.validate_response(response, checks=CHECKS)


def test_every_operation_of_the_contract_is_in_the_document() -> None:
    file = compile_contract(ROOT / "proto")

    paths: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text())["paths"]
    operations = [
        verb["operationId"] for path in paths.values() for verb in path.values()
    ]

    methods = [method for service in file.service for method in service.method]
    assert operations == [
        method.name
        for method in methods
        if method.options.HasExtension(annotations_pb2.http)
    ]
    # Streams have no route.
    assert len(methods) == len(operations) + 1


def test_the_committed_document_is_what_the_contract_gives() -> None:
    printed = subprocess.run(
        [sys.executable, "proto/tools/openapi.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed == DOCUMENT.read_text()


CONTRACT = """
syntax = "proto3";
package test.v1;
import "google/api/annotations.proto";
import "google/protobuf/duration.proto";
// Says hello.
service GreetService {{
  // Greets.
  rpc Greet(GreetRequest) returns ({returns}) {{
    option (google.api.http) = {{{rule}}};
  }}
}}
// A request.
message GreetRequest {{
  {field}
}}
// A reply.
message GreetResponse {{}}
"""
PLAIN = {
    "rule": 'post: "/greet" body: "*"',
    "field": "string name = 1;",
    "returns": "GreetResponse",
}


def compile_variant(folder: Path, **changes: str) -> FileDescriptorProto:
    """Compile the small contract with one part replaced."""
    (folder / "google").symlink_to(ROOT / "proto" / "google")
    (folder / "greet.proto").write_text(CONTRACT.format(**PLAIN | changes))
    return compile_contract(folder, "greet.proto")


def test_comments_become_descriptions(tmp_path: Path) -> None:
    field = "// Who.\n//\n//   - indented\nrepeated int32 ids = 1;"

    document = Generator(compile_variant(tmp_path, field=field)).document()

    assert document["info"]["description"] == "Says hello."
    assert document["paths"]["/greet"]["post"]["description"] == "Greets."
    assert document["components"]["schemas"]["GreetRequest"] == {
        "description": "A request.",
        "type": "object",
        "properties": {
            "ids": {
                "description": "Who.\n\n  - indented",
                "type": "array",
                "items": {"type": "integer", "format": "int32"},
            }
        },
    }


def test_one_field_of_a_oneof_is_required(tmp_path: Path) -> None:
    field = "oneof a { string b = 1; string c = 2; } optional string d = 3;"
    file = compile_variant(tmp_path, field=field)

    schema = Generator(file).document()["components"]["schemas"]["GreetRequest"]

    assert schema["allOf"] == [{"oneOf": [{"required": ["b"]}, {"required": ["c"]}]}]
    assert "required" not in schema


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": 'get: "/greet"'}, "takes fields in its query"),
        ({"rule": 'put: "/greet" body: "*"'}, "neither a get nor a post"),
        ({"rule": 'post: "/greet"'}, "neither a get nor a post"),
        ({"rule": 'post: "/greet/{name}" body: "*"'}, "a rule that is more"),
        ({"field": "int64 name = 1;"}, "field name has the type TYPE_INT64"),
        ({"field": "google.protobuf.Duration name = 1;"}, "Duration"),
        ({"returns": "stream GreetResponse"}, "is a stream"),
        ({"field": "Unknown name = 1;"}, "protoc cannot compile"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(*value.values()),
)
def test_what_the_generator_has_no_rule_for_is_refused(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(UnknownToGenerator, match=message):
        Generator(compile_variant(tmp_path, **changes)).document()


@pytest.mark.parametrize("module", [annotations_pb2, http_pb2])
def test_copied_contracts_are_those_that_the_generated_code_imports(
    module: Any,
) -> None:
    """They are copied into proto/, because buf reads no files outside of it."""
    name = module.DESCRIPTOR.name
    original = Path(module.__file__).with_name(name.rpartition("/")[2])

    assert (ROOT / "proto" / name).read_text() == original.read_text()
