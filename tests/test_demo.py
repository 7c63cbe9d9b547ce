"""The demo's server has no model of a former demo, and its folder is gone in the end."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from support import ROOT

# Says what it was told and which folders exist, and ends as a server does.
SERVER = f"""#!{sys.executable}
import json, pathlib, signal, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--model-dir") + 1])
folder.parent.joinpath("seen").write_text(str(folder.exists()))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(json.dumps({{"port": str(folder), "http_port": 0}}), flush=True)
signal.pause()
"""


def test_server_of_the_demo_begins_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "clients")
    demo = import_module("demo")
    program = tmp_path / "python"
    program.write_text(SERVER)
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    with demo.serve() as server:
        folder = Path(server.port).parent
        assert (folder / "seen").read_text() == "False"

    assert not folder.exists()
