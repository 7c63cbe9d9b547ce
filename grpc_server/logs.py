"""The log: one JSON object per line on stdout; messages are constant, data is in fields."""

import io
import json
import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from prediction_common.secrets import redact


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON line; data come from ``extra={"fields": {...}}``.

    Parameters
    ----------
    fields : mapping of str to object
        Data of every line.
    secrets : iterable of str
        Texts to remove from every line.
    """

    def __init__(
        self, fields: Mapping[str, object], secrets: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._fields = fields
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            **self._fields,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(self._redact(line))

    def _redact(self, value: object) -> object:
        """Return a JSON value without secrets; JSON's escapes would hide a secret from `redact`."""
        if isinstance(value, Mapping):
            return {str(key): self._redact(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._redact(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return redact(str(value), self._secrets)


def escape_unshowable(stream: TextIO) -> None:
    """Let a stream, in place, escape the characters that it cannot show, instead of failing."""
    # Another program may have put a stream of its own in place, which shows everything.
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")


def configure_logging(
    level: str, secrets: Iterable[str] = (), **fields: object
) -> None:
    """Send every record of `level` and above to stdout as JSON, each with `fields`."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(fields, secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)


class RedactedStream(io.TextIOBase):
    """Forwards lines without secrets; for the stderr of libraries.

    Parameters
    ----------
    stream : text stream
        Receives the lines.
    secrets : iterable of str
        Texts to remove from every line.
    """

    def __init__(self, stream: TextIO, secrets: Iterable[str]) -> None:
        self._stream = stream
        self._secrets = tuple(secrets)
        self._begun = ""

    def write(self, text: str) -> int:
        """Accept any text; forward a line once it is complete. Return the length of the text."""
        lines, end, self._begun = (self._begun + text).rpartition("\n")
        self._stream.write(redact(lines, self._secrets) + end)
        return len(text)

    def flush(self) -> None:
        """Forward the rest, even if it is not a complete line."""
        self._stream.write(redact(self._begun, self._secrets))
        self._begun = ""
        self._stream.flush()
