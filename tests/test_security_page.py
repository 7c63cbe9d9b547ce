"""The commands of docs/security.md, run as they are written."""

import re
import subprocess
from pathlib import Path

from grpc_server.callers import CallersFile
from grpc_server.settings import parse_command_line

from support import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_make_a_file_that_the_server_takes(tmp_path: Path) -> None:
    command = next(block for block in blocks("sh") if "openssl" in block)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    line = (tmp_path / "tokens").read_text().split()
    caller = CallersFile.of_tokens(tmp_path / "tokens", lambda: None).find(line[1])
    assert caller is not None
    assert caller.name == "billing"
    assert caller.scopes == frozenset({"predict", "describe"})


def test_the_example_of_identities_is_one(tmp_path: Path) -> None:
    (tmp_path / "identities").write_text(blocks("text")[0])
    callers = CallersFile.of_identities(tmp_path / "identities", lambda: None)
    assert callers.find("dns:prometheus.example.com")


def test_the_flags_are_those_of_the_server() -> None:
    command = next(block for block in blocks("sh") if "grpc_server" in block)
    settings = parse_command_line(command.split()[3:], {}).settings
    assert settings.tls_client_ca == Path("ca.crt")
    assert settings.health_port == 50052
