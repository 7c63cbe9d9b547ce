"""The user's grids, checked by name and value before any search starts."""

from collections.abc import Mapping
from typing import Any

from training.errors import SearchError
from training.models.class_labels import CLASS_WEIGHT, check_class_weight
from training.models.families import FAMILIES, Family
from training.models.pipelines import PipelineFactory

# TOML has no null, so a grid writes scikit-learn's class_weight=None as "none".
NONE_WORD = "none"
# The search sets these itself: they steer the draw, the speed and the output, not the model.
RESERVED = frozenset(
    {"deterministic", "n_jobs", "random_state", "silent", "verbose", "verbosity"}
)

ParamGrid = list[dict[str, list[Any]]]


def parse_grids(config: Mapping[str, Any]) -> dict[str, ParamGrid]:
    """Read the grids of all families.

    Parameters
    ----------
    config : mapping
        A table or a list of tables, by the family's name. A table has a list of values for each
        parameter of the classifier.

    Returns
    -------
    dict of str to list of dict
        scikit-learn's `param_grid`, by family.

    Raises
    ------
    SearchError
        If a family is unknown or missing, or a value is not a list or is empty.
    """
    unknown = sorted(set(config) - set(FAMILIES))
    if unknown:
        raise SearchError(
            f"search: unknown family {unknown[0]!r}; known are {', '.join(FAMILIES)}"
        )
    return {name: _parse_family(name, config) for name in FAMILIES}


def check_grid(factory: PipelineFactory, param_grid: ParamGrid) -> None:
    """Check that the classifier takes every parameter of a grid.

    Parameters
    ----------
    factory : PipelineFactory
        Factory of the family's pipelines.
    param_grid : list of dict
        Grid of the family.

    Raises
    ------
    SearchError
        If the classifier lacks a parameter, the search sets the parameter itself, or a weight of a
        class is none.
    """
    allowed = sorted(set(factory.make_classifier().get_params()) - RESERVED)
    for grid in param_grid:
        for name in grid:
            if name not in allowed:
                raise SearchError(
                    f"search.{factory.family.name}: {name!r} is not a parameter of "
                    f"{factory.family.display_name}; it has {', '.join(allowed)}"
                )
        place = f"search.{factory.family.name}.{CLASS_WEIGHT}"
        for value in grid.get(CLASS_WEIGHT, ()):
            check_class_weight(place, value, factory.schema.class_labels)


def _parse_family(name: str, config: Mapping[str, Any]) -> ParamGrid:
    if name not in config:
        raise SearchError(
            f"search.{name} is missing; it may be an empty table for the defaults"
        )
    tables = config[name] if isinstance(config[name], list) else [config[name]]
    return [_parse_table(FAMILIES[name], table) for table in tables]


def _parse_table(family: Family, table: object) -> dict[str, list[Any]]:
    if not isinstance(table, Mapping):
        raise SearchError(
            f"search.{family.name} is {table!r}; it has to be a table of lists"
        )
    return {
        key: _parse_values(f"search.{family.name}.{key}", table[key]) for key in table
    }


def _parse_values(place: str, values: object) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise SearchError(
            f"{place} is {values!r}; it has to be a list of one value or more"
        )
    return [_parse_value(value) for value in values]


def _parse_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        # Metaflow's own type of mapping would end up in the model.
        return dict(value)
    return None if value == NONE_WORD else value
