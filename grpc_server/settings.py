"""The server's settings: the name, type, default and help text of each, and how they are read.

A flag takes precedence over the environment variable ``PREDICTION_<FIELD>``, which takes precedence
over the default. This module never reads the environment itself: the caller passes it in.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from grpc_server.errors import SettingsError
from grpc_server.model_uri import FORMS, ModelUri
from grpc_server.service_links import drop_links
from grpc_server.trust import Trust

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


def _time(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        value = datetime.min
    if not 1970 <= value.year < 9999:
        raise ValueError("a time such as 2026-11-01 or 2026-11-01T12:30:00Z")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _share(text: str) -> float:
    allowed = "a number in (0, 1]"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(allowed) from None
    if not 0 < value <= 1:
        raise ValueError(allowed)
    return value


def _share_or_none(text: str) -> float:
    allowed = "a number in [0, 1]"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(allowed) from None
    if not 0 <= value <= 1:
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


def _model_name(text: str) -> str:
    if not 0 < len(text) <= 256 or not text.isprintable() or text != text.strip():
        raise ValueError("a name of 1 to 256 printable characters")
    return text


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


def _otlp_endpoint(text: str) -> str:
    """Return the address of a collector's traces; the usual path is added to one without a path."""
    allowed = (
        "an address such as http://localhost:4318, without user, query and fragment"
    )
    try:
        parts = urlsplit(text)
        is_valid = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        raise ValueError(allowed) from None
    beyond = parts.username, parts.password, parts.query, parts.fragment
    if parts.scheme not in ("http", "https") or not is_valid or any(beyond):
        raise ValueError(allowed)
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(allowed)
    path = parts.path.rstrip("/")
    return parts._replace(path=path or "/v1/traces").geturl()


def _name(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,100}", text):
        raise ValueError("1 to 100 visible ASCII characters")
    return text


