"""DataFrames of both libraries, against real servers: their answers, and what does not fit."""

import math
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import polars as pl
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import prediction
from grpc_server.model import load_model
from prediction import (
    FieldViolation,
    InvalidInstanceError,
    ModelChangedError,
    PredictionClient,
    PredictionError,
    ServerError,
)
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1 import prediction_service_pb2 as pb

from log_support import read_lines
from scripted_server import ScriptedServicer, abort, scripted_server, status_of
from support import running_server, write_artifact
from table_support import add_golden_examples, table_lightgbm, table_rows, to_record
from wire import bad_request

pytestmark = pytest.mark.usefixtures("each_client")
Frame = Callable[[dict[str, list[Any]]], Any]
CLIENT_ROOT = Path(prediction.__file__).parent.parent


def pandas_frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def polars_frame(columns: dict[str, list[Any]]) -> pl.DataFrame:
    return pl.DataFrame(columns)


@pytest.fixture(params=[pandas_frame, polars_frame], ids=["pandas", "polars"])
def to_frame(request: pytest.FixtureRequest) -> Any:
    return request.param


def table_model(n_classes: int = 3) -> ModelArtifact:
    """Return an artifact of the table."""
    artifact, classifier, rows = table_lightgbm(n_classes)
    artifact.input_schema.features[3].categorical.refuse_unknown = True
    probabilities = np.asarray(classifier.predict_proba(rows[:4]))
    add_golden_examples(artifact, rows[:4], probabilities)
    return artifact


@contextmanager
def serve(folder: Path, **changes: Any) -> Iterator[PredictionClient]:
    """Return a client of a server of the artifact in `folder`."""
    with (
        running_server(folder, **changes) as server,
        PredictionClient(f"127.0.0.1:{server.port}") as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client(
    each_client: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PredictionClient]:
    """Return a client of a server with a model that has all kinds of features."""
    with serve(
        write_artifact(tmp_path_factory.mktemp("model"), table_model())
    ) as client:
        yield client


def table_columns(n_rows: int) -> dict[str, list[Any]]:
    """Return the columns of the table, as a caller has them."""
    records = [to_record(row) for row in table_rows(n_rows)]
    return {name: [record[name] for record in records] for name in records[0]}


def to_columns(frame: Any) -> dict[str, list[Any]]:
    """Return the columns of an answer."""
    if isinstance(frame, pd.DataFrame):
        return {str(name): frame[name].tolist() for name in frame}
    columns: dict[str, list[Any]] = frame.to_dict(as_series=False)
    return columns


def refusal(client: PredictionClient, frame: Any, **options: Any) -> str:
    """Return the text of the error for a frame."""
    with pytest.raises(InvalidInstanceError) as caught:
        client.predict_frame(frame, **options)
    return str(caught.value)


def test_a_frame_is_answered_as_its_rows_alone(
    client: PredictionClient, to_frame: Frame
) -> None:
    columns = table_columns(40)
    records = [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
    expected = [client.predict(record) for record in records]

    frame = to_frame(columns)
    answer = client.predict_frame(frame)

    assert type(answer) is type(frame)
    assert to_columns(answer) == {
        "label": [p.label for p in expected],
        **{
            f"probability_{k}": [p.probabilities[k] for p in expected] for k in range(3)
        },
        "model_version": [expected[0].model_version] * 40,
    }


def test_an_import_and_a_prediction_import_no_library_of_frames() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(CLIENT_ROOT)!r})\n"
        "import prediction, prediction.__main__\n"
        "with prediction.PredictionClient('127.0.0.1:1', max_attempts=1) as client:\n"
        "    for call in (client.predict, client.predict_frame):\n"
        "        try: call({'a': 1.0})\n"
        "        except (TypeError, prediction.PredictionError): pass\n"
        "print({'numpy', 'pandas', 'polars'} & set(sys.modules))"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert run.stdout == "set()\n"


PANDAS_COLUMNS: dict[str, list[Any]] = {
    "age": [
        pytest.param([1, None, 2.5], "float64", id="float64"),
        pytest.param([1, None, 2.5], "float32", id="float32"),
        pytest.param([1, None, 2.5], "Float64", id="Float64"),
        pytest.param([1, None, 2.5], "double[pyarrow]", id="pyarrow"),
        pytest.param([1, None, np.float32(2.5)], "object", id="object"),
        pytest.param([1, pd.NaT, Decimal("2.5")], "object", id="object-NaT-Decimal"),
        pytest.param([1, np.nan, Fraction(5, 2)], "object", id="object-nan-Fraction"),
    ],
    "smoker": [
        pytest.param([True, False, True], "bool", id="bool"),
        pytest.param([True, False, True], "boolean", id="boolean"),
        pytest.param([True, False, True], "bool[pyarrow]", id="pyarrow"),
        pytest.param([np.True_, False, True], "object", id="object"),
    ],
    "city": [
        pytest.param(["Oslo", None, ""], "object", id="object-None"),
        pytest.param(["Oslo", pd.NA, np.str_("")], "object", id="object-NA"),
        pytest.param(["Oslo", np.nan, ""], "object", id="object-nan"),
        pytest.param(["Oslo", None, ""], "str", id="str"),
        pytest.param(["Oslo", None, ""], "string", id="string"),
        pytest.param(["Oslo", None, ""], "string[pyarrow]", id="pyarrow"),
        pytest.param(["Oslo", None, ""], "category", id="category"),
    ],
    "grade": [
        pytest.param([10, -5, 2**53], "int64", id="int64"),
        pytest.param([10, -5, 2**53], "Int64", id="Int64"),
        pytest.param([10, -5, 2**53], "float64", id="float64"),
        pytest.param([10, -5, 2**53], "int64[pyarrow]", id="pyarrow"),
        pytest.param([10, -5, 2**53], "category", id="category"),
        pytest.param([np.int8(10), -5.0, Decimal(2**53)], "object", id="object"),
    ],
}
POLARS_COLUMNS: dict[str, list[Any]] = {
    "age": [pl.Float64, pl.Float32, pl.Decimal(10, 1), pl.Object],
    "smoker": [pl.Boolean, pl.Object],
    "city": [pl.String, pl.Categorical, pl.Enum(["", "Oslo"]), pl.Object],
    "grade": [pl.Int64, pl.Int128, pl.Float64, pl.Decimal(20, 0), pl.Object],
}
PLAIN_COLUMNS: dict[str, list[Any]] = {
    "age": [1.0, None, 2.5],
    "hours": [1e4, 1e4, 1e4],
    "smoker": [True, False, True],
    "city": ["Oslo", None, ""],
    "grade": [10, -5, 2**53],
}


