"""`make serve-rest`: the server with Envoy in front of it, as in a pod, on the loopback address.

Knows how Envoy is started and which addresses its one configuration names. What is not a port is
handed on to the server: it has its own --help.
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
from signal import SIGINT, SIGTERM, signal
from tempfile import TemporaryDirectory

from grpc_server.descriptor_set import build_descriptor_set

CONFIGURATION = Path(__file__).with_name("envoy.yaml")
DESCRIPTOR_SET = "prediction_service.binpb"


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of Envoy (`rest`, `admin`) and of the server (`grpc`, `http`), as in the pod."""

    rest: int = 8000
    admin: int = 9901
    grpc: int = 50051
    http: int = 8080


def choose_free(ports: Ports) -> Ports:
    """Return the ports with a free one in place of each 0: Envoy has to know the server's."""
    with ExitStack() as stack:
        chosen = {}
        for name, port in asdict(ports).items():
            held = stack.enter_context(socket.socket())
            if port == 0:
                held.bind(
                    ("127.0.0.1", 0)
                )  # held until all are chosen, so that they differ
            chosen[name] = port or held.getsockname()[1]
    return Ports(**chosen)


def render(configuration: str, ports: Ports) -> str:
    """Return the pod's configuration with other ports, listening on the loopback address only."""
    pod = Ports()
    for host, old, new in (
        ("0.0.0.0", pod.rest, ports.rest),
        ("127.0.0.1", pod.admin, ports.admin),
        ("127.0.0.1", pod.grpc, ports.grpc),
        ("127.0.0.1", pod.http, ports.http),
    ):
        address = f"{{address: {host}, port_value: {old}}}"
        if configuration.count(address) != 1:
            raise ValueError(f"the configuration is to have {address} exactly once")
        # The mark keeps a new port from being taken for one of the pod's, and replaced again.
        configuration = configuration.replace(
            address, f"{{address: 127.0.0.1, port_value: #{new}}}"
        )
    return configuration.replace("port_value: #", "port_value: ")


def write_envoy_files(folder: Path, ports: Ports) -> list[str]:
    """Write what Envoy reads into `folder`; return the command that runs it, from there."""
    (folder / DESCRIPTOR_SET).write_bytes(build_descriptor_set().SerializeToString())
    (folder / "envoy.yaml").write_text(render(CONFIGURATION.read_text(), ports))
    envoy = Path(sysconfig.get_path("scripts")) / "envoy"
    options = "--config-path envoy.yaml --concurrency 1 --disable-hot-restart"
    # Its log of a start has two hundred lines; the access log is no part of it.
    return [str(envoy), *options.split(), "--log-level", "warning"]


def _start(command: list[str], folder: Path | None = None) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C reaches this program alone, which stops the two in order.
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def run_together(server_command: list[str], ports: Ports) -> int:
    """Run both until one ends, and end the other; return the exit code.

    SIGINT and SIGTERM go to the server, so that Envoy is there for as long as the server answers.
    """
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (SIGINT, SIGTERM):
        signal(number, lambda number, frame: signals.put(number))
    with TemporaryDirectory(prefix="envoy-") as name:
        envoy_command = write_envoy_files(Path(name), ports)
        server = _start(server_command)
        envoy = _start(envoy_command, Path(name))
        while server.poll() is None and envoy.poll() is None:
            try:
                server.send_signal(signals.get(timeout=0.1))
            except Empty:
                continue
        # Envoy never ends by itself but for a fault.
        failed = envoy.poll() is not None
        if failed:
            print(f"error: Envoy ended with {envoy.returncode}", file=sys.stderr)
        for process in (server, envoy):
            process.terminate()
            process.wait()
    return 1 if failed else server.returncode


def _parse(arguments: Sequence[str]) -> tuple[Ports, list[str]]:
    pod = Ports()
    parser = argparse.ArgumentParser(
        description="Serve one registered model over gRPC, and in JSON over HTTP.",
        epilog="Any other flag is the server's: see python -m grpc_server --help.",
        allow_abbrev=False,
    )
    for field, flag, what in (
        ("rest", "--rest-port", "JSON over HTTP"),
        ("admin", "--admin-port", "Envoy's own pages"),
        ("grpc", "--port", "gRPC"),
        ("http", "--http-port", "/metrics and /health"),
    ):
        default: int = getattr(pod, field)
        text = f"port of {what}; 0 takes a free one (default: {default})"
        parser.add_argument(flag, dest=field, type=int, default=default, help=text)
    known, others = parser.parse_known_args(arguments)
    for name, port in vars(known).items():
        if not 0 <= port <= 65_535:
            parser.error(
                f"port {port} ({name}) is not in [0, 65535]; 0 takes a free one"
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