def _setting(default: Any, parse: Callable[[str], Any], help: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one server; the metadata of each field has its help text."""

    model_dir: Path | None = _setting(
        None,
        _path,
        "folder that holds model.binpb, or one folder that does; with --model-uri, a link to "
        f"create (default: {STORE}/NAME@ALIAS)",
    )
    model_uri: ModelUri | None = _setting(
        None,
        ModelUri.parse,
        f"registered model to fetch into --model-dir at start: {FORMS}; MLFLOW_TRACKING_URI names "
        "the registry",
    )
    trusted_keys: Path | None = _setting(
        None,
        _path,
        "file of public keys (Ed25519, PEM): a model that none of them has signed is refused; by "
        "default models are not verified",
    )
    signed_model_name: str = _setting(
        "",
        str,
        "registered model that signatures must name; by default that of --model-uri, or any",
    )
    trusted_since: datetime | None = _setting(
        None,
        _time,
        "refuse signed models that were made before, such as 2026-11-01 or 2026-11-01T12:30Z; UTC "
        "without a zone (default: none)",
    )
    canary_uri: ModelUri | None = _setting(
        None,
        ModelUri.parse,
        "registered model of a canary, which answers a share of the calls; as --model-uri",
    )
    canary_dir: Path | None = _setting(
        None,
        _path,
        "folder of the canary's model.binpb; as --model-dir (default: none; with --canary-uri "
        f"{STORE}/NAME@ALIAS)",
    )
    canary_share: float = _setting(
        0.05,
        _share_or_none,
        "share of the calls that the canary answers, by the metadata prediction-key, or by chance "
        "without one",
    )
    canary_max_errors: float = _setting(
        0.01,
        _share_or_none,
        "largest share of its calls that a canary may fail to answer before it is aborted; the "
        "champion answers them",
    )
    canary_max_shift: float = _setting(
        0.1,
        _share_or_none,
        "largest difference between a canary and the champion in the share of a label, in the mean "
        "top probability and in the share of slow calls before the canary is aborted",
    )
    shadow_uri: ModelUri | None = _setting(
        None,
        ModelUri.parse,
        "registered model of a shadow, which scores answered calls in a process of its own and "
        "answers nobody; as --model-uri",
    )
    shadow_dir: Path | None = _setting(
        None,
        _path,
        "folder of the shadow's model.binpb; as --model-dir (default: none; with --shadow-uri "
        f"{STORE}/NAME@ALIAS)",
    )
    shadow_share: float = _setting(
        1.0,
        _share_or_none,
        "share of the answered calls that the shadow scores, chosen by their x-request-id",
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
    tls_cert: Path | None = _setting(
        None,
        _path,
        "file of the certificate of both ports, PEM, the server's first; a changed file is read "
        "at the next connection, without a restart (default: plain text)",
    )
    tls_key: Path | None = _setting(
        None, _path, "file of the certificate's private key, PEM, without a password"
    )
    tls_client_ca: Path | None = _setting(
        None,
        _path,
        "file of the CAs of clients, PEM; each client of both ports needs a certificate of one",
    )
    health_port: int | None = _setting(
        None,
        _integer(0, 65535),
        "second port of gRPC, in plain text, for probes that know no TLS: it answers "
        "grpc.health.v1 and nothing else; 0 takes a free one (default: none)",
    )
    tokens_file: Path | None = _setting(
        None,
        _path,
        "file of callers by token, a line each: name, sha256:DIGEST of the token, scopes of "
        "predict, describe and metrics; a changed file is read within a second (default: anybody "
        "may call)",
    )
    tokens_without_tls: bool = _setting(
        False,
        _boolean,
        "allow --tokens-file without TLS on other than a loopback address",
    )
    allowed_identities: Path | None = _setting(
        None,
        _path,
        "file of callers by certificate, a line each: name, dns:NAME or uri:NAME, scopes; needs "
        "--tls-client-ca",
    )
    max_caller_share: float = _setting(
        1.0,
        _share,
        "most of a method's open calls that one caller may have, as a share of "
        "--max-calls-in-flight or --max-streams, in each process; a caller with more gets "
        "RESOURCE_EXHAUSTED",
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
    drift_features: int = _setting(
        30,
        _integer(0, 500),
        "features whose drift is counted bin by bin, the most important first; the others get one "
        "index each; 0 counts nothing",
    )
    describe: bool = _setting(
        True, _boolean, "answer GetModel, which names the model's features and classes"
    )
    open_inference: bool = _setting(
        True,
        _boolean,
        "serve the Open Inference Protocol v2, which clients of KServe and Triton speak: "
        "inference.GRPCInferenceService, and /v2 on the HTTP port",
    )
    model_name: str = _setting(
        "",
        _model_name,
        "name of the model in calls of the Open Inference Protocol; by default that of "
        "--model-uri's registered model, or model without one",
    )
    page: bool = _setting(
        True,
        _boolean,
        "show a page with the model and a form on the HTTP port, and answer predictions in JSON "
        "there",
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
    prediction_log: Path | None = _setting(
        None,
        _path,
        "folder of the prediction log: what callers sent and were answered, in JSON Lines, written "
        "by a process of its own (default: no log)",
    )
    prediction_log_share: float = _setting(
        1.0,
        _share_or_none,
        "share of the calls to log, chosen by their x-request-id, so that a retry is chosen alike",
    )
    prediction_log_file_mib: int = _setting(
        64, _integer(1, 65_536), "size in MiB at which a file of the log is finished"
    )
    prediction_log_file_seconds: float = _setting(
        3600.0, _positive_seconds, "age at which a file of the log is finished"
    )
    prediction_log_total_mib: int = _setting(
        1024,
        _integer(1, 16_777_216),
        "most MiB of all files of the log; the oldest finished ones are deleted for new ones",
    )
    prediction_log_drop: str = _setting(
        "",
        str,
        "features that are not logged: names with commas between, or @FILE with a name on each "
        "line",
    )
    prediction_log_hash: str = _setting(
        "",
        str,
        "features of which a keyed hash is logged, as in --prediction-log-drop; needs "
        "--prediction-log-hash-key",
    )
    prediction_log_hash_key: Path | None = _setting(
        None, _path, "file of the key of the hashes, 16 to 64 bytes"
    )
    access_log_share: float | None = _setting(
        None,
        _share_or_none,
        "write calls to the log: all that failed, and this share of the others, [0, 1]; at most "
        "500 lines a second and process (default: no calls)",
    )
    otlp_endpoint: str | None = _setting(
        None,
        _otlp_endpoint,
        "address of an OpenTelemetry collector that takes OTLP over HTTP, such as "
        "http://localhost:4318: traces of calls and of model swaps are sent there; needs the extra "
        "tracing (default: no traces)",
    )
    otlp_headers: Path | None = _setting(
        None,
        _path,
        "file of headers for the collector, NAME: VALUE on each line, such as a token; read at the "
        "start",
    )
    trace_share: float = _setting(
        0.01,
        _share_or_none,
        "share of the calls without a traceparent that are traced, [0, 1]; with one, its flag "
        "decides; at most 500 calls a second and process are traced",
    )
    trace_service: str = _setting(
        "prediction-server", _name, "name of the service in traces"
    )
    revision: str = _setting(
        "",
        str,
        "revision of the code, which prediction_build_info shows (default: unknown)",
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

    @property
    def canary_folder(self) -> Path | None:
        """Folder of the canary, or link to it; None without a canary.

        Raises
        ------
        SettingsError
            If it is the model's folder.
        """
        return self._find_folder("canary", self.canary_dir, self.canary_uri)

    @property
    def shadow_folder(self) -> Path | None:
        """Folder of the shadow, or link to it; None without a shadow.

        Raises
        ------
        SettingsError
            If it is the model's folder.
        """
        return self._find_folder("shadow", self.shadow_dir, self.shadow_uri)

    @property
    def canary_trust(self) -> Trust | None:
        """Whose signatures of canaries to accept; None accepts any model."""
        return self._find_trust(self.canary_uri)

    @property
    def shadow_trust(self) -> Trust | None:
        """Whose signatures of shadows to accept; None accepts any model."""
        return self._find_trust(self.shadow_uri)

    @property
    def trust(self) -> Trust | None:
        """Whose signatures of models to accept; None accepts any model.

        Raises
        ------
        SettingsError
            If signatures must name a model, and no keys are trusted.
        """
        uri_name = "" if self.model_uri is None else self.model_uri.name
        if self.trusted_keys is not None:
            since = self.trusted_since
            return Trust(
                self.trusted_keys,
                self.signed_model_name or uri_name,
                0.0 if since is None else since.timestamp(),
            )
        if self.trusted_since is not None:
            raise SettingsError("--trusted-since needs --trusted-keys FILE")
        if self.signed_model_name:
            raise SettingsError(
                f"--signed-model-name {self.signed_model_name!r} needs --trusted-keys FILE"
            )
        return None

    def _find_folder(
        self, role: str, folder: Path | None, uri: ModelUri | None
    ) -> Path | None:
        """Return the folder of a model beside the champion."""
        if folder is None and uri is not None:
            folder = STORE / uri.link_name
        has_model = self.model_dir is not None or self.model_uri is not None
        if folder is not None and has_model and folder == self.model_folder:
            raise SettingsError(
                f"the {role}'s folder {str(folder)!r} is the model's; give --{role}-dir another, "
                f"or --{role}-uri another alias"
            )
        return folder

    def _find_trust(self, uri: ModelUri | None) -> Trust | None:
        """Return the trust in a model beside the champion."""
        trust = self.trust
        if trust is None or self.signed_model_name or uri is None:
            return trust
        return replace(trust, model_name=uri.name)


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
    n_service_links : int
        Number of variables with the prefix that are Kubernetes' service links, and no settings.
    """

    settings: Settings
    origins: Mapping[str, str]
    print_settings: bool
    n_service_links: int = 0


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
        if item.default not in (None, ""):
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
    unknown = sorted(name for name in environ if name not in known)
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
        Environment; names with the prefix ``PREDICTION_`` are settings, unless they are service
        links of Kubernetes.

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
    environ, n_links = drop_links(environ, ENV_PREFIX)
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
    return CommandLine(Settings(**values), origins, given["print_settings"], n_links)


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
