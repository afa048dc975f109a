"""Every message on the page about trouble is provoked, and is what the page says it is."""

import asyncio
import contextlib
import datetime as dt
import logging
import re
import socket
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from otpylib import gen_server, process

import otpylib_telemetry
import otpylib_telemetry_otel
from otpylib_telemetry import (
    TomlSource,
    attach,
    emit,
    execute,
    otp,
    poll,
    span,
    start_exporter,
)
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.config import sections
from otpylib_telemetry.config.acts import Cause
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.instrument import loguru as loguru_bridge
from otpylib_telemetry.instrument import served
from otpylib_telemetry.instrument.asgi import TelemetryMiddleware
from otpylib_telemetry.instrument.logging import LOG_EVENT, LogBridge
from otpylib_telemetry.instrument.otpylib.guarding import guarded
from otpylib_telemetry.instrument.otpylib_logger import OtpylibLogger
from otpylib_telemetry.meters import observed
from otpylib_telemetry.poller.polls import MOST_NUMBERS
from otpylib_telemetry.services.service import Applied
from otpylib_telemetry_mock import MockSettings
from otpylib_telemetry_mock.otlp_receiver import (
    Answer,
    Garbage,
    GrpcReceiver,
    GrpcStatus,
    Hang,
    HttpReceiver,
    HttpStatus,
    PartialSuccess,
    Tls,
)
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel import errors
from otpylib_telemetry_otel.destinations import transport
from otpylib_telemetry_otel.distro import Configurator
from otpylib_telemetry_otel.otlp.credentials import CredentialsError, Files, Watched
from otpylib_telemetry_otel.otlp.services import TRACES
from otpylib_telemetry_otel.presets import DatadogExporter
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.project.test_docs import blocks_of
from tests.support.certificates import Authority
from tests.support.chassis import runner
from tests.support.destinations import destination_of
from tests.support.runtime import running_runtime
from tests.support.waiting import eventually

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "operate" / "troubleshooting.md"
SETTINGS = {"otel": OtelSettings, "prometheus": PrometheusSettings, "mock": MockSettings}
#: What stands between single angle quotation marks.
VARIABLE = re.compile("\u2039[^\u203a\n]+\u203a")
QUICK = {"flush_interval": 0.02, "retry_attempts": 0, "shutdown_timeout": 0.3, "logs": False}

provocations = {}


def provokes(heading):
    """Say which section of the page an async generator provokes; it is left when that was heard."""

    def register(function):
        assert heading not in provocations, heading
        provocations[heading] = contextlib.asynccontextmanager(function)
        return function

    return register


class Stage:
    """What a provocation has to do with.

    Attributes:
        told: What was said elsewhere than in the log.
    """

    def __init__(self, caplog, monkeypatch, directory):
        self.told = []
        self.caplog = caplog
        self.monkeypatch = monkeypatch
        self.directory = directory
        self.config = directory / "config.toml"

    def heard(self):
        return [*self.caplog.messages, *self.told]

    def tell(self, error):
        self.told.append(str(error))

    def configure(self, section, environ=None, **values):
        """Resolve a section, and tell what is wrong with it."""
        found = resolve(SETTINGS[section], f"telemetry.{section}", environ=environ or {}, config=values)
        self.told += [problem.message for problem in found.problems]

    @contextlib.asynccontextmanager
    async def otel(self, **settings):
        async with running_runtime():
            await otpylib_telemetry_otel.start_otel_exporter({**QUICK, **settings})
            await self.started("otel_exporter")
            yield

    async def started(self, name):
        await eventually(lambda: runner(name).lifecycle.health.status != "starting")

    async def stats(self, name):
        return await otp.safe_call(name, ("get_stats",))


def emit_operation(number=0):
    execute("shop.sale.start", {}, {"span_id": f"{number + 1:016x}", "trace_id": "5" * 32})
    execute("shop.sale.stop", {}, {"span_id": f"{number + 1:016x}", "trace_id": "5" * 32})


def http(url, timeout=2.0):
    """A connection of the kind the exporter has."""
    settings = OtelSettings(endpoint=url, protocol="http/protobuf", timeout=timeout)
    return transport(settings.connection("traces"), TRACES)


async def refused_by(stage, transport):
    try:
        await asyncio.to_thread(transport.send, b"")
    except Exception as error:
        stage.tell(error)
    finally:
        transport.close()


