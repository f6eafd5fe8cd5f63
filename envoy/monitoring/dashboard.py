#!/usr/bin/env python3
"""Makes the Grafana dashboard beside it: envoy/monitoring/dashboard.json.

    tools/setup.sh monitoring && .tools/monitoring/bin/python envoy/monitoring/dashboard.py > envoy/monitoring/dashboard.json

(UPDATE_DASHBOARD=1 make monitoring does the same.) A test compares the two, and another one asks a real Prometheus each
query that stands here. What it leaves out: Envoy's own statistics, for which there are dashboards enough.

Every query selects by the dashboard's variables, and by `app` only where the metric has that label.
"""

import itertools
import json
import sys

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
# What a metric without an app is selected by, and one with it.
EACH = 'job=~"$job", instance=~"$instance"'
APP = f'{EACH}, app=~"$app"'
# Of a grid of 24 columns.
NARROW, WIDE, HEIGHT = 8, 12, 8


def rate(metric, labels, by):
    return f"sum by ({by}) (rate(wechat_token_{metric}{{{labels}}}[$__rate_interval]))"


def per_minute(metric, labels, by):
    return f"60 * {rate(metric, labels, by)}"


def quantile(q, metric):
    return f"histogram_quantile({q}, {rate(metric + '_bucket', EACH, 'le')})"


def thresholds(*steps):
    """The colour below the first value, then (from this value on, colour) …"""
    first, *others = steps
    marks = [models.Threshold(color=first)] + [models.Threshold(value=value, color=color) for value, color in others]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(marks)


def mapping(**texts):
    """Values as words: _0=("closed", "green")."""
    results = {
        name.removeprefix("_"): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (name, (text, color)) in enumerate(texts.items())
    }
    return [models.ValueMap(options=results)]


def finish(panel, title, description, unit, queries):
    panel.title(title).description(description).datasource(SOURCE).height(HEIGHT).unit(unit)
    for place, (expr, legend) in enumerate(queries):
        target = prometheus.Dataquery().expr(expr).legend_format(legend).range().ref_id(chr(ord("A") + place))
        panel.with_target(target.datasource(SOURCE))
    return panel


def graph(title, description, unit, *queries, marks=None, width=NARROW, floor=0):
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.TABLE)
    legend = legend.placement(common_models.LegendPlacement.BOTTOM).show_legend(True).calcs(["lastNotNull", "max"])
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
    panel = timeseries.Panel().legend(legend).tooltip(tooltip.sort(common_models.SortOrder.DESCENDING))
    panel.span(width).fill_opacity(10).line_width(1).min(floor)
    if marks:
        style = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(thresholds(*marks)).thresholds_style(style)
    return finish(panel, title, description, unit, queries)


def number(title, description, unit, *queries, marks):
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    panel = stat.Panel().reduce_options(reduce).thresholds(thresholds(*marks)).span(6)
    panel.color_mode(common_models.BigValueColorMode.BACKGROUND)
    return finish(panel, title, description, unit, queries).height(4)


def states(title, description, *queries, words):
    panel = statetimeline.Panel().mappings(words).span(NARROW).show_value(common_models.VisibilityMode.NEVER)
    return finish(panel, title, description, "none", queries)


