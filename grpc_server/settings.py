"""The server's settings: the name, type, default and help text of each, and how they are read.

A flag takes precedence over the environment variable ``PREDICTION_<FIELD>``, which takes precedence
over the default. This module never reads the environment itself: the caller passes it in.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from grpc_server.errors import SettingsError
from grpc_server.model_uri import FORMS, ModelUri

ENV_PREFIX = "PREDICTION_"
STORE = Path(".model")
LANES = ("fast", "pool")
_HOST_NAME = r"[\w-]{1,63}(\.[\w-]{1,63})*"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"an integer in [{low}, {high}]") from None
        if not low <= value <= high:
            raise ValueError(f"an integer in [{low}, {high}]")
        return value

    return parse


def _seconds(text: str) -> float:
    allowed = "a number of seconds in [0, 3600]"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(allowed) from None
    if not 0 <= value <= 3600:
        raise ValueError(allowed)
    return value


def _positive_seconds(text: str) -> float:
    allowed = "a number of seconds in (0, 3600]"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(allowed) from None
    if not 0 < value <= 3600:
        raise ValueError(allowed)
    return value


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError("true or false") from None


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError("one of " + ", ".join(LOG_LEVELS))
    return text.upper()


def _lane(text: str) -> str:
    if text not in LANES:
        raise ValueError("one of " + ", ".join(LANES))
    return text


def _path(text: str) -> Path:
    if not text:
        raise ValueError("a path")
    return Path(text)


def _host(text: str) -> str:
    """Return an address or a name for a socket, without the brackets of URIs."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    is_address_6 = re.fullmatch(
        r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?", host
    )
    if not is_address_6 and not re.fullmatch(_HOST_NAME, host, re.ASCII):
        raise ValueError(
            "an address or a name, such as 0.0.0.0, ::1 or localhost; --port sets the port"
        )
    return host


