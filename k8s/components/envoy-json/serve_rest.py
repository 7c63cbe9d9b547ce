"""`make serve-rest`: the server behind Envoy, as in a pod, on the loopback address.

Knows how to start Envoy, and the addresses in its configuration. Flags that are not ports go to the
server, which has its own --help.
"""

import argparse
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from signal import SIGINT, SIGTERM, Signals, signal
from tempfile import TemporaryDirectory

from grpc_server.descriptor_set import build_descriptor_set

CONFIGURATION = Path(__file__).with_name("envoy.yaml")
DESCRIPTOR_SET = "prediction_service.binpb"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of Envoy (`rest`, `admin`) and of the server (`grpc`, `http`), by default the pod's."""

    rest: int = 8000
    admin: int = 9901
    grpc: int = 50051
    http: int = 8080


def choose_free(ports: Ports) -> Ports:
    """Replace each port 0 by a free port, because Envoy must know the server's ports."""
    with ExitStack() as stack:
        chosen = {}
        for name, port in asdict(ports).items():
            held = stack.enter_context(socket.socket())
            if port == 0:
                # Held until all are chosen, so that they differ.
                held.bind(("127.0.0.1", 0))
            chosen[name] = port or held.getsockname()[1]
    return Ports(**chosen)


def render(configuration: str, ports: Ports) -> str:
    """Replace the ports of the pod's configuration, and its addresses by the loopback address.

    Parameters
    ----------
    configuration : str
        Content of envoy.yaml, with the pod's ports.
    ports : Ports
        New ports, none of them 0.

    Returns
    -------
    str
        The configuration.

    Raises
    ------
    ValueError
        If the configuration does not have each of the pod's addresses exactly once.
    """
    pod = Ports()
    for host, old, new in (
        ("0.0.0.0", pod.rest, ports.rest),
        ("127.0.0.1", pod.admin, ports.admin),
        ("127.0.0.1", pod.grpc, ports.grpc),
        ("127.0.0.1", pod.http, ports.http),
    ):
        address = f"{{address: {host}, port_value: {old}}}"
        if configuration.count(address) != 1:
            raise ValueError(
                f"{address} is not exactly once in the configuration; write it there once"
            )
        # The mark keeps a new port from being replaced again, as if it were one of the pod's.
        configuration = configuration.replace(
            address, f"{{address: 127.0.0.1, port_value: #{new}}}"
        )
    return configuration.replace("port_value: #", "port_value: ")


def write_envoy_files(folder: Path, ports: Ports) -> list[str]:
    """Write Envoy's files into `folder`, and return the command that starts it in `folder`."""
    (folder / DESCRIPTOR_SET).write_bytes(build_descriptor_set().SerializeToString())
    (folder / "envoy.yaml").write_text(render(CONFIGURATION.read_text(), ports))
    envoy = Path(sysconfig.get_path("scripts")) / "envoy"
    options = "--config-path envoy.yaml --concurrency 1 --disable-hot-restart"
    # At the start, Envoy's log has two hundred lines. The access log is separate.
    return [str(envoy), *options.split(), "--log-level", "warning"]


def _start(command: list[str], folder: Path | None = None) -> "subprocess.Popen[bytes]":
    # In a session of its own, so that Ctrl-C reaches only this program, which stops both in order.
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def run_together(server_command: list[str], ports: Ports) -> int:
    """Run both until one ends, and end the other.

    SIGINT and SIGTERM go to the server, so that Envoy stays while the server answers.

    Parameters
    ----------
    server_command : list of str
        Command of the server.
    ports : Ports
        Ports of both.

    Returns
    -------
    int
        Exit code: 1 if one of them failed, otherwise the server's.
    """
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (SIGINT, SIGTERM):
        signal(number, lambda number, frame: signals.put(number))
    with TemporaryDirectory(prefix="envoy-") as name:
        envoy_command = write_envoy_files(Path(name), ports)
        server = _start(server_command)
        envoy = _start(envoy_command, Path(name))
        while server.poll() is None and envoy.poll() is None:
            _pass_on(signals, server)
        fault = _describe_fault(server, envoy)
        # SIGINT, so that the server does not drain: no caller can reach it any more.
        server.send_signal(SIGINT)
        envoy.terminate()
        server.wait()
        envoy.wait()
    if fault is not None:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if fault is not None else server.returncode


def _pass_on(signals: "SimpleQueue[int]", server: "subprocess.Popen[bytes]") -> None:
    try:
        server.send_signal(signals.get(timeout=0.1))
    except Empty:
        return


def _describe_fault(
    server: "subprocess.Popen[bytes]", envoy: "subprocess.Popen[bytes]"
) -> str | None:
    """Describe which of the two failed; None if the server has printed why itself."""
    if envoy.returncode is not None:
        # Envoy never ends by itself.
        return f"Envoy has ended, with {_describe_end(envoy.returncode)}"
    if server.returncode < 0:
        return f"the server has ended, with {_describe_end(server.returncode)}"
    return None


def _describe_end(code: int) -> str:
    return f"exit code {code}" if code >= 0 else Signals(-code).name


def _parse(arguments: Sequence[str]) -> tuple[Ports, list[str]]:
    pod = Ports()
    parser = argparse.ArgumentParser(
        description="Serve one registered model over gRPC, and in JSON over HTTP.",
        epilog="All other flags go to the server: see python -m grpc_server --help.",
        allow_abbrev=False,
    )
    for field, flag, what in (
        ("rest", "--rest-port", "JSON over HTTP"),
        ("admin", "--admin-port", "Envoy's own pages"),
        ("grpc", "--port", "gRPC"),
        ("http", "--http-port", "/metrics and /health"),
    ):
        default: int = getattr(pod, field)
        text = f"port of {what}; 0 chooses a free one (default: {default})"
        parser.add_argument(flag, dest=field, type=int, default=default, help=text)
    known, others = parser.parse_known_args(arguments)
    if any(other.partition("=")[0] == "--host" for other in others):
        parser.error("--host cannot be given: Envoy reaches the server on 127.0.0.1")
    for name, port in vars(known).items():
        if not 0 <= port <= 65_535:
            parser.error(
                f"port {port} ({name}) is not in [0, 65535]; 0 chooses a free one"
            )
    return choose_free(Ports(**vars(known))), others


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    ports, others = _parse(arguments)
    command = [sys.executable, "-m", "grpc_server", "--host", "127.0.0.1"]
    command += ["--port", str(ports.grpc), "--http-port", str(ports.http), *others]
    print(f"JSON over HTTP: http://127.0.0.1:{ports.rest}", flush=True)
    return run_together(command, ports)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
