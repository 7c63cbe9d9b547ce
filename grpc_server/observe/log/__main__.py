"""`python -m grpc_server.observe.log SOCKET OPTIONS LEVEL`: the observer that writes the log."""

import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from grpc_server.errors import SettingsError
from grpc_server.logs import configure_logging
from grpc_server.observe.log.folder import LogFolder
from grpc_server.observe.log.lines import LineMaker, UnknownModel
from grpc_server.observe.log.options import LogOptions
from grpc_server.observe.log.writer import LogWriter
from grpc_server.observe.program import run_observer
from grpc_server.observe.records import ModelFacts, Record
from grpc_server.observe.reports import Reporter
from prediction_common.secrets import find_secrets

_log = logging.getLogger("grpc_server.observe.log")


class PredictionLog:
    """The observer that writes answered calls to files.

    Parameters
    ----------
    lines : LineMaker
        Makes the lines.
    writer : LogWriter
        Writes them.
    reporter : Reporter
        Counts what could not be read.
    """

    def __init__(self, lines: LineMaker, writer: LogWriter, reporter: Reporter) -> None:
        self._lines = lines
        self._writer = writer
        self._reporter = reporter
        self.tick = writer.tick
        self.close = writer.close

    def learn(self, facts: ModelFacts) -> None:
        """Learn of a model, and say which redacted names it does not have."""
        unknown = self._lines.learn(facts)
        if unknown:
            fields = {"names": unknown[:10], "model_version": facts.version}
            _log.error("redacted names are no features", extra={"fields": fields})

    def handle(self, record: Record) -> None:
        """Write the rows of a record."""
        self._writer.begin_call()
        try:
            for line in self._lines.make(record):
                self._writer.add(line)
        except UnknownModel:
            self._reporter.add("dropped.unknown_model")


def _make_log(options: LogOptions, reporter: Reporter) -> PredictionLog:
    folder = LogFolder(Path(options.folder), options.file_bytes, options.total_bytes)
    lines = LineMaker(options)
    try:
        folder.make()
        folder.adopt()
    except OSError as error:
        # The first line tries again, and counts what it cannot write.
        fields = {"folder": options.folder, "reason": str(error)}
        _log.error("prediction log has no folder", extra={"fields": fields})
    writer = LogWriter(folder, options.file_bytes, options.file_seconds, reporter)
    return PredictionLog(lines, writer, reporter)


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    connection_fd, options_text, level = arguments
    configure_logging(level, find_secrets(os.environ))
    options = LogOptions.decode(options_text)
    with socket.socket(fileno=int(connection_fd)) as connection:
        try:
            run_observer(connection, lambda reporter: _make_log(options, reporter))
        except SettingsError as error:
            _log.error("prediction log ended", extra={"fields": {"reason": str(error)}})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