def _setting(default: Any, parse: Callable[[str], Any], help: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one server; the metadata of each field has its help text."""

    model_dir: Path | None = _setting(
        None,
        _path,
        "folder that holds model.binpb; with --model-uri, a link to create (default: "
        f"{STORE}/NAME@ALIAS)",
    )
    model_uri: ModelUri | None = _setting(
        None,
        ModelUri.parse,
        f"registered model to fetch into --model-dir at start: {FORMS}; MLFLOW_TRACKING_URI names "
        "the registry",
    )
    wait_for_model: bool = _setting(
        False,
        _boolean,
        "start without a model, and report not ready until --model-dir holds one",
    )
    host: str = _setting(
        "0.0.0.0", _host, "address to listen on, such as 127.0.0.1 or ::1"
    )
    port: int = _setting(50051, _integer(0, 65535), "port of gRPC; 0 takes a free one")
    http_port: int = _setting(
        8080, _integer(0, 65535), "port of /metrics and /health; 0 takes a free one"
    )
    lane: str = _setting(
        "fast",
        _lane,
        "threads that answer Predict: fast is the thread that receives calls; pool is the worker "
        "threads, for models that take milliseconds",
    )
    max_calls_in_flight: int = _setting(
        512,
        _integer(1, 100_000),
        "most calls that wait or run in a lane; more get RESOURCE_EXHAUSTED; health checks are not "
        "limited",
    )
    workers: int = _setting(4, _integer(1, 64), "worker threads; 2 to 4 are best")
    processes: int = _setting(
        1,
        _integer(1, 64),
        "processes that share the port, each with its own copy of the model; a connection stays "
        "with one process",
    )
    reflection: bool = _setting(
        True, _boolean, "serve gRPC reflection, which grpcurl needs"
    )
    max_message_bytes: int = _setting(
        16 * 1024 * 1024,
        _integer(1024, 2**31 - 1),
        "largest message to receive or to send, in bytes",
    )
    max_batch_rows: int = _setting(
        10_000,
        _integer(1, 1_000_000),
        "most instances of one batch, or of one chunk of a stream; --max-message-bytes also limits "
        "them, by default to 10,000 instances of 200 numbers",
    )
    max_streams: int = _setting(
        1024,
        _integer(1, 100_000),
        "most open streams; more get RESOURCE_EXHAUSTED; a stream that waits for its caller holds "
        "no thread",
    )
    max_watches: int = _setting(
        10_000,
        _integer(1, 1_000_000),
        "most open calls of Health/Watch, of about 10 KiB each; more get RESOURCE_EXHAUSTED; a "
        "client that checks health has one per connection",
    )
    max_calls_per_connection: int = _setting(
        1024,
        _integer(1, 100_000),
        "most open calls of one connection, which limits its memory; clients hold further calls "
        "back once they know the limit",
    )
    message_seconds: float = _setting(
        10.0,
        _positive_seconds,
        "longest time that a call waits for its message before it gets DEADLINE_EXCEEDED",
    )
    stream_idle_seconds: float = _setting(
        300.0,
        _positive_seconds,
        "longest time that a stream waits for its next message before it gets DEADLINE_EXCEEDED",
    )
    answer_seconds: float = _setting(
        60.0,
        _positive_seconds,
        "longest time that a caller may take to receive a reply before the call is cut off; the "
        "reply stays in memory meanwhile",
    )
    drain_seconds: float = _setting(
        5.0,
        _seconds,
        "time to report not ready and keep answering after SIGTERM; SIGINT skips it",
    )
    grace_seconds: float = _setting(
        20.0, _seconds, "time for calls in flight to finish after the drain"
    )
    max_connection_age_seconds: float = _setting(
        0.0,
        _seconds,
        "age, give or take a tenth, at which a connection is closed once its calls are answered; "
        "if it is below --drain-seconds, no connection is open at a stop; 0 never closes one",
    )
    max_connection_idle_seconds: float = _setting(
        900.0,
        _seconds,
        "time without a call after which a connection is closed; the next call opens another; 0 "
        "never closes one",
    )
    keepalive_seconds: float = _setting(
        60.0,
        _positive_seconds,
        "time of silence after which the server pings a client; without a reply within 20 s, its "
        "connection and calls are dropped",
    )
    min_ping_seconds: float = _setting(
        5.0,
        _seconds,
        "shortest time between two pings of a client on a quiet connection; a client that pings "
        "more often is disconnected; Go clients and balancers ping every 10 s or more",
    )
    log_level: str = _setting(
        "INFO", _log_level, "lowest level to log: " + ", ".join(LOG_LEVELS)
    )

    @property
    def model_folder(self) -> Path:
        """Folder of the model, or link to it.

        Raises
        ------
        SettingsError
            If the settings name no model.
        """
        if self.model_dir is not None:
            return self.model_dir
        if self.model_uri is not None:
            return STORE / self.model_uri.link_name
        raise SettingsError(
            f"no model is named; give --model-dir FOLDER or --model-uri {FORMS}"
        )


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A parsed command line.

    Parameters
    ----------
    settings : Settings
        Effective settings.
    origins : mapping of str to str
        Origin of each value by the setting's name: a flag, a variable or "default".
    print_settings : bool
        Whether to print the settings and exit.
    """

    settings: Settings
    origins: Mapping[str, str]
    print_settings: bool


class _Parser(argparse.ArgumentParser):
    """A parser that raises a SettingsError of one line."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m grpc_server",
        description="Serve one registered model over gRPC.",
        epilog=f"Each flag is an environment variable too: --port is {ENV_PREFIX}PORT.",
        allow_abbrev=False,
    )
    for item in fields(Settings):
        help_text = item.metadata["help"]
        if item.default is not None:
            help_text += f" (default: {item.default})"
        if item.metadata["parse"] is _boolean:
            parser.add_argument(
                _flag(item.name),
                action=argparse.BooleanOptionalAction,
                default=None,
                help=help_text,
            )
        else:
            parser.add_argument(
                _flag(item.name), metavar=item.name.upper(), help=help_text
            )
    parser.add_argument(
        "--print-settings",
        action="store_true",
        help="print the value and the origin of every setting, and exit",
    )
    return parser


def _check_names(environ: Mapping[str, str]) -> None:
    known = [ENV_PREFIX + item.name.upper() for item in fields(Settings)]
    unknown = sorted(
        name for name in environ if name.startswith(ENV_PREFIX) and name not in known
    )
    if unknown:
        raise SettingsError(
            f"environment variable {unknown[0]!r} is not a setting; known are {', '.join(known)}"
        )


def _parse(text: str, parse: Callable[[str], Any], origin: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{origin}: {text!r} is not {error}") from None


def parse_command_line(
    arguments: Sequence[str], environ: Mapping[str, str]
) -> CommandLine:
    """Read the settings from flags, environment and defaults, in this order.

    Parameters
    ----------
    arguments : sequence of str
        Command line without the program's name.
    environ : mapping of str to str
        Environment; names with the prefix ``PREDICTION_`` are settings.

    Returns
    -------
    CommandLine
        The settings and their origins.

    Raises
    ------
    SettingsError
        If a flag or variable is unknown, or a value is not allowed.
    """
    given = vars(_build_parser().parse_args(arguments))
    _check_names(environ)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for item in fields(Settings):
        variable = ENV_PREFIX + item.name.upper()
        raw = given[item.name]
        if isinstance(raw, bool):
            values[item.name], origins[item.name] = raw, _flag(item.name)
        elif raw is not None:
            origins[item.name] = _flag(item.name)
            values[item.name] = _parse(raw, item.metadata["parse"], _flag(item.name))
        elif variable in environ:
            origins[item.name] = variable
            values[item.name] = _parse(
                environ[variable], item.metadata["parse"], variable
            )
        else:
            values[item.name], origins[item.name] = item.default, "default"
    return CommandLine(Settings(**values), origins, given["print_settings"])


def describe(settings: Settings, origins: Mapping[str, str]) -> str:
    """Format the settings for people.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    origins : mapping of str to str
        Origin of each value by the setting's name.

    Returns
    -------
    str
        One line per setting: its name, value and origin.
    """
    rows = [
        (f.name, str(getattr(settings, f.name)), origins[f.name])
        for f in fields(settings)
    ]
    name_width = max(len(name) for name, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return "\n".join(
        f"{n:{name_width}}  {v:{value_width}}  {origin}" for n, v, origin in rows
    )
