"""The steps of the scoring flow in plain Python: pin a version, divide the rows, score, add up."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

S3 = "s3://"
MANIFEST = "_manifest.json"


class ScoringError(Exception):
    """Rows cannot be scored; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """The version that scores all rows of a run.

    Parameters
    ----------
    name, version, run_id : str
        As of `grpc_server.model.source.ModelSource`; empty if it does not come from a registry.
    sha256 : str
        Digest of the artifact.
    files : dict of str to bytes
        Files of the model's folder: each shard has the same bytes.
    """

    name: str
    version: str
    run_id: str
    sha256: str
    files: dict[str, bytes]

    def write(self, folder: Path) -> Path:
        """Write the model's folder, and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows that one task scores.

    Parameters
    ----------
    number : int
        Number of the shard, from 0.
    source : str
        File, or its s3:// URL.
    groups : tuple of (int, int) or None
        Row groups of a Parquet file; None for the whole file.
    n_rows : int or None
        Number of rows; None if it is unknown before they are read.
    """

    number: int
    source: str
    groups: tuple[int, int] | None
    n_rows: int | None

    @property
    def folder(self) -> str:
        """Name of the shard's folder in the output."""
        return f"shard-{self.number:05d}"


def pin_model(model: str, scratch: Path) -> PinnedModel:
    """Resolve an alias once, and get the version's files.

    Parameters
    ----------
    model : str
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or a folder with a model.
    scratch : Path
        Folder for copies.

    Returns
    -------
    PinnedModel
        The version.

    Raises
    ------
    ScoringError
        If the registry does not have it, or it cannot be served.
    """
    from grpc_server.errors import StartupError
    from grpc_server.model import load_model
    from grpc_server.model.source import SOURCE_FILE_NAME
    from grpc_server.model_sync import synchronize
    from grpc_server.model_uri import ModelUri
    from prediction.artifact import FILE_NAME

    try:
        folder = Path(model)
        if model.startswith("models:"):
            folder = scratch / "current"
            synchronize(ModelUri.parse(model), folder)
        # Its golden examples are checked here, once, before anything is scored.
        source = load_model(folder).source
    except (StartupError, ValueError) as error:
        raise ScoringError(f"--model {model!r}: {error}") from None
    paths = (folder / FILE_NAME, folder / SOURCE_FILE_NAME)
    files = {path.name: path.read_bytes() for path in paths if path.exists()}
    return PinnedModel(
        source.registered_model, source.version, source.run_id, source.sha256, files
    )


def list_shards(data: str, shard_rows: int) -> list[Shard]:
    """Divide the rows of files.

    Parameters
    ----------
    data : str
        File or folder on this machine, or an s3:// URL of either.
    shard_rows : int
        Rows of a shard, about: Parquet files on this machine are divided between row groups. Other
        files are a shard each.

    Returns
    -------
    list of Shard
        One or more.

    Raises
    ------
    ScoringError
        If there is no file, or one is broken.
    """
    from grpc_server.errors import TableError
    from grpc_server.score.listing import list_files

    if data.startswith(S3):
        sources = _list_objects(data)
        return [Shard(n, url, None, None) for n, url in enumerate(sources)]
    try:
        pieces = [
            (str(path.resolve()), groups, n_rows)
            for path in list_files(Path(data))
            for groups, n_rows in _divide(path, shard_rows)
        ]
    except TableError as error:
        raise ScoringError(f"--data: {error}") from None
    return [Shard(number, *piece) for number, piece in enumerate(pieces)]


def _divide(
    path: Path, shard_rows: int
) -> Iterable[tuple[tuple[int, int] | None, int | None]]:
    """Yield row groups of a file, with about `shard_rows` rows at a time."""
    from grpc_server.score.parquet_table import ParquetTable

    if path.suffix != ".parquet":
        yield None, None
        return
    counts = ParquetTable(path, path.name).group_rows
    first, n_rows = 0, 0
    for number, count in enumerate(counts):
        if n_rows and n_rows + count > shard_rows:
            yield (first, number), n_rows
            first, n_rows = number, 0
        n_rows += count
    yield (first, len(counts)), n_rows


def _list_objects(url: str) -> list[str]:
    from metaflow import S3 as Client
    from metaflow.exception import MetaflowException

    try:
        with Client() as s3:
            if "." in url.rsplit("/", 1)[-1]:
                return [url]
            found = [each.url for each in s3.list_recursive([url.rstrip("/") + "/"])]
    except MetaflowException as error:
        raise ScoringError(f"--data {url!r} cannot be read: {error}") from None
    names = sorted(u for u in found if u.rsplit("/", 1)[-1][0] not in "._")
    if not names:
        raise ScoringError(f"--data {url!r}: no file is below this prefix")
    return names