AT_A_GLANCE = [
    number(
        "Shortest life left",
        "What is left of the token that ends first. With the default timing a token is renewed 300 to 240 s before its end.",
        "s",
        (f"min(wechat_token_remaining_seconds{{{APP}}})", "shortest"),
        marks=("red", (180, "orange"), (240, "green")),
    ),
    number(
        "Apps without a token",
        "Apps, counted in each Envoy, that have no live token: their calls wait and are then answered by the plugin itself.",
        "none",
        (f"count(wechat_token_remaining_seconds{{{APP}}} == 0) or vector(0)", "apps"),
        marks=("green", (1, "red")),
    ),
    number(
        "Errors from the plugin",
        "Replies a minute that the plugin made itself, whatever the reason.",
        "cpm",
        (f"60 * sum(rate(wechat_token_local_replies_total{{{EACH}}}[$__rate_interval])) or vector(0)", "replies"),
        marks=("green", (1, "red")),
    ),
    number(
        "Envoys without a refresher",
        "Envoys in which nobody keeps tokens: no heartbeat rises. What the gauges here say of them is old then.",
        "none",
        (
            f"count(sum by (instance) (rate(wechat_token_heartbeats_total{{{EACH}}}[$__rate_interval])) == 0) or vector(0)",
            "Envoys",
        ),
        marks=("green", (1, "red")),
    ),
]

CALLERS = [
    graph(
        "Calls with a token",
        "Requests that left with a token. A resent one counts again.",
        "reqps",
        (rate("injected_total", APP, "app"), "{{app}}"),
    ),
    graph(
        "Calls without a token of ours",
        "Requests that went on as they came. caller_token: the service brought its own; unavailable: on_unavailable is pass.",
        "reqps",
        (rate("passed_total", EACH, "reason"), "{{reason}}"),
    ),
    graph(
        "Errors from the plugin by reason",
        "Replies that the plugin made itself. The README says what each reason means.",
        "reqps",
        (rate("local_replies_total", EACH, "reason"), "{{reason}}"),
    ),
    graph(
        "Calls that had to wait",
        "Requests that came when there was no token. After the start that should be none.",
        "reqps",
        (rate("parked_total", APP, "app"), "{{app}}"),
    ),
    graph(
        "How long they waited",
        "Between the request and its token, or the answer that there is none: at most this for half of them, and for 99 %.",
        "ms",
        (quantile(0.5, "wait_millis"), "half"),
        (quantile(0.99, "wait_millis"), "99 %"),
    ),
    graph(
        "Tokens that WeChat rejected",
        "Answers that say that the token is wrong, and what became of the requests that Envoy sent again. missing: WeChat saw no "
        "token (41001) although one was put in.",
        "reqps",
        (rate("rejected_total", APP, "app"), "{{app}} rejected"),
        (rate("resent_total", APP, "app, result"), "{{app}} resent: {{result}}"),
        (rate("missing_total", APP, "app"), "{{app}} missing"),
    ),
]

TOKENS = [
    graph(
        "Life left",
        "What is left of each token's life; 0 without one. A saw: it rises where a token is renewed. Below the line it is late.",
        "s",
        (f"wechat_token_remaining_seconds{{{APP}}}", "{{app}} at {{instance}}"),
        marks=("red", (180, "green")),
    ),
    graph(
        "Generation",
        "Rises with every new token. Steep: tokens are rejected or overwritten again and again.",
        "none",
        (f"wechat_token_generation{{{APP}}}", "{{app}} at {{instance}}"),
    ),
    states(
        "Breaker",
        "Open: fetching the token failed so often, or so finally, that it is tried seldom; callers are answered at once.",
        (f"wechat_token_breaker_open{{{APP}}}", "{{app}} at {{instance}}"),
        words=mapping(_0=("closed", "green"), _1=("open", "red")),
    ),
]

REFRESH = [
    graph(
        "Refreshes",
        "Outcomes of refreshing. same: WeChat handed out the token that we have; adopted: another Envoy had a newer one; withheld: "
        "Redis is silent; calls_not_sent: Envoy did not take the call.",
        "cpm",
        (per_minute("refreshes_total", APP, "result"), "{{result}}"),
        width=WIDE,
    ),
    graph(
        "Failures by errcode",
        "Token calls that failed. Without an errcode: no answer, or none that can be read. docs/operations.md says what to do.",
        "cpm",
        (per_minute("refreshes_total", f'{APP}, result="failed"', "app, errcode"), "{{app}} errcode {{errcode}}"),
        width=WIDE,
    ),
    graph(
        "How long a token call takes",
        "From the call to WeChat's answer: at most this for half of them, and for 99 %.",
        "ms",
        (quantile(0.5, "refresh_millis"), "half"),
        (quantile(0.99, "refresh_millis"), "99 %"),
        width=WIDE,
    ),
    graph(
        "Budget left",
        "Token calls that may still be made today at the classic endpoint (daily_budget; a day in Asia/Shanghai).",
        "none",
        (f"wechat_token_budget_left{{{APP}}}", "{{app}} at {{instance}}"),
        width=WIDE,
    ),
]

