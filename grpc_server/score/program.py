"""From the options to the job."""

from collections.abc import Callable
from typing import Any

from grpc_server.errors import TableError
from grpc_server.model import load_model
from grpc_server.score.cells import TextRules
from grpc_server.score.csv_table import CsvTable
from grpc_server.score.listing import list_files, open_tables
from grpc_server.score.options import ScoreOptions
from grpc_server.score.running import Job
from grpc_server.trust import Trust


def make_job(options: ScoreOptions, say: Callable[[str, dict[str, Any]], None]) -> Job:
    """Load the model, and open the tables.

    Parameters
    ----------
    options : ScoreOptions
        The options.
    say : callable
        Takes an event and its fields.

    Returns
    -------
    Job
        What to score.

    Raises
    ------
    ArtifactError
        If the model cannot be used.
    TableError
        If a file cannot be read, or the output is the input.
    """
    files = list_files(options.source)
    output = options.output.resolve()
    if output == options.source.resolve() or output in map(
        lambda f: f.resolve(), files
    ):
        raise TableError(
            f"{options.output} is the input; name a new folder for the output"
        )
    if options.output.exists() and not options.output.is_dir():
        raise TableError(
            f"{options.output} is a file; name a new folder for the output"
        )
    trust = None if options.trusted_keys is None else Trust(options.trusted_keys)
    model = load_model(options.model, trust)
    tables = open_tables(
        files,
        options.csv,
        [feature.name for feature in model.input_schema.features],
        options.answers.keep,
        skips_unread=options.answers.on_bad_row == "skip",
        groups=options.groups,
    )
    for table in tables:
        note = table.form.describe() if isinstance(table, CsvTable) else ""
        if note:
            say("file", {"note": f"{table.path}: {note}"})
    return Job(
        model=model,
        tables=tuple(tables),
        output=options.output,
        answers=options.answers,
        rules=TextRules(options.gaps),
        part_rows=options.part_rows,
        n_workers=options.n_workers,
        stated={
            "row_groups": list(options.groups) if options.groups else None,
            "separator": options.csv.separator,
            "encoding": options.csv.encoding,
            "gaps": sorted(options.gaps),
        },
    )
