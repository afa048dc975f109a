"""The dashboard and the alert rules of the actors, on a real run in which all that happened is known."""

import asyncio
import bisect
import json
import re
import subprocess
import time
from pathlib import Path

import pytest

import otpylib_telemetry_prometheus
from otpylib_telemetry import TomlSource
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, rules
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from scripts.pictures.restaurant import CONFIGURATION, Restaurant
from tests.supervision.test_supervision import tree
from tests.support import peers
from tests.support.chassis import up
from tests.support.ledger import stats_of
from tests.support.prometheus_server import PACKAGE
from tests.support.runtime import in_process
from tests.support.waiting import eventually

pytestmark = pytest.mark.peer

MONITORING = Path(__file__).parents[2] / "monitoring"
BOARD = json.loads((MONITORING / "grafana" / "actors.json").read_text(encoding="utf-8"))
RULES = MONITORING / "prometheus" / "actors.yml"

#: What is done: these numbers, and no other, must be seen.
GUESTS, BACKLOG, CRASHES, LOST, STALL = 8, 100, 4, 2, 0.5

#: Scrapes for which the backlog is there. Each counts as the minute that it would be in production.
SCRAPES = 14

#: Every panel, so that a new one is looked at here.
TITLES = {
    *("Messages waiting", "Crashes", "Gave up, or stayed dead", "Calls timed out", "Messages to nobody"),
    *("Longest lag of a loop", "Waiting now", "At most between two scrapes", "Handled per second"),
    *("Messages by outcome", "Messages that failed", "Time in the mailbox", "Time in the handler"),
    *("Time callers waited", "Calls that timed out", "Messages to nobody, by target", "Processes alive"),
    *("Begun and ended", "Crashes by reason", "Restarts", "Lag of the loop", "Time the loop stood still"),
    "Supervisors that gave up, children that stayed dead",
}


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    OtpylibInstrumentor().uninstrument()
    rules.put_in_force(rules.Rules())


def shown(server, only=".*"):
    """What each panel shows now of some servers: for each query its series, by the values of their labels."""
    panels = {}
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            continue
        panels[panel["title"]] = answers = []
        for target in panel["targets"]:
            expression = target["expr"].replace("$server", only)
            for variable, value in {
                **dict.fromkeys(("$job", "$instance"), ".*"),
                **dict.fromkeys(("$__rate_interval", "$__range"), "10m"),
            }.items():
                expression = expression.replace(variable, value)
            found = {}
            for sample in server.query(expression):
                labels = [value for key, value in sorted(sample.labels.items()) if key != "instance"]
                found[labels[0] if len(labels) == 1 else tuple(labels)] = sample.value
            answers.append(found)
    return panels


def bucket(seconds):
    """The bounds of the bucket of a histogram in which a time lies: no quantile is more exact."""
    above = bisect.bisect_left(DURATION_BOUNDS, seconds)
    return (0.0, *DURATION_BOUNDS)[above], (*DURATION_BOUNDS, DURATION_BOUNDS[-1])[above]


async def scrapes(server, count):
    for _ in range(count):
        await server.scraped(30)


# --- promtool


def series_of_the_run(server):
    """All that the rules ask for, as promtool takes it: what was scraped, one scrape after the other."""
    names = sorted(set(re.findall(r"\b(?:otpylib|event_loop)_\w+", RULES.read_text(encoding="utf-8"))))
    query = f"{{__name__=~{json.dumps('|'.join(names))}}}[10m]"
    found = server.api("query", query=query)["result"]
    times = sorted({at for one in found for at, _ in one["values"]})
    told = []
    for one in found:
        name = one["metric"].pop("__name__")
        labels = ",".join(f"{key}={json.dumps(value)}" for key, value in one["metric"].items())
        values = dict(map(tuple, one["values"]))
        last = max(values)
        # A series that has ended says nothing for five minutes if nobody says that it has.
        written = [values.get(at, "_" if at < last else "stale") for at in times]
        told.append({"series": f"{name}{{{labels}}}", "values": " ".join(written)})
    return told, len(times)


