"""One observer process, seen from the server."""

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Self

from grpc_server.observe.reports import HANDLED, Report, ReportReader

_READ_BYTES = 64 * 1024


class ObserverGone(Exception):
    """The process has ended, or its socket is closed."""


@dataclass(frozen=True, slots=True)
class ObserverProgram:
    """A program that observes.

    Parameters
    ----------
    name : str
        Name in the log, such as "prediction log".
    module : str
        Module that `python -m` runs. Its first argument is the file descriptor of its socket.
    arguments : tuple of str
        Further arguments.
    share : float
        Share of the calls that it sees, [0, 1].
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    share: float = 1.0


class ObserverProcess:
    """A running observer, for one thread.

    Parameters
    ----------
    process : subprocess.Popen
        The process.
    connection : socket.socket
        Socket to it.
    take_report : callable
        Receives each report.

    Attributes
    ----------
    n_open : int
        Records that were sent, and of which no report says that they are done.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        connection: socket.socket,
        take_report: Callable[[Report], None],
    ) -> None:
        self._process = process
        self._connection = connection
        self._connection.setblocking(False)
        self._take_report = take_report
        self._reader = ReportReader()
        self.n_open = 0

    @classmethod
    def start(
        cls, program: ObserverProgram, take_report: Callable[[Report], None]
    ) -> Self:
        """Start the program.

        Raises
        ------
        OSError
            If the machine has no room for another process or socket.
        """
        ours, theirs = socket.socketpair()
        command: Sequence[str] = [
            *(sys.executable, "-m", program.module, str(theirs.fileno())),
            *program.arguments,
        ]
        with theirs:
            try:
                process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    # Its own group: a terminal's Ctrl-C must reach the server only.
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
        return cls(process, ours, take_report)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, content: memoryview, seconds: float) -> memoryview:
        """Send bytes for at most some seconds, and read reports meanwhile.

        Returns
        -------
        memoryview
            What could not be sent.

        Raises
        ------
        ObserverGone
            If the process has ended.
        """
        end = monotonic() + seconds
        while content and (remaining := end - monotonic()) > 0:
            _, writable, _ = select.select([], [self._connection], [], remaining)
            if writable:
                content = content[self._send_some(content) :]
            self.read_reports()
        return content

    def read_reports(self) -> None:
        """Hand on the reports that have come.

        Raises
        ------
        ObserverGone
            If the process has ended, or sends what is no report.
        """
        while content := self._read():
            try:
                for report in self._reader.feed(content):
                    self.n_open -= int(report.counts.get(HANDLED, 0))
                    self._take_report(report)
            except ValueError as error:
                raise ObserverGone(str(error)) from None

    def finish(self, seconds: float) -> None:
        """Say that nothing more will come, and read reports until the process ends, or kill it."""
        end = monotonic() + seconds
        try:
            self._connection.shutdown(socket.SHUT_WR)
            while (remaining := end - monotonic()) > 0:
                select.select([self._connection], [], [], remaining)
                self.read_reports()
        except (ObserverGone, OSError):
            pass
        self.end(max(0.0, end - monotonic()))

    def end(self, seconds: float = 0.0) -> str:
        """Wait for the process to end, kill it if it does not, and return how it ended."""
        self._connection.close()
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            # Not forever: a process that waits for a dead disk ends when the disk answers.
            try:
                code = self._process.wait(1.0)
            except subprocess.TimeoutExpired:
                return "killed, and still waiting for its disk"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _send_some(self, content: memoryview) -> int:
        try:
            return self._connection.send(content)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ObserverGone(error.strerror) from None

    def _read(self) -> bytes:
        """Return what has come; empty if nothing has."""
        try:
            content = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise ObserverGone(error.strerror) from None
        if not content:
            raise ObserverGone("it closed its socket")
        return content
