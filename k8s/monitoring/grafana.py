"""The dashboards in the format of Grafana 11."""

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
)
from grafana_foundation_sdk.builders.dashboard import Row as RowBuilder
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.builders.timeseries import Panel as LinePanel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.values import Board, Panel, Query

_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Of 24 columns.
_SPAN, _HEIGHT = 12, 8


def write_board(board: Board) -> str:
    """Return a dashboard as JSON."""
    builder = (
        Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["prediction"])
        .editable()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
    )
    _add_variables(builder)
    for number, row in enumerate(board.rows, start=1_000):
        # Grafana numbers panels by itself, and needs the numbers of rows to differ.
        builder.with_row(RowBuilder(row.title).id(number))
        for panel in row.panels:
            builder.with_panel(_build_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(builder.build()) + "\n"


def _add_variables(builder: Dashboard) -> None:
    builder.with_variable(
        DatasourceVariable("datasource").label("Data source").type("prometheus")
    )
    of_namespace = 'prediction_model_info{namespace=~"$namespace"}'
    for name, label, query in (
        ("namespace", "Namespace", "label_values(prediction_lane_info, namespace)"),
        ("model", "Model", f"label_values({of_namespace}, registered_model)"),
    ):
        builder.with_variable(
            QueryVariable(name)
            .label(label)
            .datasource(_SOURCE)
            .query(query)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            # Servers without the label, too.
            .all_value(".*")
            .current(VariableOption(text=["All"], value=["$__all"], selected=True))
        )


def _build_panel(panel: Panel) -> LinePanel | TablePanel:
    builder = TablePanel() if panel.is_table else _make_lines()
    needs = f" Empty without: {panel.needs}." if panel.needs else ""
    builder.title(panel.title).description(panel.description + needs)
    builder.unit(panel.unit).datasource(_SOURCE).span(_SPAN).height(_HEIGHT)
    for number, query in enumerate(panel.queries):
        target = _build_target(query, "ABCDEFGH"[number])
        if panel.is_table:
            target.instant().format(PromQueryFormat.TABLE)
        builder.with_target(target)
    return builder


def _make_lines() -> LinePanel:
    legend = (
        VizLegendOptions()
        .show_legend(True)
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
    )
    return LinePanel().fill_opacity(10).legend(legend)


def _build_target(query: Query, name: str) -> Dataquery:
    return (
        Dataquery()
        .expr(query.expression)
        .legend_format(query.legend)
        .ref_id(name)
        .datasource(_SOURCE)
    )