@pytest.mark.parametrize(
    ("name", "values", "dtype"),
    [
        pytest.param(name, *param.values, id=f"{name}-{param.id}")
        for name, params in PANDAS_COLUMNS.items()
        for param in params
    ],
)
def test_columns_of_pandas_may_be_of_any_type_that_holds_the_values(
    client: PredictionClient, name: str, values: list[Any], dtype: str
) -> None:
    expected = client.predict_frame(pd.DataFrame(PLAIN_COLUMNS))

    frame = pd.DataFrame(PLAIN_COLUMNS).assign(**{name: pd.Series(values, dtype=dtype)})

    pd.testing.assert_frame_equal(client.predict_frame(frame), expected)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, id=f"{name}-{dtype}")
        for name, dtypes in POLARS_COLUMNS.items()
        for dtype in dtypes
    ],
)
def test_columns_of_polars_may_be_of_any_type_that_holds_the_values(
    client: PredictionClient, name: str, dtype: Any
) -> None:
    expected = client.predict_frame(pl.DataFrame(PLAIN_COLUMNS))
    series = pl.Series(name, PLAIN_COLUMNS[name], dtype, strict=False)

    frame = pl.DataFrame(PLAIN_COLUMNS).with_columns(series)

    assert client.predict_frame(frame).equals(expected)


@pytest.mark.parametrize(
    "smoker",
    [
        pd.Series([True, None, False], dtype=object),
        pd.Series([True, np.nan, False], dtype=object),
        pd.Series([True, None, False], dtype="boolean"),
        pl.Series([True, None, False]),
    ],
    ids=["object-None", "object-nan", "boolean", "polars"],
)
def test_a_truth_value_may_be_missing(
    tmp_path: Path, smoker: "pd.Series[Any] | pl.Series"
) -> None:
    artifact = table_model()
    artifact.input_schema.features[2].nullable = True
    frame: Any = (
        pd.DataFrame(PLAIN_COLUMNS).assign(smoker=smoker)
        if isinstance(smoker, pd.Series)
        else pl.DataFrame(PLAIN_COLUMNS).with_columns(smoker=smoker)
    )

    with serve(write_artifact(tmp_path, artifact)) as client:
        answer = client.predict_frame(frame)
        rows = [
            dict(zip(PLAIN_COLUMNS, row, strict=True))
            for row in zip(*PLAIN_COLUMNS.values(), strict=True)
        ]
        expected = [
            client.predict(row | {"smoker": value}).probabilities[0]
            for row, value in zip(rows, [True, None, False], strict=True)
        ]

    assert to_columns(answer)["probability_0"] == expected


def test_whole_numbers_are_numbers(client: PredictionClient, to_frame: Frame) -> None:
    columns = PLAIN_COLUMNS | {"hours": [1, 2**60, -3]}
    expected = client.predict_frame(
        to_frame(PLAIN_COLUMNS | {"hours": [1.0, 2.0**60, -3.0]})
    )

    answer = client.predict_frame(to_frame(columns))

    assert to_columns(answer) == to_columns(expected)


def test_nan_of_polars_is_missing_as_null_is(client: PredictionClient) -> None:
    columns = PLAIN_COLUMNS | {"age": [1.0, float("nan"), 2.5]}

    answer = client.predict_frame(pl.DataFrame(columns))

    assert answer.equals(client.predict_frame(pl.DataFrame(PLAIN_COLUMNS)))


@pytest.mark.parametrize(
    "convert",
    [
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
        lambda frame: frame.astype(object),
        lambda frame: frame.astype({"age": pd.SparseDtype("float64")}),
        lambda frame: frame.astype({"smoker": "category", "hours": "category"}),
    ],
    ids=["nullable", "pyarrow", "object", "sparse", "category"],
)
def test_a_frame_converted_by_pandas_gives_the_same_answer(
    client: PredictionClient, convert: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    frame = pd.DataFrame(table_columns(50))

    answer = client.predict_frame(convert(frame))

    pd.testing.assert_frame_equal(answer, client.predict_frame(frame))


def test_sorted_rows_have_sorted_answers(client: PredictionClient) -> None:
    frame = pd.DataFrame(table_columns(50))
    expected = client.predict_frame(frame)
    order = frame["hours"].argsort().to_numpy()

    of_pandas = client.predict_frame(frame.iloc[order], rows_per_call=7)
    of_polars = client.predict_frame(
        pl.DataFrame(table_columns(50))[order.tolist()], rows_per_call=7
    )

    pd.testing.assert_frame_equal(of_pandas, expected.iloc[order])
    assert to_columns(of_polars) == to_columns(of_pandas)


def test_many_threads_share_a_client(client: PredictionClient) -> None:
    frame = pl.DataFrame(table_columns(50))
    expected = client.predict_frame(frame)

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda _: client.predict_frame(frame, rows_per_call=10), range(16)
        )

    assert all(answer.equals(expected) for answer in answers)


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([7, 7, 7], name="id"),
        pd.Index(["c", "a", "b"]),
        pd.MultiIndex.from_tuples([("x", 1), ("x", 0), ("w", 1)]),
        pd.date_range("2026-01-01", periods=3, tz="UTC"),
    ],
    ids=["twice", "texts", "multi", "times"],
)
def test_an_answer_of_pandas_has_the_index_and_order_of_its_frame(
    client: PredictionClient, index: pd.Index
) -> None:
    expected = client.predict_frame(pd.DataFrame(PLAIN_COLUMNS))

    answer = client.predict_frame(pd.DataFrame(PLAIN_COLUMNS).set_index(index))

    pd.testing.assert_frame_equal(answer, expected.set_index(index))


