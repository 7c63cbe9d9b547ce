"""DataFrames of both libraries, against real servers: their answers, and what does not fit."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import prediction
from prediction import InvalidInstanceError, PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from support import running_server, write_artifact
from table_support import add_golden_examples, table_lightgbm, table_rows, to_record

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
    add_golden_examples(artifact, rows[:4], classifier.predict_proba(rows[:4]))
    return artifact


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionClient]:
    """Return a client of a server with a model that has all kinds of features."""
    folder = write_artifact(tmp_path_factory.mktemp("model"), table_model())
    with ExitStack() as stack:
        server = stack.enter_context(running_server(folder))
        yield stack.enter_context(PredictionClient(f"127.0.0.1:{server.port}"))


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
    """Return what the error for a frame says."""
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
