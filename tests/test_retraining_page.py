"""docs/retraining.md: each command prints what the page says; the picture is the drawn one."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from registry_support import NAME, add_version

import registry

import cycle_picture
from page_support import page_server
from stream_support import count_bins, make_table, write_page
from support import ROOT

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "retraining.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)\n```\n\n```text\n(.*?)```", PAGE, re.M | re.S)
URL = "http://localhost:8080/metrics"


def test_each_command_prints_what_the_page_says(
    store: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(store, tmp_path, {"holdout_accuracy": "0.9"})
    store.set_registered_model_alias(NAME, "champion", "1")
    row = {"version": "1", "n_rows": 2000, "metric": "accuracy", "value": 0.8}
    pd.DataFrame([row]).to_parquet("live.parquet")
    cells = count_bins(make_table(3000), make_table(3000, shift=0.6, seed=1))
    commands = re.findall(r"^python flows/registry.py .*$", PAGE, re.M)
    assert [command for command, _ in EXAMPLES] == commands

    with page_server(write_page("1", *cells)) as url:
        for command, expected in EXAMPLES:
            words = shlex.split(command.replace(URL, url))[2:]
            assert registry.main(words) == 0
            assert capsys.readouterr().out == expected


def test_the_picture_is_what_the_program_draws() -> None:
    assert cycle_picture.PATH.read_text() == cycle_picture.draw()
