"""Panels and dashboards as data -> Grafana's JSON, by grafana-foundation-sdk's models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, heatmap, prometheus, text
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import timeseries as timeseries_model

from monitoring.dashboards.panel import COLUMNS, Dashboard, Panel, Query, Row
from monitoring.signals import EVALUATION_INTERVAL_S

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
SCHEMA_VERSION = 41
#: Carries the chosen time range and variables to the next page.
CONTEXT = "${__url_time_range}&${__all_variables}"
#: Moments of a cell: event, what it says, colour.
MOMENTS = (
    ("cell_start", "Cell start", "blue"),
    ("window_start", "Window start", "green"),
    ("window_end", "Window end", "purple"),
    ("rejected", "Rejected", "red"),
)


def render(page: Dashboard, pages: Sequence[Dashboard]) -> str:
    """Return a dashboard's JSON; `pages` are all, for the links between them."""
    made = model.Dashboard(
        uid=page.uid,
        title=page.title,
        description=page.text,
        tags=["poolscope"],
        timezone="browser",
        editable=False,
        graph_tooltip=model.DashboardCursorSync.CROSSHAIR,
        time=model.DashboardDashboardTime(from_val=page.since, to="now"),
        refresh="5s",
        schema_version=SCHEMA_VERSION,
        panels=list(_panels(page.rows)),
        templating=model.DashboardDashboardTemplating(list_val=list(_variables())),
        annotations=model.AnnotationContainer(),
        links=[_link(other.title, other.uid) for other in pages if other.uid != page.uid],
    )
    data = json.loads(json.dumps(made, cls=JSONEncoder))
    # The SDK's annotation knows nothing of what is Prometheus's own in it.
    data["annotations"] = {"list": [_annotation(*moment) for moment in MOMENTS]}
    return json.dumps(data, indent=2) + "\n"


def _annotation(event: str, name: str, color: str) -> dict[str, Any]:
    chosen = f'event="{event}", run_id=~"$run"'
    # In milliseconds: the value is the moment, whenever it was scraped.
    expr = f"lab_cell_event_timestamp_seconds{{{chosen}}} * 1000"
    return {
        "name": name,
        "datasource": DATASOURCE.to_json(),
        "enable": True,
        "hide": False,
        "iconColor": color,
        "expr": expr,
        "useValueForTime": True,
        "step": "5s",
        # Where newer Grafana looks for the query; not every release moves it there by itself.
        "target": {"refId": "Anno", "expr": expr, "interval": "5s", "range": True},
        "titleFormat": name,
        "textFormat": "{{cell_id}}",
        "tagKeys": "run_id",
    }


def _link(title: str, uid: str) -> model.DashboardLink:
    return model.DashboardLink(
        title=title.removeprefix("Poolscope: ").capitalize(),
        type_val=model.DashboardLinkType.LINK,
        icon="dashboard",
        url=f"/d/{uid}",
        include_vars=True,
        keep_time=True,
    )


def _variables() -> Iterator[model.VariableModel]:
    yield model.VariableModel(
        type_val=model.VariableType.DATASOURCE,
        name="datasource",
        label="Data source",
        query="prometheus",
        current=model.VariableOption(selected=True, text="Prometheus", value="poolscope"),
    )
    for name, label in (("framework", "framework"), ("route", "route"), ("run", "run_id")):
        query = f"label_values(lab_cell_info, {label})"
        yield model.VariableModel(
            type_val=model.VariableType.QUERY,
            name=name,
            label=name.capitalize(),
            datasource=DATASOURCE,
            query={"query": query, "refId": f"variable-{name}"},
            refresh=model.VariableRefresh.ON_TIME_RANGE_CHANGED,
            sort=model.VariableSort.ALPHABETICAL_ASC
            if name != "run"
            else model.VariableSort.ALPHABETICAL_DESC,
            include_all=True,
            all_value=".*",
            multi=name != "run",
            current=model.VariableOption(selected=True, text="All", value="$__all"),
        )


def _panels(rows: Sequence[Row]) -> Iterator[model.Panel | model.RowPanel]:
    """Number the panels, and place them from left to right in lines of 24 columns."""
    number, y = 0, 0
    for row in rows:
        number += 1
        place = model.GridPos(h=1, w=COLUMNS, x=0, y=y)
        yield model.RowPanel(title=row.title, id_val=number, grid_pos=place, collapsed=False)
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            place = model.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            yield _panel(panel, number, place)
            x, height = x + panel.width, max(height, panel.height)
        y += height


def _panel(panel: Panel, number: int, place: model.GridPos) -> model.Panel:
    return model.Panel(
        type_val=panel.kind,
        id_val=number,
        title=panel.title,
        description=panel.text,
        datasource=DATASOURCE,
        grid_pos=place,
        links=[] if panel.more is None else [_more(panel.more)],
        targets=[_target(query, chr(65 + i)) for i, query in enumerate(panel.queries)],
        transformations=[
            model.DataTransformerConfig(id_val=name, options=options)
            for name, options in panel.transformations
        ],
        interval=f"{EVALUATION_INTERVAL_S}s",
        options=_options(panel),
        field_config=_field_config(panel),
    )


