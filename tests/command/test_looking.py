"""``trace``, ``top``, ``bundle`` and ``completion``."""

import os
import stat
import sys
import tarfile

import pytest

from otpylib_telemetry.admin.models.changes import Configuration, History, Section, Value
from otpylib_telemetry.admin.models.insight import (
    Actor,
    Actors,
    Explained,
    Explanation,
    MetricsBySize,
    MetricSize,
    Trace,
    Traces,
    TraceSpan,
)
from otpylib_telemetry.admin.models.state import Breaker, ExporterStatus, Ledger, Status
from otpylib_telemetry.command.frames import lines_of, measured
from otpylib_telemetry.command.main import COMMANDS, parser
from otpylib_telemetry.command.screen import Screen
from otpylib_telemetry.command.terminal import Terminal
from tests.support.operated import said
from tests.support.standin import standing_in

ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def status_with(accepted, **more):
    exporter = ExporterStatus(
        name="otel_exporter",
        state="degraded",
        ready=False,
        not_ready="its circuit breaker is open",
        ledger=Ledger(accepted=accepted, exported=accepted // 2, dropped={"queue_full": accepted // 10}),
        breaker=Breaker(state="open"),
        queue_limit=100_000,
        stats={"endpoint": "http://h", "headers": "Bearer sesame-sesame"},
    )
    return Status(
        **{"version": "1", "pid": 7, "time": 0, "ready": False, "services": [], "handlers": [], **more},
        exporters=[exporter],
    )


SPANS = [
    TraceSpan(span_id="a", name="shop.order", start_ms=0, duration_ms=100, work_ms=40, metadata={}),
    TraceSpan(
        span_id="b",
        parent_span_id="a",
        name="shop.pay",
        start_ms=50,
        duration_ms=50,
        wait_ms=25,
        work_ms=50,
        error="ValueError",
        metadata={},
    ),
]
TRACE = Trace(trace_id=ID, name="shop.order", start=0, duration_ms=100, error=True, spans=SPANS, left_out=2)
TRACES = Traces(since=0, traces=[TRACE])
ACTORS = Actors(
    instrumented=True,
    since=0,
    processes=2,
    roots=[
        Actor(
            pid="<1>",
            name="tree",
            module="Tree",
            supervisor=True,
            age=5,
            children=[
                Actor(pid="<2>", name="till", module="Till", supervisor=False, mailbox=41, age=5, crashes=2)
            ],
        )
    ],
    incidents=[],
)
METRICS = MetricsBySize(
    series=2000,
    metrics=1,
    largest=[
        MetricSize(
            exporter="prometheus_exporter",
            metric="shop_visits_total",
            kind="counter",
            series=2000,
            limit=2000,
            overflowing=False,
            labels={"country": 3},
            folded={"customer": 2000},
        )
    ],
)
SECRET = "sesame-sesame"
CONFIGURATION = Configuration(
    sections={
        "otel": Section(
            name="otel_exporter",
            section="telemetry.otel",
            generation=1,
            keys={
                "api_key": Value(value=SECRET, origin="file config.toml"),
                "token": Value(value=None, origin="default"),
                "endpoint": Value(value="http://me:sesame-sesame@host/x", origin="put"),
            },
            problems=["authorization: Bearer sesame-sesame"],
        )
    },
    files={},
)


@pytest.fixture
def api(monkeypatch, tmp_path):
    monkeypatch.delenv("TELEMETRY_ADMIN_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    answers = {
        ("GET", "/status"): status_with(100),
        ("GET", "/actors"): ACTORS,
        ("GET", "/metrics-by-size"): METRICS,
        ("GET", "/traces"): TRACES,
        ("GET", "/config"): CONFIGURATION,
        ("GET", "/history"): History(entries=[]),
        ("GET", f"/explain/{ID}"): Explanation(
            subject=ID,
            explained=[
                Explained(name="otel_exporter", takes=True, answers=["sampled: 1.0", "it was exported"])
            ],
        ),
        ("GET", "/explain/event/shop.visit"): Explanation(
            subject="shop.visit",
            explained=[Explained(name="otel_exporter", takes=False, answers=["no pattern matches"])],
        ),
    }
    with standing_in(answers) as found:
        yield found


def asked(api, *arguments):
    return said(*arguments, "--url", api.url)


class TestTrace:
    def test_what_waited_and_what_failed(self, api):
        lines = asked(api, "trace", ID).out.splitlines()
        assert lines[1:4] == [
            f"shop.order |{'#' * 40}| 100 ms, own 40 ms",
            f"  shop.pay |{' ' * 10}{'.' * 10}{'#' * 20}| 50 ms, waited 25 ms ValueError",
            "... 2 more",
        ]

    def test_one_that_nobody_recorded_and_nobody_takes(self, api):
        api.answers["GET", "/traces"] = Traces(since=0, traces=[])
        api.answers["GET", f"/explain/{ID}"] = Explanation(subject=ID, explained=[])
        assert asked(api, "trace", ID, "--wait", "1ms").status == 1
        found = asked(api, "trace", "--wait", "1ms")
        assert (found.status, found.out) == (1, "no trace has ended since they are recorded: ask again\n")

    @pytest.mark.parametrize("name", ["", "abc", ID[:-1], f"{ID}0", "g" * 32])
    def test_wrong_use(self, api, name):
        assert asked(api, "trace", name).status == 2


def picture(at, accepted):
    return {
        "at": at,
        "status": status_with(accepted).model_dump(),
        "actors": ACTORS.model_dump(),
        "metrics-by-size": METRICS.model_dump(),
        "traces": TRACES.model_dump(),
    }


class TestTop:
    def test_rates_are_those_between_two_pictures(self):
        found = measured(picture(10.0, 100), picture(12.0, 300))
        exporter = found["exporters"][0]
        assert [exporter[f"{each}_per_second"] for each in ("accepted", "exported", "dropped")] == [
            100,
            50,
            10,
        ]
        # Restarted, it counts from 0.
        assert measured(picture(10.0, 300), picture(12.0, 0))["exporters"][0]["accepted_per_second"] == 0
        assert [each["name"] for each in found["operations"]] == ["shop.order", "shop.pay"]
        assert found["mailboxes"][0]["mailbox"] == 41
        assert found["metrics"][0]["folded"] == {"customer": 2000}

    def test_a_picture_fits_the_terminal(self, capsys):
        found = measured(picture(0.0, 0), picture(1.0, 1000))
        for columns, lines in [(80, 24), (30, 8), (5, 2), (300, 100)]:
            shown = lines_of(Screen(sys.stdout), found, os.terminal_size((columns, lines)))
            assert len(shown) <= lines
            assert all(len(line) <= max(columns, 30) for line in shown)

    def test_what_waits_and_what_was_folded(self, api):
        found = asked(api, "top", "--interval", "10ms")
        lines = [" ".join(line.split()) for line in found.out.splitlines()]
        assert "till 41 2 0 5 s" in lines
        assert "shop.pay 1 50 ms 50 ms 25 ms 1" in lines
        assert "shop_visits_total 2,000 2,000 prometheus_exporter country 3, customer 2,000 (folded)" in lines

    def test_an_application_that_does_not_tell_everything(self, api):
        for path in ("/actors", "/metrics-by-size", "/traces"):
            del api.answers["GET", path]
        found = asked(api, "top", "--interval", "1ms")
        assert found.status == 0
        assert "MAILBOX" not in found.out

    def test_keys_that_end_it_and_others(self, tmp_path):
        read, write = os.pipe()
        with os.fdopen(read) as keys, (tmp_path / "out").open("w") as output:
            terminal = Terminal(output, keys, is_live=False)
            terminal._gives_keys = True
            for pressed, ends in [(b"x", False), (b"\x1b[A", False), (b"q", True), (b"\x1b", True)]:
                os.write(write, pressed)
                assert terminal.waits_for_key(0.05) is ends, pressed
            os.close(write)
            assert terminal.waits_for_key(0.05)


class TestBundle:
    def test_a_file_that_is_there_is_replaced_and_private_and_a_link_is_not_followed(self, api, tmp_path):
        (tmp_path / "help.tar.gz").write_text("mine")
        (tmp_path / "help.tar.gz").chmod(0o644)
        (tmp_path / "elsewhere").write_text("stays")
        (tmp_path / "link.tar.gz").symlink_to("elsewhere")
        for name in ("help.tar.gz", "link.tar.gz"):
            assert asked(api, "bundle", "--output", name).status == 0
            found = tmp_path / name
            assert (found.is_symlink(), stat.S_IMODE(found.stat().st_mode)) == (False, 0o600)
            assert tarfile.is_tarfile(found)
        assert (tmp_path / "elsewhere").read_text() == "stays"
        assert not list(tmp_path.glob(".telemetry-*"))

    def test_the_token_is_not_in_it(self, api, tmp_path, monkeypatch):
        monkeypatch.setenv("TELEMETRY_ADMIN_TOKEN", "0123456789abcdef0123")
        api.answers["GET", "/history"] = 200, {"entries": ["Bearer 0123456789abcdef0123"]}
        found = asked(api, "bundle", "--json").json
        assert found["missing"] == {}
        with tarfile.open(tmp_path / found["file"]) as archive:
            assert b"0123456789abcdef" not in b"".join(archive.extractfile(each).read() for each in archive)

    def test_what_cannot_be_had_is_said(self, api):
        del api.answers["GET", "/actors"]
        found = asked(api, "bundle")
        assert found.status == 1
        assert "actors.json is missing: " in found.out

    def test_where_it_cannot_be_written(self, api):
        found = asked(api, "bundle", "--output", "no/such/help.tar.gz")
        assert found.status == 2
        assert "--output: no/such/help.tar.gz cannot be written: " in found.err


def test_every_command_says_what_it_is_for(capsys):
    for command in COMMANDS:
        assert command.HELP
        assert command.DESCRIPTION.endswith(".") or command.NAME == "completion"
    assert parser().format_help()
