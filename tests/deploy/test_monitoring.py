"""Alerts and the dashboard: what they ask for is counted, and they can be read."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from promql_parser import AggregateExpr, BinaryExpr, Expr, VectorSelector, parse, walk

from app.telemetry.registry import DESCRIBED
from tests.deploy.files import DEPLOY, ROOT, read_yaml

PROMETHEUS = DEPLOY / "prometheus"
(GROUP,) = read_yaml(PROMETHEUS / "ringback.rules.yml")["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"] if "alert" in rule}
EXERCISES = ROOT / "tests/deploy/exercises.test.yml"
DASHBOARD = json.loads((DEPLOY / "grafana/ringback.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# What Grafana puts into a query, and something like it.
GRAFANA = {"$__rate_interval": "1m", "$switch": "main", "$organization": "0003"}

# Labels by series, those that Prometheus gives among them.
TARGET = {"job", "instance"}
SERIES = {"up": TARGET, "ALERTS": {"alertname", "alertstate", "severity"}}
for each in DESCRIBED:
    labels = {*each.labels, *TARGET}
    if each.type == "histogram":
        SERIES |= {f"{each.name}_bucket": {*labels, "le"}}
        SERIES |= {f"{each.name}_{end}": labels for end in ("sum", "count")}
    else:
        SERIES[each.name] = labels
# The rules' own.
RECORDED = [rule["record"] for rule in GROUP["rules"] if "record" in rule]
SERIES |= {name: {"gateway"} if name.startswith("gateway:") else set() for name in RECORDED}


def queries() -> Iterator[tuple[str, str]]:
    for rule in GROUP["rules"]:
        yield rule.get("alert", rule.get("record")), rule["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


def parsed(query: str) -> Expr:
    for name, value in GRAFANA.items():
        query = query.replace(name, value)
    assert "$" not in query
    return parse(query)


def series(expression: Expr) -> list[VectorSelector]:
    found: list[VectorSelector] = []

    def look(each: Expr) -> None:
        if isinstance(each, VectorSelector):
            found.append(each)

    walk(expression, look)
    return found


@pytest.mark.parametrize(("name", "query"), list(queries()))
def test_a_query_asks_for_what_is_counted(name: str, query: str) -> None:
    expression = parsed(query)
    for selector in series(expression):
        assert selector.name in SERIES
        assert {matcher.name for matcher in selector.matchers.matchers} <= SERIES[selector.name]

    def look(each: Expr) -> None:
        """What is summed up by a label has it."""
        if isinstance(each, AggregateExpr) and each.modifier is not None:
            for selector in series(each.expr):
                if not isinstance(each.expr, BinaryExpr):
                    assert set(each.modifier.labels) <= SERIES[selector.name or ""]

    walk(expression, look)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^### (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]


def test_the_runbook_has_no_alert_that_is_gone() -> None:
    text = (ROOT / "docs/operations/runbook.md").read_text()
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == set(ALERTS)


def test_values_of_labels_are_those_that_are_counted() -> None:
    """As the registry names them in its descriptions."""
    told = {each.name: each.text for each in DESCRIBED}
    for _, query in queries():
        for selector in series(parsed(query)):
            for matcher in selector.matchers.matchers:
                if matcher.name in ("result", "outcome"):
                    words = re.findall(r"\w+", told[selector.name or ""])
                    assert set(matcher.value.split("|")) <= set(words)


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on the PATH")
@pytest.mark.parametrize(
    "words",
    [
        ["check", "rules", "ringback.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "ringback.rules.test.yml"],
        # What pages in which exercise, and when.
        ["test", "rules", str(EXERCISES)],
    ],
    ids=lambda words: words[-1].rpartition("/")[-1],
)
def test_prometheus_takes_them(words: list[str]) -> None:
    done = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_exercise_names_the_alerts_that_there_are() -> None:
    """A name that no alert has would never fire, and a query without a sample would hold."""
    for exercise in read_yaml(EXERCISES)["tests"]:
        for test in exercise["promql_expr_test"]:
            for selector in series(parsed(test["expr"])):
                assert selector.name == "ALERTS"
                for matcher in selector.matchers.matchers:
                    if matcher.name == "alertname":
                        assert any(re.fullmatch(matcher.value, name) for name in ALERTS)
            for sample in test.get("exp_samples", ()):
                found = re.search(r'alertname="(\w+)"', sample["labels"])
                assert found is not None and found[1] in ALERTS


def test_grafana_s_own_model_reads_the_dashboard() -> None:
    register_default_plugins()
    read = Dashboard.from_json(DASHBOARD)
    written = json.loads(JSONEncoder(sort_keys=True).encode(read))
    assert_kept(DASHBOARD["panels"], written["panels"])


def assert_kept(mine: Any, written: Any) -> None:
    """What the model does not know it would have left out; it may add its defaults."""
    if isinstance(mine, dict):
        for name in mine:
            assert_kept(mine[name], written[name])
    elif isinstance(mine, list):
        for one, other in zip(mine, written, strict=True):
            assert_kept(one, other)
    else:
        assert mine == written


def test_panels_say_what_they_show_and_stand_side_by_side() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["description"] for panel in PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells


def test_the_dashboard_takes_any_data_source() -> None:
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "switch", "organization"}
    text = json.dumps([PANELS, DASHBOARD["templating"]])
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"${datasource}"}


def test_compose_s_targets_are_its_services() -> None:
    services = read_yaml(ROOT / "compose.yml")["services"]
    services |= {"records": read_yaml(ROOT / "compose.records.yml")["services"]["records"]}
    for job in read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]:
        for way in job["dns_sd_configs"]:
            assert {services[name]["command"][0] for name in way["names"]} == {
                job["job_name"].removeprefix("ringback-")
            }
            assert way["port"] == 9100
