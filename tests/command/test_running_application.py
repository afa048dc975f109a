"""Every command that asks an application, as a user runs it, against one real program.

It has exporters whose collectors live, stall and are dead, a page for Prometheus, actors, the API on a socket
and on a port with a token.

What a shell runs is a process of its own, once for each command; the rest runs in this one.
"""

import json
import os
import re
import shutil
import signal
import socket
import stat
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest

from otpylib_telemetry.admin.models.changes import Changed, Configuration, History, Reloaded
from otpylib_telemetry.admin.models.insight import Explained, Trace
from otpylib_telemetry.admin.models.state import BreakerReset, FlushedAll, Status
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, Hang, HttpReceiver
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.command.running import command
from tests.support import programs
from tests.support.operated import ADMIN, environment, operated, said
from tests.support.terminal import PseudoTerminal
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

TOKEN = "0123456789abcdef0123"
SECRET = "sesame-sesame"
CONFIGURATION = f"""
[telemetry.otel]
endpoint = "LIVING"
api_key = "{SECRET}"
flush_interval = 0.1
retry_attempts = 1

[telemetry.dead]
kind = "otel"
endpoint = "DEAD"
flush_interval = 0.1
retry_attempts = 1
failure_threshold = 2
reset_timeout = 3000
shutdown_timeout = 0.2
metrics = false
logs = false

[telemetry.stalled]
kind = "otel"
endpoint = "STALLED"
protocol = "http/protobuf"
timeout = 3000
shutdown_timeout = 0.2
event_patterns = ["shop.*"]
metrics = false
logs = false

[telemetry.prometheus]
port = 0
max_series = 50
flush_interval = 0.1

[telemetry.instrument]
enabled = true

[telemetry.mock]
retry_attempts = "many"

{ADMIN}port = 0
token = "${{TELEMETRY_ADMIN_TOKEN}}"
"""
EXPORTERS = [f"{name}_exporter" for name in ("dead", "mock", "otel", "prometheus", "stalled")]


def states(app):
    found = said("--socket", app.socket, "status", "--json").json
    return {each["name"]: each["state"] for each in found["exporters"]}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    directory = tmp_path_factory.mktemp("app")
    with GrpcReceiver() as living, HttpReceiver() as stalled:
        stalled.default = Hang()
        text = CONFIGURATION.replace("LIVING", living.endpoint).replace("STALLED", stalled.endpoint)
        text = text.replace("DEAD", f"http://127.0.0.1:{free_port()}")
        with operated(directory, text, TELEMETRY_ADMIN_TOKEN=TOKEN) as found:
            found.living = living
            wait_until(
                lambda: sorted(states(found)) == EXPORTERS and "starting" not in states(found).values()
            )
            yield found
            stalled.release()


