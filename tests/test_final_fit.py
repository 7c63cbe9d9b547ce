"""The registered model learns from all rows; its scored twin has the metrics and names its rows."""

import struct
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import log_loss

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.data import row_digests
from training.data.dataset import LoadOptions, load_dataset
from training.data.encoding import to_table
from training.data.roles import RoleNames
from training.data.row_digests import digest_rows, find_seen, list_learned, to_words
from training.data.rows import Rows, join_rows
from training.data.schema import Feature, Kind, Schema
from training.data.splitting import Splitting, make_folds
from training.errors import DataError, SearchError
from training.models.evaluation import evaluate
from training.models.families import FAMILIES
from training.models.final_model import PostFit
from training.models.pipelines import PipelineFactory
from training.models.thresholds import BestF1
from training.parameters import FlowParameters
from training.plan import FileStore, TrainingRequest, make_plan
from training.registry.comparison import NotComparable
from training.registry.learned_rows import HEADER, read_learned, write_learned
from training.registry.unseen_rows import take_unseen
from training.report.vega import summarize
from training.trained_model import fit_winner

from training_support import SETTINGS, make_rows, train_family

both_families = pytest.mark.parametrize("family", list(FAMILIES))
NUMBERS = Schema((Feature("a"), Feature("b")), (0, 1))


# --- The two fits


@pytest.mark.parametrize("kind", [{}, {"sparse": True}, {"missing": True}])
@both_families
def test_the_model_learns_from_all_rows_and_the_metrics_are_the_twins(
    family: str, kind: dict[str, Any]
) -> None:
    schema, train, holdout = make_rows(**kind)
    trained = train_family(family, schema, train, holdout)
    X = to_table(holdout.X, schema)

    everything = fit_winner(trained.plan, trained.winner, join_rows(train, holdout))
    alone = fit_winner(trained.plan, trained.winner, train)

    served = trained.estimator.predict_proba(X)
    assert np.array_equal(served, everything.predictor.predict_proba(X))
    twin = alone.predictor.predict_proba(X)
    assert np.array_equal(trained.twin.estimator.predict_proba(X), twin)
    assert not np.array_equal(served, twin)
    assert trained.metrics.items() >= evaluate(holdout.y, twin, [0, 1], 0.5).items()
    golden = ModelArtifact.FromString(trained.artifact).golden_examples
    assert list(golden[0].probabilities) == served[0].tolist()


@both_families
def test_the_training_rows_alone_are_learned_on_request(family: str) -> None:
    parameters = FlowParameters(final_fit="train")
    schema, train, holdout = make_rows()

    trained = train_family(family, schema, train, holdout, parameters=parameters)

    assert trained.twin.estimator is trained.estimator
    alone = fit_winner(trained.plan, trained.winner, train)
    X = to_table(holdout.X, schema)
    expected = alone.predictor.predict_proba(X)
    assert np.array_equal(trained.estimator.predict_proba(X), expected)
    assert "scored twin" not in summarize(trained)


@both_families
def test_more_rows_make_better_probabilities_of_fresh_rows(family: str) -> None:
    schema = make_rows()[0]
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(5):
        X = rng.normal(size=(4200, 5))
        y = (X @ [1, -1, 0.5, 0, 0] > rng.logistic(size=4200)).astype(np.int64)
        train, holdout = Rows(X[:100], y[:100]), Rows(X[100:200], y[100:200])
        trained = train_family(family, schema, train, holdout)
        fresh = to_table(X[200:], schema)
        models = (trained.estimator, trained.twin.estimator)
        losses.append([log_loss(y[200:], m.predict_proba(fresh)) for m in models])

    with_holdout, without = np.mean(losses, axis=0)
    assert with_holdout < without


def test_two_thresholds_are_both_said() -> None:
    schema, train, holdout = make_rows()
    trained = train_family(
        "lightgbm", schema, train, holdout, post_fit=PostFit("none", BestF1())
    )

    assert trained.threshold != trained.twin.threshold
    assert trained.metrics["threshold"] == trained.threshold
    assert trained.metrics["holdout_threshold"] == trained.twin.threshold
    told = f"{trained.threshold:.6g} (--threshold f1); on the hold-out, above"
    assert f"{told} {trained.twin.threshold:.6g}" in summarize(trained)


