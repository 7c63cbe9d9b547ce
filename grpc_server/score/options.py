"""The command line of the scorer."""

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from grpc_server.score.answers import AnswerOptions
from table_files.csv_form import Known
from table_files.gap_words import GAP_WORDS

ON_BAD_ROW = ("fail", "skip", "null")
PART_ROWS = 250_000


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What a call of the program asks for.

    Parameters
    ----------
    model : Path
        Folder with the model's file.
    source : Path
        File or folder to score.
    output : Path
        Folder of the output.
    answers : AnswerOptions
        What the output has.
    csv : Known
        What is known of CSV files.
    gaps : frozenset of str
        Words for missing values in them.
    groups : tuple of (int, int) or None
        Row groups to score; None for all.
    part_rows : int
        Most rows of a part.
    n_workers : int
        Threads that score.
    trusted_keys : Path or None
        File of public keys; None accepts any model.
    """

    model: Path
    source: Path
    output: Path
    answers: AnswerOptions
    csv: Known
    gaps: frozenset[str]
    groups: tuple[int, int] | None
    part_rows: int
    n_workers: int
    trusted_keys: Path | None


def parse_options(arguments: Sequence[str]) -> ScoreOptions:
    """Read a command line; a wrong one ends the program with its usage."""
    parser = _build_parser()
    given = parser.parse_args(arguments)
    return ScoreOptions(
        model=given.model,
        source=given.input,
        output=given.output,
        answers=AnswerOptions(
            tuple(dict.fromkeys(given.keep)),
            given.output_prefix,
            given.on_bad_row,
            given.explain_top_k,
        ),
        csv=Known(given.encoding, given.separator or ""),
        gaps=frozenset(given.gaps),
        groups=given.row_groups,
        part_rows=given.part_rows,
        n_workers=given.workers,
        trusted_keys=given.trusted_keys,
    )


def count_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grpc_server.score",
        description="Score the rows of a file or a folder, with the server's own answers. A run "
        "that was cut short goes on where it stopped.",
    )
    add = parser.add_argument
    add("model", type=Path, help="folder with model.binpb, as model_sync fetches it")
    add("input", type=Path, help="file, or folder of files: Parquet or CSV")
    add("output", type=Path, help="folder for the parts and the manifest")
    _add_output_flags(add)
    _add_input_flags(add)
    return parser


def _add_output_flags(add: Callable[..., object]) -> None:
    add(
        "--keep",
        type=_names,
        default=[],
        metavar="NAMES",
        help="columns of the input that the output has too, such as id,day",
    )
    add(
        "--on-bad-row",
        choices=ON_BAD_ROW,
        default="fail",
        help="what to do with a row that the server would refuse: stop, leave it out, or leave "
        "its answer empty (default: %(default)s)",
    )
    add(
        "--explain-top-k",
        type=_integer(0, 100_000),
        default=0,
        metavar="K",
        help="also write the K largest contributions of each row (default: %(default)s)",
    )
    add(
        "--output-prefix",
        default="",
        metavar="TEXT",
        help="what the names of the answers' columns begin with",
    )


def _add_input_flags(add: Callable[..., object]) -> None:
    add(
        "--row-groups",
        type=_range,
        metavar="FIRST:STOP",
        help="score these row groups of a Parquet file only, from 0",
    )
    add(
        "--part-rows",
        type=_integer(1, 100_000_000),
        default=PART_ROWS,
        metavar="N",
        help="most rows of a part; wide rows make smaller parts (default: %(default)s)",
    )
    add(
        "--workers",
        type=_integer(1, 1024),
        default=count_processors(),
        metavar="N",
        help="threads that score (default: the processors)",
    )
    add("--separator", type=_separator, help="separator of CSV files (default: found)")
    add(
        "--encoding",
        default="",
        help="encoding of CSV files, such as cp1252 (default: found)",
    )
    add(
        "--gaps",
        type=_names,
        default=list(GAP_WORDS),
        metavar="WORDS",
        help="cells of CSV files that are missing values, besides empty ones "
        f"(default: {','.join(GAP_WORDS)})",
    )
    add(
        "--trusted-keys",
        type=Path,
        metavar="FILE",
        help="public keys (Ed25519, PEM): a model that none of them has signed is refused",
    )


def _names(text: str) -> list[str]:
    """Read names that are separated by commas; quotes allow commas in names."""
    return [name for name in next(csv.reader([text]), []) if name]


def _separator(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in '"\r\n':
        raise argparse.ArgumentTypeError(f"{text!r} is not one character of ASCII")
    return text


def _range(text: str) -> tuple[int, int]:
    try:
        first, stop = map(int, text.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0:8") from None
    return first, stop


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not an integer in [{low}, {high}]"
            )
        return int(text)

    return parse
