"""Dates and times of day: training and the server read and split them alike, to the last bit."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from date_columns.cells import read_seconds
from date_columns.forms import DateForm
from date_columns.parts import PARTS
from grpc_server.errors import InvalidInstance
from grpc_server.model.columns import read_columns
from grpc_server.model.estimator import Estimator, Explanation
from grpc_server.model.schema import InputSchema
from prediction.artifact.v1 import model_artifact_pb2
from training.data.date_features import choose_parts, write_dates
from training.data.schema import Feature, Kind

moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))


@given(moments)
def test_a_date_is_the_same_double_however_it_comes(moment: datetime) -> None:
    form = DateForm("date", "%Y-%m-%d")
    texts = pd.Series([moment.isoformat()], dtype=object)
    typed = pd.Series(np.array([moment], dtype="datetime64[us]"))
    expected = form.parse(moment.isoformat())
    assert expected is not None

    for column in (texts, typed, pd.Series([moment], dtype=object)):
        seconds, broken = read_seconds(column, form)
        assert seconds.tolist() == [expected] and not broken.any()
    assert form.parse(form.write(expected)) == expected
    table = write_dates(
        np.array([expected]), Feature("c", Kind.DATE, format=form.format)
    )
    assert read_seconds(table, form)[0].tolist() == [expected]


@given(moments)
def test_parts_are_those_of_the_calendar_for_one_cell_and_for_a_column(
    moment: datetime,
) -> None:
    seconds = DateForm("date", "%Y-%m-%d").parse(moment.isoformat())
    assert seconds is not None
    one = {name: part(seconds) for name, part in PARTS["date"].items()}
    column = {name: part(np.array([seconds])) for name, part in PARTS["date"].items()}
    # A double holds late dates to the microsecond only roughly.
    shown = datetime.fromisoformat(DateForm("date", "%Y-%m-%d").write(seconds))

    assert one == {name: values.tolist()[0] for name, values in column.items()}
    assert one["year"] == shown.year and one["month"] == shown.month
    assert one["weekday"] == shown.weekday() and one["hour"] == shown.hour


def test_zones_are_stated_by_all_cells_or_by_none() -> None:
    zoned = DateForm("date", "%Y-%m-%dT%H:%M:%S%z")
    plain = DateForm("date", "%Y-%m-%d")
    noon = datetime(2024, 1, 31, 12, tzinfo=UTC).timestamp()

    assert zoned.parse("2024-01-31T14:00:00+02:00") == noon
    assert zoned.parse("2024-01-31T12:00:00") is None
    assert zoned.parse("2024-01-31") is None
    assert (
        plain.parse("2024-01-31T12:00:00") == plain.parse("2024-01-31 12:00Z") == noon
    )
    assert plain.parse("2024-01-31T14:00:00+02:00") is None


@pytest.mark.parametrize(
    "text", ["", "31/02/2024", "31/1/24 25:00", "2024-13-01", "1" * 200, "31/01/2024x"]
)
def test_no_other_text_is_a_date(text: str) -> None:
    assert DateForm("date", "%d/%m/%Y").parse(text) is None


def test_only_parts_that_vary_are_taken() -> None:
    form = DateForm("date", "%Y-%m-%d")
    days = np.array([0.0, 86400.0, np.nan])

    assert choose_parts(form, days) == ("days", "weekday")
    assert choose_parts(form, np.array([np.nan])) == ("days",)


def make_schema() -> InputSchema:
    message = model_artifact_pb2.InputSchema()
    message.features.add(name="x").numeric.SetInParent()
    born = message.features.add(name="born", nullable=True)
    born.date.format = "%d/%m/%Y"
    born.date.parts.extend(
        [model_artifact_pb2.DATE_PART_DAYS, model_artifact_pb2.DATE_PART_MONTH]
    )
    return InputSchema.from_message(message)


def test_a_cell_that_is_no_date_is_named_with_what_is_allowed() -> None:
    record = Struct()
    record.update({"x": 1.0, "born": "31/02/2024"})

    with pytest.raises(InvalidInstance) as caught:
        make_schema().row_from_record(record.fields)

    assert caught.value.violations[0].field == 'record["born"]'
    assert caught.value.violations[0].description == (
        'the text "31/02/2024" is not allowed; it takes a date such as '
        '"31/01/2024" (%d/%m/%Y) or "2024-01-31T10:30:00" or null'
    )


class _Echo:
    """An estimator whose answers are its input."""

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        return row

    def predict_batch(self, X: np.ndarray) -> np.ndarray:
        return X

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        return Explanation(sum(row), 0.0, row)


def test_callers_see_columns_and_the_estimator_sees_parts() -> None:
    schema = make_schema()
    echo: Estimator = _Echo()
    estimator = read_columns(echo, schema)
    row = [1.0, 86_400.0 * 32]

    assert estimator.predict_probabilities(row) == [1.0, 32.0, 2.0]
    assert estimator.predict_batch(np.array([row])).tolist() == [[1.0, 32.0, 2.0]]
    assert estimator.explain(row, 0).contributions == [1.0, 34.0]
    assert read_columns(echo, InputSchema(schema.features[:1])) is echo
