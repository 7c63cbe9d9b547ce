"""Prepares and explains a run of the flow on the command line, before and after Metaflow."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import TextIO

from metaflow import FlowSpec
from metaflow.exception import MetaflowException
from metaflow.parameters import flow_context

from training import text
from training.data.embedded import EMBEDDED


def name_user(environ: MutableMapping[str, str]) -> None:
    """Name a user if nobody is named. Metaflow needs a user, and does not accept root.

    Parameters
    ----------
    environ : mutable mapping of str to str
        The environment, which is changed in place.
    """
    known = {
        environ.get(name) for name in ("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER")
    }
    if not known - {None, "", "root"}:
        # Metaflow reads this variable late; it has read METAFLOW_USER when it was imported.
        environ["USERNAME"] = "trainer"


def escape_unshowable(
    streams: Iterable[TextIO], environ: MutableMapping[str, str]
) -> None:
    """Let streams escape the characters that they cannot show, instead of raising an error.

    Metaflow reads what its tasks print as UTF-8, whatever this program's own encoding is. So the
    tasks are told to print UTF-8.

    Parameters
    ----------
    streams : iterable of TextIO
        Standard output and standard error, which are changed in place.
    environ : mutable mapping of str to str
        The environment of the tasks, which is changed in place.
    """
    text.escape_unshowable(streams)
    environ["PYTHONIOENCODING"] = "utf-8:backslashreplace"


def print_as_it_is(flow: type[FlowSpec], kind: type[MetaflowException]) -> None:
    """Let Metaflow print errors of one kind as they are.

    Metaflow takes asterisks in an error for emphasis, removes them, and has no escape for them. An
    error that quotes the user's names and numbers needs them.

    Parameters
    ----------
    flow : type
        Class of the flow.
    kind : type
        Class of the errors. Metaflow prints all others as before, because its own errors use
        asterisks for emphasis.
    """
    # When it is imported, this module reads the flow's parameters from the context.
    with flow_context(flow):
        from metaflow import cli

    print_with_emphasis = cli.print_metaflow_exception

    def print_exception(error: MetaflowException) -> None:
        if not isinstance(error, kind):
            print_with_emphasis(error)
            return
        cli.echo_always(f"{error.headline}:", indent=True, bold=True)
        cli.echo_always(error.message, indent=True, no_bold=True, padding_bottom=True)

    cli.print_metaflow_exception = print_exception


def refuse_local_table(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Stop if pods would have to read a table that is only on this machine.

    Parameters
    ----------
    arguments : sequence of str
        The command line after the program's name.
    environ : mapping of str to str
        The environment, from which Metaflow takes parameters too.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--with", action="append", default=[], dest="decorators")
    parser.add_argument("--data", default=environ.get("METAFLOW_RUN_DATA", ""))
    known, rest = parser.parse_known_args(arguments)
    in_pods = any(name.partition(":")[0] == "kubernetes" for name in known.decorators)
    is_local = "://" not in known.data and known.data not in ("", EMBEDDED)
    if "run" in rest and in_pods and is_local:
        sys.exit(
            f"--data {known.data!r} is a path on this machine, and no pod of --with kubernetes "
            "reads it; put the table into S3, and give its s3:// URL"
        )


def find_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that led to an error, the first of them last."""
    cause = error.__context__
    while cause is not None:
        yield cause
        cause = None if cause.__suppress_context__ else cause.__context__