def _more(uid: str) -> model.DashboardLink:
    return model.DashboardLink(
        title=f"More: {uid}",
        type_val=model.DashboardLinkType.LINK,
        url=f"/d/{uid}?{CONTEXT}",
    )


def _target(query: Query, ref_id: str) -> prometheus.Dataquery:
    return prometheus.Dataquery(
        expr=query.expr,
        ref_id=ref_id,
        legend_format=query.legend,
        instant=query.instant,
        range_val=not query.instant,
        format_val=prometheus.PromQueryFormat(query.format),
        editor_mode=prometheus.QueryEditorMode.CODE,
        datasource=DATASOURCE,
    )


def _field_config(panel: Panel) -> model.FieldConfigSource:
    by_steps = panel.kind in ("stat", "bargauge", "table")
    colors = model.FieldColorModeId
    return model.FieldConfigSource(
        defaults=model.FieldConfig(
            unit=panel.unit,
            decimals=panel.decimals,
            min_val=panel.min,
            max_val=panel.max,
            thresholds=model.ThresholdsConfig(
                mode=model.ThresholdsMode.ABSOLUTE,
                steps=[model.Threshold(value=v, color=c) for v, c in panel.steps],
            ),
            color=model.FieldColor(mode=colors.THRESHOLDS if by_steps else colors.PALETTE_CLASSIC),
            custom=_custom(panel),
        ),
        overrides=[
            model.DashboardFieldConfigSourceOverrides(
                matcher=model.MatcherConfig(id_val="byName", options=name),
                properties=[model.DynamicConfigValue(id_val=k, value=v) for k, v in given.items()],
            )
            for name, given in panel.overrides.items()
        ],
    )


def _custom(panel: Panel) -> object:
    if panel.kind == "timeseries":
        mode = common.StackingMode.NORMAL if panel.stack else common.StackingMode.NONE
        drawn = common.GraphThresholdsStyleMode
        return common.GraphFieldConfig(
            draw_style=common.GraphDrawStyle.LINE,
            fill_opacity=30 if panel.stack else 8,
            line_width=1,
            show_points=common.VisibilityMode.NEVER,
            stacking=common.StackingConfig(mode=mode, group="A"),
            thresholds_style=common.GraphThresholdsStyleConfig(
                mode=drawn.DASHED if len(panel.steps) > 1 else drawn.OFF
            ),
        )
    return {"fillOpacity": 80, "lineWidth": 1} if panel.kind == "barchart" else None


def _options(panel: Panel) -> object:
    """Return what is this kind's own; `panel.options` goes on top."""
    reduced = {"calcs": [panel.calc], "fields": "", "values": False}
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    tooltip = {"mode": "multi", "sort": "desc"}
    made: Any
    if panel.kind == "timeseries":
        made = timeseries_model.Options(
            legend=common.VizLegendOptions.from_json(legend),
            tooltip=common.VizTooltipOptions.from_json(tooltip),
        )
    elif panel.kind == "heatmap":
        made = heatmap.Options(
            calculate=False,
            cell_gap=1,
            color=heatmap.HeatmapColorOptions(
                mode=heatmap.HeatmapColorMode.SCHEME, scheme="Oranges", fill="dark-orange",
                scale=heatmap.HeatmapColorScale.EXPONENTIAL, exponent=0.5, steps=64,
            ),
            # Names of rows are upper bounds, and what is counted is no duration.
            rows_frame=heatmap.RowsHeatmapOptions(layout=common.HeatmapCellLayout.LE),
            cell_values=heatmap.CellValues(unit="suffix:/s"),
            y_axis=heatmap.YAxisConfig(unit=panel.unit),
            tooltip=heatmap.HeatmapTooltip(mode=common.TooltipDisplayMode.SINGLE),
        )  # fmt: skip
    elif panel.kind == "text":
        made = text.Options(mode=text.TextMode.MARKDOWN, content="")
    else:
        made = {
            "stat": {
                "reduceOptions": reduced, "colorMode": "value", "graphMode": "area",
                "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
            },
            "bargauge": {
                "reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal",
                "showUnfilled": True, "valueMode": "color",
            },
            "barchart": {
                "orientation": "horizontal", "showValue": "auto", "stacking": "none",
                "groupWidth": 0.8, "barWidth": 0.9, "legend": legend, "tooltip": tooltip,
            },
            "table": {"showHeader": True, "cellHeight": "sm"},
        }[panel.kind]  # fmt: skip
    data = made if isinstance(made, dict) else json.loads(json.dumps(made, cls=JSONEncoder))
    return data | panel.options
