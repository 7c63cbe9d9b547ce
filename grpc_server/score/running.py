"""Scores tables into a folder of parts.

::

    tables ─> columns fit? ─> plan ─> parts that exist
                                        │
      reader (one thread) ── chunk ──> workers: encode, score, write, rename
                                        │
                     every row once? ─> manifest
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc_server.errors import TableError
from grpc_server.model import LoadedModel
from grpc_server.registry.durable_files import lock_file, make_folder, sync_folder
from grpc_server.score.answers import Answerer, AnswerOptions, Answers
from grpc_server.score.cells import TextRules
from grpc_server.score.fit import check_fit
from grpc_server.score.manifest import write_manifest
from grpc_server.score.parts import PartFacts, PartFolder
from grpc_server.score.plan import LOCK_FILE, MANIFEST_FILE, Plan, to_values
from grpc_server.score.progress import Progress
from grpc_server.score.tables import Chunk, Identity, Table, identify

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What to score.

    Parameters
    ----------
    model : LoadedModel
        The model.
    tables : tuple of Table
        The rows, in order.
    output : Path
        Folder of the parts; new, or of a run that was cut short.
    answers : AnswerOptions
        What the output has.
    rules : TextRules
        How cells without a type are read.
    part_rows : int
        Most rows of a part.
    n_workers : int
        Threads that score, 1 or more.
    stated : dict
        Further values that decide about the output, for the plan.
    """

    model: LoadedModel
    tables: tuple[Table, ...]
    output: Path
    answers: AnswerOptions
    rules: TextRules
    part_rows: int
    n_workers: int
    stated: dict[str, Any]

    @property
    def columns(self) -> list[str]:
        """Columns that are read: those of the model and the kept ones, each once."""
        features = (feature.name for feature in self.model.input_schema.features)
        return list(dict.fromkeys((*features, *self.answers.keep)))


def run_job(job: Job, say: Callable[[str, dict[str, Any]], None]) -> dict[str, Any]:
    """Score all rows, or what a run before has left.

    Parameters
    ----------
    job : Job
        What to score.
    say : callable
        Takes an event and its fields.

    Returns
    -------
    dict
        The manifest.

    Raises
    ------
    TableError
        If a table does not fit, is broken or changes meanwhile, or the folder is of another run.
    OSError
        If the output cannot be written.
    """
    answerer = Answerer(job.model, job.answers, job.rules)
    for table in job.tables:
        for note in check_fit(table, job.model.input_schema, job.answers.keep):
            say("columns differ", {"note": note})
    identities = [table.identity for table in job.tables]
    make_folder(job.output)
    try:
        with lock_file(job.output / LOCK_FILE, waits=False):
            return _Run(job, answerer, identities, say).run()
    except BlockingIOError:
        raise TableError(
            f"another program scores into {job.output}; wait for it to end"
        ) from None


class _Run:
    """One run, which holds the lock of the folder."""

    def __init__(
        self,
        job: Job,
        answerer: Answerer,
        identities: Sequence[Identity],
        say: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._job = job
        self._answerer = answerer
        self._identities = identities
        self._say = say
        self._part_rows = [
            table.measure_rows(job.columns, job.part_rows) for table in job.tables
        ]
        self._plan = self._make_plan()
        self._folder = PartFolder(job.output, self._plan.digest)

    def _make_plan(self) -> Plan:
        job, source = self._job, self._job.model.source
        return Plan(
            {
                "model": {
                    "name": source.registered_model,
                    "version": source.version,
                    "sha256": source.sha256,
                },
                "input": to_values(self._identities),
                "part_rows": self._part_rows,
                "keep": list(job.answers.keep),
                "output_prefix": job.answers.prefix,
                "explain_top_k": job.answers.top_k,
                **job.stated,
            },
            job.answers.on_bad_row,
        )

    def run(self) -> dict[str, Any]:
        """Score what is left; return the manifest."""
        job = self._job
        self._plan.adopt(job.output)
        self._folder.clear()
        facts = self._folder.find()
        if facts:
            n_done = sum(each.n_rows for each in facts.values())
            self._say("going on", {"parts": len(facts), "rows": n_done})
        if not (job.output / MANIFEST_FILE).exists():
            progress = Progress(job.tables, facts.values(), self._say)
            facts |= self._score(facts, progress)
            progress.tell_end()
        self._check_unchanged()
        sync_folder(job.output)
        return write_manifest(job.output, job.model, job.tables, self._plan, facts)

    def _score(
        self, facts: dict[tuple[int, int], PartFacts], progress: Progress
    ) -> dict[tuple[int, int], PartFacts]:
        """Score the parts that do not exist, with a few chunks in memory."""
        made: dict[tuple[int, int], PartFacts] = {}
        running: dict[Future[PartFacts], tuple[int, int]] = {}
        n_workers = self._job.n_workers
        with ThreadPoolExecutor(n_workers, "score") as pool:
            try:
                for table, chunk in self._read(facts, progress):
                    task = pool.submit(self._score_chunk, table, chunk)
                    running[task] = (table, chunk.number)
                    del chunk
                    if len(running) > n_workers:
                        _collect(running, made, progress, all_of_them=False)
                _collect(running, made, progress, all_of_them=True)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return made

    def _read(
        self, facts: dict[tuple[int, int], PartFacts], progress: Progress
    ) -> Iterator[tuple[int, Chunk]]:
        for number, table in enumerate(self._job.tables):
            progress.begin(table)
            done = {part: f.n_rows for (t, part), f in facts.items() if t == number}
            chunks = table.read(self._job.columns, self._part_rows[number], done)
            for chunk in chunks:
                yield number, chunk
            self._check_unchanged(number)

    def _score_chunk(self, number: int, chunk: Chunk) -> PartFacts:
        table = self._job.tables[number]
        answers = self._answerer.answer(chunk, is_text=table.is_text)
        if answers.n_bad and self._job.answers.on_bad_row == "fail":
            raise _tell_bad(table, answers)
        return self._folder.write(number, chunk.number, answers)

    def _check_unchanged(self, *numbers: int) -> None:
        for number in numbers or range(len(self._job.tables)):
            path = self._job.tables[number].path
            if identify(path) != self._identities[number]:
                raise TableError(
                    f"{path} changed while it was scored; score again into another folder, from "
                    "a file that nobody writes"
                )


def _collect(
    running: dict[Future[PartFacts], tuple[int, int]],
    made: dict[tuple[int, int], PartFacts],
    progress: Progress,
    *,
    all_of_them: bool,
) -> None:
    """Take the results of parts that are written: of one at least, or of all."""
    while running:
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for task in finished:
            facts = task.result()
            made[running.pop(task)] = facts
            progress.add(facts.n_rows, facts.n_bad)
        if not all_of_them:
            return


def _tell_bad(table: Table, answers: Answers) -> TableError:
    first, more = answers.bad_cells[0], answers.n_bad - 1
    where = f"row {first.row}" + (f", column '{first.column}'" if first.column else "")
    suffix = f" (and {more} more rows of this part)" if more else ""
    return TableError(
        f"{table.path}, {where}: {first.value} is not allowed; {first.reason}{suffix}; "
        "--on-bad-row skip or null goes on without such rows"
    )