@pytest.mark.parametrize("splitting", list(Splitting))
@both_families
def test_the_final_fit_weighs_the_rows_of_the_hold_out(
    family: str, splitting: Splitting
) -> None:
    schema, train, holdout = make_rows()
    weights = np.random.default_rng(0).random(300)
    groups = np.arange(300) if splitting == Splitting.GROUPED else None
    train, holdout = (
        replace(
            rows,
            weight=weights[part],
            group=None if groups is None else groups[part],
        )
        for rows, part in ((train, slice(240)), (holdout, slice(240, None)))
    )
    settings = replace(SETTINGS, splitting=splitting)

    trained = train_family(family, schema, train, holdout, settings=settings)

    factory = PipelineFactory(FAMILIES[family], schema, SETTINGS.seed)
    plain = factory.make_final_pipeline(trained.winner.best_params).fit(
        to_table(np.concatenate([train.X, holdout.X]), schema),
        np.concatenate([train.y, holdout.y]),
        classifier__sample_weight=weights,
    )
    X = to_table(holdout.X, schema)
    served = trained.estimator.predict_proba(X)
    # Two ways to the optimum of a logistic regression end a little apart.
    apart = 1e-6 if family == "logistic_regression" else 0
    assert np.abs(served - plain.predict_proba(X)).max() <= apart


@pytest.mark.parametrize("rounds", [0, 3])
def test_the_final_fit_stops_early_by_a_slice_of_all_rows(rounds: int) -> None:
    schema, train, holdout = make_rows()
    settings = replace(SETTINGS, early_stopping_rounds=rounds)
    grids = {"lightgbm": [{"n_estimators": [500], "learning_rate": [0.3]}]}

    trained = train_family(
        "lightgbm", schema, train, holdout, settings=settings, grids=grids
    )

    trees = [
        model[-1].booster_.num_trees()
        for model in (trained.estimator, trained.twin.estimator)
    ]
    assert trees == [500, 500] if rounds == 0 else max(trees) < 500


def test_joined_rows_keep_their_order_weights_and_groups() -> None:
    first = Rows(np.eye(2), np.array([0, 1]), np.array([1.0, 2]), np.array([5, 6]))
    second = Rows(np.ones((1, 2)), np.array([1]), np.array([3.0]), np.array([7]))

    rows = join_rows(first, second)

    assert rows.X.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert rows.y.tolist() == [0, 1, 1]
    assert rows.weight is not None and rows.weight.tolist() == [1, 2, 3]
    assert rows.group is not None and rows.group.tolist() == [5, 6, 7]


def refuse_final_fit(tmp_path: Path, **changes: Any) -> str:
    parameters = FlowParameters(**changes)
    request = TrainingRequest(
        "TrainFlow/1", parameters, {"logistic_regression": {}, "lightgbm": {}}, ""
    )
    store = FileStore(tmp_path, str, lambda url, folder: folder)
    with pytest.raises((DataError, SearchError)) as caught:
        make_plan(request, store)
    return str(caught.value)


def test_another_final_fit_is_refused(tmp_path: Path) -> None:
    message = refuse_final_fit(tmp_path, final_fit="most")

    assert message.startswith("--final_fit is 'most'; it has to be all (all rows) or")