def score_shard(
    shard: Shard,
    model: PinnedModel,
    output: str,
    flags: Sequence[str],
    scratch: Path,
) -> dict[str, Any]:
    """Score the rows of a shard into its own folder; a second try goes on, or writes the same.

    Parameters
    ----------
    shard : Shard
        The rows.
    model : PinnedModel
        The version.
    output : str
        Folder on this machine, or an s3:// URL.
    flags : sequence of str
        Flags of `python -m grpc_server.score`.
    scratch : Path
        Folder for copies.

    Returns
    -------
    dict
        The manifest of the shard.

    Raises
    ------
    ScoringError
        If a row cannot be scored, or the output cannot be written.
    """
    from grpc_server.errors import StartupError
    from grpc_server.score.options import parse_options
    from grpc_server.score.program import make_job
    from grpc_server.score.running import run_job

    to_s3 = output.startswith(S3)
    folder = (scratch if to_s3 else Path(output)) / shard.folder
    groups = (
        [f"--row-groups={shard.groups[0]}:{shard.groups[1]}"] if shard.groups else []
    )
    source = _fetch(shard.source, scratch)
    arguments = [str(model.write(scratch / "model")), str(source), str(folder)]
    try:
        options = parse_options([*arguments, *flags, *groups])
        manifest = run_job(make_job(options, _say), _say)
    except StartupError as error:
        raise ScoringError(str(error)) from None
    except OSError as error:
        raise ScoringError(f"{folder} cannot be written: {error}") from None
    if to_s3:
        _put_folder(folder, f"{output.rstrip('/')}/{shard.folder}")
    return manifest


def _say(event: str, fields: Mapping[str, Any]) -> None:
    print(f"{event}: {', '.join(f'{k}={v}' for k, v in fields.items())}", flush=True)


def _fetch(source: str, scratch: Path) -> Path:
    if not source.startswith(S3):
        return Path(source)
    from metaflow import S3 as Client
    from metaflow.exception import MetaflowException

    path = scratch / source.rsplit("/", 1)[-1]
    try:
        with Client(tmproot=str(scratch)) as s3:
            shutil.move(s3.get(source).path, path)
    except MetaflowException as error:
        raise ScoringError(f"{source} cannot be read: {error}") from None
    return path


def _put_folder(folder: Path, url: str) -> None:
    """Copy the parts to S3, the manifest last; a second copy replaces the first."""
    from metaflow import S3 as Client
    from metaflow.exception import MetaflowException

    parts = sorted(folder.glob("part-*"))
    try:
        with Client(s3root=url) as s3:
            s3.put_files([(path.name, str(path)) for path in parts])
            s3.put_files([(MANIFEST, str(folder / MANIFEST))])
    except MetaflowException as error:
        raise ScoringError(f"{url} cannot be written: {error}") from None


def add_up(
    shards: Sequence[Shard],
    manifests: Sequence[Mapping[str, Any]],
    model: PinnedModel,
    scratch: Path,
) -> dict[str, Any]:
    """Check that every row was scored once by one version, and add the shards up.

    Parameters
    ----------
    shards : sequence of Shard
        The shards.
    manifests : sequence of mapping
        The manifest of each, in the same order.
    model : PinnedModel
        The version.
    scratch : Path
        Folder for copies.

    Returns
    -------
    dict
        The manifest of the run.

    Raises
    ------
    ScoringError
        If rows are missing, or a shard has another model.
    """
    from grpc_server.model import load_model
    from grpc_server.score.summary import Counts, summarize

    for shard, manifest in zip(shards, manifests, strict=True):
        _check(shard, manifest, model)
    loaded = load_model(model.write(scratch / "model"))
    counts = Counts.empty(loaded)
    for manifest in manifests:
        counts.add(Counts.decode(manifest["counts"]))
    names = ("rows", "rows_written", "bad_rows")
    bad = [cell for manifest in manifests for cell in manifest["first_bad_rows"]]
    return {
        **{name: sum(manifest[name] for manifest in manifests) for name in names},
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        **summarize(loaded, counts),
        "shards": [
            {"folder": shard.folder, "source": shard.source, "rows": manifest["rows"]}
            for shard, manifest in zip(shards, manifests, strict=True)
        ],
        "first_bad_rows": bad[:1000],
    }


def _check(shard: Shard, manifest: Mapping[str, Any], model: PinnedModel) -> None:
    if manifest["model"]["sha256"] != model.sha256:
        raise ScoringError(
            f"{shard.folder} has scores of another model; score into another --output"
        )
    left_out = manifest["bad_rows"] if manifest["on_bad_row"] == "skip" else 0
    is_whole = shard.n_rows in (None, manifest["rows"])
    if not is_whole or manifest["rows"] != manifest["rows_written"] + left_out:
        raise ScoringError(
            f"{shard.folder} has {manifest['rows_written']} rows of {manifest['rows']}, and "
            f"{shard.source} has {shard.n_rows}; remove it, and score again"
        )


def put_manifest(manifest: Mapping[str, Any], output: str) -> None:
    """Write the manifest of the run beside the shards."""
    from grpc_server.score.plan import write_json

    if not output.startswith(S3):
        write_json(Path(output) / MANIFEST, dict(manifest))
        return
    from metaflow import S3 as Client

    with Client(s3root=output) as s3:
        s3.put(MANIFEST, json.dumps(manifest, indent=2))
