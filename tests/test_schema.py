"""The input schema: what fits gives a row, what does not is named."""

from math import inf, isnan, nan
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from grpc_server.errors import InvalidInstance
from grpc_server.model.schema import Feature, InputSchema

SCHEMA = InputSchema((Feature("age", nullable=False), Feature("income", nullable=True)))


def record(**members: Any) -> Struct:
    struct = Struct()
    struct.update(members)
    return struct


def violations(error: pytest.ExceptionInfo[InvalidInstance]) -> list[tuple[str, str]]:
    return [(v.field, v.description) for v in error.value.violations]


def test_features_by_position_are_the_row() -> None:
    assert list(SCHEMA.row_from_features([1.0, 2.0])) == [1.0, 2.0]


def test_a_missing_value_is_nan_where_the_feature_is_nullable() -> None:
    assert isnan(SCHEMA.row_from_features([1.0, nan])[1])
    assert isnan(SCHEMA.row_from_record(record(age=1.0, income=None).fields)[1])


def test_finite_features_whose_sum_overflows_are_accepted() -> None:
    assert list(SCHEMA.row_from_features([1.7e308, 1.7e308])) == [1.7e308, 1.7e308]


def test_a_record_is_put_in_the_order_of_the_schema() -> None:
    assert SCHEMA.row_from_record(record(income=2.0, age=1.0).fields) == [1.0, 2.0]


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_wrong_count_says_how_many_and_which(values: list[float]) -> None:
    with pytest.raises(InvalidInstance) as error:
        SCHEMA.row_from_features(values)

    assert violations(error) == [
        ("features", f"{len(values)} values came, 2 are needed: age, income")
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            [nan, 1.0],
            [
                (
                    "features[0]",
                    'nan is not allowed for "age", which takes a finite number',
                )
            ],
        ),
        (
            [inf, -inf],
            [
                (
                    "features[0]",
                    'inf is not allowed for "age", which takes a finite number',
                ),
                (
                    "features[1]",
                    '-inf is not allowed for "income", which takes a finite number or null',
                ),
            ],
        ),
    ],
)
def test_every_unfit_position_is_named(
    values: list[float], expected: list[tuple[str, str]]
) -> None:
    with pytest.raises(InvalidInstance) as error:
        SCHEMA.row_from_features(values)

    assert violations(error) == expected


@pytest.mark.parametrize(
    ("members", "field", "description"),
    [
        ({"income": 1.0}, 'record["age"]', "is missing; it takes a finite number"),
        (
            {"age": None, "income": 1.0},
            'record["age"]',
            "null is not allowed; it takes a finite number",
        ),
        (
            {"age": "old", "income": 1.0},
            'record["age"]',
            'the text "old" is not allowed; it takes a finite number',
        ),
        (
            {"age": True, "income": 1.0},
            'record["age"]',
            "the boolean true is not allowed; it takes a finite number",
        ),
        (
            {"age": [1.0], "income": 1.0},
            'record["age"]',
            "a list is not allowed; it takes a finite number",
        ),
        (
            {"age": {"years": 1.0}, "income": 1.0},
            'record["age"]',
            "an object is not allowed; it takes a finite number",
        ),
        (
            {"age": inf, "income": 1.0},
            'record["age"]',
            "inf is not allowed; it takes a finite number",
        ),
        (
            {"age": 1.0, "income": 1.0, "Age": 1.0},
            'record["Age"]',
            "is not a feature of the model, which has: age, income",
        ),
    ],
    ids=["missing", "null", "text", "boolean", "list", "object", "infinite", "unknown"],
)
def test_an_unfit_member_is_named_with_its_value(
    members: dict[str, Any], field: str, description: str
) -> None:
    with pytest.raises(InvalidInstance) as error:
        SCHEMA.row_from_record(record(**members).fields)

    assert violations(error) == [(field, description)]


def test_all_unfit_members_are_named_at_once() -> None:
    with pytest.raises(InvalidInstance) as error:
        SCHEMA.row_from_record(record(age="old", wage=1.0).fields)

    assert [field for field, _ in violations(error)] == [
        'record["age"]',
        'record["income"]',
        'record["wage"]',
    ]
    assert str(error.value).endswith("(and 2 more)")