def test_folds_of_all_rows_are_made_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other groups draw other folds, and one of them may lack a class."""

    def lack_a_class(rows: Rows, *arguments: Any) -> Any:
        if len(rows.y) == 400:
            raise DataError("fold 1 has no row of the class number 1; lower --folds")
        return make_folds(rows, *arguments)

    monkeypatch.setattr("training.plan.make_folds", lack_a_class)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"a": rng.normal(size=400), "who": np.arange(400) % 50, "target": [0, 1] * 200}
    )
    frame.to_csv(tmp_path / "table.csv", index=False)

    message = refuse_final_fit(tmp_path, data=str(tmp_path / "table.csv"), group="who")

    assert message.startswith("of all rows, fold 1 has no row")
    assert message.endswith("or add --final_fit train")


# --- Digests


def digest(X: Any, y: Any, schema: Schema = NUMBERS) -> list[int]:
    return list(map(int, digest_rows(Rows(X, np.asarray(y)), schema)))


def test_digests_are_the_same_everywhere() -> None:
    """Files of earlier runs hold them, so these numbers never change."""
    schema = Schema(
        (Feature("a"), Feature("b", Kind.CATEGORICAL, True, ("x", "ü"))), ("no", "yes")
    )

    def hash_of(content: bytes) -> bytes:
        return blake2b(content, digest_size=8).digest()

    def number(value: float) -> bytes:
        return struct.pack("<d", value)

    gap = bytes.fromhex("000000000000f87f")
    expected = [
        hash_of(number(1.5) + hash_of(b"\xc3\xbc") + hash_of(b"no")),
        hash_of(number(0.0) + gap + hash_of(b"yes")),
    ]
    assert digest(np.array([[1.5, 1], [-0.0, np.nan]]), [0, 1], schema) == [
        int.from_bytes(content, "little") for content in expected
    ]
    assert expected[1].hex() == "f550483dd0fd1738"


def test_equal_rows_have_equal_digests_whatever_the_codes() -> None:
    def schema(categories: Any, labels: Any) -> Schema:
        return Schema((Feature("a", Kind.CATEGORICAL, True, categories),), labels)

    first = digest(np.array([[1.0], [np.nan]]), [0, 0], schema(("p", "q"), (0, 1)))
    second = digest(np.array([[0.0], [np.nan]]), [1, 1], schema(("q", "r"), (1, 0)))
    numbers = digest(np.array([[7.0]]), [0], Schema((Feature("a"),), (0, 1)))

    assert first == second
    assert numbers == digest(np.array([[1.0]]), [0], schema((3, 7), (0, 1)))


def test_minus_zero_is_zero_and_every_nan_is_one() -> None:
    other_nan = np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64)[0]

    assert digest(np.array([[0.0, np.nan]]), [1]) == digest(
        np.array([[-0.0, other_nan]]), [1]
    )


def test_different_rows_have_different_digests() -> None:
    X = np.array([[0.0, 1], [1, 0], [1, 1], [1, 1], [1, np.nan], [1, 1 + 1e-15]])

    assert len(set(digest(X, [0, 0, 0, 1, 0, 0]))) == 6


def test_a_sparse_row_is_its_cells_that_are_not_zero() -> None:
    schema = replace(NUMBERS, is_sparse=True)
    X = csr_matrix(np.array([[1.0, 0], [0, 1], [0, 0]]))
    stored = csr_matrix(([0.0, 1, 1, -0.0], ([0, 0, 1, 2], [1, 0, 1, 0])), shape=(3, 2))
    before = stored.data.tolist()

    assert digest(X, [0, 0, 0], schema) == digest(stored, [0, 0, 0], schema)
    assert len(set(digest(X, [0, 0, 0], schema))) == 3
    assert stored.data.tolist() == before


def test_chunks_do_not_change_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ({}, {"sparse": True}):
        schema, train, _ = make_rows(**kind)
        whole = digest_rows(train, schema)
        with monkeypatch.context() as patch:
            patch.setattr(row_digests, "CHUNK_ROWS", 7)
            assert np.array_equal(digest_rows(train, schema), whole)


def test_a_group_that_was_learned_from_is_seen_in_a_later_table(tmp_path: Path) -> None:
    """Other rows of the same person tell about the person, whatever number it had."""
    learned: "list[tuple[Rows, Schema, pd.Series[Any]]]" = []
    for names in (["ann", "bob", "cat"], ["dan", "cat"]):
        frame = pd.DataFrame(
            {"a": np.arange(60.0) + len(learned) * 100, "who": (names * 60)[:60]}
        )
        frame["target"] = [0, 1] * 30
        frame.to_csv(tmp_path / "table.csv", index=False)
        dataset = load_dataset(
            str(tmp_path / "table.csv"),
            "target",
            LoadOptions(roles=RoleNames(group="who")),
        )
        rows = Rows(dataset.X, dataset.y, None, dataset.group)
        learned.append((rows, dataset.schema, frame["who"]))

    (first, schema, _), (second, _, who) = learned

    seen = find_seen(second, schema, [list_learned(first, schema)])
    assert seen.tolist() == (who == "cat").tolist()


# --- Rows that neither has learned from


def hold_out(n_rows: int) -> Rows:
    X = np.column_stack([np.arange(n_rows), np.zeros(n_rows)]).astype(np.float64)
    return Rows(X, np.arange(n_rows) % 2)


def learn(holdout: Rows, *rows: int) -> list[row_digests.Words]:
    return [digest_rows(holdout, NUMBERS)[list(rows)]]


def test_only_rows_that_nobody_learned_from_are_taken() -> None:
    holdout = hold_out(300)

    rows = take_unseen(holdout, NUMBERS, learn(holdout, *range(100)))

    assert rows.X[:, 0].tolist() == list(range(100, 300))
    assert rows.y.tolist() == [0, 1] * 100


def test_a_hold_out_that_nobody_learned_from_is_judged_however_small() -> None:
    holdout = hold_out(4)

    assert take_unseen(holdout, NUMBERS, [to_words([1, 2])]) is holdout


def test_a_duplicate_of_a_training_row_is_no_fresh_row() -> None:
    holdout = hold_out(30)
    twice = Rows(holdout.X[[0, 0, *range(1, 29)]], holdout.y[[0, 0, *range(1, 29)]])

    assert len(take_unseen(twice, NUMBERS, learn(holdout, 0)).y) == 28


@pytest.mark.parametrize(
    ("n_rows", "learned", "message"),
    [
        (300, range(201), "99 of the 300 hold-out rows are new to both .* 100 are"),
        (40, range(21), "19 of the 40 hold-out rows .* 20 are needed"),
        (
            300,
            range(0, 290, 2),
            "5 of them of the class '0', and 10 are needed; use the table and",
        ),
        (6, range(0, 6, 2), "0 of them of the class '0', and 2 are needed"),
    ],
)
def test_too_few_fresh_rows_judge_nobody(
    n_rows: int, learned: range, message: str
) -> None:
    holdout = hold_out(n_rows)

    with pytest.raises(NotComparable, match=message):
        take_unseen(holdout, NUMBERS, learn(holdout, *learned))


# --- The file


def test_the_file_of_digests_holds_eight_bytes_a_row(tmp_path: Path) -> None:
    learned = digest_rows(hold_out(1000), NUMBERS)

    write_learned(tmp_path / "rows.bin", learned)

    assert np.array_equal(
        np.concatenate([*read_learned(tmp_path / "rows.bin")]), learned
    )
    assert (tmp_path / "rows.bin").stat().st_size == len(HEADER) + 32 + 8000


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-8], "was cut short or changed"),
        (lambda content: content[:-3], "was cut short or changed"),
        (lambda content: content + b"\0", "was cut short or changed"),
        (lambda content: content[: len(HEADER) + 5], "was cut short or changed"),
        (lambda content: content[:-1] + b"\xff", "was cut short or changed"),
        (lambda content: content[:20], "has a format that is not known here"),
        (lambda content: b"", "has a format that is not known here"),
        (lambda content: b"PK" + content, "has a format that is not known here"),
    ],
    ids=[
        "row",
        "bytes",
        "longer",
        "digest",
        "changed",
        "header",
        "empty",
        "another",
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    spoil: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "learned_rows.bin"
    write_learned(path, digest_rows(hold_out(100), NUMBERS))
    path.write_bytes(spoil(path.read_bytes()))

    with pytest.raises(NotComparable, match=f"its learned_rows.bin {message}"):
        list(read_learned(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotComparable, match="cannot be read .No such file"):
        list(read_learned(tmp_path / "learned_rows.bin"))


def test_a_huge_file_is_read_in_parts(tmp_path: Path) -> None:
    with (tmp_path / "rows.bin").open("wb") as file:
        file.write(HEADER)
        file.truncate(100 * 2**20)

    parts = read_learned(tmp_path / "rows.bin")

    assert {next(parts).nbytes for _ in range(3)} == {8 * 2**20}
    with pytest.raises(NotComparable, match="was cut short or changed"):
        list(parts)
