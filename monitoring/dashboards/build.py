"""Panels and dashboards as data -> Grafana's JSON, by grafana-foundation-sdk's models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, heatmap, prometheus, text
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import timeseries as timeseries_model

from monitoring.dashboards import header
from monitoring.dashboards.header import DATASOURCE
from monitoring.dashboards.panel import COLUMNS, LEAST_TOP, Dashboard, Panel, Query, Row
from monitoring.signals import EVALUATION_INTERVAL_S

SCHEMA_VERSION = 42
REFRESH = "30s"
#: Carries the chosen time range and variables to the next page.
CONTEXT = "${__url_time_range}&${__all_variables}"


def render(page: Dashboard) -> str:
    """Return a dashboard's JSON."""
    made = model.Dashboard(
        uid=page.uid,
        title=page.title,
        description=page.text,
        tags=[header.TAG],
        timezone="browser",
        editable=False,
        graph_tooltip=model.DashboardCursorSync.CROSSHAIR,
        time=model.DashboardDashboardTime(from_val=page.since, to="now"),
        refresh=REFRESH,
        schema_version=SCHEMA_VERSION,
        panels=list(_panels(page.rows)),
        templating=model.DashboardDashboardTemplating(list_val=list(header.variables(page.chosen))),
        annotations=model.AnnotationContainer(),
        links=[],
    )
    data = json.loads(json.dumps(made, cls=JSONEncoder))
    for panel in data["panels"]:
        if links := panel.get("links"):
            panel["links"] = [header.in_sight(link) for link in links]
    data["links"] = [header.link()]
    # The SDK's annotation knows nothing of what is Prometheus's own in it.
    data["annotations"] = {"list": header.marks(page.chosen)}
    return json.dumps(data, indent=2) + "\n"


def _panels(rows: Sequence[Row]) -> Iterator[model.Panel | model.RowPanel]:
    """Number the panels, and place them from left to right in lines of 24 columns.

    Those of a folded row are inside it, and take no room until it is opened.
    """
    number, y = 0, 0
    for row in rows:
        number += 1
        place = model.GridPos(h=1, w=COLUMNS, x=0, y=y)
        inside, bottom = _placed(row.panels, number, y + 1)
        number += len(inside)
        yield model.RowPanel(
            title=row.title,
            id_val=number - len(inside),
            grid_pos=place,
            collapsed=row.folded,
            panels=inside if row.folded else [],
        )
        if not row.folded:
            yield from inside
        y = y + 1 if row.folded else bottom


def _placed(panels: Sequence[Panel], number: int, y: int) -> tuple[list[model.Panel], int]:
    """Return the panels of a row from a height on, and the height below them."""
    found = []
    x = height = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y, height = 0, y + height, 0
        number += 1
        place = model.GridPos(h=panel.height, w=panel.width, x=x, y=y)
        found.append(_panel(panel, panel.number or number, place))
        x, height = x + panel.width, max(height, panel.height)
    return found, y + height


def _panel(panel: Panel, number: int, place: model.GridPos) -> model.Panel:
    return model.Panel(
        type_val=panel.kind,
        id_val=number,
        title=panel.title,
        description=panel.text,
        datasource=DATASOURCE if panel.queries else None,
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
        title=f"More: {uid.removeprefix('poolscope-')}",
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
            no_value=panel.nothing if panel.kind in ("stat", "table", "bargauge") else None,
            mappings=_mappings(panel.words),
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


def _mappings(words: dict[str, tuple[str, str]]) -> list[model.ValueMapping] | None:
    if not words:
        return None
    options = {
        value: model.ValueMappingResult(text=text, color=color, index=place)
        for place, (value, (text, color)) in enumerate(words.items())
    }
    return [model.ValueMap(options=options)]


def _custom(panel: Panel) -> object:
    if panel.kind == "timeseries":
        mode = common.StackingMode.NORMAL if panel.stack else common.StackingMode.NONE
        drawn = common.GraphThresholdsStyleMode
        return common.GraphFieldConfig(
            draw_style=common.GraphDrawStyle.LINE,
            # A line on top of a stack is that of a series which may be zero throughout.
            fill_opacity=70 if panel.stack else 8,
            line_width=0 if panel.stack else 1,
            axis_soft_max=LEAST_TOP.get(panel.unit, 1.0) if panel.max is None else None,
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
                "reduceOptions": reduced, "colorMode": "value", "graphMode": "none",
                "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
            },
            "bargauge": {
                "reduceOptions": reduced, "displayMode": "basic", "orientation": "horizontal",
                "showUnfilled": True, "valueMode": "color",
                "sizing": "manual", "minVizHeight": 16, "maxVizHeight": 28,
                "text": {"titleSize": 12, "valueSize": 14},
            },
            "barchart": {
                "orientation": "horizontal", "showValue": "auto", "stacking": "none",
                "groupWidth": 0.8, "barWidth": 0.9, "legend": legend, "tooltip": tooltip,
                "text": {"valueSize": 12},
            },
            "table": {"showHeader": True, "cellHeight": "sm"},
        }[panel.kind]  # fmt: skip
    data = made if isinstance(made, dict) else json.loads(json.dumps(made, cls=JSONEncoder))
    return data | panel.options