def test_columns_may_come_in_any_order(
    client: PredictionClient, to_frame: Frame
) -> None:
    turned = dict(reversed(PLAIN_COLUMNS.items()))

    answer = client.predict_frame(to_frame(turned))

    assert to_columns(answer) == to_columns(
        client.predict_frame(to_frame(PLAIN_COLUMNS))
    )


def test_no_rows_give_no_rows(client: PredictionClient, to_frame: Frame) -> None:
    frame = to_frame(PLAIN_COLUMNS)
    full = client.predict_frame(frame)

    answer = client.predict_frame(frame[:0])

    assert list(answer.columns) == list(full.columns)
    assert list(answer.dtypes) == list(full.dtypes)
    assert len(answer) == 0


def test_a_subclass_of_a_frame_is_one(client: PredictionClient) -> None:
    class Table(pd.DataFrame):
        """A subclass, as other libraries have."""

    answer = client.predict_frame(Table(PLAIN_COLUMNS))

    pd.testing.assert_frame_equal(
        answer, client.predict_frame(pd.DataFrame(PLAIN_COLUMNS))
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (PLAIN_COLUMNS, "builtins.dict"),
        (pl.LazyFrame(PLAIN_COLUMNS), "polars.lazyframe.frame.LazyFrame"),
        (pd.Series([1.0]), "pandas.Series"),
        (np.ones((2, 5)), "numpy.ndarray"),
    ],
    ids=["dict", "LazyFrame", "Series", "ndarray"],
)
def test_what_is_no_frame_is_refused(
    client: PredictionClient, value: Any, name: str
) -> None:
    with pytest.raises(TypeError) as caught:
        client.predict_frame(value)

    assert (
        str(caught.value)
        == f"predict_frame takes a pandas or a polars DataFrame, not {name}"
    )


def test_missing_and_extra_columns_are_named(
    client: PredictionClient, to_frame: Frame
) -> None:
    columns = {"name": [1, 2, 3], "Age": [1, 2, 3], "city": PLAIN_COLUMNS["city"]}

    assert refusal(client, to_frame(columns)) == (
        'INVALID_ARGUMENT: columns "age", "hours", "smoker", "grade": missing in the frame; the '
        'model needs them; columns "name", "Age": not features of the model; ignore_extra=True '
        "leaves them out"
    )


def test_extra_columns_are_left_out_on_demand(
    client: PredictionClient, to_frame: Frame
) -> None:
    frame = to_frame(PLAIN_COLUMNS | {"name": ["a", "b", "c"]})

    answer = client.predict_frame(frame, ignore_extra=True)

    assert to_columns(answer) == to_columns(
        client.predict_frame(to_frame(PLAIN_COLUMNS))
    )


def test_names_of_pandas_that_are_no_texts_are_extra(client: PredictionClient) -> None:
    frame = pd.DataFrame(PLAIN_COLUMNS | {0: [1, 2, 3], ("a", 1): [1, 2, 3]})

    assert "columns 0, ('a', 1): not features of the model" in refusal(client, frame)


def test_a_column_that_is_there_twice_is_named(client: PredictionClient) -> None:
    frame = pd.concat([pd.DataFrame(PLAIN_COLUMNS)] * 2, axis=1)[
        ["age", "age", "hours"]
    ]

    assert 'columns "age", "age"' in refusal(client, frame)


CITIES = 'one of 3 categories ("Oslo", "", "Zürich") or a missing value'
GRADES = "a whole number, such as one of 3 categories (10, -5, 9007199254740992),"
AGE = "a finite number or a missing value"