REDIS = [
    graph(
        "Requests to Redis",
        "Of all apps' refreshers.",
        "cpm",
        (per_minute("redis_requests_total", APP, "result"), "{{result}}"),
    ),
    graph(
        "Failed share",
        "Of the requests to Redis. Tokens go on without it, as redis.when_down says.",
        "percentunit",
        (
            f"sum by (instance) (rate(wechat_token_redis_requests_total{{{APP}, result=\"failed\"}}[$__rate_interval]))"
            f" / {rate('redis_requests_total', APP, 'instance')}",
            "{{instance}}",
        ),
        marks=("green", (0.1, "red")),
    ),
    graph(
        "Tokens made by neighbours",
        "Tokens that somebody beside the mesh wrote to a key of redis.mirror. At the end of a migration: none.",
        "cpm",
        (per_minute("neighbours_seen_total", APP, "app, result"), "{{app}} {{result}}"),
    ),
]

LEASE = [
    states(
        "Who keeps the tokens",
        "Normally the singleton. A worker, where the singleton has trapped, has not come up yet, or does not know the app.",
        (f"wechat_token_lease_held{{{APP}}}", "{{app}} by {{holder}} at {{instance}}"),
        words=mapping(_0=("no", "transparent"), _1=("holds it", "blue")),
    ),
    graph(
        "Lease term",
        "Rises by one each time the lease changes hands. Again and again: virtual machines die.",
        "none",
        (f"wechat_token_lease_term{{{APP}}}", "{{app}} at {{instance}}"),
    ),
    graph(
        "Heartbeat",
        "One in about 750 ms from whoever keeps tokens. None: nobody does, and the other gauges stand still.",
        "cps",
        (rate("heartbeats_total", EACH, "instance, holder"), "{{holder}} at {{instance}}"),
    ),
]

ROWS = [
    ("At a glance", AT_A_GLANCE),
    ("Callers", CALLERS),
    ("Tokens", TOKENS),
    ("Refresh", REFRESH),
    ("Redis", REDIS),
    ("Lease", LEASE),
]


def variable(name, label, query, description):
    made = dashboard.QueryVariable(name).label(label).query(query).description(description).datasource(SOURCE)
    made.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    return made.multi(True).include_all(True).all_value(".*").current(models.VariableOption(text="All", value="$__all"))


def build():
    board = (
        dashboard.Dashboard("WeChat tokens")
        .uid("envoy-wechat-token")
        .description("envoy-wechat-token: the access_token that Envoy puts into calls to WeChat")
        .tags(["envoy", "wechat"])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    heartbeats = "label_values(wechat_token_heartbeats_total, job)"
    instances = 'label_values(wechat_token_heartbeats_total{job=~"$job"}, instance)'
    apps = f"label_values(wechat_token_remaining_seconds{{{EACH}}}, app)"
    board.with_variable(variable("job", "Job", heartbeats, "Prometheus' job"))
    board.with_variable(variable("instance", "Envoy", instances, "Envoys that have the plugin"))
    board.with_variable(variable("app", "App", apps, "The app's name in the plugin's configuration, or its appid"))
    ids = itertools.count(1)
    for title, panels in ROWS:
        board.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels:
            board.with_panel(panel.id(next(ids)))
    return board.build()


json.dump(build(), sys.stdout, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
print()
