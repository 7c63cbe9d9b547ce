"""What is decided before anything is searched: the rows, the hold-out, the grids, the scoring."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.roles import RoleNames
from training.data.rows import Rows, RowsRef, store_rows
from training.data.schema import Feature, Kind, Schema
from training.data.schema_file import format_schema, parse_overrides
from training.data.sources import shorten_list
from training.data.splitting import Split, Splitting, split_holdout
from training.errors import DataError, SearchError
from training.models.calibration import check_method
from training.models.families import FAMILIES, Recipe
from training.models.family_search import SearchSettings, resolve_scoring
from training.models.final_model import Finish
from training.models.grids import ParamGrid, check_grid, parse_grids
from training.models.thresholds import check_classes, parse_threshold

# Metaflow starts no more than 100 tasks for a step.
N_SHARDS = range(1, 101)


@dataclass(frozen=True, slots=True)
class FlowRun:
    """What is known of a flow run before anything is searched.

    Parameters
    ----------
    run_id : str
        Name of the flow and number of the run, such as "TrainFlow/1700000000000000".
    start_time : datetime
        When it began, with its time zone.
    parameters : mapping of str to object
        The flow's own parameters.
    data_source : str
        What --data said.
    data_name : str
        Short name of the data set.
    data_sha256 : str
        Digest of the data set in lower-case hexadecimal digits.
    code_version : str
        Git commit; may be empty.
    """

    run_id: str
    start_time: datetime
    parameters: Mapping[str, Any]
    data_source: str
    data_name: str
    data_sha256: str
    code_version: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks a flow run for.

    Parameters
    ----------
    run_id : str
        Name of the flow and number of the run.
    parameters : mapping of str to object
        The flow's parameters by name.
    grids : mapping
        Grids as the user wrote them, by family.
    code_version : str
        Version of the code; may be empty.
    columns : mapping
        What the user says of columns, see `training.data.schema_file`.
    """

    run_id: str
    parameters: Mapping[str, Any]
    grids: Mapping[str, Any]
    code_version: str
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Store:
    """Where tables come from that are not here, and where rows are put.

    Parameters
    ----------
    scratch : Path
        Folder to write in.
    put : callable
        Keeps a file and returns its URL.
    fetch : callable
        Brings the file or folder of an s3:// URL into a folder and returns its path there; raises
        DataError if there is none.
    """

    scratch: Path
    put: Callable[[Path], str]
    fetch: Callable[[str, Path], Path]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the later steps need; small, since rows are held by reference.

    Parameters
    ----------
    run : FlowRun
        What is known of the run.
    schema : Schema
        Columns and classes.
    settings : SearchSettings
        Folds and scoring of both searches.
    grids : mapping of str to list of dict
        Parameter grids by family.
    train, holdout : RowsRef
        Rows to learn from, and rows to score the winner on.
    summary : str
        What was read and decided, in words.
    schema_file : str
        The columns as --config schema would say them.
    finish : Finish
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
    finish: Finish = Finish()


def prepare(request: Request, store: Store) -> Plan:
    """Load and split the data, and check all that a search would stumble over.

    Raises
    ------
    DataError
        If the table cannot be read or learned from.
    SearchError
        If a grid, the scoring, the calibration or the threshold is no good.
    """
    parameters = request.parameters
    _check_shards(parameters["shards"])
    finish = _make_finish(parameters)
    grids = parse_grids(request.grids)
    options = _read_options(request)
    dataset = _load(parameters["data"], parameters["target"], options, store)
    check_classes(finish.threshold, dataset.schema)
    settings = _make_settings(parameters, dataset.schema)
    for family, param_grid in grids.items():
        check_grid(Recipe(FAMILIES[family], dataset.schema, settings.seed), param_grid)
    split = split_holdout(
        dataset,
        parameters["test_fraction"],
        settings.n_folds,
        settings.seed,
        settings.splitting,
    )
    return Plan(
        run=_describe_run(request, dataset),
        schema=dataset.schema,
        settings=settings,
        grids=grids,
        train=_store_part(dataset, split.train, "train", store),
        holdout=_store_part(dataset, split.holdout, "holdout", store),
        summary=_summarize(dataset, split),
        schema_file=format_schema(dataset.schema.features, dataset.dropped),
        finish=finish,
    )


def _read_options(request: Request) -> LoadOptions:
    parameters = request.parameters
    return LoadOptions(
        parse_overrides(request.columns),
        RoleNames(parameters["weight"], parameters["group"], parameters["time"]),
        parameters["strict"],
    )


