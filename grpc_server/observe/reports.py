"""What an observer tells the server: counts and values, as lines of JSON on the same socket."""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# Count of the records that the observer is done with, which every report may have.
HANDLED = "handled"
# A line beyond this comes from no observer of this program.
_MAX_LINE_BYTES = 64 * 1024
_MAX_TEXT_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """What has changed since the report before.

    Parameters
    ----------
    counts : mapping of str to float
        What to add to each count.
    values : mapping of str to float
        Values that replace those before.
    texts : mapping of str to str
        Texts that replace those before.
    """

    counts: Mapping[str, float]
    values: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=dict)


class Reporter:
    """Collects counts in the observer, and sends them when the server takes them.

    Parameters
    ----------
    connection : socket.socket
        Socket to the server, which does not block.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._amounts: dict[str, float] = {}
        self._values: dict[str, float] = {}
        self._texts: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._unsent = b""

    def add(self, name: str, amount: float = 1) -> None:
        """Add to a count."""
        self._amounts[name] = self._amounts.get(name, 0.0) + amount

    def set(self, name: str, value: float) -> None:
        """Replace a value."""
        self._values[name] = value

    def tell(self, name: str, text: str) -> None:
        """Replace a text; one that is the same as before is not sent again."""
        text = text[:_MAX_TEXT_CHARACTERS]
        if self._told.get(name) != text:
            self._texts[name] = self._told[name] = text

    def send(self) -> None:
        """Send what has changed, as far as the server takes it; keep the rest for later."""
        if not self._unsent and (self._amounts or self._values or self._texts):
            line = {
                "counts": self._amounts,
                "values": self._values,
                "texts": self._texts,
            }
            self._unsent = json.dumps(line).encode() + b"\n"
            self._amounts, self._values, self._texts = {}, {}, {}
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            # The server is gone; nobody counts any more.
            self._unsent = b""


class ReportReader:
    """Cuts what an observer sends into reports."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, content: bytes) -> Iterator[Report]:
        """Yield the reports that `content` completes.

        Raises
        ------
        ValueError
            If a line is too long, or not a report.
        """
        *lines, self._rest = (self._rest + content).split(b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            raise ValueError(f"a report is longer than {_MAX_LINE_BYTES} bytes")
        for line in lines:
            yield _parse(line)


def _parse(line: bytes) -> Report:
    try:
        content = json.loads(line)
        texts = {
            str(name): str(text) for name, text in content.get("texts", {}).items()
        }
        return Report(_numbers(content["counts"]), _numbers(content["values"]), texts)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"a report cannot be read: {error!r}") from None


def _numbers(content: Mapping[str, object]) -> dict[str, float]:
    return {str(name): float(str(number)) for name, number in content.items()}