@pytest.mark.parametrize(
    ("name", "cell", "problem"),
    [
        ("age", "old", f"'old' (str) is not allowed; it takes {AGE}"),
        ("age", True, f"True (bool) is not allowed; it takes {AGE}"),
        ("age", math.inf, f"inf (float) is not allowed; it takes {AGE}"),
        ("age", date(2026, 1, 2), f"2026-01-02 (date) is not allowed; it takes {AGE}"),
        (
            "age",
            datetime(2026, 1, 2, 3, 4),
            f"2026-01-02T03:04:00 (datetime) is not allowed; it takes {AGE}",
        ),
        ("age", time(3, 4), f"03:04:00 (time) is not allowed; it takes {AGE}"),
        (
            "age",
            timedelta(days=1),
            f"86400 s (timedelta) is not allowed; it takes {AGE}",
        ),
        ("age", b"1", f"b'1' (bytes) is not allowed; it takes {AGE}"),
        (
            "age",
            2**53 + 1,
            f"9007199254740993 (int) would lose digits in double precision; it takes {AGE}",
        ),
        ("hours", None, "a missing value is not allowed; it takes a finite number"),
        ("smoker", 1, "1 (int) is not allowed; it takes True or False"),
        ("smoker", "true", "'true' (str) is not allowed; it takes True or False"),
        ("smoker", None, "a missing value is not allowed; it takes True or False"),
        ("city", "Bergen", f"'Bergen' (str) is not allowed; it takes {CITIES}"),
        ("city", 1, f"1 (int) is not allowed; it takes {CITIES}"),
        ("grade", 1.5, f"1.5 (float) is not allowed; it takes {GRADES}"),
        ("grade", "10", f"'10' (str) is not allowed; it takes {GRADES}"),
        ("grade", False, f"False (bool) is not allowed; it takes {GRADES}"),
        ("grade", None, f"a missing value is not allowed; it takes {GRADES}"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(
    client: PredictionClient, to_frame: Frame, name: str, cell: Any, problem: str
) -> None:
    columns = table_columns(1)
    frame = to_frame(columns | {name: [cell]})

    with pytest.raises(InvalidInstanceError) as caught:
        client.predict_frame(frame)

    assert caught.value.violations == (
        FieldViolation(f'column "{name}", row 0', problem),
    )


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (10**400, f"1{'0' * 78}… (int) is not allowed"),
        (Fraction(1, 3), "Fraction(1, 3) (Fraction) would lose digits"),
        (np.uint64(2**64 - 1), "18446744073709551615 (int) would lose digits"),
        (np.datetime64(1, "ns"), "np.datetime64('1970-01-01T00:00:00.000000001')"),
        (1j, "1j (complex) is not allowed"),
        (np.bool_(True), "True (bool) is not allowed"),
        (np.ones(2), "array([1., 1.]) (ndarray) is not allowed"),
        (pd.Period("2026"), "Period('2026', 'Y-DEC') (Period) is not allowed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_cell_that_only_pandas_can_hold_is_named(
    client: PredictionClient, cell: Any, problem: str
) -> None:
    frame = pd.DataFrame(PLAIN_COLUMNS).astype({"age": object})
    frame.at[1, "age"] = cell

    assert f'column "age", row 1: {problem}' in refusal(client, frame)


def test_a_decimal_fraction_whose_digits_a_double_lacks_is_refused(
    client: PredictionClient, to_frame: Frame
) -> None:
    fits = [Decimal("0.1000000000000000000"), Decimal(2**60)]
    lost = Decimal("0.1000000000000000001")
    columns = {name: values[:1] for name, values in PLAIN_COLUMNS.items()}

    for number in fits:
        client.predict_frame(to_frame(columns | {"age": [number]}))
    error = refusal(client, to_frame(columns | {"age": [lost]}))

    assert "Decimal('0.1000000000000000001') (Decimal) would lose digits" in error


def test_a_text_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    artifact = table_model()
    artifact.input_schema.features[3].categorical.refuse_unknown = False
    frame = pd.DataFrame(PLAIN_COLUMNS).astype({"city": object})
    frame.loc[1, "city"] = "\ud800"

    with serve(write_artifact(tmp_path, artifact)) as client:
        error = refusal(client, frame)

    assert (
        "column \"city\", row 1: '\\ud800' (str) is not allowed; it takes a text"
        in error
    )


def test_an_unknown_category_that_is_not_refused_is_a_missing_value(
    tmp_path: Path, to_frame: Frame
) -> None:
    artifact = table_model()
    artifact.input_schema.features[3].categorical.refuse_unknown = False
    unknown = PLAIN_COLUMNS | {"city": ["Oslo", "Bergen", ""], "grade": [10, -5, 2**53]}

    with serve(write_artifact(tmp_path, artifact)) as client:
        answer = client.predict_frame(to_frame(unknown))
        expected = client.predict_frame(to_frame(PLAIN_COLUMNS))

    assert to_columns(answer) == to_columns(expected)


def test_every_wrong_column_is_told_with_its_rows(
    client: PredictionClient, to_frame: Frame
) -> None:
    columns = table_columns(100)
    columns["city"] = ["Bergen"] * 100
    columns["smoker"][41] = None

    with pytest.raises(InvalidInstanceError) as caught:
        client.predict_frame(to_frame(columns), rows_per_call=10)

    smoker, city = caught.value.violations
    assert smoker.field == 'column "smoker", row 41'
    assert city.field == 'column "city", row 0'
    assert city.description.endswith(
        "100 rows do not fit, also 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 89 more"
    )


def test_many_categories_are_told_in_part(tmp_path: Path, to_frame: Frame) -> None:
    artifact = table_model()
    categories = artifact.input_schema.features[3].categorical.strings.values
    categories.extend(f"c{number}" for number in range(54))
    frame = to_frame(PLAIN_COLUMNS | {"city": ["c53", "c54", "c54"]})

    with serve(write_artifact(tmp_path, artifact)) as client:
        error = refusal(client, frame)

    shown = ", ".join(f'"{category}"' for category in categories[:10])
    assert (
        f"row 1: 'c54' (str) is not allowed; it takes one of 57 categories ({shown} and 47 more) "
        "or a missing value; 2 rows do not fit, also 2"
    ) in error


OWN_CELLS: dict[str, st.SearchStrategy[Any]] = {
    "age": st.floats(allow_infinity=False) | st.none(),
    "hours": st.integers(-(2**53), 2**53),
    "smoker": st.booleans(),
    "city": st.sampled_from(("Oslo", "", "Zürich")) | st.none(),
    "grade": st.integers(-5, 10),
}
OTHER_CELLS: tuple[st.SearchStrategy[Any], ...] = (
    st.floats(),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.text(),
    st.dates(),
    st.datetimes(),
)


@st.composite
def table_of_any_cells(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Draw columns of one type each, as polars has them; some are not of the model's kind."""
    n_rows = draw(st.integers(1, 4))
    wrong = draw(st.sets(st.sampled_from(list(OWN_CELLS)), max_size=3))

    def column(name: str) -> st.SearchStrategy[list[Any]]:
        cells = OWN_CELLS[name]
        if name in wrong:
            cells = draw(st.sampled_from(OTHER_CELLS)) | st.none()
        return st.lists(cells, min_size=n_rows, max_size=n_rows)

    return {name: draw(column(name)) for name in draw(st.permutations(list(OWN_CELLS)))}


@given(table_of_any_cells())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_both_libraries_give_the_same_answer_or_the_same_message(
    client: PredictionClient, columns: dict[str, list[Any]]
) -> None:
    def outcome(frame: Any) -> object:
        try:
            return to_columns(client.predict_frame(frame))
        except InvalidInstanceError as error:
            return str(error)

    # As objects, because pandas would turn whole numbers with a missing one into floats.
    assert outcome(pd.DataFrame(columns, dtype=object)) == outcome(
        pl.DataFrame(columns)
    )


def model_of(version: str, *names: str) -> pb.GetModelResponse:
    """Return the description of a model of these numeric features, by default one, a."""
    response = pb.GetModelResponse(model_version=version, classes=["0", "1"])
    for name in names or ("a",):
        response.features.add(name=name, kind=pb.FEATURE_KIND_NUMERIC)
    return response


def chunk_of(version: str, n_rows: int = 1) -> pb.BatchPredictResponse:
    """Return the answer of a model to a chunk."""
    return pb.BatchPredictResponse(
        model_version=version,
        classes=["0", "1"],
        positions=[1] * n_rows,
        probabilities=[0.25, 0.75] * n_rows,
    )


def answer_of_1(request: Any, context: grpc.ServicerContext) -> Any:
    """Answer as a server of version 1 does, whose model has one numeric feature, a."""
    if isinstance(request, pb.GetModelRequest):
        return model_of("1")
    return chunk_of("1", len(request.columns[0].doubles.values))


def chunks(servicer: ScriptedServicer) -> list[pb.BatchPredictRequest]:
    return [r for r in servicer.requests if isinstance(r, pb.BatchPredictRequest)]


def predict_scripted(
    *answers: Any, n_calls: int = 1, values: Any = (1.0, 2.0)
) -> tuple[ScriptedServicer, pd.DataFrame]:
    """Predict a frame in chunks of a row, against a server of these answers."""
    servicer = ScriptedServicer(*answers)
    with scripted_server(servicer) as target, PredictionClient(target) as client:
        for _ in range(n_calls):
            answer = client.predict_frame(
                pd.DataFrame({"a": list(values)}), rows_per_call=1, calls_at_once=1
            )
    return servicer, answer


@pytest.mark.parametrize("calls_at_once", [1, 2, 9])
@pytest.mark.parametrize("rows_per_call", [1, 7, 40, 1000])
def test_chunks_of_any_size_give_the_same_answer(
    client: PredictionClient, to_frame: Frame, rows_per_call: int, calls_at_once: int
) -> None:
    frame = to_frame(table_columns(40))

    answer = client.predict_frame(
        frame, rows_per_call=rows_per_call, calls_at_once=calls_at_once
    )

    assert to_columns(answer) == to_columns(client.predict_frame(frame))


def test_rows_are_cut_in_order_with_their_own_missing_rows(
    to_frame: Frame,
) -> None:
    model = model_of("1")
    model.features[0].nullable = True
    servicer = ScriptedServicer(
        model, chunk_of("1", 2), chunk_of("1", 2), chunk_of("1")
    )

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        client.predict_frame(
            to_frame({"a": [1.0, None, 3.0, None, None]}),
            rows_per_call=2,
            calls_at_once=1,
        )

    columns = [request.columns[0] for request in chunks(servicer)]
    assert [list(c.doubles.values) for c in columns] == [[1, 0], [3, 0], [0]]
    assert [list(c.missing_rows) for c in columns] == [[1], [1], [0]]


def test_a_chunk_has_5000_rows_by_default() -> None:
    servicer = ScriptedServicer(answer_of_1)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        frame = pd.DataFrame({"a": np.arange(10_001.0)})
        client.predict_frame(frame, calls_at_once=1)

    sizes = [len(request.columns[0].doubles.values) for request in chunks(servicer)]
    assert sizes == [5000, 5000, 1]


def test_chunks_of_long_texts_are_cut_by_their_size(tmp_path: Path) -> None:
    artifact = table_model()
    artifact.input_schema.features[3].categorical.refuse_unknown = False
    columns = table_columns(40) | {"city": ["x" * 700_000] * 39 + ["Oslo"]}

    # gRPC's default limit, which many servers keep.
    with serve(
        write_artifact(tmp_path, artifact), max_message_bytes=4 * 2**20
    ) as client:
        answer = client.predict_frame(pd.DataFrame(columns))
        short = client.predict_frame(
            pd.DataFrame(columns | {"city": [None] * 39 + ["Oslo"]})
        )

    pd.testing.assert_frame_equal(answer, short)


def test_chunks_of_many_classes_are_cut_by_the_size_of_their_answers() -> None:
    model = model_of("1")
    model.ClearField("classes")
    model.classes.extend(map(str, range(1000)))

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, pb.GetModelRequest):
            return model
        n_rows = len(request.columns[0].doubles.values)
        return pb.BatchPredictResponse(
            model_version="1",
            positions=[999] * n_rows,
            probabilities=[0.001] * 1000 * n_rows,
        )

    servicer = ScriptedServicer(answer)
    with scripted_server(servicer) as target, PredictionClient(target) as client:
        predicted = client.predict_frame(pl.DataFrame({"a": [1.0] * 600}))

    assert [len(r.columns[0].doubles.values) for r in chunks(servicer)] == [
        262,
        262,
        76,
    ]
    assert predicted.shape == (600, 1002)
    assert predicted["label"].unique().to_list() == ["999"]


def test_a_server_that_takes_fewer_rows_says_so(tmp_path: Path) -> None:
    frame = pd.DataFrame(table_columns(12))

    with serve(write_artifact(tmp_path, table_model()), max_batch_rows=5) as client:
        error = refusal(client, frame)
        answer = client.predict_frame(frame, rows_per_call=5)

    assert "12 rows came; at most 5 are allowed per call" in error
    assert len(answer) == 12


@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("name", ["rows_per_call", "calls_at_once"])
def test_a_number_below_one_is_refused(
    client: PredictionClient, name: str, number: int
) -> None:
    options: dict[str, Any] = {name: number}

    with pytest.raises(ValueError, match=f"{name} is {number}; it must be"):
        client.predict_frame(pd.DataFrame(PLAIN_COLUMNS), **options)


@pytest.mark.parametrize("calls_at_once", [1, 3])
def test_as_many_chunks_are_on_their_way_as_said(calls_at_once: int) -> None:
    # Each answer waits until the expected number of calls is in flight.
    together = threading.Barrier(calls_at_once, timeout=10)
    lock = threading.Lock()
    n_here, n_most = 0, 0

    def answer_together(request: Any, context: grpc.ServicerContext) -> Any:
        nonlocal n_here, n_most
        if isinstance(request, pb.GetModelRequest):
            return model_of("1")
        with lock:
            n_here += 1
            n_most = max(n_most, n_here)
        together.wait()
        with lock:
            n_here -= 1
        return chunk_of("1")

    servicer = ScriptedServicer(answer_together)
    with scripted_server(servicer) as target, PredictionClient(target) as client:
        client.predict_frame(
            pd.DataFrame({"a": [1.0] * 6}),
            rows_per_call=1,
            calls_at_once=calls_at_once,
        )

    assert n_most == calls_at_once
    assert len(chunks(servicer)) == 6


def test_chunks_behind_one_that_fails_are_cancelled() -> None:
    is_cancelled = threading.Event()
    is_on_its_way = threading.Event()

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, pb.GetModelRequest):
            return model_of("1")
        if request.columns[0].doubles.values[0] == 1.0:
            assert is_on_its_way.wait(10)
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who?")
        context.add_callback(is_cancelled.set)
        is_on_its_way.set()
        assert is_cancelled.wait(10)
        return chunk_of("1")

    servicer = ScriptedServicer(answer)
    with scripted_server(servicer) as target, PredictionClient(target) as client:
        with pytest.raises(PredictionError, match="who") as caught:
            client.predict_frame(pd.DataFrame({"a": [1.0, 2.0]}), rows_per_call=1)
        assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED
        assert is_cancelled.wait(5)


def test_a_cancelled_chunk_fails_the_frame() -> None:
    with pytest.raises(PredictionError) as caught:
        predict_scripted(model_of("1"), status_of(grpc.StatusCode.CANCELLED, "gone"))

    assert caught.value.code is grpc.StatusCode.CANCELLED


def test_a_chunk_is_tried_again_and_has_a_deadline() -> None:
    unavailable = status_of(grpc.StatusCode.UNAVAILABLE, "shutting down")

    servicer, _ = predict_scripted(
        model_of("1"), chunk_of("1"), unavailable, chunk_of("1")
    )

    assert [r.columns[0].doubles.values[0] for r in chunks(servicer)] == [1, 2, 2]
    assert servicer.seconds_left == [pytest.approx(5, rel=0.5)] * 4


def test_a_chunk_that_fails_fails_the_frame() -> None:
    with pytest.raises(PredictionError) as caught:
        predict_scripted(
            model_of("1"), chunk_of("1"), status_of(grpc.StatusCode.UNAUTHENTICATED)
        )

    assert caught.value.code is grpc.StatusCode.UNAUTHENTICATED


def test_what_only_the_server_refuses_is_told_with_the_rows_of_the_frame() -> None:
    refused = status_of(
        grpc.StatusCode.INVALID_ARGUMENT,
        'columns["a"].doubles.values[0]: 2.0 is not allowed',
        ErrorInfo(
            reason="INVALID_INSTANCE",
            domain="prediction.v1",
            metadata={"n_violations": "2"},
        ),
        bad_request(
            ('columns["a"].doubles.values[0]', "2.0 is not allowed"),
            (
                'columns["b.values[0]"].doubles.values[0]',
                "is missing; row 0 is missing",
            ),
        ),
    )

    with pytest.raises(InvalidInstanceError) as caught:
        predict_scripted(model_of("1"), chunk_of("1"), refused, model_of("1"))

    assert caught.value.message == 'columns["a"].doubles.values[1]: 2.0 is not allowed'
    assert caught.value.violations == (
        FieldViolation('columns["a"].doubles.values[1]', "2.0 is not allowed"),
        FieldViolation(
            'columns["b.values[0]"].doubles.values[1]', "is missing; row 0 is missing"
        ),
    )
    assert caught.value.reason == "INVALID_INSTANCE"
    assert caught.value.metadata == {"n_violations": "2"}


def test_the_model_is_asked_for_once() -> None:
    servicer, _ = predict_scripted(model_of("1"), *[chunk_of("1")] * 6, n_calls=3)

    assert len(servicer.requests) == 7


def test_a_model_that_has_come_since_is_asked_for_and_answers_all_rows() -> None:
    servicer, answer = predict_scripted(
        *[model_of("1"), chunk_of("1"), chunk_of("1")],
        *[chunk_of("2"), model_of("2"), chunk_of("2"), chunk_of("2")],
        n_calls=2,
    )

    assert len(servicer.requests) == 7
    assert answer["model_version"].tolist() == ["2", "2"]


def test_a_model_that_changes_between_chunks_answers_all_rows_anew() -> None:
    servicer, answer = predict_scripted(
        *[model_of("1"), chunk_of("1"), chunk_of("2")],
        *[model_of("2"), chunk_of("2"), chunk_of("2")],
    )

    assert [r.columns[0].doubles.values[0] for r in chunks(servicer)] == [1, 2, 1, 2]
    assert answer["model_version"].tolist() == ["2", "2"]


def test_a_model_that_changes_twice_is_an_error() -> None:
    with pytest.raises(ModelChangedError) as caught:
        predict_scripted(
            *[model_of("1"), chunk_of("1"), chunk_of("2")],
            *[model_of("2"), chunk_of("2"), chunk_of("1")],
        )

    assert caught.value.code is grpc.StatusCode.ABORTED
    assert caught.value.message.endswith(
        "versions 2 and 1 answered; call predict_frame again"
    )


def test_a_model_known_before_that_changes_between_chunks_is_sent_again_once() -> None:
    with pytest.raises(ModelChangedError, match="versions 2 and 3 answered"):
        predict_scripted(
            *[model_of("1"), chunk_of("1"), chunk_of("1")],
            *[
                chunk_of("1"),
                chunk_of("2"),
                model_of("2"),
                chunk_of("2"),
                chunk_of("3"),
            ],
            n_calls=2,
        )


def test_servers_of_two_versions_that_never_agree_are_an_error() -> None:
    with pytest.raises(ModelChangedError, match="versions 1 and 2 answered"):
        predict_scripted(*[model_of("1"), chunk_of("2")] * 3)


def test_a_server_that_refuses_for_a_new_schema_is_asked_for_it() -> None:
    refused = status_of(grpc.StatusCode.INVALID_ARGUMENT, "does not fit")

    with pytest.raises(InvalidInstanceError, match='columns "b": missing in the frame'):
        predict_scripted(model_of("1"), refused, model_of("2", "a", "b"))


def test_servers_of_two_schemas_that_a_frame_does_not_fit_are_asked_three_times() -> (
    None
):
    models = [model_of("1", "b"), model_of("2", "c"), model_of("1", "b")]
    servicer = ScriptedServicer(*models * 2)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        error = refusal(client, pd.DataFrame({"a": [1.0]}))

    assert 'columns "c": missing in the frame' in error
    assert len(servicer.requests) == 3


def test_a_frame_is_checked_against_the_model_that_has_come_since(
    tmp_path: Path, to_frame: Frame
) -> None:
    """The server swaps to a model that knows a category which the model before refused."""
    newer = table_model()
    newer.input_schema.features[3].categorical.refuse_unknown = False
    newer.provenance.metrics["holdout_roc_auc"] = 0.8
    frame = to_frame(PLAIN_COLUMNS | {"city": ["Oslo", "Bergen", ""]})

    with (
        running_server(write_artifact(tmp_path / "1", table_model())) as server,
        PredictionClient(f"127.0.0.1:{server.port}") as client,
    ):
        before = refusal(client, frame)
        server.serve(load_model(write_artifact(tmp_path / "2", newer)))
        answer = client.predict_frame(frame)
        version = client.get_model().model_version

    assert "'Bergen' (str) is not allowed" in before
    assert set(to_columns(answer)["model_version"]) == {version}


def test_a_kind_that_the_client_does_not_know_is_named() -> None:
    model = model_of("1")
    model.features[0].MergeFromString(b"\x10\x63")

    with pytest.raises(
        InvalidInstanceError, match='column "a": is of a kind that this'
    ):
        predict_scripted(model)


def named(frame: Any, **options: Any) -> tuple[list[Any], Any]:
    """Predict a frame with a name; return the names of the calls that came, and the answer."""
    names = []

    def answer(request: Any, context: Any) -> Any:
        names.append(dict(context.invocation_metadata()).get("x-request-id"))
        return answer_of_1(request, context)

    with (
        scripted_server(ScriptedServicer(answer)) as target,
        PredictionClient(target) as client,
    ):
        predicted = client.predict_frame(frame, calls_at_once=1, **options)
    return names, predicted


def test_a_named_frame_names_its_calls_and_its_rows(to_frame: Frame) -> None:
    frame = to_frame({"a": [1.0] * 5})

    names, answer = named(frame, request_id="import-7", rows_per_call=2)

    keys = list(zip(*list(to_columns(answer).values())[-2:], strict=True))
    assert names == [None, "import-7:0", "import-7:2", "import-7:4"]
    assert list(answer.columns)[-3:] == ["model_version", "request_id", "row"]
    assert keys == [
        *[("import-7:0", 0), ("import-7:0", 1)],
        *[("import-7:2", 0), ("import-7:2", 1)],
        ("import-7:4", 0),
    ]


def test_a_named_frame_of_no_rows_has_the_same_columns(to_frame: Frame) -> None:
    _, full = named(to_frame({"a": [1.0]}), request_id="x")
    _, empty = named(to_frame({"a": [1.0]})[:0], request_id="x")

    assert list(empty.columns) == list(full.columns)
    assert list(empty.dtypes) == list(full.dtypes)


def test_a_frame_without_a_name_names_nothing(to_frame: Frame) -> None:
    names, answer = named(to_frame({"a": [1.0]}))

    assert names == [None, None]
    assert list(answer.columns)[-1] == "model_version"


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 101, "a\n"])
def test_a_name_that_no_call_can_have_is_refused(
    client: PredictionClient, name: str
) -> None:
    with pytest.raises(ValueError, match="1 to 100 visible ASCII characters"):
        client.predict_frame(pd.DataFrame(PLAIN_COLUMNS), request_id=name)