def _choose_splitting(parameters: Mapping[str, Any]) -> Splitting:
    if parameters["time"]:
        return Splitting.TIMED
    return Splitting.GROUPED if parameters["group"] else Splitting.STRATIFIED


def _load(source: str, target: str, options: LoadOptions, store: Store) -> Dataset:
    scheme, is_url, _ = source.partition("://")
    if not is_url:
        return load_dataset(source, target, options)
    if scheme != "s3":
        raise DataError(f"--data {source}: of URLs, only those with s3:// are read")
    path = str(store.fetch(source, store.scratch))
    try:
        return load_dataset(path, target, options)
    except DataError as error:
        # The user knows the URL, not where its copy was.
        raise DataError(str(error).replace(path, source)) from None


def _make_settings(parameters: Mapping[str, Any], schema: Schema) -> SearchSettings:
    rounds = parameters["early_stopping_rounds"]
    if rounds < 0:
        raise SearchError(
            f"--early_stopping_rounds is {rounds}; it has to be 0 (never) or more"
        )
    seed = parameters["seed"]
    if not 0 <= seed < 2**31:
        raise SearchError(f"--seed is {seed}; it has to be in [0, 2147483647]")
    max_minutes = parameters["max_minutes"]
    if not 0 <= max_minutes < math.inf:
        raise SearchError(
            f"--max_minutes is {max_minutes}; it has to be 0 (no limit) or more"
        )
    return SearchSettings(
        scoring=resolve_scoring(parameters["scoring"], schema),
        n_folds=parameters["folds"],
        seed=seed,
        early_stopping_rounds=rounds,
        max_minutes=max_minutes,
        splitting=_choose_splitting(parameters),
    )


def _make_finish(parameters: Mapping[str, Any]) -> Finish:
    check_method(parameters["calibration"])
    finish = Finish(parameters["calibration"], parse_threshold(parameters["threshold"]))
    for role in ("weight", "time"):
        if parameters[role] and finish.needs_folds:
            raise SearchError(
                f"--{role} goes with neither --calibration nor a --threshold to be found: those "
                "count each row once, and want an answer for each from a fold without it"
            )
    return finish


def _check_shards(n_shards: int) -> None:
    if n_shards not in N_SHARDS:
        raise SearchError(
            f"--shards is {n_shards}; it has to be in [1, {N_SHARDS.stop - 1}]"
        )


def _describe_run(request: Request, dataset: Dataset) -> FlowRun:
    return FlowRun(
        run_id=request.run_id,
        start_time=datetime.now(UTC),
        parameters=dict(request.parameters),
        data_source=request.parameters["data"],
        data_name=dataset.name,
        data_sha256=dataset.sha256,
        code_version=request.code_version,
    )


def _store_part(
    dataset: Dataset, rows: NDArray[np.int64], name: str, store: Store
) -> RowsRef:
    part = Rows(
        dataset.X[rows],
        dataset.y[rows],
        None if dataset.weight is None else dataset.weight[rows],
        None if dataset.group is None else dataset.group[rows],
    )
    return store_rows(part, name, store.scratch, store.put)


def _summarize(dataset: Dataset, split: Split) -> str:
    schema = dataset.schema
    counts = np.bincount(dataset.y).tolist()
    classes = ", ".join(
        f"{label} ({count})"
        for label, count in zip(schema.class_labels, counts, strict=True)
    )
    lines = [
        f"{dataset.name}: {len(dataset.y)} rows, {len(schema.features)} features, classes "
        f"{classes}. {len(split.train)} rows to learn from, {len(split.holdout)} locked away. "
        f"sha256 {dataset.sha256[:12]}",
        *_list_kinds(schema),
        *(f"not used: {name}: {why}" for name, why in dataset.dropped.items()),
        *dataset.notes,
    ]
    return "\n".join(lines)


def _list_kinds(schema: Schema) -> Iterator[str]:
    """Yield a line for each kind that there is, with the names of its columns."""
    for kind in Kind:
        features = schema.of_kind(kind)
        if features:
            n_nullable = sum(feature.nullable for feature in features)
            gaps = f", {n_nullable} of them with gaps" if n_nullable else ""
            names = shorten_list([_name(feature) for feature in features])
            yield f"{len(features)} {kind}{gaps}: {names}"


def _name(feature: Feature) -> str:
    n_categories = len(feature.categories)
    return (
        f"{feature.name} ({n_categories} categories)" if n_categories else feature.name
    )
