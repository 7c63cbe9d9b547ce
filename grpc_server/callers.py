"""Files of callers: who may call, by token or by certificate, and what for.

One line per token or certificate name::

    # name    proof                                   scopes
    billing   sha256:9f86d081884c7d65...0f00a08       predict
    ops       uri:spiffe://example.com/ops            predict,describe,metrics

The file holds no token, so reading it does not let anybody call.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from grpc_server.errors import CallersError
from grpc_server.followed_files import FollowedFiles, read_bounded

PREDICT, DESCRIBE, METRICS = "predict", "describe", "metrics"
SCOPES = (PREDICT, DESCRIBE, METRICS)
# Label of calls whose caller is not known; no line may have this name.
UNKNOWN_CALLER = "unknown"
# Names become labels of metrics, so their number is limited.
MAX_LINES = 1000
_MAX_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN_PROOF = re.compile(r"sha256:[0-9a-f]{64}")
_IDENTITY_PROOF = re.compile(r"(?:dns|uri):[!-~]{1,512}")
# Time between two looks at the file.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Caller:
    """One line of the file.

    Parameters
    ----------
    name : str
        Name in metrics. Several lines may have one name, such as the old token and the new one.
    proof : str
        ``sha256:`` and the digest of the token, or ``dns:`` or ``uri:`` and a certificate's name.
    scopes : frozenset of str
        What the caller may do, of `SCOPES`.
    """

    name: str
    proof: str
    scopes: frozenset[str]


class CallersFile:
    """The callers of a file, which is read again when it changes; for any thread.

    Parameters
    ----------
    path : Path
        The file.
    form : re.Pattern
        What proofs look like.
    example : str
        Such a proof, for errors.
    count_failure : callable
        Called for each change of the file that was refused.

    Raises
    ------
    CallersError
        If the file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        form: re.Pattern[str],
        example: str,
        count_failure: Callable[[], None],
    ) -> None:
        self._path, self._form, self._example = path, form, example
        self._files = FollowedFiles(
            [path], self._read, "callers", count_failure, LOOK_SECONDS
        )

    @classmethod
    def of_tokens(cls, path: Path, count_failure: Callable[[], None]) -> "CallersFile":
        """Return the callers of a file of tokens."""
        return cls(path, _TOKEN_PROOF, "sha256: and 64 digits 0-9a-f", count_failure)

    @classmethod
    def of_identities(
        cls, path: Path, count_failure: Callable[[], None]
    ) -> "CallersFile":
        """Return the callers of a file of certificate names."""
        return cls(path, _IDENTITY_PROOF, "dns:NAME or uri:NAME", count_failure)

    def find(self, proof: str) -> Caller | None:
        """Return the caller of a proof, None if no line has it.

        A look-up by digest tells nothing of a token by its time: nobody can choose a digest.
        """
        return self._files.get().get(proof)

    def _read(self) -> Mapping[str, Caller]:
        by_proof: dict[str, Caller] = {}
        for number, line in enumerate(_read_text(self._path).splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            place = f"{self._path}, line {number}"
            caller = _parse(words, self._form, self._example, place)
            if caller.proof in by_proof:
                raise CallersError(f"{place}: the second word occurs twice; keep one")
            by_proof[caller.proof] = caller
        if not by_proof or len(by_proof) > MAX_LINES:
            raise CallersError(
                f"{self._path} has {len(by_proof)} callers; 1 to {MAX_LINES} are allowed"
            )
        return by_proof


def _read_text(path: Path) -> str:
    content = read_bounded(path, _MAX_BYTES, CallersError)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CallersError(f"{path} is not UTF-8") from None


def _parse(words: list[str], form: re.Pattern[str], example: str, place: str) -> Caller:
    """Return the caller of a line; no error quotes the second word, which may be a token."""
    if len(words) != 3:
        raise CallersError(
            f"{place}: {len(words)} words; give a name, {example}, and scopes such as "
            f"{PREDICT},{DESCRIBE}"
        )
    name, proof, scopes = words
    if not _NAME.fullmatch(name) or name == UNKNOWN_CALLER:
        raise CallersError(
            f"{place}: the name may have 64 of A-Z a-z 0-9 . _ - and must not be "
            f"{UNKNOWN_CALLER!r}"
        )
    if not form.fullmatch(proof):
        raise CallersError(f"{place}: the second word of {name!r} must be {example}")
    unknown = set(scopes.split(",")) - set(SCOPES)
    if unknown:
        raise CallersError(
            f"{place}: {sorted(unknown)[0][:40]!r} is not a scope; known are "
            f"{', '.join(SCOPES)}"
        )
    return Caller(name, proof, frozenset(scopes.split(",")))