# --- the page --------------------------------------------------------------------------------------------


def messages_by_section():
    """Heading to the messages below it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    headings = [(number, line[4:]) for number, line in enumerate(lines, 1) if line.startswith("### ")]
    found = {heading: [] for _, heading in headings}
    for block in blocks_of(PAGE):
        assert block.language == "text", block
        owner = [heading for number, heading in headings if number < block.line][-1]
        found[owner].append(block.text.rstrip("\n"))
    return found


SECTIONS = messages_by_section()


def as_pattern(message):
    """What is between angle quotation marks differs; everything else is as printed."""
    return re.compile(r"[^\n]+?".join(map(re.escape, VARIABLE.split(message))))


def test_every_section_has_a_message_and_every_message_is_provoked():
    assert {heading: messages for heading, messages in SECTIONS.items() if not messages} == {}
    assert set(SECTIONS) == set(provocations)
    assert sum(map(len, SECTIONS.values())) >= 50


@pytest.mark.parametrize("message", [each for messages in SECTIONS.values() for each in messages])
def test_most_of_a_message_is_its_own_words(message):
    """A page that said no more than that something is printed would always be right."""
    assert len(re.findall(r"\w+", VARIABLE.sub("", message))) >= 2
    assert len(VARIABLE.findall(message)) <= 8


@pytest.mark.parametrize("heading", SECTIONS)
async def test_what_is_printed_is_what_the_page_says(
    heading, caplog, monkeypatch, tmp_path, background_errors
):
    caplog.set_level(logging.INFO, logger="otpylib_telemetry")
    stage = Stage(caplog, monkeypatch, tmp_path)
    missing = [as_pattern(message) for message in SECTIONS[heading]]

    def all_heard():
        missing[:] = [each for each in missing if not any(map(each.fullmatch, stage.heard()))]
        return not missing

    async with provocations[heading](stage):
        with contextlib.suppress(AssertionError):
            await eventually(all_heard, timeout=60)
    all_heard()
    assert [each.pattern for each in missing] == [], "\n".join(stage.heard())


# --- when the application starts -------------------------------------------------------------------------


@provokes("A wrong start argument")
async def _(stage):
    with pytest.raises(ValueError, match="refused") as refused:
        otpylib_telemetry_otel.child_spec({"batch_size": 0, "servce_name": "shop"})
    stage.tell(refused.value)
    yield


@provokes("An exporter nobody registered")
async def _(stage):
    for name in ("zipkin", "instrumnt"):
        with pytest.raises(ValueError, match="registered") as refused:
            otpylib_telemetry.child_spec({name: {}})
        stage.tell(refused.value)
    yield


@provokes("It is up")
async def _(stage):
    async with stage.otel(endpoint="http://127.0.0.1:1", logs=True):
        await start_prometheus_exporter({"port": 0})
        await stage.started("prometheus_exporter")
        yield


# --- configuration ---------------------------------------------------------------------------------------


@provokes("Declarative configuration")
async def _(stage):
    stage.monkeypatch.setenv("OTEL_CONFIG_FILE", "otel.yaml")
    Configurator().configure()
    yield


@provokes("Auto-instrumentation lacks a package")
async def _(stage):
    for signal, exporter in (("METRICS", "prometheus"), ("TRACES", "none"), ("LOGS", "none")):
        stage.monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", exporter)
    for missing in ("otpylib_telemetry_prometheus.exporter", "otpylib_telemetry_otel.exporter"):
        stage.monkeypatch.setitem(sys.modules, missing, None)
        Configurator().configure()
    yield


@provokes("A change that overrides another")
async def _(stage):
    now = [0.0]
    live = LiveConfig(SETTINGS["otel"], "telemetry.otel", {}, {}, monotonic=lambda: now[0])
    for values in ({"sampling_rate": 0.5, "api_key": "put"}, {"sampling_rate": 0.25, "api_key": "sent"}):
        live.change(values, Cause(values["api_key"]))
    live.change({"sampling_rate": 1.0}, Cause("api", "ada", 600.0))
    now[0] = 601.0
    live.revert_due()
    stage.told += [text for _, text in live.news()]
    yield


@provokes("A value is refused")
async def _(stage):
    stage.configure("otel", sampling_rate=1.5)
    stage.configure("otel", headers={"x!y": "1", "x-tenant": "shop"}, resource={"a": 1, "": 2})
    live = LiveConfig(OtelSettings, "telemetry.otel", {"headers": {"x-tenant": "shop", "x-other": "1"}}, {})
    live.change({"headers": {"x-tenant": "two\nlines", "x-other": "2"}})
    stage.told += [problem.message for problem in live.resolution.problems]
    yield


@provokes("The metrics are not served, or not pushed")
async def _(stage):
    stage.configure("prometheus", basic_auth="no colon")
    stage.configure("prometheus", push_url="http://name@gateway:9091")
    stage.configure("prometheus", basicauth="scraper:secret")
    yield


@provokes("Settings that do not go together")
async def _(stage):
    stage.configure("otel", protocol="grpc", compression="deflate", client_key="/etc/ssl/key.pem")
    yield


@provokes("An address of Jaeger's own protocol")
async def _(stage):
    stage.configure("otel", endpoint="http://jaeger:14268/api/traces")
    yield


@provokes("gRPC with a path")
async def _(stage):
    stage.configure("otel", endpoint="http://collector:4318/v1/traces")
    yield


@provokes("Changed settings")
async def _(stage):
    stage.caplog.set_level(logging.INFO, "otpylib_telemetry")
    async with stage.otel(endpoint=f"http://127.0.0.1:{free_port()}"):
        emit_operation()
        await eventually(lambda: any("cannot export" in message for message in stage.heard()))
        await gen_server.cast("otel_exporter", ("config_changed", "telemetry.otel.reset_timeout", None, 8.0))
        await eventually(lambda: any("goes by changed settings" in message for message in stage.heard()))
    async with stage.otel(exporter="console"):
        for key, value in (("batch_size", 7), ("enabled", False)):
            await gen_server.cast("otel_exporter", ("config_changed", f"telemetry.otel.{key}", None, value))
            await eventually(lambda key=key: any(key in message for message in stage.heard()))
        yield


@provokes("A key nobody knows")
async def _(stage):
    stage.configure("otel", endpiont="http://collector:4317")
    yield


@provokes("A section nobody reads")
async def _(stage):
    stage.config.write_text(
        'telemetry.prometheus = 5\n[telemetry.otell]\nservice_name = "shop"\n'
        '[telemetry."eu west"]\nkind = "otel"\n'
    )
    source = TomlSource(stage.config)
    source.refresh()
    sections.report()
    yield


@provokes("An environment variable that is not set")
async def _(stage):
    stage.config.write_text('[telemetry.otel]\napi_key = "${OTLP_API_KEY}"\n')
    TomlSource(stage.config, environ={}).refresh()
    yield


@provokes("The file cannot be used")
async def _(stage):
    good = '[telemetry.otel]\nservice_name = "shop"\n'
    source = TomlSource(stage.config)
    source.refresh()
    deep = "list = " + "[" * 99 + "]" * 99
    for text in (good, '[telemetry.otel\nservice_name = "shop"\n', good, f"{good}[app]\n{deep}\n"):
        stage.config.write_text(text)
        source.refresh()
    yield


# --- an exporter does not work ---------------------------------------------------------------------------


@provokes("Idle: no endpoint")
async def _(stage):
    async with stage.otel():
        yield


@provokes("Idle: no key")
async def _(stage):
    async with running_runtime():
        await otpylib_telemetry.start_exporter(DatadogExporter)
        yield


@provokes("Disabled")
async def _(stage):
    async with stage.otel(enabled=False):
        stage.told.append((await stage.stats("otel_exporter"))["reason"])
        yield


@provokes("Degraded")
async def _(stage):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with running_runtime():
            await start_prometheus_exporter({"port": taken.getsockname()[1]})
            await eventually(lambda: any("is degraded" in each for each in stage.heard()))
            taken.close()
            await eventually(lambda: any("works again" in each for each in stage.heard()))
            settings = {"host": "192.0.2.1", "max_series": 7}
            await gen_server.cast(
                "prometheus_exporter", ("config_changed", "telemetry.prometheus", {}, settings)
            )
            yield


@provokes("A package is missing")
async def _(stage):
    with pytest.raises(errors.BackendUnavailableError) as refused:
        destination_of(OtelSettings(exporter="azure_monitor"))
    stage.tell(refused.value)
    yield


class Entry:
    name, value = "gcp_trace", "somewhere:Exporter"

    def __init__(self, made):
        self.made = made

    def load(self):
        return self.made


def without_credentials():
    raise LookupError("no credentials were found")


@provokes("A package cannot be used")
async def _(stage):
    stage.monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry(without_credentials)])
    with pytest.raises(errors.BackendUnavailableError) as refused:
        destination_of(OtelSettings(exporter="gcp_trace"))
    stage.tell(refused.value)
    yield


@provokes("A certificate or key file")
async def _(stage):
    authority = Authority(stage.directory / "authority")
    yesterday = dt.timedelta(days=-1)
    one, expired = authority.issue(), authority.issue(2 * yesterday, yesterday)
    empty = stage.directory / "empty.pem"
    empty.touch()
    followed = stage.directory / "ca.pem"
    followed.write_bytes(authority.certificate.read_bytes())
    watched = Watched(Files(str(followed)))
    followed.write_text("-----BEGIN CERTIFICATE-----\n")
    watched.renewed()
    for files in (
        Files("/nowhere/ca.pem"),
        Files(str(empty)),
        Files(client_key=str(expired.key), client_certificate=str(one.certificate)),
        Files(client_key=str(expired.key), client_certificate=str(expired.certificate)),
    ):
        try:
            Watched(files)
        except CredentialsError as error:
            stage.tell(error)
    yield


class Detector:
    def detect(self):
        raise OSError("no route to the metadata service")


@provokes("A resource detector is left out")
async def _(stage):
    stage.monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry(Detector)])
    plugins.detect_resource(["gcp_trace"], {})
    yield


async def reason_of_prometheus(stage, **settings):
    await start_prometheus_exporter(settings)
    await stage.started("prometheus_exporter")
    stage.told.append((await stage.stats("prometheus_exporter"))["reason"].removeprefix("EndpointError: "))


@provokes("The metrics port is taken")
async def _(stage):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with running_runtime():
            await reason_of_prometheus(stage, port=taken.getsockname()[1])
            yield


@provokes("The metrics host is not of this machine")
async def _(stage):
    async with running_runtime():
        await reason_of_prometheus(stage, host="192.0.2.1", port=9464)
        yield


# --- the backend does not take it ------------------------------------------------------------------------


@provokes("The backend cannot be reached")
async def _(stage):
    with GrpcReceiver() as receiver:
        receiver.script(GrpcStatus("UNAVAILABLE"), GrpcStatus("ABORTED"))
        async with stage.otel(endpoint=receiver.endpoint):
            emit_operation()
            yield


@provokes("Connection refused")
async def _(stage):
    await refused_by(stage, http(f"http://127.0.0.1:{free_port()}/v1/traces"))
    async with stage.otel(endpoint=f"http://127.0.0.1:{free_port()}"):
        emit_operation()
        await eventually(lambda: any("cannot export" in each for each in stage.heard()))
        stage.told.append(runner("otel_exporter").sender.reports.trouble)
        yield


@provokes("A proxy is in the way")
async def _(stage):
    for proxy in (f"http://127.0.0.1:{free_port()}", "ftp://127.0.0.1:1"):
        stage.monkeypatch.setenv("http_proxy", proxy)
        await refused_by(stage, http("http://collector.invalid:4318"))
    yield


@provokes("No answer in time")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.script(Hang())
        await refused_by(stage, http(f"{receiver.endpoint}/v1/traces", timeout=0.1))
        receiver.release()
    yield


@provokes("The backend does not want it")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.always(HttpStatus(400, message="no such field"))
        async with stage.otel(endpoint=receiver.endpoint, protocol="http/protobuf"):
            emit_operation()
            yield


@provokes("The destination is a wrong one")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.always(HttpStatus(401, message="who are you?"))
        async with stage.otel(endpoint=receiver.endpoint, protocol="http/protobuf"):
            emit_operation()
            yield


@provokes("The new destination is not used")
async def _(stage):
    with HttpReceiver() as receiver, HttpReceiver() as wrong:
        wrong.always(HttpStatus(401))
        async with stage.otel(endpoint=receiver.endpoint, protocol="http/protobuf"):
            path = "telemetry.otel.endpoint"
            await gen_server.cast("otel_exporter", ("config_changed", path, None, wrong.endpoint))
            yield


@provokes("It redirects")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.script(HttpStatus(302, headers={"Location": "https://login.example.com/"}))
        await refused_by(stage, http(f"{receiver.endpoint}/v1/traces"))
    yield


@provokes("The answer does not look like OTLP")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.always(Answer(b"It works!", "text/plain"))
        async with stage.otel(endpoint=receiver.endpoint, protocol="http/protobuf"):
            emit_operation()
            yield


@provokes("Not the protocol that was expected")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.script(Garbage())
        await refused_by(stage, http(f"{receiver.endpoint}/v1/traces"))
        await refused_by(stage, http(f"{receiver.endpoint}/v1/traces".replace("http://", "https://")))
    yield


@provokes("The server's certificate is not accepted")
async def _(stage):
    issued = Authority(stage.directory / "authority").issue()
    with HttpReceiver(tls=Tls(issued.certificate, issued.key)) as receiver:
        await refused_by(stage, http(f"https://127.0.0.1:{receiver.port}/v1/traces"))
    yield


@provokes("Some items are refused")
async def _(stage):
    with GrpcReceiver() as receiver:
        receiver.always(PartialSuccess(1, "too old"))
        async with stage.otel(endpoint=receiver.endpoint):
            emit_operation()
            yield


@provokes("Some items cannot be encoded")
async def _(stage):
    with GrpcReceiver() as receiver:
        async with stage.otel(endpoint=receiver.endpoint):
            context = SpanContext(2**130, 7, is_remote=False)
            api_spans.offer("otel_exporter", ReadableSpan("shop.sale", context, start_time=1, end_time=2))
            yield


@provokes("Logs are not taken")
async def _(stage):
    with HttpReceiver() as receiver:
        receiver.script(HttpStatus(404))
        async with stage.otel(endpoint=receiver.endpoint, protocol="http/protobuf", logs=True):
            execute("shop.note", {}, {"text": "hello"})
            await eventually(lambda: any("takes no logs" in each for each in stage.heard()))
    # An address for traces alone, from which none for logs follows.
    stage.monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4318/spans")
    async with stage.otel(protocol="http/protobuf", logs=True):
        yield


# --- events are missing ----------------------------------------------------------------------------------


@provokes("Dropped")
async def _(stage):
    async with stage.otel(endpoint=f"http://127.0.0.1:{free_port()}", queue_limit=10):
        for number in range(50):
            emit_operation(number)
        yield


@provokes("Left at the end")
async def _(stage):
    async with stage.otel(endpoint=f"http://127.0.0.1:{free_port()}"):
        emit_operation()
        await otp.safe_call("otel_exporter", ("drain", 1.0))
        # What is registered with atexit; it says nothing that was said before.
        registry.find("otel_exporter").left_reported = 0
        registry._say_what_was_left()
        yield


@provokes("Nothing is left")
async def _(stage):
    async with running_runtime():
        await start_prometheus_exporter({"port": 0})
        await stage.started("prometheus_exporter")
        await otp.safe_call("prometheus_exporter", ("drain", 5.0))
        yield


@provokes("An event was not emitted")
async def _(stage):
    await attach("all", "*", lambda *_: None)
    await emit(42, {}, {})
    yield


@provokes("A span is entered twice")
async def _(stage):
    await attach("all", "*", lambda *_: None)
    shared = span("shop.sale")
    async with shared, shared:
        pass
    yield


@provokes("A handler fails")
async def _(stage):
    failures = [OSError("disk full")]

    def write(*_):
        if failures:
            raise failures.pop()

    await attach("audit", "shop.*", write)
    execute("shop.sale", {}, {})
    execute("shop.sale", {}, {})
    yield


@provokes("A request is told of without a part")
async def _(stage):
    served._said.clear()
    await attach("all", "*", lambda *_: None)

    async def application(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    wrapped = TelemetryMiddleware(application, exclude=lambda path: path[99], route=lambda scope: scope["no"])
    for path in ("/", "/"):
        scope = {"type": "http", "path": path, "method": "GET", "headers": [], "client": 5}
        await wrapped(scope, None, lambda _message: asyncio.sleep(0))
    yield


@provokes("A poll fails")
async def _(stage):
    works = False

    def queue():
        if not works:
            raise KeyError("no queue")
        return 1

    stage.caplog.set_level(logging.INFO, "otpylib_telemetry")
    stage.monkeypatch.setenv("TELEMETRY_POLLER_INTERVAL", "0.02")
    stage.monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 0.05)
    poll("shop.queue", queue)
    async with stage.otel(exporter="console"):
        await eventually(lambda: any("shop.queue failed" in message for message in stage.heard()))
        # At once: the longer it fails, the more seldom it is tried.
        works = True
        poll("shop.orders", lambda: [(1, {})] * (MOST_NUMBERS + 1))
        yield


@provokes("What is observed cannot be used")
async def _(stage):
    observed.observe("shop", lambda _exporter: 1 / 0)
    async with stage.otel(exporter="console"):
        await otp.safe_call("otel_exporter", ("flush", 5.0))
        yield


@provokes("A service cannot do as its section says")
async def _(stage):
    def fail(_self, _settings):
        raise OSError("no room")

    stage.monkeypatch.setattr(Applied, "apply", fail)
    stage.monkeypatch.setenv("TELEMETRY_INSTRUMENT_ENABLED", "true")
    async with stage.otel(exporter="console"):
        yield


@provokes("A filter of the logging bridge fails")
async def _(_stage):
    await attach("records", LOG_EVENT, lambda *_: None)
    bridge = LogBridge()
    bridge.addFilter(lambda record: record.msg["secret"])
    bridge.handle(logging.makeLogRecord({"name": "shop", "msg": "open"}))
    yield


@provokes("The filter of the loguru bridge fails")
async def _(_stage):
    await attach("records", LOG_EVENT, lambda *_: None)
    loguru_bridge.install(filter=lambda record: record["secret"])
    loguru_bridge.logger.info("open")
    yield
    loguru_bridge.uninstall()


@provokes("Something an actor did is not told of")
async def _(_stage):
    def name_of(actor):
        raise LookupError(actor)

    guarded(name_of)("till")
    yield


@provokes("A process of the application is registered as logger")
async def _(_stage):
    async with running_runtime():

        async def hear():
            while True:
                await process.receive()

        await process.spawn(hear, name=otp.LOGGER)
        await start_exporter(OtpylibLogger)
        yield


@provokes("Too many series")
async def _(stage):
    async with running_runtime():
        await start_prometheus_exporter({"port": 0, "max_series": 2, "flush_interval": 0.02})
        await stage.started("prometheus_exporter")
        for number in range(5):
            execute("shop.orders", {"count": 1}, {"order": str(number)})
            execute("shop.visits", {"count": 1}, {f"user_{number}": "here"})
        yield


@provokes("Two metrics of one name")
async def _(stage):
    async with running_runtime():
        await start_prometheus_exporter({"port": 0, "flush_interval": 0.02})
        await stage.started("prometheus_exporter")
        execute("shop.sale", {"duration_ms": 5})
        await otp.safe_call("prometheus_exporter", ("flush", 5.0))
        execute("shop.sale_duration_seconds_sum", {"value": 5})
        yield


@provokes("Too many metrics")
async def _(stage):
    async with running_runtime():
        store_of("prometheus_exporter").max_metrics = 2
        await start_prometheus_exporter({"port": 0, "flush_interval": 0.02})
        await stage.started("prometheus_exporter")
        for number in range(5):
            execute(f"user.{number}.login", {"count": 1})
        yield


@provokes("Attributes that cannot be read")
async def _(stage):
    provider = PrometheusMeterProvider()
    provider.get_meter("shop").create_counter("sold").add(1, ["x"])
    yield
    provider.shutdown()


@provokes("A metric reader fails")
async def _(stage):
    class Failing(MetricReader):
        def _receive_metrics(self, metrics_data, timeout_millis=10_000, **kwargs):
            raise RuntimeError("no disk")

        def shutdown(self, timeout_millis=30_000, **kwargs):
            pass

    async with stage.otel(metric_readers=[Failing()]):
        execute("shop.orders", {"count": 1})
        await otp.safe_call("otel_exporter", ("flush", 5.0))
        yield


@provokes("A metric reader belongs to somebody else")
async def _(stage):
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    async with stage.otel(metric_readers=[reader]):
        yield
    provider.shutdown()


# --- answers to calls ------------------------------------------------------------------------------------


@provokes("An unknown request")
async def _(stage):
    async with stage.otel(exporter="console"):
        stage.tell(await otp.safe_call("otel_exporter", ("make_coffee",)))
        yield


@provokes("An exporter that has no answer yet")
async def _(stage):
    async with stage.otel():
        stage.tell(await otp.safe_call("otel_exporter", ("get_events",)))
        yield
