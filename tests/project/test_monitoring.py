"""The dashboards and alert rules in monitoring: what they ask for is there, and Prometheus understands it."""

import http.server
import json
import re
import subprocess
import threading
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry.self_metrics import SELF_METRICS
from otpylib_telemetry_prometheus.self_metrics import self_families
from tests.support import peers
from tests.support.prometheus_server import PACKAGE, PrometheusServer
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring" / "prometheus" / "alerts.yml"
ACTOR_RULES = RULES.with_name("actors.yml")
BOARDS = {path.stem: path for path in sorted((ROOT / "monitoring" / "grafana").glob("*.json"))}
#: Those about what the exporters say; tests/peers/test_actors_dashboard.py looks at the actors'.
SERVED = [name for name in BOARDS if name != "actors"]
PAGES = ROOT / "docs" / "how-to" / "operate"
PAGE_OF = {RULES: PAGES / "monitor-the-telemetry.md", ACTOR_RULES: PAGES / "monitor-the-actors.md"}
all_rules = pytest.mark.parametrize("rules", PAGE_OF, ids=lambda path: path.stem)

OWN = {name for metric in SELF_METRICS for name in metric.samples}
OWN_NAME = re.compile(r"otpylib_telemetry_(?:exporter|prometheus)_[a-z_]+")


def board(name):
    return json.loads(BOARDS[name].read_text(encoding="utf-8"))


def targets(name):
    return [
        (panel["title"], target["expr"])
        for panel in board(name)["panels"]
        for target in panel.get("targets", ())
    ]


def expression(text):
    """A panel's expression as Grafana sends it, for one job and what the shop of the golden tests has."""
    for variable, value in {
        "$job": ".*",
        "$instance": ".*",
        "$exporter": ".*",
        "${operation}": "shop_checkout",
        "$counter": "shop_sold_total",
        "$__rate_interval": "2s",
        "$__range": "10s",
    }.items():
        text = text.replace(variable, value)
    assert "$" not in text.replace('"$1"', ""), text
    return text.replace(":15s]", ":250ms]")


# --- alert rules


