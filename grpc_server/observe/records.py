"""What an observer is told: answered calls and the models that answered, as frames of bytes.

::

    frame: length of the rest ─ list of records
"""

import json
import marshal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from struct import Struct
from typing import Any, NamedTuple, Self, TypeAlias

from grpc_server.model import LoadedModel
from grpc_server.model.kinds import (
    Boolean,
    Date,
    IntegerCategories,
    Kind,
    TextCategories,
    TimeOfDay,
)

# What a record or frame holds: the messages of a method, or the facts of a model.
PREDICT, BATCH, CHUNK, MODEL = range(4)
METHODS = ("Predict", "BatchPredict", "StreamPredict")

_LENGTH = Struct("<I")
# A version of `marshal` that looks for no object that occurs twice.
_WITHOUT_REFERENCES = 2
_KIND_NAMES: Sequence[tuple[type[Any], str]] = (
    (Boolean, "boolean"),
    (IntegerCategories, "integer"),
    (TextCategories, "text"),
    (Date, "date"),
    (TimeOfDay, "time"),
)


# A record as the threads that answer calls make it: a plain tuple is made and sent fastest.
RawRecord: TypeAlias = tuple[int, float, int, str, str, bytes, bytes]


class Record(NamedTuple):
    """One answered call, or one answered chunk of a stream; `RawRecord` has the same parts.

    Parameters
    ----------
    kind : int
        PREDICT, BATCH or CHUNK.
    time : float
        When it was answered, in seconds since the epoch.
    first_row : int
        Number of the first row within its call, 0 or more: a chunk follows others.
    request_id : str
        Identifier of the call, ASCII.
    caller : str
        Name of the caller; empty if it has none.
    request : bytes
        Encoded request.
    reply : bytes
        Encoded reply.
    """

    kind: int
    time: float
    first_row: int
    request_id: str
    caller: str
    request: bytes
    reply: bytes


@dataclass(frozen=True, slots=True)
class FeatureFacts:
    """One feature of a model.

    Parameters
    ----------
    name : str
        Name of the feature.
    kind : str
        "numeric", "boolean", "integer", "text", "date" or "time".
    redaction : str
        `grpc_server.model.schema.DROP` or `HASH`: what a log may hold of its values; empty for all.
    """

    name: str
    kind: str
    redaction: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What an observer must know of a model to read its calls.

    Parameters
    ----------
    registered_model : str
        Name in the registry; empty without one.
    version : str
        Version, as in the replies.
    sha256 : str
        Digest of the model's file, 64 hexadecimal digits.
    features : tuple of FeatureFacts
        The features in the order of the schema.
    labels : tuple of str
        Labels of the classes in the order of the probabilities.
    is_canary : bool
        Whether it answers a share of the calls beside the champion.
    """

    registered_model: str
    version: str
    sha256: str
    features: tuple[FeatureFacts, ...]
    labels: tuple[str, ...]
    is_canary: bool = False

    @classmethod
    def of(cls, model: LoadedModel, is_canary: bool) -> Self:
        """Return the facts of a loaded model."""
        features = model.input_schema.features
        return cls(
            model.source.registered_model,
            model.source.version,
            model.source.sha256,
            tuple(
                FeatureFacts(f.name, _name_kind(f.kind), f.redaction) for f in features
            ),
            model.classes.labels,
            is_canary,
        )

    @classmethod
    def decode(cls, content: bytes) -> Self:
        """Return the facts that `encode` made bytes of."""
        values = json.loads(content)
        features = tuple(FeatureFacts(**item) for item in values.pop("features"))
        return cls(features=features, labels=tuple(values.pop("labels")), **values)

    def encode(self) -> bytes:
        """Return the facts as JSON."""
        return json.dumps(asdict(self)).encode()


def _name_kind(kind: Kind) -> str:
    return next((name for cls, name in _KIND_NAMES if isinstance(kind, cls)), "numeric")


def frame(records: list[RawRecord]) -> bytes:
    """Return records as a frame.

    `marshal` takes a tenth of the time of anything that looks at each record: this runs in the
    interpreter that answers calls. Both ends are the same Python, and nobody else has the socket.
    """
    content = marshal.dumps(records, _WITHOUT_REFERENCES)
    return _LENGTH.pack(len(content)) + content


def frame_model(facts: ModelFacts) -> bytes:
    """Return the facts of a model as a frame."""
    return frame([(MODEL, 0.0, 0, "", "", facts.encode(), b"")])


class FrameReader:
    """Cuts a stream of bytes into records."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, content: bytes) -> Iterator[Record]:
        """Yield the records that `content` completes, in their order."""
        self._rest += content
        begin = 0
        while (end := self._find_end(begin)) is not None:
            for raw in marshal.loads(self._rest[begin + _LENGTH.size : end]):
                yield Record(*raw)
            begin = end
        del self._rest[:begin]

    def _find_end(self, begin: int) -> int | None:
        """Return where the frame at `begin` ends, None if it is not complete."""
        body = begin + _LENGTH.size
        if len(self._rest) < body:
            return None
        end: int = body + _LENGTH.unpack_from(self._rest, begin)[0]
        return end if len(self._rest) >= end else None
