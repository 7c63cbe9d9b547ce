"""What the prediction log is asked to do, checked before the server starts."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from grpc_server.errors import SettingsError
from grpc_server.settings import Settings

_MIB = 1024 * 1024
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 16, 64


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Options of the prediction log.

    Parameters
    ----------
    folder : str
        Folder of the files.
    file_bytes : int
        Most bytes of one file.
    total_bytes : int
        Most bytes of all files of the folder.
    file_seconds : float
        Age at which a file is finished.
    dropped : tuple of str
        Features that are not written.
    hashed : tuple of str
        Features of which only a keyed hash is written.
    hash_key : str
        File of the key; empty if nothing is hashed.
    """

    folder: str
    file_bytes: int
    total_bytes: int
    file_seconds: float
    dropped: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    hash_key: str = ""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return the options, None if the log is off.

        Raises
        ------
        SettingsError
            If the options contradict each other, or a file of names or of the key is unusable.
        """
        if settings.prediction_log is None:
            _check_is_on(settings)
            return None
        _check_room(settings)
        hashed = _read_names(settings.prediction_log_hash, "--prediction-log-hash")
        key = settings.prediction_log_hash_key
        if hashed and key is None:
            raise SettingsError(
                "--prediction-log-hash needs --prediction-log-hash-key FILE: without a key, "
                "anybody finds a value by trying"
            )
        options = cls(
            str(settings.prediction_log.absolute()),
            settings.prediction_log_file_mib * _MIB,
            settings.prediction_log_total_mib * _MIB,
            settings.prediction_log_file_seconds,
            _read_names(settings.prediction_log_drop, "--prediction-log-drop"),
            hashed,
            "" if key is None else str(key.absolute()),
        )
        options.read_key()
        return options

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the options that `encode` made a text of."""
        values = json.loads(text)
        values["dropped"] = tuple(values["dropped"])
        values["hashed"] = tuple(values["hashed"])
        return cls(**values)

    def encode(self) -> str:
        """Return the options as a text, for the command line of the observer."""
        return json.dumps(asdict(self))

    def read_key(self) -> bytes:
        """Return the key of the hashes; empty without one.

        Raises
        ------
        SettingsError
            If the file cannot be read, or its size is wrong.
        """
        if not self.hash_key:
            return b""
        try:
            with open(self.hash_key, "rb") as file:
                key = file.read(_MAX_KEY_BYTES + 2).strip()
        except OSError as error:
            raise SettingsError(
                f"--prediction-log-hash-key: {self.hash_key}: {error.strerror}"
            ) from None
        if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
            raise SettingsError(
                f"--prediction-log-hash-key: {self.hash_key} must hold {_MIN_KEY_BYTES} to "
                f"{_MAX_KEY_BYTES} bytes, such as those of: openssl rand -hex 32"
            )
        return key


def _check_is_on(settings: Settings) -> None:
    """Refuse options of a log that is off: somebody expects that it is on."""
    for flag, value in (
        ("--prediction-log-drop", settings.prediction_log_drop),
        ("--prediction-log-hash", settings.prediction_log_hash),
        ("--prediction-log-hash-key", settings.prediction_log_hash_key),
    ):
        if value:
            raise SettingsError(f"{flag} needs --prediction-log FOLDER")


def _check_room(settings: Settings) -> None:
    needed = settings.processes * settings.prediction_log_file_mib
    if needed > settings.prediction_log_total_mib:
        raise SettingsError(
            f"--prediction-log-total-mib is {settings.prediction_log_total_mib}; "
            f"{settings.processes} processes that each write a file of "
            f"--prediction-log-file-mib {settings.prediction_log_file_mib} need {needed}"
        )


def _read_names(text: str, flag: str) -> tuple[str, ...]:
    """Return the names of a list with commas, or of the lines of a file after an ``@``."""
    if not text.startswith("@"):
        return tuple(name for part in text.split(",") if (name := part.strip()))
    path = Path(text[1:])
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{flag}: {path} cannot be read: {error}") from None
    return tuple(name for line in lines if (name := line.strip()))
