"""The examples run as the scripts that they are, and do what they say."""

import ast
import os
import re
import socket
from pathlib import Path

import pytest

from tests.project.test_docs import ROOT, blocks_of
from tests.support import programs
from tests.support.otlp_metrics import points_at

JSON_LINES = ROOT / "examples" / "json_lines.py"

#: What all of them import has been imported for each.
EXAMPLES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py"))

STATSD = ROOT / "examples" / "statsd_aggregates.py"

WRITTEN = """\
["shop.orders", {"count": 2}, {"basket": "b-1"}]
["shop.stock", {"value": 40}, {}]
"""

RECORDS = r"""level=WARNING logger=shop.stock msg="3 packets left" order=7
level=INFO logger=shop.stock msg={"tea": 3, "coffee": [1, 2]}
level=ERROR logger=shop.stock trace=5 msg="sold out" exception.type=LookupError exception.message="no tea" ...
"""

PAGE = """\
shop_order_amount_EUR_total{country="de"} 20
shop_order_amount_EUR_total{country="fr"} 30
shop_order_amount_EUR_total{country="test"} 1
shop_order_duration_seconds_bucket{le="0.05"} 1
shop_order_duration_seconds_bucket{le="0.1"} 2
shop_order_duration_seconds_bucket{le="0.5"} 3
shop_order_duration_seconds_bucket{le="+Inf"} 3
shop_order_duration_seconds_sum 0.33
shop_order_duration_seconds_count 3
shop_orders_total{country="de"} 2
shop_orders_total{country="fr"} 1
shop_orders_total{country="test"} 1
shop_stock_items{item="tea"} 17
"""


def run_script(script, directory, *arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))}
    return programs.run(
        [script, *arguments],
        cwd=directory,
        timeout=200,
        env={**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environment},
        options=("-W", "error"),
        about=EXAMPLES,
    )


def test_json_lines_writes_every_event_it_asked_for_and_shows_them(tmp_path):
    done = run_script(JSON_LINES, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8") == WRITTEN
    assert done.stdout == WRITTEN


def test_json_lines_appends_to_what_an_earlier_run_has_written(tmp_path):
    for _ in range(2):
        done = run_script(JSON_LINES, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8") == WRITTEN * 2


def test_definitions_shows_the_page_of_what_it_defines(tmp_path):
    done = run_script(ROOT / "examples" / "definitions.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {line for line in done.stdout.splitlines() if not line.startswith("#")} == set(PAGE.splitlines())


def test_producer_sends_what_its_producers_say(tmp_path, grpc_receiver):
    done = run_script(ROOT / "examples" / "producer.py", tmp_path, grpc_receiver.endpoint)
    assert (done.returncode, done.stderr) == (0, "")
    found = {point.name: (point.value, point.attributes) for point in points_at(grpc_receiver)}
    assert found == {"printer.pages": (12, {"tray": "a4"}), "printer.paper": (488, {})}


def test_telemetry_service_sends_every_signal_of_an_application_without_otpylib(tmp_path, otlp_receiver):
    done = run_script(ROOT / "examples" / "telemetry_service.py", tmp_path, otlp_receiver.endpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "left unsent: 0\n"
    assert [each.name for each in otlp_receiver.spans] == ["shop.checkout"]
    assert "there is little assam left" in [each.body for each in otlp_receiver.logs]
    assert {(each.name, each.value) for each in otlp_receiver.metrics} == {("shop.sold", 2)}


def test_telemetry_service_without_a_collector_prints_it(tmp_path):
    done = run_script(ROOT / "examples" / "telemetry_service.py", tmp_path)
    assert done.returncode == 0
    assert "my-application" in done.stdout


def test_http_configuration_changes_what_is_right_and_says_what_is_wrong(tmp_path):
    done = run_script(ROOT / "examples" / "http_configuration.py", tmp_path)
    assert done.returncode == 0
    assert "'half', a string" in done.stderr
    assert done.stdout.splitlines() == ["200 0.5", "422 0.5", "0.5"]


def test_producer_without_a_collector_prints_them(tmp_path):
    done = run_script(ROOT / "examples" / "producer.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"name": "printer.pages"' in done.stdout
    assert '"value": 488' in done.stdout


def test_log_exporter_writes_log_records_and_nothing_else(tmp_path):
    done = run_script(ROOT / "examples" / "log_exporter.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    written = (tmp_path / "records.log").read_text(encoding="utf-8")
    assert done.stdout == written
    short = re.sub("exception.stacktrace=.*", "...", re.sub("trace=[0-9a-f]{32}", "trace=5", written))
    assert short == RECORDS


def test_gunicorn_meters_shows_what_workers_have_counted_that_are_gone(tmp_path):
    done = run_script(ROOT / "examples" / "gunicorn_meters.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'shop_sales_total{item="tea",otel_scope_name="shop"} 75.0' in done.stdout
    assert 'shop_sales_total{item="jam",otel_scope_name="shop"} 25.0' in done.stdout
    assert 'shop_sale_amount_EUR_count{otel_scope_name="shop"} 100.0' in done.stdout
    # What was open in workers that have ended is not open any more.
    assert "shop_baskets{" not in done.stdout


def test_testing_runs_its_tests_as_a_script(tmp_path):
    done = run_script(
        ROOT / "examples" / "testing.py", tmp_path, "-p", "no:cacheprovider", "-p", "no:schemathesis"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 passed" in done.stdout


def test_the_exporter_in_it_is_as_short_as_it_says():
    module = ast.parse(JSON_LINES.read_text(encoding="utf-8"))
    assert "some forty lines" in ast.get_docstring(module)
    parts = [node for node in module.body if isinstance(node, (ast.ClassDef, ast.Assign))]
    assert 35 <= parts[-1].end_lineno - parts[0].lineno + 1 <= 42


def test_statsd_aggregates_sends_what_a_thousand_events_add_up_to(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        port = str(server.getsockname()[1])
        done = run_script(STATSD, tmp_path, TELEMETRY_STATSD_PORT=port)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        received = server.recv(65_536).decode()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(65_536)
    assert sorted(received.split("\n")) == [
        "shop.orders.duration.count:1000|c|#country:de",
        "shop.orders.duration.sum:4.5|c|#country:de",
        "shop.orders.total:2000|c|#country:de",
        "shop.stock:40|g",
    ]


def test_the_page_about_writing_an_exporter_shows_that_very_file():
    page = Path(ROOT / "docs" / "how-to" / "export" / "write-an-exporter.md")
    shown = [block.text for block in blocks_of(page)]
    assert shown[:2] == [JSON_LINES.read_text(encoding="utf-8"), WRITTEN]