@pytest.fixture(autouse=True)
def _in_its_directory(app, monkeypatch):
    """The command finds the application by its configuration."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "TELEMETRY_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(app.directory)


def typed(app, *arguments, good=True):
    """Run the command as a shell does; what it writes."""
    done = command(*map(str, arguments), cwd=app.directory)
    assert done.returncode == (0 if good else 1), done
    assert "\x1b" not in done.stdout
    return done.stdout


def status():
    return {each.name: each for each in Status.model_validate(said("status", "--json").json).exporters}


def value(path):
    section, _, key = path.partition(".")
    found = Configuration.model_validate(said("config", path, "--json").json)
    return found.sections[section].keys[key]


def url_of(app):
    found = Status.model_validate(said("--socket", app.socket, "status", "--json").json)
    return next(each.stats["url"] for each in found.services if each.name == "telemetry_admin")


def words(text):
    return [" ".join(line.split()) for line in text.splitlines()]


class TestStatus:
    def test_it_says_how_everything_does(self, app):
        app.do("sell", 3)
        wait_until(lambda: status()["dead_exporter"].breaker.state == "open")
        out = typed(app, "status", good=False)
        assert f"process {app.process.pid}, otpylib-telemetry " in out
        assert "not ready\n" in out
        assert re.search(r"^dead_exporter +running +open +[\d,]+/100,000 ", out, re.MULTILINE)
        assert re.search(r"^stalled_exporter +running +closed +[1-9][\d,]*/100,000 ", out, re.MULTILINE)
        assert "\ndead_exporter: not ready: its circuit breaker is open: UNAVAILABLE" in out
        assert re.search(r"^telemetry_admin +running", out, re.MULTILINE)
        assert sorted(status()) == EXPORTERS
        assert said("--json", "status").json.keys() == said("status", "--json").json.keys()

    def test_over_a_port_with_the_token_with_another_and_with_none(self, app, monkeypatch):
        url = url_of(app)
        found = said("status", "--url", url)
        assert f"the application at {url} asks for a token: put its telemetry.admin.token into" in found.err
        monkeypatch.setenv("TELEMETRY_ADMIN_TOKEN", "another")
        found = said("--json", "--url", url, "status")
        assert (found.status, found.json["problem"]["status"]) == (1, 401)
        assert f"the token is not that of the application at {url}" in found.err
        assert found.json["error"] in found.err
        monkeypatch.setenv("TELEMETRY_ADMIN_TOKEN", TOKEN)
        assert "telemetry_admin" in said("--url", url, "status").out
        assert "telemetry_admin" in said("status", "--url", f"{url}/").out


class TestConfig:
    def test_it_says_where_values_are_from_and_shows_no_secret(self, app):
        out = typed(app, "config")
        assert re.search(r"^prometheus\.max_series +50 +file \S+config\.toml$", out, re.MULTILINE)
        assert re.search(r"^mock\.batch_size +100 +default$", out, re.MULTILINE)
        assert re.search(r'^otel\.api_key +"<redacted>" +file ', out, re.MULTILINE)
        assert "refused: telemetry.mock.retry_attempts ('many', a string)" in out
        assert SECRET not in out + said("config", "--json").out
        assert TOKEN not in out + said("config", "--json").out

    @pytest.mark.parametrize("pattern", ["prometheus", "telemetry.prometheus", "prometheus.m*"])
    def test_of_some_keys(self, pattern):
        found = Configuration.model_validate(said("config", pattern, "--json").json).sections
        assert found["prometheus"].keys["max_series"].value == 50
        assert found["mock"].keys == {}

    def test_without_the_defaults(self):
        lines = said("config", "--set").out.splitlines()
        assert any(line.startswith("prometheus.max_series") for line in lines)
        assert not any(line.endswith("default") for line in lines)
        # That nothing is set is no mistake.
        assert said("config", "otel.batch_size", "--set").status == 0

    @pytest.mark.parametrize(
        ("pattern", "hint"), [("otel.sampling_rat", "otel.sampling_rate"), ("prometeus", "prometheus")]
    )
    def test_of_a_key_that_is_none(self, pattern, hint):
        found = said("config", pattern)
        assert (found.status, found.out) == (1, "")
        assert found.err == (
            f"otpylib-telemetry config: no key matches '{pattern}': the sections in use are admin, dead, "
            f"instrument, mock, otel, prometheus, stalled; did you mean {hint}?\n"
        )


class TestChanges:
    def test_for_a_while_and_taken_back(self, app):
        out = words(typed(app, "set", "telemetry.otel.batch_size", "50", "--for", "10m"))
        assert out[0] == "otel.batch_size: 100 -> 50"
        assert re.fullmatch(r"it takes itself back at \d\d:\d\d:\d\d, in (10m00s|9m5\ds)", out[1])
        assert re.fullmatch(r"in force \(generation \d+\)", out[2])
        assert value("otel.batch_size").value == 50
        assert value("otel.batch_size").origin.startswith("api by ")
        assert "takes itself back at" in said("history", "otel", "--last", "1").out
        found = said("set", "otel.batch_size", "--take-back", "--json")
        assert Changed.model_validate(found.json).outcome == "applied"
        assert value("otel.batch_size").origin == "default"
        assert said("set", "otel.batch_size", "60", "--for", "200ms").status == 0
        wait_until(lambda: value("otel.batch_size").value == 100)

    def test_a_dry_run_changes_nothing_and_tries_the_destination(self, app):
        wanted = f"http://127.0.0.1:{free_port()}"
        found = said("set", "otel.endpoint", wanted, "--dry-run")
        assert found.status == 1
        assert f'otel.endpoint: "{app.living.endpoint}" -> "{wanted}"' in found.out
        assert "otel, the new destination: it does not answer: " in found.out
        assert "Connection refused" in found.out
        assert found.out.endswith("dry run: this would wait until the new destination answers\n")
        with GrpcReceiver() as other:
            found = said("set", "otel.endpoint", other.endpoint, "--dry-run", "--json")
        assert found.status == 0
        told = Changed.model_validate(found.json)
        assert (told.outcome, told.probes["otel"].ok) == ("would_apply", True)
        assert value("otel.endpoint").value == app.living.endpoint

    def test_a_destination_that_does_not_answer_waits_and_what_was_goes_on(self, app):
        wanted = f"http://127.0.0.1:{free_port()}"
        found = said("set", "otel.endpoint", wanted)
        assert found.status == 1
        assert "an empty request to the new destination of traces (grpc, " in found.out
        assert re.search(
            r"^accepted, and not in force: what was goes on \(generation \d+\)$", found.out, re.MULTILINE
        )
        assert words(said("config", "otel.endpoint").out)[1:] == [
            f'otel.endpoint "{app.living.endpoint}" file {app.file}',
            f'wanted "{wanted}" not in force',
        ]
        before = len(app.living.spans)
        app.do("sell", 2)
        assert said("flush", "otel").status == 0
        wait_until(lambda: len(app.living.spans) == before + 4)
        assert said("set", "otel.endpoint", "--take-back").status == 0
        assert not value("otel.endpoint").pending

    def test_what_is_refused_is_told_with_everything_that_is_wrong(self, app):
        before = said("history", "otel", "--json").json["entries"]
        found = said("set", "otel.sampling_rate", "5", "otel.timeout", "-1", "otel.batch_size", "9")
        assert (found.status, found.out) == (1, "")
        first, second = found.err.splitlines()
        assert first.startswith(
            "otpylib-telemetry set: telemetry.otel.sampling_rate (5, an integer) set through"
        )
        assert second.startswith("telemetry.otel.timeout (-1, an integer) set through the API")
        assert value("otel.batch_size").value == 100
        [entry] = said("history", "otel", "--json").json["entries"][len(before) :]
        assert (entry["outcome"], entry["changes"].keys()) == (
            "rejected",
            {"batch_size", "sampling_rate", "timeout"},
        )

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (
                "otel.sampling_rat",
                "telemetry.otel.sampling_rat set through the API by .* is not a known key.*sampling_rate",
            ),
            (
                "nobody.batch_size",
                "nobody.batch_size: nobody reads this; expected: a key of admin, dead, instrument",
            ),
        ],
    )
    def test_a_key_that_is_none(self, key, message):
        found = said("set", key, "0.5")
        assert (found.status, found.out) == (1, "")
        assert re.search(message, found.err), found.err

    def test_something_is_added_to_a_list(self, app):
        app.do("visit", 60)
        wait_until(lambda: status()["prometheus_exporter"].stats["labels_folded"])
        found = said("set", "prometheus.drop_labels", "customer", "--add")
        assert found.status == 0
        assert value("prometheus.drop_labels").value[-1] == "customer"
        assert "error" in value("prometheus.drop_labels").value
        assert not status()["prometheus_exporter"].stats["labels_folded"]
        found = said("set", "prometheus.max_series", "5", "--add")
        assert (found.status, found.err) == (
            2,
            "otpylib-telemetry set: --add: prometheus.max_series is no list\n",
        )
        assert said("set", "prometheus.drop_labels", "--take-back").status == 0

    def test_history_and_back_to_one_of_it(self, app):
        first = Changed.model_validate(said("set", "otel.batch_size", "70", "--json").json).generation
        said("set", "otel.batch_size", "80", "otel.metrics_interval", "90")
        out = words(typed(app, "history", "otel", "--last", "2"))
        assert out[0] == "N TIME ORIGIN OUTCOME CHANGE"
        assert re.fullmatch(rf"{first} \S+ \S+ api by .+ applied otel.batch_size: 100 -> 70", out[1])
        assert re.fullmatch(r"\d+ \S+ \S+ api by .+ applied otel.batch_size: 70 -> 80", out[2])
        assert out[3] == "otel.metrics_interval: 60.0 -> 90.0"
        assert len(History.model_validate(said("history", "--json", "--last", "1").json).entries) == 1
        assert words(typed(app, "rollback", first))[:2] == [
            "otel.batch_size: 80 -> 70",
            "otel.metrics_interval: 90.0 -> 60.0",
        ]
        assert value("otel.batch_size").value == 70
        # Before it came up there was nothing: it stays as it came up, and can be asked.
        assert said("rollback", "1").status == 0
        assert value("otel.batch_size").value == 100
        assert value("otel.endpoint").value == app.living.endpoint
        assert status()["prometheus_exporter"].state == "running"

    def test_back_to_what_is_not_kept_and_the_history_of_nobody(self):
        found = said("rollback", "4711")
        assert (found.status, found.out) == (1, "")
        assert re.fullmatch(
            r"otpylib-telemetry rollback: generation 4711 is not kept: those from 1 to \d+ are; exp.+\n",
            found.err,
        )
        assert said("rollback", "0").status == 2
        found = said("history", "nobody")
        assert (found.status, found.out) == (1, "")
        assert "no section 'nobody' is in use in this process; expected: admin, dead, instrument" in found.err
        assert said("history", "telemetry.otel").status == 0

    def test_the_file_is_read_at_once(self, app):
        text = app.file.read_text()
        sizes = iter(range(200, 300))

        def reloaded():
            # The file is watched as well: who comes first is open.
            app.file.write_text(text.replace("max_series = 50", f"max_series = {next(sizes)}"))
            return said("reload").out.endswith("\nchanged: prometheus.max_series\n")

        wait_until(reloaded)
        app.file.write_text(text)
        found = said("reload")
        told, *changed = found.out.splitlines()
        # Another value of the file is refused all the time.
        assert found.status == 1
        assert told.startswith("failed: telemetry.mock.retry_attempts ('many', a string) from ")
        assert changed in (["changed: prometheus.max_series"], [])
        assert value("prometheus.max_series").value == 50
        found = Reloaded.model_validate(said("reload", "--json").json)
        assert (found.changed, list(found.errors)) == ([], ["telemetry.mock.retry_attempts"])


class TestExporters:
    def test_flush_exports_everything_or_says_what_is_left(self, app):
        app.do("sell", 5)
        out = typed(app, "flush", "--timeout", "1s", good=False)
        assert re.search(
            r"^dead_exporter: [\d,]+ events left \(UNAVAILABLE: .*Connection refused\)$", out, re.MULTILINE
        )
        assert re.search(r"^stalled_exporter: [\d,]+ events left \(time is up\)$", out, re.MULTILINE)
        assert {"otel_exporter: nothing is left", "prometheus_exporter: nothing is left"} <= set(
            out.splitlines()
        )
        found = said("flush", "prometheus", "--json")
        assert found.status == 0
        assert FlushedAll.model_validate(found.json).exporters.keys() == {"prometheus_exporter"}

    def test_reset_closes_a_breaker_which_opens_again(self, app):
        app.do("sell", 1)
        wait_until(lambda: status()["dead_exporter"].breaker.state == "open")
        opened = status()["dead_exporter"].breaker.transitions["open"]
        assert typed(app, "reset", "dead") == "dead_exporter: the circuit breaker was open, and is closed\n"
        wait_until(lambda: status()["dead_exporter"].breaker.transitions["open"] > opened)
        found = BreakerReset.model_validate(said("reset", "otel_exporter", "--json").json)
        assert (found.exporter, found.was, found.state) == ("otel_exporter", "closed", "closed")

    @pytest.mark.parametrize("name", ["flush", "reset"])
    def test_an_exporter_that_is_none(self, name):
        found = said(name, "nobody")
        assert (found.status, found.out) == (1, "")
        assert found.err == (
            f"otpylib-telemetry {name}: no exporter 'nobody' runs in this process; "
            f"expected: {', '.join(EXPORTERS)}\n"
        )


class TestTraces:
    def recorded(self, app):
        """The traces that are recorded once somebody has asked."""
        said("trace", "--wait", "1ms")
        app.do("sell", 2)
        found = wait_until(lambda: said("trace", "--json").json["traces"])
        return [each for each in map(Trace.model_validate, found) if each.name == "shop.order"]

    def test_a_waterfall_and_what_becomes_of_it(self, app):
        trace = self.recorded(app)[0]
        lines = words(typed(app, "trace"))
        assert lines[0] == "TRACE BEGAN TOOK SPANS NAME"
        assert any(line.startswith(trace.trace_id) and line.endswith(" 2 ok shop.order") for line in lines)
        out = typed(app, "trace", trace.trace_id)
        lines = out.splitlines()
        assert lines[0].startswith(f"trace {trace.trace_id}: shop.order took ")
        assert re.fullmatch(r"shop\.order +\|#{40}\| [\d.]+ m?s, own .+", lines[1])
        assert re.fullmatch(r"  shop\.order\.pay \| *#+ *\| [\d.]+ m?s", lines[2])
        assert {"otel_exporter: takes it", "prometheus_exporter: does not take it"} <= set(lines)
        assert "  sampling keeps everything: sampling_rate = 1" in lines
        for name in (trace.trace_id.upper(), f"00-{trace.trace_id}-00f067aa0ba902b7-01"):
            found = said("trace", name, "--json").json
            assert Trace.model_validate(found["trace"]) == trace
            names = [Explained.model_validate(each).name for each in found["explained"]]
            assert names == EXPORTERS

    def test_one_that_nobody_recorded(self):
        found = said("trace", f"{1:032x}", "--wait", "1ms")
        assert "its operations are not recorded: they ended before anybody asked, or in another" in found.out
        assert said("trace", f"{1:032x}", "--wait", "1ms", "--json").json["trace"] is None

    def test_what_becomes_of_events_of_a_name(self):
        found = said("trace", "--event", "otpylib.x")
        assert found.status == 0
        assert "stalled_exporter: does not take it\n  none of its event_patterns matches: shop.*" in found.out


class TestTap:
    def tapped(self, app, *arguments):
        """Tap while the application sells."""
        program = ["-m", "otpylib_telemetry", "tap", *arguments]
        with programs.start(program, cwd=app.directory, env=environment()) as tap:
            while tap.poll() is None:
                app.do("sell", 1)
            out, err = tap.communicate(timeout=60)
        assert (tap.returncode, err) == (0, "")
        return out.splitlines()

    def test_events_as_they_come_and_no_secret(self, app):
        lines = self.tapped(app, "shop.order.*", "--count", "4")
        assert len(lines) == 4
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} shop\.order\.start .*sku=book.*", lines[0])
        assert SECRET not in "".join(lines)

    def test_a_json_object_on_each_line_until_the_interrupt_key(self, app):
        program = ["-m", "otpylib_telemetry", "tap", "shop.order.*", "--json"]
        lines = []
        with programs.start(program, cwd=app.directory, env=environment()) as tap:
            seen = threading.Event()
            reading = threading.Thread(
                target=lambda: (lines.extend(tap.stdout.readline() for _ in range(2)), seen.set())
            )
            reading.start()
            while not seen.is_set():
                app.do("sell", 1)
            tap.send_signal(signal.SIGINT)
            reading.join()
            tap.stdout.read()
            assert tap.wait(60) == 0
        assert [json.loads(line)["event_name"] for line in lines] == [
            "shop.order.start",
            "shop.order.pay.start",
        ]

    def test_it_ends_after_a_while_without_any_event(self):
        assert said("tap", "nothing.*", "--for", "100ms") == (0, "", "")


class TestTop:
    def test_in_a_terminal_that_changes_its_size(self, app):
        said("trace", "--wait", "1ms")
        app.do("crash")
        app.do("pile", 7)
        with PseudoTerminal(["top", "--interval", "100ms"], app.directory, columns=80, lines=30) as top:
            picture = top.next_picture(lambda lines: any("till" in line for line in lines))
            assert all(len(line) <= 80 for line in picture)
            assert len(picture) <= 30
            shown = "\n".join(picture)
            assert re.search(r"^dead_exporter +running +open +[\d,]+/100,000 .*\d$", shown, re.MULTILINE)
            assert "LOST/S\n" in shown
            assert re.search(r"^till +7 +1 +1 ", shown, re.MULTILINE)
            assert b"\x1b[31mopen" in top.output
            top.resize(columns=40, lines=12)
            picture = top.next_picture(lambda lines: all(len(line) <= 40 for line in lines))
            assert len(picture) <= 12
            assert picture[0].startswith(f"process {app.process.pid}")
            top.press(b"\x1b[A")  # an arrow begins as Escape does
            top.next_picture()
            top.press(b"q")
            assert top.end() == 0
        assert top.output.startswith(b"\x1b[?1049h")
        assert top.output.endswith(b"\x1b[?1049l")
        assert top.is_as_before
        app.do("sell", 1)

    def test_the_interrupt_key_in_a_very_small_one(self, app):
        with PseudoTerminal(["top", "--interval", "100ms"], app.directory, columns=20, lines=3) as top:
            assert len(top.next_picture()) <= 3
            top.press(b"\x03")
            assert top.end() == 0
        assert top.output.endswith(b"\x1b[?1049l")
        assert b"Traceback" not in top.output
        assert top.is_as_before

    def test_without_a_terminal_it_is_one_picture(self, app):
        said("trace", "--wait", "1ms")
        app.do("sell", 1)
        out = words(typed(app, "top", "--interval", "10ms"))
        assert any(re.fullmatch(r"shop\.order\.pay \d+ \S+ ms \S+ ms 0 ms 0", line) for line in out), out
        assert any(line.startswith("config_manager 0 0 0 ") for line in out)
        found = said("top", "--json", "--count", "2", "--interval", "1ms").out.splitlines()
        assert [json.loads(line)["pid"] for line in found] == [app.process.pid] * 2


def test_a_bundle_has_all_parts_and_no_secret_and_is_private(app):
    out = typed(app, "bundle", "--output", "help.tar.gz")
    assert out == "help.tar.gz: 6 parts, no secrets; look into it before it goes out\n"
    path = app.directory / "help.tar.gz"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        parts = {each.name: archive.extractfile(each).read().decode() for each in archive}
    assert sorted(parts) == [
        f"help/{name}.json" for name in ("actors", "config", "history", "metrics", "status", "versions")
    ]
    assert not [text for text in parts.values() if SECRET in text or TOKEN in text]
    found = Configuration.model_validate_json(parts["help/config.json"]).sections["otel"].keys["api_key"]
    assert (found.value, found.origin) == ("<redacted>", f"file {app.file}")
    assert Status.model_validate_json(parts["help/status.json"]).pid == app.process.pid
    assert History.model_validate_json(parts["help/history.json"]).entries
    assert "otpylib" in json.loads(parts["help/versions.json"])["command"]["packages"]


class TestSockets:
    def test_of_a_process_that_has_ended(self, tmp_path):
        path = tmp_path / "old.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
        found = said("status", "--socket", path)
        assert (found.status, found.out) == (1, "")
        assert f"the socket {path} is that of a process that has ended; the next one" in found.err

    @pytest.mark.parametrize("what", ["socket", "directory"])
    def test_one_that_this_user_may_not_use(self, what):
        """Root may do anything: it is somebody else meanwhile."""
        # pytest's own directories are of one user alone.
        directory = Path(tempfile.mkdtemp())
        directory.chmod(0o755)
        path = directory / "admin.sock"
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            (path if what == "socket" else directory).chmod(0)
            try:
                if os.geteuid() == 0:
                    os.seteuid(65534)
                found = said("status", "--socket", path)
            finally:
                if os.getuid() == 0:
                    os.seteuid(0)
                directory.chmod(0o755)
                shutil.rmtree(directory)
        assert (found.status, found.out) == (1, "")
        expected = (
            f"the socket {path} is another user's: ask as "
            if what == "socket"
            else f"this user may not look at {path}: ask as the user that the application runs as"
        )
        assert expected in found.err


def test_the_api_is_off_for_a_while_in_which_commands_watch(app):
    """Whoever switches it off through itself gets it back, if it was for a while."""
    with PseudoTerminal(["top", "--interval", "50ms"], app.directory, columns=80, lines=24) as top:
        top.next_picture()
        found = said("set", "admin.enabled", "false", "--for", "2s")
        assert (found.status, found.err) == (0, "")
        assert top.end() == 1
    # What was on the screen comes back, and below it stands why.
    _, _, why = top.output.rpartition(b"\x1b[?1049l")
    # Asyncio may have taken a connection at that moment, and never gives it to anybody.
    told = ("there is no socket", "ended the connection", "does not answer")
    assert why.startswith(b"otpylib-telemetry top: ")
    assert any(each.encode() in why for each in told), why
    assert top.is_as_before
    wait_until(lambda: said("status").out.startswith("process"))