def all_alerts(directory, server, expected):
    """Have promtool say whether these alerts, and no others, fire at any time of the run."""
    series, minutes = series_of_the_run(server)
    labels = "alertname, server, message, target, supervisor, child, error_type"
    ever = " or ".join(
        f"max_over_time(ALERTS{{alertstate='firing', {which}}}[{minutes + 1}m])"
        # On a busy machine the loop may stand elsewhere as well.
        for which in ("alertname!='ActorLoopBlocked'", "alertname='ActorLoopBlocked', message='count'")
    )
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    {
                        "expr": f"count by ({labels}) ({ever})",
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": each, "value": 1} for each in expected],
                    }
                ],
            }
        ],
    }
    path = directory / "run.test.yml"
    path.write_text(json.dumps(test), encoding="utf-8")  # JSON is YAML too
    command = [peers.find_program("promtool", PACKAGE), "test", "rules", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the run


async def test_every_panel_and_every_rule_says_what_was_done(runtime, config_manager, tmp_path, prometheus):
    path = tmp_path / "config.toml"
    path.write_text(CONFIGURATION.format(port=0), encoding="utf-8")
    await config_manager(TomlSource(path))
    await in_process(tree(otpylib_telemetry_prometheus.child_spec()).start_link)
    await up("prometheus_exporter")
    server = prometheus(f"127.0.0.1:{(await stats_of('prometheus_exporter'))['port']}", interval="500ms")
    restaurant = Restaurant()
    await restaurant.open()
    await eventually(lambda: runtime.whereis("telemetry_poller") is not None)
    await restaurant.serve(GUESTS, 0.02)
    await scrapes(server, 3)

    first = time.monotonic()
    await restaurant.back_up(BACKLOG)
    waited = [time.monotonic()]
    await scrapes(server, SCRAPES)
    during = await asyncio.to_thread(shown, server)
    waited = [time.monotonic() - waited[0]]
    restaurant.hob.set()
    for _ in range(CRASHES):
        await restaurant.crash("till", "restarted")
    await restaurant.crash("oven", "restarted")
    await restaurant.crash("oven", "gave_up")
    await restaurant.crash("dishwasher", "restart_failed")
    await restaurant.time_out()
    waited.append(time.monotonic() - first)
    await restaurant.lose(LOST)
    await restaurant.stall(STALL)
    await scrapes(server, SCRAPES)
    after = await asyncio.to_thread(shown, server)
    of_some = await asyncio.to_thread(shown, server, "till|oven")
    await restaurant.close()

    assert set(after) == TITLES
    nothing = {(): 0}
    # While messages pile up.
    assert during["Messages waiting"] == [{(): BACKLOG}]
    for title in ("Waiting now", "At most between two scrapes"):
        assert {name: number for name, number in during[title][0].items() if number} == {"kitchen": BACKLOG}
    for title in ("Crashes", "Gave up, or stayed dead", "Calls timed out", "Messages to nobody"):
        assert during[title] == [nothing]
    alive = {"Staff": 3, "Till": 1, "Kitchen": 1, "Oven": 1, "Dishwasher": 1}
    assert during["Processes alive"][0].items() >= alive.items()

    # At the end: the numbers of the time shown.
    assert after["Messages waiting"] == [nothing]
    assert not any(after["Waiting now"][0].values())
    assert after["Waiting now"][0].keys() >= {"till", "kitchen"}
    assert after["At most between two scrapes"][0].keys() == after["Waiting now"][0].keys()
    assert after["Crashes"] == [{(): CRASHES + 4}]
    assert after["Gave up, or stayed dead"] == [{(): 2}]
    assert after["Calls timed out"] == [{(): 1}]
    assert after["Messages to nobody"] == [{(): LOST}]
    assert after["Longest lag of a loop"][0][()] >= STALL * 0.7

    # Messages.
    assert after["Messages by outcome"] == [
        {
            ("success", "till"): GUESTS + 3,
            ("success", "kitchen"): GUESTS + BACKLOG + 1,
            ("error", "till"): CRASHES,
            ("error", "oven"): 2,
            ("error", "dishwasher"): 1,
        }
    ]
    assert after["Messages that failed"] == [
        {
            ("ValueError", "print", "till"): CRASHES,
            ("ValueError", "print", "oven"): 2,
            ("ValueError", "print", "dishwasher"): 1,
        }
    ]
    # A rate is reckoned; and it is of what came after the first scrape.
    assert after["Handled per second"][0]["kitchen"] * 600 == pytest.approx(BACKLOG + 1, rel=0.15)
    p50, p95 = after["Time in the mailbox"]
    for quantile in (p50["kitchen"], p95["kitchen"]):
        assert bucket(waited[0])[0] <= quantile <= bucket(waited[1])[1]
    assert p50["till"] < 1
    p50, p95 = after["Time in the handler"]
    assert p50["kitchen"] < 0.1
    assert p95["till"] >= bucket(0.3)[0]
    p50, p95 = after["Time callers waited"]
    assert bucket(0.02)[0] <= p50["till"] <= p95["till"]
    assert p95["till"] >= bucket(STALL)[0]
    assert after["Calls that timed out"] == [{("pay", "till"): 1}]
    assert after["Messages to nobody, by target"] == [{("guest", "nobody"): LOST}]

    # Processes.
    alive = {"Staff": 2, "Till": 1, "Kitchen": 1}
    assert after["Processes alive"][0].items() >= alive.items()
    assert not after["Processes alive"][0].keys() & {"Oven", "Dishwasher"}
    assert of_some["Begun and ended"] == [{(): 1 + CRASHES + 2}, {(): CRASHES + 2}]
    assert after["Crashes by reason"] == [
        {
            ("ValueError", "till"): CRASHES,
            ("ValueError", "oven"): 2,
            ("ValueError", "dishwasher"): 1,
            ("OSError", "dishwasher"): 1,
        }
    ]
    assert after["Restarts"] == [{("till", "restaurant"): CRASHES, ("oven", "bakery"): 1}]
    assert after["Supervisors that gave up, children that stayed dead"] == [
        {("oven", "bakery"): 1},
        {("dishwasher", "RuntimeError", "scullery"): 1},
    ]

    # The loop.
    assert after["Lag of the loop"][0][()] >= STALL * 0.7
    assert after["Time the loop stood still"][0]["count", "till"] >= STALL * 0.7

    # Each scrape counts as the minute that it would be in production.
    expected = [
        {"alertname": "ActorMailboxGrowing", "server": "kitchen"},
        {"alertname": "ActorWaitsLong", "server": "kitchen"},
        {"alertname": "ActorRestartingOften", "supervisor": "restaurant", "child": "till"},
        {"alertname": "ActorSupervisorGaveUp", "supervisor": "bakery", "child": "oven"},
        {
            "alertname": "ActorRestartFailed",
            "supervisor": "scullery",
            "child": "dishwasher",
            "error_type": "RuntimeError",
        },
        {"alertname": "ActorCallsTimingOut", "server": "till"},
        {"alertname": "ActorMessagesUndelivered", "target": "nobody", "server": "guest"},
        {"alertname": "ActorLoopBlocked", "server": "till", "message": "count"},
        {"alertname": "ActorLoopLagging"},
    ]
    assert sorted(each["alertname"] for each in expected) == sorted(
        re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    )
    await asyncio.to_thread(all_alerts, tmp_path, server, [_as_labels(each) for each in expected])


def _as_labels(names):
    """As promtool reads the labels of a sample."""
    return "{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in names.items()) + "}"
