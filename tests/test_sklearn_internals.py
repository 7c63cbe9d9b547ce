"""One module uses scikit-learn's private names, and this release has each of them."""

import ast
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest
import sklearn
from sklearn.dummy import DummyClassifier
from sklearn.metrics import check_scoring, get_scorer
from sklearn.model_selection import GridSearchCV

# This file imports nothing of the project: an import would fail before a missing name is named.
FLOWS = Path(__file__).resolve().parents[1] / "flows"
DOOR = FLOWS / "training" / "search" / "sklearn_internals.py"


def fit_search() -> GridSearchCV:
    return GridSearchCV(DummyClassifier(), {}, cv=2).fit([[0.0]] * 4, [0, 1, 0, 1])


# The private attributes that the module uses, each with an object that has it.
OWNERS: Mapping[str, Callable[[], object]] = {
    "_checked_cv_orig": fit_search,
    "_format_results": fit_search,
    "_get_routed_params_for_fit": fit_search,
    "_get_scorers": fit_search,
    "_score_func": lambda: get_scorer("roc_auc"),
    "_scorers": lambda: check_scoring(DummyClassifier(), ["accuracy", "f1"]),
    "_select_best_index": fit_search,
}


def is_private(path: str) -> bool:
    return any(name.startswith("_") for name in path.split("."))


def find_imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import from scikit-learn; the name may be empty."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        yield from (pair for pair in names if pair[0].partition(".")[0] == "sklearn")


def find_private_imports(path: Path) -> list[tuple[str, str]]:
    return [pair for pair in find_imports(path) if is_private(".".join(pair))]


def find_attributes(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def say_missing(what: str) -> str:
    return f"scikit-learn {sklearn.__version__} has no {what}: change {DOOR.name}"


def find_missing_import(module: str, name: str) -> str:
    """Return a line about an import that fails; empty if it works."""
    try:
        found = import_module(module)
    except ModuleNotFoundError:
        return say_missing(f"module {module}")
    return "" if hasattr(found, name) else say_missing(f"{module}.{name}")


@pytest.mark.parametrize(("module", "name"), find_private_imports(DOOR))
def test_scikit_learn_has_the_private_name(module: str, name: str) -> None:
    assert find_missing_import(module, name) == ""


@pytest.mark.parametrize("name", OWNERS)
def test_scikit_learn_has_the_private_attribute(name: str) -> None:
    owner = OWNERS[name]()

    assert hasattr(owner, name), say_missing(f"{type(owner).__name__}.{name}")


def test_a_name_that_is_missing_is_named() -> None:
    line = find_missing_import("sklearn.utils", "_renamed")

    assert line.endswith("has no sklearn.utils._renamed: change sklearn_internals.py")
    assert "has no module sklearn._moved" in find_missing_import("sklearn._moved", "_a")


def test_the_attributes_above_are_all_that_the_module_uses() -> None:
    assert set(filter(is_private, find_attributes(DOOR))) == set(OWNERS)


def test_no_other_module_uses_private_names() -> None:
    others = [path for path in FLOWS.rglob("*.py") if path != DOOR]

    imports = {path: find_private_imports(path) for path in others}
    attributes = {path: find_attributes(path) & set(OWNERS) for path in others}

    assert len(others) > 20
    assert {path: found for path, found in imports.items() if found} == {}
    assert {path: found for path, found in attributes.items() if found} == {}
