"""Makes lines of JSON of answered calls."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from time import monotonic

import orjson

from grpc_server.model.schema import HASH
from grpc_server.observe.log.options import LogOptions
from grpc_server.observe.log.rows import Cell, Change, RowReader, decode_reply
from grpc_server.observe.records import CHUNK, METHODS, ModelFacts, Record

_HASH_BYTES = 16
# Models whose records may still come; the server tells of as many.
_MAX_MODELS = 8
# Longest time that a call may still be answered by the former model of a version. An open stream
# keeps its model for any time.
_OVERLAP_SECONDS = 60.0
# ASCII only, so that no text of a caller can end a line.
_encode = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, separators=(",", ":")
).encode

_log = logging.getLogger(__name__)


class UnknownModel(Exception):
    """The log was not told of a record's model, or cannot tell which of two it was."""


class LineMaker:
    """Makes the lines of the log.

    Parameters
    ----------
    options : LogOptions
        Which features are left out or hashed.
    clock : callable
        Returns the time in seconds, from any beginning.
    """

    def __init__(
        self, options: LogOptions, clock: Callable[[], float] = monotonic
    ) -> None:
        self._clock = clock
        # Versions that another model had before, and when its last calls have ended.
        self._reused: dict[str, float] = {}
        key = options.read_key()
        # Without a key, anybody finds a value by trying, so nothing is written.
        self._hide = make_hash(key) if key else None
        # What is left out stays so.
        self._changes: dict[str, Change | None] = {
            **dict.fromkeys(options.hashed, self._hide),
            **dict.fromkeys(options.dropped),
        }
        self._readers: dict[str, RowReader] = {}

    def learn(self, facts: ModelFacts) -> list[str]:
        """Learn of a model, and return the redacted names that are no feature of it."""
        former = self._readers.pop(facts.version, None)
        if former is not None and former.facts.sha256 != facts.sha256:
            self._note_reuse(former.facts, facts)
        changes = self._changes | self._redact(facts)
        self._readers[facts.version] = RowReader(facts, changes)
        for version in list(self._readers)[:-_MAX_MODELS]:
            del self._readers[version]
            self._reused.pop(version, None)
        known = {feature.name for feature in facts.features}
        return sorted(self._changes.keys() - known)

    def _redact(self, facts: ModelFacts) -> dict[str, Change | None]:
        """Return the changes of features that the model redacts: the stricter rule of both."""
        return {
            feature.name: (
                self._hide
                if feature.redaction == HASH
                and self._changes.get(feature.name, self._hide)
                else None
            )
            for feature in facts.features
            if feature.redaction
        }

    def make(self, record: Record) -> Iterator[bytes]:
        """Yield one line for each row of a record.

        Raises
        ------
        UnknownModel
            If the log was not told of the model, or cannot tell which of two it was.
        ValueError
            If the messages do not fit the model.
        """
        reply = decode_reply(record)
        reader = self._find_reader(record, reply.model_version)
        head = {
            "request_id": record.request_id,
            "row": 0,
            "time": _format_time(record.time),
            "method": METHODS[record.kind],
            "model": reader.facts.registered_model,
            "model_version": reply.model_version,
            "caller": record.caller or None,
        }
        for number, row in enumerate(reader.read(record, reply), record.first_row):
            head["row"] = number
            line = {
                **head,
                "features": row.features,
                "probabilities": row.probabilities,
                "label": row.label,
            }
            yield _encode_line(line)

    def _find_reader(self, record: Record, version: str) -> RowReader:
        reader = self._readers.get(version)
        if reader is None:
            raise UnknownModel(version)
        ends_at = self._reused.get(version)
        if ends_at is not None and (record.kind == CHUNK or self._clock() < ends_at):
            raise UnknownModel(version)
        return reader

    def _note_reuse(self, former: ModelFacts, facts: ModelFacts) -> None:
        """Note that answers of a version may be those of another model."""
        self._reused[facts.version] = self._clock() + _OVERLAP_SECONDS
        fields = {
            "model_version": facts.version,
            "models": [former.registered_model, facts.registered_model],
            "seconds_without_log": _OVERLAP_SECONDS,
        }
        _log.error("another model has the same version", extra={"fields": fields})


def _encode_line(line: Mapping[str, object]) -> bytes:
    """Return a line of JSON with its end, all ASCII; NaN is null.

    orjson writes 30 numbers in a tenth of the time of `json`. It leaves characters as they are, of
    which some end a line for some readers.
    """
    content = orjson.dumps(line)
    if not content.isascii():
        content = _encode(orjson.loads(content)).encode("ascii")
    return content + b"\n"


def make_hash(key: bytes) -> Change:
    """Return a function that makes a keyed hash of a value: 32 hexadecimal digits."""

    def hide(value: Cell) -> Cell:
        content = _encode(value).encode("ascii")
        return hashlib.blake2b(content, key=key, digest_size=_HASH_BYTES).hexdigest()

    return hide


def _format_time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"