def test_the_keys_of_an_answer_are_those_of_the_prediction_log(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    folder = write_artifact(tmp_path / "model", table_model())
    frame = pd.DataFrame(table_columns(20))
    with serve(folder, prediction_log=log) as client:
        answer = client.predict_frame(frame, rows_per_call=7, request_id="import-7")

    logged = {
        (line["request_id"], line["row"]): (line["features"]["hours"], line["label"])
        for line in read_lines(log)
    }
    keys = zip(answer["request_id"], answer["row"], strict=True)
    assert len(logged) == 20
    assert [logged[key] for key in keys] == list(
        zip(frame["hours"], answer["label"], strict=True)
    )


def packed_model(version: str) -> pb.GetModelResponse:
    model = model_of(version)
    model.takes_packed_rows = True
    return model


def packed_answer(request: pb.BatchPredictRequest, context: Any) -> Any:
    """Answer as a server that knows packed rows; 0.25 and 0.75 for each."""
    n_rows = len(request.packed_rows.values) // 8
    assert n_rows and not request.columns and request.pack_probabilities
    return pb.BatchPredictResponse(
        classes=["0", "1"],
        model_version="1",
        positions=[1] * n_rows,
        packed_probabilities=struct.pack("<2d", 0.25, 0.75) * n_rows,
    )


def test_rows_are_packed_for_a_server_that_takes_them(to_frame: Frame) -> None:
    model = packed_model("1")
    model.features[0].nullable = True
    servicer = ScriptedServicer(model, packed_answer)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        answer = client.predict_frame(
            to_frame({"a": [1.0, None, 3.0]}), rows_per_call=2, calls_at_once=1
        )

    first, second = (request.packed_rows for request in servicer.requests[1:])
    assert list(first.names) == ["a"]
    assert first.values == struct.pack("<2d", 1.0, math.nan)
    assert second.values == struct.pack("<d", 3.0)
    assert to_columns(answer)["probability_1"] == [0.75] * 3


def test_torn_probabilities_are_a_server_error() -> None:
    def torn(request: pb.BatchPredictRequest, context: Any) -> Any:
        answer = packed_answer(request, context)
        answer.packed_probabilities += b"\0"
        return answer

    servicer = ScriptedServicer(packed_model("1"), torn)
    with (
        scripted_server(servicer) as target,
        PredictionClient(target) as client,
        pytest.raises(ServerError, match="17 bytes of packed probabilities"),
    ):
        client.predict_frame(pd.DataFrame({"a": [1.0]}))


def refused_by_model(message: str) -> Any:
    """Return the status of a server whose model does not take the request."""
    info = ErrorInfo(reason="INVALID_INSTANCE", domain="prediction.v1")
    return status_of(grpc.StatusCode.INVALID_ARGUMENT, message, info)


def test_an_older_server_of_the_same_name_gets_columns(to_frame: Frame) -> None:
    """A balancer may ask a newer server for the model, and send the rows to an older one."""

    def older(request: pb.BatchPredictRequest, context: Any) -> Any:
        if not request.columns:
            message = "values: 0 values came; one or more rows are needed"
            abort(refused_by_model(message), context)
        return answer_of_1(request, context)

    servicer = ScriptedServicer(packed_model("1"), older)
    frame = to_frame({"a": [1.0, 2.0]})

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        answer = client.predict_frame(frame)

    forms = [(r.HasField("packed_rows"), len(r.columns)) for r in servicer.requests[1:]]
    assert forms == [(True, 0), (False, 1)]
    assert len(to_columns(answer)["label"]) == 2


def shortened(answer: pb.BatchPredictResponse) -> None:
    del answer.positions[-1], answer.probabilities[-2:]


def lengthened(answer: pb.BatchPredictResponse) -> None:
    answer.positions.append(0)
    answer.probabilities.extend([0.5, 0.5])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (shortened, "answered 1 predictions for 2 rows"),
        (lengthened, "answered 3 predictions for 2 rows"),
        (
            lambda answer: answer.probabilities.append(0.5),
            "9 probabilities for 4 rows of a model with 2 classes",
        ),
        (lambda answer: answer.positions.__setitem__(0, -1), "class -1 for 4 rows"),
        (lambda answer: answer.positions.__setitem__(0, 2), "class 2 for 4 rows"),
    ],
    ids=["short", "long", "probabilities", "negative", "class"],
)
def test_a_server_that_answers_for_other_rows_is_a_server_error(
    change: Callable[[pb.BatchPredictResponse], None], problem: str
) -> None:
    wrong = chunk_of("1", 2)
    change(wrong)
    servicer = ScriptedServicer(model_of("1"), wrong, chunk_of("1", 2))

    with (
        scripted_server(servicer) as target,
        PredictionClient(target) as client,
        pytest.raises(ServerError, match=problem),
    ):
        client.predict_frame(
            pd.DataFrame({"a": [1.0] * 4}), rows_per_call=2, calls_at_once=1
        )


def test_a_cell_that_raises_stop_iteration_does_not_stop_the_client(
    client: PredictionClient,
) -> None:
    @Real.register
    class Endless:
        """A number whose value cannot be read."""

        def __float__(self) -> float:
            raise StopIteration

    cells: list[Any] = [Endless()] * 3
    frame = pd.DataFrame(PLAIN_COLUMNS).assign(hours=cells)

    with pytest.raises(RuntimeError, match="StopIteration"):
        client.predict_frame(frame)
