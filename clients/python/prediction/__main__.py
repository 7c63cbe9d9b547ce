"""The command line: predict, model and health.

Prints JSON or a health status on stdout, and errors as one line on stderr. Exits with 0 if all is
well, 1 if the call fails or the service does not serve, 2 if the command is wrong.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from prediction._calls import DEFAULT_TIMEOUT_SECONDS
from prediction._channel import SERVICE_NAME
from prediction._client import PredictionClient
from prediction._credentials import make_credentials
from prediction._errors import PredictionError
from prediction._messages import Value
from prediction._models import HealthStatus, Model, Prediction

_EXAMPLES = """examples:
  prediction predict --features 17.99,10.38,122.8
  prediction predict --record '{"mean radius": 17.99, "mean texture": 10.38}'
  prediction predict --record @record.json
  prediction predict --record '{"smoker": true, "city": "Oslo"}' --explain 3
  echo '{"mean radius": 17.99}' | prediction predict --record -
  prediction model --target predictions.example:50051
  prediction health --service ""
"""
_DEFAULT_TARGET = "localhost:50051"
_EXIT_FAILED = 1
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130


class _UsageError(Exception):
    """The command is wrong, but only its execution shows it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str or None, default=None
        Arguments without the program's name. None reads those of the process.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    SystemExit
        If the arguments cannot be parsed or ask for help.
    """
    arguments = _bind_negative_numbers(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except _UsageError as error:
        return _fail(error, _EXIT_USAGE)
    except PredictionError as error:
        return _fail(error, _EXIT_FAILED)
    except BrokenPipeError:
        # The reader of stdout is gone. The flush at the interpreter's exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_FAILED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    command: Callable[[PredictionClient, argparse.Namespace], int] = options.command
    with _connect(options) as client:
        code = command(client, options)
    sys.stdout.flush()
    return code


def _connect(options: argparse.Namespace) -> PredictionClient:
    files = (options.ca, options.cert, options.key, options.token_file)
    if not options.tls and any(files):
        raise _UsageError(
            "--ca, --cert, --key and --token-file need TLS; give --tls too"
        )
    try:
        return PredictionClient(
            options.target,
            timeout_seconds=options.timeout_seconds,
            credentials=make_credentials(*files) if options.tls else None,
        )
    except ValueError as error:
        raise _UsageError(str(error)) from error


def _fail(error: Exception, code: int) -> int:
    print(f"prediction: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _predict(client: PredictionClient, options: argparse.Namespace) -> int:
    instance = options.features
    if options.record is not None:
        instance = _read_record(options.record)
    _print_json(client.predict(instance, explain_top_k=options.explain))
    return 0


def _model(client: PredictionClient, options: argparse.Namespace) -> int:
    _print_json(client.get_model())
    return 0


def _health(client: PredictionClient, options: argparse.Namespace) -> int:
    status = client.health(options.service)
    print(status)
    return 0 if status is HealthStatus.SERVING else _EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prediction",
        description="Ask a prediction server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_predict(commands)
    _add_command(commands, "model", _model, "describe the model that answers, as JSON")
    health = _add_command(
        commands,
        "health",
        _health,
        "print the health: SERVING exits with 0, others with 1",
    )
    health.add_argument(
        "--service",
        type=_text,
        default=SERVICE_NAME,
        help='service to ask about: the default is readiness, "" is liveness (%(default)s)',
    )
    return parser


def _add_predict(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    predict = _add_command(
        commands, "predict", _predict, "predict the class of one instance, as JSON"
    )
    instance = predict.add_mutually_exclusive_group(required=True)
    instance.add_argument(
        "--features",
        metavar="NUMBER,NUMBER,...",
        type=_numbers,
        help="numbers in the order of the model's features, nan for a missing value",
    )
    instance.add_argument(
        "--record",
        metavar="JSON|@FILE|-",
        type=_text,
        help="JSON object of names and values, null for a missing value; - reads stdin",
    )
    predict.add_argument(
        "--explain",
        metavar="K",
        type=_count,
        default=0,
        help="explain the raw score by the K features of the largest contributions",
    )


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[PredictionClient, argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=description, description=description, allow_abbrev=False
    )
    parser.set_defaults(command=command)
    parser.add_argument(
        "--target",
        default=_DEFAULT_TARGET,
        help="host:port of the server, or a name with a gRPC scheme (%(default)s)",
    )
    parser.add_argument(
        "--timeout-seconds",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIMEOUT_SECONDS,
        help="time limit of the call (%(default)s)",
    )
    _add_credentials(parser)
    return parser


def _add_credentials(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tls", action="store_true", help="encrypt the connection")
    for flag, text in (
        ("--ca", "CAs of the server, PEM; by default those that gRPC brings along"),
        ("--cert", "the client's certificate, PEM"),
        ("--key", "key of --cert, PEM"),
        ("--token-file", "file that holds a token, which is sent with the call"),
    ):
        parser.add_argument(flag, metavar="FILE", type=Path, help=text)


def _bind_negative_numbers(argv: Sequence[str]) -> list[str]:
    """Join --features to a value such as -1.5,2, which argparse would read as a flag."""
    bound: list[str] = []
    for argument in argv:
        if bound and bound[-1] == "--features" and re.match(r"-[0-9.]", argument):
            bound[-1] = f"--features={argument}"
        else:
            bound.append(argument)
    return bound


def _numbers(text: str) -> list[float]:
    numbers = []
    for position, item in enumerate(text.split(",")):
        try:
            numbers.append(float(item))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{item.strip()!r} at position {position} is not a number"
            ) from None
    return numbers


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of features; give 1 to 999999999"
        )
    return int(text)


def _text(text: str) -> str:
    # Bytes that are not UTF-8 arrive as surrogates, which protobuf refuses.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def _read_record(source: str) -> dict[str, Value]:
    try:
        record = json.loads(_read(source), object_pairs_hook=_unique_members)
    except (OSError, ValueError, RecursionError) as error:
        raise _UsageError(f"--record: {error}") from error
    if not isinstance(record, dict):
        raise _UsageError(
            "--record: give a JSON object of names and values, such as "
            '{"mean radius": 17.99}'
        )
    return record


def _read(source: str) -> str | bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    if source.startswith("@"):
        return Path(source[1:]).read_bytes()
    return source


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the name {twice!r} occurs more than once; give it once")
    return members


def _print_json(value: Prediction | Model) -> None:
    members = dataclasses.asdict(value)
    if isinstance(value, Prediction) and value.explanation is None:
        del members["explanation"]
    # Labels are shown as they are written, where the output can hold them.
    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(_plain(members), indent=2, ensure_ascii=not is_unicode))


def _plain(value: object) -> object:
    """Convert to what JSON can hold: times to text, numbers that are not finite to null."""
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    sys.exit(main())
