"""What holds for the repository as a whole, and no linter checks."""

import ast
import importlib
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from benchmarks.serve.servers import IMAGE_ENVIRON

from support import ROOT

MAY_READ_ENVIRONMENT = {
    "grpc_server/__main__.py",
    "grpc_server/processes/worker.py",
    # Programs of their own.
    "grpc_server/model_sync.py",
    "grpc_server/observe/log/__main__.py",
    "grpc_server/score/__main__.py",
    "grpc_server/shadow/__main__.py",
    "flows/registry.py",
    "flows/score_flow.py",
    "flows/train_flow.py",
}


def tracked(*patterns: str) -> list[Path]:
    """Return the files that are there, without what is generated or installed."""
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sorted(
        path for path in files if not re.search(r"_pb2|/\.venv/|/build/", str(path))
    )


SOURCES = tracked("grpc_server/**/*.py", "flows/**/*.py", "clients/**/*.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_programs_read_the_environment(path: Path) -> None:
    reads = re.search(r"os\.(environ|getenv)", path.read_text())

    assert not reads or str(path.relative_to(ROOT)) in MAY_READ_ENVIRONMENT


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_one_module_uses_private_parts_of_grpcio(path: Path) -> None:
    uses = re.search(r"\bgrpc\._[a-z]|\bcygrpc\b|from grpc import _", path.read_text())

    assert not uses or path.name == "grpcio_internals.py"


@pytest.mark.parametrize(
    "package", ["prediction", "grpc_server.model", "training.search"]
)
def test_the_door_of_a_package_is_sorted_and_complete(package: str) -> None:
    module = importlib.import_module(package)

    assert module.__all__ == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short_and_modules_say_what_they_know(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the module says nothing of itself"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines"


def test_the_distribution_of_the_server_has_all_its_packages() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()

    there = [path.parent for path in (ROOT / "grpc_server").rglob("__init__.py")]
    assert listed == sorted(".".join(path.relative_to(ROOT).parts) for path in there)


def test_the_benchmark_runs_the_server_as_its_image_does() -> None:
    dockerfile = (ROOT / "grpc_server" / "Dockerfile").read_text()
    settings = dict(re.findall(r"^(?:ENV| {3}) (\w+)=(\S+)", dockerfile, re.MULTILINE))

    assert {name: settings[name] for name in IMAGE_ENVIRON} == IMAGE_ENVIRON


def test_every_make_target_is_in_the_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))

    output = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert {line.split()[0] for line in output.stdout.splitlines()} == targets


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    plan = subprocess.run(
        ["make", "--dry-run", "ci"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert "make ci" in (ROOT / ".ci" / "run").read_text()
    assert "-m pytest" in plan.stdout
    assert "make test" in (ROOT / "README.md").read_text()


def test_continuous_integration_runs_each_part_of_make_ci_and_the_cluster() -> None:
    makefile = (ROOT / "Makefile").read_text()
    parts = re.findall(r"^ci: (.*?)  ##", makefile, re.MULTILINE)[0].split()
    script = (ROOT / ".ci" / "run").read_text()
    command = r"^(?:side_by_side '(?:nice )?)?make ([a-z -]+)"
    commands = re.findall(command, script, re.MULTILINE)
    run = {target for command in commands for target in command.split()}

    assert set(parts) <= run, "continuous integration leaves these out"
    assert {".ci/cluster prepare", ".ci/cluster test"} <= set(
        re.findall(r"\.ci/cluster [a-z]+", script)
    )


def test_the_longest_files_of_tests_are_there_and_begin_first() -> None:
    """A file that was renamed would begin last, and run alone at the end."""
    makefile = (ROOT / "Makefile").read_text()
    conftest = (ROOT / "tests" / "conftest.py").read_text()
    longest = re.findall(r'"(test_\w+\.py)"', conftest)

    assert [name for name in longest if not (ROOT / "tests" / name).exists()] == []
    assert "test_train_flow.py" in longest
    assert "--dist loadfile --no-loadscope-reorder" in makefile


def test_the_lock_names_one_version_of_each_package_and_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert all(
        re.fullmatch(
            r"[a-z0-9][a-z0-9.-]*==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?",
            line,
        )
        for line in lines
    )


def preflight(*code: str) -> "subprocess.CompletedProcess[str]":
    """Run the check of the system after `code`, which takes something away from it."""
    program = "; ".join(
        [*code, "import runpy; runpy.run_path('.ci/preflight.py', None, '__main__')"]
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )


def test_a_sound_system_passes_the_preflight() -> None:
    assert (preflight().returncode, preflight().stderr) == (0, "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "import sys; sys.version_info = (3, 10, 0)",
            "Python 3.11, 3.12 or 3.13 is needed",
        ),
        (
            "import sys; sys.version_info = (3, 14, 0)",
            "Python 3.11, 3.12 or 3.13 is needed",
        ),
        ("import sys; sys.modules['venv'] = None", "apt-get install python3-venv"),
        (
            "import ctypes; ctypes.CDLL = type('None', (), {'__init__': lambda s, n: 1 / 0})",
            "apt-get install libgomp1",
        ),
    ],
    ids=["old", "new", "no venv", "no libgomp"],
)
def test_what_the_system_lacks_is_named_before_anything_is_installed(
    code: str, words: str
) -> None:
    code = code.replace("1 / 0", "(_ for _ in ()).throw(OSError())")

    result = preflight(code)

    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_makefile_checks_the_system_first(tmp_path: Path) -> None:
    environment = {**os.environ, "VENV": str(tmp_path / "new")}

    plan = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "-e", "install"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )

    assert "preflight" in plan.stdout.splitlines()[0]
