"""Plans a run: the rows, the hold-out, the grids and the scoring, all checked before any search.

TrainingRequest ──▶ make_plan ──▶ Plan ──▶ every later step
                        │
                        ▼
               FileStore: the rows, as files
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.artifact.encoding import check_classifier
from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.disk import LARGE_TABLE_BYTES, Scratch
from training.data.positive import put_positive_last
from training.data.roles import RoleNames
from training.data.rows import Rows, RowsRef, store_rows
from training.data.schema import Schema
from training.data.schema_file import format_schema, parse_overrides
from training.data.splitting import (
    HoldoutSplit,
    Splitting,
    make_folds,
    split_holdout,
)
from training.data.summary import summarize
from training.errors import DataError, SearchError
from training.models.calibration import check_method
from training.models.champion_policy import ChampionPolicy, find_segment
from training.models.ensembles import check_ensemble
from training.models.families import FAMILIES
from training.models.final_model import PostFit
from training.models.grids import ParamGrid, check_grid, parse_grids
from training.models.pipelines import PipelineFactory
from training.models.scored_twin import TRAIN, check_final_fit
from training.models.scoring import resolve_scoring
from training.models.search_values import SearchSettings
from training.models.thresholds import check_classes, parse_threshold
from training.models.trial_fits import sample_rows, try_grid
from training.parameters import FlowParameters
from training.reasons import check_reason

# Metaflow starts no more than 100 tasks for a step.
N_SHARDS = range(1, 101)


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A run of the flow.

    Parameters
    ----------
    run_id : str
        Name of the flow and number of the run, such as "TrainFlow/1700000000000000".
    start_time : datetime
        Time of the start, with its time zone.
    parameters : FlowParameters
        The parameters of the flow.
    data_name : str
        Short name of the data set.
    data_sha256 : str
        SHA-256 of the data set in lower-case hexadecimal digits.
    code_version : str
        Git commit; may be empty.
    """

    run_id: str
    start_time: datetime
    parameters: FlowParameters
    data_name: str
    data_sha256: str
    code_version: str


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """The user's order for a run.

    Parameters
    ----------
    run_id : str
        Name of the flow and number of the run.
    parameters : FlowParameters
        The parameters of the flow.
    grids : mapping
        Grids as the user writes them, by family.
    code_version : str
        Version of the code; may be empty.
    columns : mapping
        The schema file as the user writes it, see `training.data.schema_file`.
    """

    run_id: str
    parameters: FlowParameters
    grids: Mapping[str, Any]
    code_version: str
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileStore:
    """Where tables are fetched from, and where rows are put.

    Parameters
    ----------
    scratch : Path
        Folder for temporary files.
    put : callable
        Stores a file and returns its URL.
    fetch : callable
        Copies the file or the folder of an s3:// URL into a folder, and returns the path of the
        copy. It raises DataError if there is nothing to copy.
    large_bytes : int
        Bytes of cells from which a table is read column by column, as `Scratch` has it.
    """

    scratch: Path
    put: Callable[[Path], str]
    fetch: Callable[[str, Path], Path]
    large_bytes: int = LARGE_TABLE_BYTES


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the later steps need. It is small, because it refers to rows by their files.

    Parameters
    ----------
    run : FlowRun
        The run.
    schema : Schema
        Columns and classes.
    settings : SearchSettings
        Folds and scoring of both searches.
    grids : mapping of str to list of dict
        Parameter grids by family.
    train, holdout : RowsRef
        Rows to learn from, and rows to score the winner on.
    summary : str
        Description of the data set and its split.
    schema_file : str
        The columns as a schema file, see `training.data.schema_file`.
    post_fit : PostFit
        Calibration and threshold of the winner.
    """

    run: FlowRun
    schema: Schema
    settings: SearchSettings
    grids: Mapping[str, ParamGrid]
    train: RowsRef
    holdout: RowsRef
    summary: str
    schema_file: str = ""
    post_fit: PostFit = PostFit()


def make_plan(request: TrainingRequest, store: FileStore) -> Plan:
    """Load and split the data, and check everything that would stop a search.

    Parameters
    ----------
    request : TrainingRequest
        The user's order.
    store : FileStore
        Where the table is fetched from, and where its rows are put.

    Returns
    -------
    Plan
        The input of all later steps.

    Raises
    ------
    DataError
        If the table cannot be read, or no classifier can learn from it.
    SearchError
        If a grid, the scoring, the calibration, the threshold or the promotion is wrong.
    """
    parameters = request.parameters
    _check_shards(parameters.shards)
    if parameters.reason:
        check_reason(parameters.reason)
    check_final_fit(parameters.final_fit)
    policy = make_policy(parameters)
    check_ensemble(parameters.ensemble)
    post_fit = _make_post_fit(parameters)
    grids = parse_grids(request.grids)
    dataset = put_positive_last(_load(request, store), parameters.positive)
    check_classes(post_fit.threshold, dataset.schema)
    if policy.segment:
        find_segment(policy.segment, dataset.schema)
    settings = _make_settings(parameters, dataset.schema)
    _check_grids(grids, dataset.schema, settings)
    split = split_holdout(
        dataset,
        parameters.test_fraction,
        settings.n_folds,
        settings.seed,
        settings.splitting,
    )
    _try_search(dataset, split.train, grids, settings)
    if parameters.final_fit != TRAIN:
        _try_all_rows(dataset, split, settings)
    return Plan(
        run=_describe_run(request, dataset),
        schema=dataset.schema,
        settings=settings,
        grids=grids,
        train=_store_rows(dataset, split.train, "train", store),
        holdout=_store_rows(dataset, split.holdout, "holdout", store),
        summary=summarize(dataset, split),
        schema_file=format_schema(dataset.schema.features, dataset.dropped),
        post_fit=post_fit,
    )


def _check_shards(n_shards: int) -> None:
    if n_shards not in N_SHARDS:
        raise SearchError(
            f"--shards is {n_shards}; it has to be in [1, {N_SHARDS.stop - 1}]"
        )


def make_policy(parameters: FlowParameters) -> ChampionPolicy:
    """Return what a new version has to show; SearchError if a parameter is wrong."""
    return ChampionPolicy(
        parameters.promotion,
        parameters.promotion_tolerance,
        parameters.max_artifact_mib,
        parameters.max_latency_us,
        parameters.segment,
    )


def _make_post_fit(parameters: FlowParameters) -> PostFit:
    check_method(parameters.calibration)
    post_fit = PostFit(parameters.calibration, parse_threshold(parameters.threshold))
    for role in ("weight", "time"):
        if getattr(parameters, role) and post_fit.needs_folds:
            raise SearchError(
                f"--{role} goes with neither --calibration nor a --threshold chosen on the folds, "
                "because they count each row once and need a prediction for each; leave one out"
            )
    return post_fit


def _load(request: TrainingRequest, store: FileStore) -> Dataset:
    source, target = request.parameters.data, request.parameters.target
    options, scratch = _make_options(request), Scratch(store.scratch, store.large_bytes)
    scheme, is_url, _ = source.partition("://")
    if not is_url:
        return load_dataset(source, target, options, scratch)
    if scheme != "s3":
        raise DataError(f"--data {source!r}: a URL has to begin with s3://")
    path = str(store.fetch(source, store.scratch))
    try:
        return load_dataset(path, target, options, scratch)
    except DataError as error:
        # The user knows the URL, not the path of its copy.
        raise DataError(str(error).replace(path, source)) from None


def _make_options(request: TrainingRequest) -> LoadOptions:
    parameters = request.parameters
    return LoadOptions(
        parse_overrides(request.columns),
        RoleNames(parameters.weight, parameters.group, parameters.time),
        parameters.strict,
    )


def _make_settings(parameters: FlowParameters, schema: Schema) -> SearchSettings:
    rounds, seed = parameters.early_stopping_rounds, parameters.seed
    if rounds < 0:
        raise SearchError(
            f"--early_stopping_rounds is {rounds}; it has to be 0 (never) or more"
        )
    if not 0 <= seed < 2**31:
        raise SearchError(f"--seed is {seed}; it has to be in [0, 2147483647]")
    if not 0 <= parameters.max_minutes < math.inf:
        raise SearchError(
            f"--max_minutes is {parameters.max_minutes}; it has to be 0 (no limit) or more"
        )
    return SearchSettings(
        scoring=resolve_scoring(parameters.scoring, schema),
        n_folds=parameters.folds,
        seed=seed,
        early_stopping_rounds=rounds,
        max_minutes=parameters.max_minutes,
        splitting=_choose_splitting(parameters),
    )


def _choose_splitting(parameters: FlowParameters) -> Splitting:
    if parameters.time:
        return Splitting.TIMED
    return Splitting.GROUPED if parameters.group else Splitting.STRATIFIED


def _check_grids(
    grids: Mapping[str, ParamGrid], schema: Schema, settings: SearchSettings
) -> None:
    for family, param_grid in grids.items():
        factory = PipelineFactory(FAMILIES[family], schema, settings.seed)
        check_grid(factory, param_grid)


def _try_search(
    dataset: Dataset,
    train: NDArray[np.int64],
    grids: Mapping[str, ParamGrid],
    settings: SearchSettings,
) -> None:
    """Make the folds once, and try the values of the grids on a few rows."""
    rows = Rows(
        dataset.X[:0],
        dataset.y[train],
        None,
        None if dataset.group is None else dataset.group[train],
    )
    if settings.splitting != Splitting.STRATIFIED:
        # Groups and times may leave a class out of a fold; drawn rows do not.
        make_folds(rows, settings.n_folds, settings.seed, settings.splitting)
    few = sample_rows(Rows(dataset.X, dataset.y), train)
    for family, param_grid in grids.items():
        factory = PipelineFactory(FAMILIES[family], dataset.schema, settings.seed)
        try_grid(factory, param_grid, few, check_classifier)


def _try_all_rows(
    dataset: Dataset, split: HoldoutSplit, settings: SearchSettings
) -> None:
    """Make the folds of the final fit once, because other groups draw other folds."""
    if settings.splitting != Splitting.GROUPED or dataset.group is None:
        return
    rows = np.concatenate([split.train, split.holdout])
    labels = Rows(dataset.X[:0], dataset.y[rows], None, dataset.group[rows])
    try:
        make_folds(labels, settings.n_folds, settings.seed, settings.splitting)
    except DataError as error:
        raise DataError(f"of all rows, {error}, or add --final_fit {TRAIN}") from None


def _describe_run(request: TrainingRequest, dataset: Dataset) -> FlowRun:
    return FlowRun(
        run_id=request.run_id,
        start_time=datetime.now(UTC),
        parameters=request.parameters,
        data_name=dataset.name,
        data_sha256=dataset.sha256,
        code_version=request.code_version,
    )


def _store_rows(
    dataset: Dataset, rows: NDArray[np.int64], name: str, store: FileStore
) -> RowsRef:
    all_rows = Rows(dataset.X, dataset.y, dataset.weight, dataset.group)
    return store_rows(all_rows, name, store.scratch, store.put, rows)