def promtool(*arguments):
    program = peers.find_program("promtool", PACKAGE)
    done = subprocess.run(
        [program, *arguments], cwd=RULES.parent, capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts(rules):
    return re.findall(r"- alert: (\w+)", rules.read_text(encoding="utf-8"))


@all_rules
def test_promtool_accepts_the_rules(rules):
    promtool("check", "rules", rules.name)


@all_rules
def test_every_alert_fires_when_it_should_and_not_otherwise(rules):
    tests = rules.with_suffix(".test.yml")
    promtool("test", "rules", tests.name)
    text = tests.read_text(encoding="utf-8")
    for alert in alerts(rules):
        assert f"name: {alert} fires" in text
        assert f"name: {alert} stays silent" in text


def test_the_rules_name_only_metrics_there_are():
    text = RULES.read_text(encoding="utf-8")
    assert set(OWN_NAME.findall(text)) <= OWN


def test_no_two_alerts_have_the_same_name():
    names = [alert for rules in PAGE_OF for alert in alerts(rules)]
    assert len(set(names)) == len(names) >= 20


@all_rules
def test_every_alert_is_on_the_page_about_them(rules):
    text = PAGE_OF[rules].read_text(encoding="utf-8")
    assert [alert for alert in alerts(rules) if f"`{alert}`" not in text] == []


# --- dashboards


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_one_grafana_can_load(name):
    found = board(name)
    assert found["uid"] == f"otpylib-{name}"
    assert found["title"]
    variables = [variable["name"] for variable in found["templating"]["list"]]
    assert variables[0] == "datasource"
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set()
    for panel in found["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            assert panel.get("repeat") in {None, *variables}
        else:
            assert panel["description"].endswith(".")
            assert panel["targets"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", " ".join(expr for _, expr in targets(name))))
    assert used <= set(variables)


def test_the_dashboard_about_the_telemetry_shows_every_metric_there_is():
    named = {found for _, expr in targets("telemetry") for found in OWN_NAME.findall(expr)}
    assert named == OWN


def answer(number):
    """What an exporter would answer, everything in it, and rising."""
    return {
        "name": "prometheus_exporter",
        "state": "running",
        "breaker": "closed",
        "rejected_for": {"refused": number},
        "scrubbed": {"password": number},
        "dropped": {"queue_full": number},
        "lanes": {"spans": 3},
        "breaker_transitions": {"open": number},
        "config_problems": {"rejected": 1},
        "overflowing": ["shop_orders_total"],
        "labels_folded": {"shop_orders_total": {"order": 2001}},
        "samples_refused": {"not a number": number},
        "metrics_refused": {"shop_orders": "taken"},
        "operations_given_up": {"expired": number},
        "push": {"pushes": number, "failures": number, "failing": False},
        "merged": {"registries": 1, "failures": {"failed": number}, "duplicates": number},
        "multiprocess": {
            "writes": number,
            "trouble": None,
            "files_skipped": number,
            "workers_absorbed": number,
        },
        **dict.fromkeys(
            (
                *("accepted", "exported", "sampled_out", "queued", "in_flight", "held", "queue_limit"),
                *("batches", "export_failures", "breaker_failures", "lives", "uptime"),
                *("config_generation", "unknown_messages", "scrapes", "scrapes_failed", "scrapes_cut_off"),
                *("connections", "connections_refused", "connections_gave_way", "connections_timed_out"),
                *("series_expired",),
                *("handshakes_failed", "logins_refused"),
                *(
                    "bad_requests",
                    "metrics_unwritten",
                    "scrape_seconds",
                    "scrape_bytes",
                    "pages",
                    "scrape_seconds_sum",
                ),
                *("scrape_bytes_sum", "metrics", "series", "unused", "open_operations"),
            ),
            number,
        ),
    }


def sending(number):
    """What an exporter that sends metrics would answer about these."""
    return {
        "name": "otel_exporter",
        "metrics": {
            **dict.fromkeys(("readings", "skipped", "cut_off", "unobserved"), number),
            "producers": [{"failures": number, "left_out": number}],
        },
    }


class _Everything:
    def __init__(self, number):
        self.number = number

    def collect(self):
        return self_families([answer(self.number), sending(self.number)])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A real Prometheus that has scraped what the shop of the golden tests and every exporter may show."""
    shop = (ROOT / "tests" / "golden" / "shop.scrape.txt").read_text(encoding="utf-8")
    scrapes = []

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            scrapes.append(1)
            body = shop.encode() + generate_latest(_Everything(len(scrapes)))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    running = PrometheusServer(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{web.server_address[1]}")
    try:
        running.start()
        wait_until(lambda: len(scrapes) >= 6, 20, "some scrapes")
        yield running
    finally:
        running.stop()
        web.shutdown()
        web.server_close()


def test_what_is_served_to_the_dashboards_is_every_metric():
    text = generate_latest(_Everything(1)).decode()
    assert {
        sample.name for family in text_string_to_metric_families(text) for sample in family.samples
    } == OWN


@pytest.mark.peer
@pytest.mark.parametrize("name", SERVED)
def test_every_panel_has_something_to_show(server, name):
    empty = []
    for title, expr in targets(name):
        if not server.query(expression(expr)):
            empty.append(f"{title}: {expression(expr)}")
    assert empty == []


@pytest.mark.peer
def test_the_variables_of_the_dashboards_find_what_they_are_for(server):
    """Grafana's label_values() and metrics() are calls of this very API."""
    names = server.api("label/__name__/values")
    for name in SERVED:
        for variable in board(name)["templating"]["list"][1:]:
            query = variable["definition"]
            if query.startswith("metrics("):
                wanted = re.compile(query.removeprefix("metrics(").removesuffix(")"))
                pattern = re.compile(variable["regex"].strip("/"))
                found = [
                    match[1] for one in names if wanted.fullmatch(one) and (match := pattern.search(one))
                ]
                expected = {
                    # Each once, and not its ending event as well.
                    "operation": ["shop_checkout", "shop_payment"],
                    "counter": ["shop_sold_total"],
                }
                assert found == expected[variable["name"]]
            else:
                selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
                assert server.api(f"label/{label}/values", **{"match[]": expression(selector)})


@pytest.mark.peer
def test_every_alert_s_expression_can_be_evaluated(server):
    text = RULES.read_text(encoding="utf-8")
    expressions = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.+)\n)", text)
    assert len(expressions) == len(alerts(RULES))
    for block, line in expressions:
        server.query(block or line)
