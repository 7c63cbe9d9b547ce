"""Join the server's prediction log with outcomes: `python flows/join_outcomes.py --help`."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.errors import TrainingError
from training.outcomes.joining import Joined, join
from training.outcomes.live_metrics import VersionMetrics, measure, write_metrics
from training.outcomes.log_files import LogRows, read_log
from training.outcomes.outcome_file import Outcomes, read_outcomes
from training.outcomes.table import write_table
from training.text import escape, escape_unshowable, quote_list

METRICS, TABLE = "live_metrics.parquet", "retrain.parquet"


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python flows/join_outcomes.py",
        description="Join a prediction log with what became true. Writes the metrics of each "
        f"version, {METRICS}, and a table to retrain on, {TABLE}.",
        allow_abbrev=False,
    )
    parser.add_argument("log", type=Path, metavar="LOG_FOLDER")
    parser.add_argument(
        "outcomes", type=Path, metavar="OUTCOMES", help="CSV or .parquet"
    )
    parser.add_argument(
        "--model_name",
        metavar="NAME",
        help="registered model whose rows count (default: the only one of the log)",
    )
    parser.add_argument(
        "--key",
        default="request_id",
        help="columns of the identifier and, for batches, of the row: request_id,row (default: "
        "request_id)",
    )
    parser.add_argument(
        "--target", help="column of the label (default: the only one besides the key)"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    return parser


def _read_key(text: str) -> list[str]:
    key = text.split(",")
    if not 1 <= len(set(key)) == len(key) <= 2 or "" in key:
        raise TrainingError(
            f"--key {text!r} does not name one column or two, such as request_id,row"
        )
    return key


def _describe(log: LogRows, outcomes: Outcomes, joined: Joined) -> Iterator[str]:
    yield from outcomes.notes
    yield f"log: {log.n_lines} lines, {len(log.rows)} rows"
    n_kept = len(log.rows) + log.n_repeated
    for number, what in (
        (log.n_torn, "last lines without an end were left out"),
        (log.n_lines - n_kept, "lines are of other models"),
        (log.n_repeated, "lines were answers to a retry; the last answer counts"),
        (outcomes.n_missing, "outcomes have no label, identifier or row yet"),
        (outcomes.n_corrected, "outcomes were replaced by a later line"),
        (joined.n_unknown, "outcomes have an identifier that the log does not have"),
        (
            joined.n_ambiguous,
            "outcomes name no row of a call with several; add row to --key",
        ),
    ):
        if number:
            yield f"{number} {what}"
    yield f"joined: {len(joined.rows)} rows; without an outcome: {joined.unmatched.total()}"
    strange = {x for row, x in joined.rows if x not in row.classes}
    if strange:
        yield f"labels that the model does not have: {quote_list(sorted(strange))}"


def _tell_version(version: VersionMetrics) -> str:
    parts = [f"{version.n_rows} rows"]
    if version.n_without_outcome:
        parts.append(f"{version.n_without_outcome} without an outcome")
    if version.n_unknown_label:
        parts.append(
            f"{version.n_unknown_label} with a label that the model does not have"
        )
    parts += [
        f"{metric} {value:.6g}"
        for metric, value in version.values.items()
        if value is not None
    ]
    # A model that no registry knows has no name.
    name = f"{version.model} version {version.version}".strip()
    return f"{name}: {', '.join(parts)}"


def _run(given: argparse.Namespace) -> Iterator[str]:
    key = _read_key(given.key)
    log = read_log(given.log, given.model_name)
    outcomes = read_outcomes(given.outcomes, key, given.target, log.labels)
    joined = join(log, outcomes)
    versions = measure(joined)
    given.out.mkdir(parents=True, exist_ok=True)
    # The table first: it may be refused.
    partial = write_table(joined, outcomes.target, given.out / TABLE)
    write_metrics(versions, given.out / METRICS)
    yield from _describe(log, outcomes, joined)
    yield from partial
    yield from map(_tell_version, versions)
    yield f"written: {given.out / METRICS} and {given.out / TABLE}"


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    escape_unshowable((sys.stdout, sys.stderr))
    given = _build_parser().parse_args(arguments)
    try:
        for line in _run(given):
            print(escape(line))
    except (TrainingError, OSError) as error:
        print(f"error: {escape(str(error))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
