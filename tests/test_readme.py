"""Every command of the README works, in its order, in a copy of the project."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import ROOT, answers, copy_project, wait_for

README = (ROOT / "README.md").read_text()
# Run by a test of its own; and what the tests are run by.
ELSEWHERE = {"make demo", "make test"}
# Programs that run until they are stopped, and the page that tells that they are ready.
READY_PAGES = {
    "python -m grpc_server --model-uri": "http://localhost:8080/health/ready",
    "mlflow ui": "http://localhost:5000/health",
    "make serve-rest": "http://localhost:8000/health/ready",
}


def find_blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def find_commands() -> list[str]:
    """Return the commands of all shell blocks, each with its continuation lines."""
    lines = "".join(find_blocks("sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files in a folder with a space, with this environment as its own."""
    folder = copy_project(tmp_path_factory.mktemp("a copy"))
    (folder / ".venv").symlink_to(Path(sys.prefix))
    return folder


def find_ready_page(command: str) -> str | None:
    """Return the page of a program that runs until it is stopped, None for any other."""
    pages = [page for start, page in READY_PAGES.items() if command.startswith(start)]
    return pages[0] if pages else None


@contextmanager
def started(command: str, ready_page: str, folder: Path) -> Iterator[None]:
    """Run a program in the background, from ready to stopped, as Ctrl-C stops it."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or answers(ready_page), 180)
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def environment(folder: Path) -> dict[str, str]:
    """Return what `source .venv/bin/activate` gives, in the copy."""
    path = f"{folder / '.venv' / 'bin'}:{os.environ['PATH']}"
    # The variables of a make that runs these tests, such as ARGS, are not for the makes in them.
    outer = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "ARGS"}
    own = {name: value for name, value in os.environ.items() if name not in outer}
    return {**own, "PATH": path, "VIRTUAL_ENV": str(folder / ".venv")}


def run(command: str, folder: Path) -> str:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.slow
def test_the_demo_does_the_main_job(copy: Path) -> None:
    output = run("make demo", copy)

    assert "the data set's first row: Prediction(model=" in output
    assert "label='0'" in output
    assert "server stopped, exit code 0" in output
    assert "What to try next" in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tour_works_from_its_first_to_its_last_command(copy: Path) -> None:
    """Servers run from their command on; all other commands have to end well."""
    opened = set()
    with ExitStack() as servers:
        for command in find_commands():
            ready_page = find_ready_page(command)
            if command in ELSEWHERE:
                continue
            if command.startswith("make serve-rest"):
                run_python_examples(copy)
                servers.close()  # it brings the server of its own, on the same ports
            if ready_page is not None:
                servers.enter_context(started(command, ready_page, copy))
                opened.add(ready_page)
            else:
                run(command, copy)

    assert opened == set(READY_PAGES.values())


def run_python_examples(folder: Path) -> None:
    for program in find_blocks("python"):
        run(f"python - <<'PROGRAM'\n{program}PROGRAM", folder)


def test_the_two_commands_come_first() -> None:
    assert find_commands()[:2] == ["make demo", "make test"]
