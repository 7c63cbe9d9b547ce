"""The documents name files that exist, link to places that exist, and repeat figures rightly."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from support import ROOT

MAPS = ("docs/architecture.md", "CONTRIBUTING.md")
MAX_CHARACTERS = 120
LINK = re.compile(r"\[[^][]*\]\(([^()\s]+)\)")
PATH = re.compile(r"(?:flows|grpc_server|clients|proto|k8s|tests|docs|\.ci)/[\w./-]*")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def list_pages() -> list[Path]:
    """Return every document, without those of installed packages."""
    folders = [f for f in ROOT.iterdir() if f.is_dir() and not f.name.startswith(".")]
    pages = [*ROOT.glob("*.md"), *(page for f in folders for page in f.rglob("*.md"))]
    ignored = {"build", "node_modules"}
    return sorted(p for p in pages if not ignored & set(p.relative_to(ROOT).parts))


PAGES = list_pages()


def to_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def find_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def find_relative_links(page: Path) -> list[str]:
    links = LINK.findall(FENCED.sub("", page.read_text()))
    return [link for link in links if not link.startswith(("http:", "https:"))]


@pytest.mark.parametrize("page", PAGES, ids=to_name)
def test_relative_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in find_relative_links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in find_anchors(target), link


def test_no_page_goes_unseen() -> None:
    assert {ROOT / "README.md", ROOT / "docs" / "search.md"} <= set(PAGES)
    assert len(find_relative_links(ROOT / "README.md")) > 10


@pytest.mark.parametrize("name", MAPS)
def test_every_file_that_a_map_names_exists(name: str) -> None:
    paths = {path.rstrip(".") for path in PATH.findall((ROOT / name).read_text())}

    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_prose_of_the_readme_fits_a_line() -> None:
    prose = FENCED.sub("", (ROOT / "README.md").read_text()).splitlines()
    # A row of a table cannot be broken.
    too_long = [line for line in prose if len(line) > MAX_CHARACTERS and line[0] != "|"]

    assert too_long == []


def read_tables(name: str) -> Iterator[dict[str, list[str]]]:
    """Yield the tables of a page: the cells of each column, columns of one name joined by order."""
    for lines in re.findall(r"(?:^\|.*\n)+", (ROOT / name).read_text(), re.MULTILINE):
        header, _, *rows = [
            [cell.strip() for cell in line.strip("|\n").split("|")]
            for line in lines.strip().splitlines()
        ]
        table: dict[str, list[str]] = {}
        for position, column in enumerate(header):
            unique = column if column not in table else f"{column} {position}"
            table[unique] = [row[position] for row in rows]
        yield table


def find_numbers(page: str, column: str, **only: str) -> list[float]:
    """Return the numbers of a column in all tables of a page, of rows whose cells are as given."""
    numbers = []
    for table in read_tables(page):
        for row, cell in enumerate(table.get(column, [])):
            number = re.search(r"\d[\d.]*", cell)
            if number and all(table[key][row] == only[key] for key in only):
                numbers.append(float(number.group()))
    assert numbers, column
    return numbers


def test_the_readme_repeats_the_figures_of_the_search() -> None:
    times = find_numbers("docs/search.md", "with a thread for each fit")

    assert f"[{min(times)} to {max(times)} times]" in (ROOT / "README.md").read_text()


def test_the_readme_repeats_the_figures_of_the_server() -> None:
    readme = (ROOT / "README.md").read_text()
    of_echo = find_numbers("docs/benchmarks.md", "rate of echo", server="this server")
    of_peers = find_numbers("docs/benchmarks.md", "times")

    # Tables of 64 calls in flight and of one take turns.
    assert min(of_echo[::2]) > 3 and "[over 3 times]" in readme
    assert min(of_peers) > 7 and "[over 7 times]" in readme


def test_the_decisions_repeat_the_figures_of_mlflow() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = [
        line.split(" | ")
        for line in (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
        if line.startswith("| mlflow models serve")
    ]

    assert rows
    assert all(float(row[9]) > 50 and float(row[11]) > 7 for row in rows)
    assert "over 50 times sooner" in text and "a seventh of its memory" in text


LIMITS = [
    ("docs/tables.md", r"keeps its (\d+) most frequent", "N_KEPT_CATEGORIES"),
    ("docs/tables.md", r"up to ([\d,]+) in all", "MAX_CATEGORIES"),
    ("docs/tables.md", r"with fewer than (\d+) rows each", "MIN_ROWS_PER_CATEGORY"),
    ("docs/tables.md", r"more than (\d+) classes rule", "MAX_MEANS_CLASSES"),
    ("docs/tables.md", r"keeps up to ([\d,]+) categories", "MAX_SHARED_CATEGORIES"),
    ("docs/tables.md", r"sparse if there are over (\d+)", "MAX_DENSE_INDICATORS"),
    ("docs/probabilities.md", r"over (\d+) bins", "N_BINS"),
    ("docs/operations.md", r"again ([\d,]+) times", "N_RESAMPLES"),
    ("docs/operations.md", r"worse by (\S+) at most", "CALIBRATION_TOLERANCE"),
    (
        "docs/probabilities.md",
        r"with calibration \| (\S+);",
        "_TOLERANCE_OF_CALIBRATION",
    ),
]


def find_constant(name: str) -> str:
    """Return the value of a constant, wherever the code has it."""
    folders = (ROOT / "flows", ROOT / "grpc_server")
    sources = [path.read_text() for f in folders for path in f.rglob("*.py")]
    values = re.findall(rf"^{name} = (\S+)$", "\n".join(sources), re.MULTILINE)
    assert len(values) == 1, name
    return str(values[0])


@pytest.mark.parametrize(("page", "pattern", "constant"), LIMITS)
def test_a_limit_on_a_page_is_that_of_the_code(
    page: str, pattern: str, constant: str
) -> None:
    (stated,) = re.findall(pattern, (ROOT / page).read_text())

    assert stated.replace(",", "") == find_constant(constant).replace("_", "")


def test_the_interval_of_model_sync_is_that_of_the_base() -> None:
    base = (ROOT / "k8s" / "base" / "kustomization.yaml").read_text()
    (stated,) = re.findall(r"every\s(\d+) s", (ROOT / "k8s" / "README.md").read_text())

    assert f"INTERVAL_SECONDS={stated}\n" in base


def test_the_hooks_run_the_commands_of_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    command = ["make", "--no-print-directory", "--dry-run"]
    plan = subprocess.run(
        [*command, "--old-file=.venv/.installed", "lint"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    assert [entry.removeprefix("env ") for entry in hooks] == plan.stdout.splitlines()
