"""A real Prometheus that scrapes servers a few times a second, for tests and pictures."""

import json
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import ROOT, answers, wait_for

RULES = ROOT / "k8s" / "components" / "monitoring" / "rules.yaml"


class Prometheus:
    """Answers queries.

    Parameters
    ----------
    port : int
        Its port on the loopback address.
    """

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, what: str, **parameters: str) -> Any:
        """Return the data of an answer; an error of the query raises HTTPError."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._address}/{what}?{query}") as response:
            return json.load(response)["data"]

    def evaluate(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now."""
        samples: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return samples


def find_port() -> int:
    """Return a port of the loopback address that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def scraping(folder: Path, http_ports: Sequence[int]) -> Iterator[Prometheus]:
    """Run a Prometheus with the rules of the project, which scrapes the ports."""
    targets = [f"127.0.0.1:{port}" for port in http_ports]
    config = {
        "global": {"scrape_interval": "250ms", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "prediction",
                "static_configs": [{"targets": targets, "labels": {"namespace": "n"}}],
            }
        ],
    }
    # JSON is YAML.
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    with running_prometheus(folder, folder / "prometheus.yaml") as prometheus:
        yield prometheus


@contextmanager
def running_prometheus(folder: Path, config: Path, *flags: str) -> Iterator[Prometheus]:
    """Run a Prometheus that keeps its data below a folder."""
    port = find_port()
    command = ["prometheus", f"--config.file={config}", *flags]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", "--log.level=error"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/-/ready"))
        yield Prometheus(port)
    finally:
        process.kill()
        process.wait(30)
