import asyncio
import contextlib
import functools
import logging
import os
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import DestinationError, ExportError, TooLargeError
from otpylib_telemetry_mock.otlp_receiver import (
    GrpcReceiver,
    GrpcStatus,
    Hang,
    HttpReceiver,
    HttpStatus,
    PartialSuccess,
    Reset,
    Tls,
)
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.destinations import OtlpDestination, transport
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.otlp.services import LOGS, METRICS, TRACES
from otpylib_telemetry_otel.otlp.values import Encoded
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.sdk.destination import SdkDestination
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces.spans import INCOMPLETE, FinishedSpan, SpanEvent
from tests.support import programs
from tests.support.certificates import Authority
from tests.support.destinations import destination_of
from tests.support.versions import needs_quiet_grpc
from tests.support.waiting import wait_until

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
START = 1_700_000_000_000_000_000

PATHS = {TRACES: "traces", METRICS: "metrics", LOGS: "logs"}


def span(name="shop.checkout", span_id=1, **fields):
    finished = FinishedSpan(
        name, TRACE_ID, span_id, 0, None, START, fields.pop("attributes", {}), end_ns=START + 5
    )
    for field, value in fields.items():
        setattr(finished, field, value)
    finished.seal()
    return finished


def settings_for(receiver, **more):
    return OtelSettings(endpoint=receiver.endpoint, protocol=receiver.protocol, **{"timeout": 5, **more})


@contextlib.contextmanager
def connected(receiver, **more):
    backend = destination_of(settings_for(receiver, **more))
    try:
        yield backend
    finally:
        backend.close()


@pytest.fixture(params=[GrpcReceiver, HttpReceiver], ids=["grpc", "http"])
def receiver(request):
    with request.param() as started:
        yield started


@pytest.fixture
def http():
    with HttpReceiver() as started:
        yield started


@pytest.fixture
def grpc():
    with GrpcReceiver() as started:
        yield started


def transport_for(receiver, signal=TRACES, **more):
    return transport(settings_for(receiver, **more).connection(PATHS[signal]), signal)


def failure_of(backend, spans=None):
    with pytest.raises(ExportError) as caught:
        backend.send(spans or [span()])
    return caught.value


class TestWhatArrives:
    def test_a_span_arrives_whole(self, receiver):
        sent = span(
            attributes={"item": "tea", "price": 2.5, "paid": True, "sizes": [1, 2], "huge": 10**30},
            parent_span_id=9,
            error=True,
            message="card refused",
            events=[SpanEvent("exception", START + 5, {"exception.message": "card refused"})],
            incomplete="ttl",
        )
        with connected(receiver, service_name="shop", resource={"deployment.environment": "test"}) as backend:
            assert backend.send([sent]) is None
        (arrived,) = receiver.spans
        assert arrived.name == "shop.checkout"
        assert arrived.trace_id == f"{TRACE_ID:032x}"
        assert (arrived.span_id, arrived.parent_span_id) == (f"{1:016x}", f"{9:016x}")
        assert (arrived.start_ns, arrived.end_ns, arrived.kind) == (START, START + 5, "INTERNAL")
        assert (arrived.status, arrived.status_message) == ("ERROR", "card refused")
        assert arrived.attributes == {
            "item": "tea",
            "price": 2.5,
            "paid": True,
            "sizes": [1, 2],
            "huge": str(10**30),
            INCOMPLETE: "ttl",
        }
        (event,) = arrived.events
        assert (event.name, event.time_ns) == ("exception", START + 5)
        assert event.attributes == {"exception.message": "card refused"}
        assert arrived.resource["service.name"] == "shop"
        assert arrived.resource["deployment.environment"] == "test"
        assert arrived.resource["telemetry.sdk.language"] == "python"
        assert arrived.scope == "otpylib_telemetry"

    def test_a_root_that_succeeded_has_neither_parent_nor_status(self, receiver):
        with connected(receiver) as backend:
            backend.send([span()])
        (arrived,) = receiver.spans
        assert (arrived.parent_span_id, arrived.status, arrived.events) == ("", "UNSET", [])

    def test_what_did_not_fit_is_counted(self, receiver):
        with connected(receiver) as backend:
            backend.send(
                [span(attributes={f"key{number}": number for number in range(150)}, dropped_events=3)]
            )
            backend.send([span(events=[SpanEvent("note", START, {"": 1})], dropped_events=3)])
        assert [arrived.dropped_attributes for arrived in receiver.spans] == [22, 0]
        assert (
            receiver.requests[1].message.resource_spans[0].scope_spans[0].spans[0].dropped_events_count == 3
        )

    def test_headers_and_the_api_key_are_sent_with_lower_case_names(self, receiver):
        with connected(receiver, headers={"X-Tenant": "blue"}, api_key="s3cret") as backend:
            backend.send([span()])
        headers = receiver.requests[0].headers
        assert (headers["x-tenant"], headers["authorization"]) == ("blue", "Bearer s3cret")

    def test_headers_of_the_environment_do_not_come_back_once_replaced(self, receiver, monkeypatch):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-old=secret")
        for headers in ({"x-new": "1"}, {}):
            with connected(receiver, headers=headers) as backend:
                backend.send([span()])
        assert all("x-old" not in request.headers for request in receiver.requests)
        assert len(receiver.requests) == 2

    @pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
    def test_compression_is_understood(self, receiver, compression):
        if (receiver.protocol, compression) == ("grpc", "deflate"):
            pytest.skip("only over http/protobuf")
        with connected(receiver, compression=compression) as backend:
            backend.send([span(attributes={"text": "x" * 10_000})])
        assert receiver.spans[0].attributes == {"text": "x" * 10_000}
        if receiver.protocol != "grpc":
            assert receiver.requests[0].headers.get("content-encoding", "none") == compression

    def test_one_connection_serves_many_batches(self, receiver):
        with connected(receiver) as backend:
            for number in range(1, 6):
                backend.send([span(span_id=number)])
        assert len(receiver.spans) == 5
        assert receiver.connections == 1

    def test_what_resource_detectors_find_is_sent_unless_the_settings_say_otherwise(self, receiver):
        settings = {"resource_detectors": ["process"], "resource": {"process.pid": 7}}
        with connected(receiver, **settings) as backend:
            backend.send([span()])
        resource = receiver.spans[0].resource
        assert resource["process.runtime.name"] == "cpython"
        assert resource["process.pid"] == 7

    def test_a_resource_detector_that_is_not_installed_is_named(self, receiver):
        with pytest.raises(BackendUnavailableError, match="resource detector named 'azure_vm'"):
            destination_of(settings_for(receiver, resource_detectors=["azure_vm"]))

    def test_both_ways_to_name_the_exporter_do(self, receiver):
        name = "otlp_proto_grpc" if receiver.protocol == "grpc" else "otlp_proto_http"
        backend = destination_of(OtelSettings(endpoint=receiver.endpoint, exporter=name))
        backend.send([span()])
        backend.close()
        assert len(receiver.spans) == 1


class TestFailures:
    """What one attempt says; the whole table of failures is in tests/faults/test_otlp_faults.py."""

    def test_each_attempt_is_one_request(self, receiver):
        receiver.script(GrpcStatus("UNAVAILABLE") if receiver.protocol == "grpc" else HttpStatus(503))
        with connected(receiver) as backend:
            assert failure_of(backend).retryable
            assert len(receiver.requests) == 1
            assert backend.send([span()]) is None

    @pytest.mark.parametrize("rejected", [0, 1])
    def test_a_partial_success_is_told_with_the_words_of_the_server(self, receiver, rejected):
        receiver.script(PartialSuccess(rejected, "too old"))
        with connected(receiver) as backend:
            outcome = backend.send([span(), span(span_id=2)])
        assert outcome == ExportOutcome(rejected=rejected, message="too old")

    def test_a_request_beyond_the_size_limit_is_not_even_sent(self, receiver):
        transport = transport_for(receiver)
        transport._max_request = 10
        with pytest.raises(TooLargeError, match="11 bytes; servers take 10"):
            transport.send(b"x" * 11)
        transport.close()
        assert receiver.requests == []

    def test_nobody_listening_is_worth_another_try(self, receiver):
        receiver.stop()
        with connected(receiver) as backend:
            error = failure_of(backend)
            assert error.retryable
            assert "refused" in str(error).lower()
            receiver.restart()
            assert backend.send([span()]) is None

    def test_a_connection_that_was_cut_is_replaced_at_the_next_attempt(self, receiver):
        with connected(receiver) as backend:
            assert backend.send([span()]) is None
            receiver.script(Reset())
            assert failure_of(backend).retryable
            for _ in range(3):
                assert backend.send([span()]) is None
        assert receiver.connections == 2

    def test_a_server_that_went_away_and_came_back_is_found_at_once(self, receiver):
        with connected(receiver) as backend:
            receiver.stop()
            for _ in range(4):
                assert failure_of(backend).retryable
            receiver.restart()
            assert backend.send([span()]) is None

    def test_requests_at_the_same_time_do_not_end_each_others_connection(self, grpc):
        grpc.script(Hang(), GrpcStatus("UNAVAILABLE"))
        with connected(grpc) as backend:
            outcome = []
            thread = threading.Thread(target=lambda: outcome.append(backend.send([span()])))
            thread.start()
            wait_until(lambda: grpc.requests)
            # It asks for a new connection, while the first request still needs the old one.
            failure_of(backend)
            assert backend.send([span()]) is None
            grpc.release()
            thread.join()
        assert outcome == [None]
        assert len(grpc.spans) == 2

    def test_many_requests_at_the_same_time_are_nothing_to_log(self, receiver, caplog):
        receiver.script(*[Hang()] * 8)
        with connected(receiver) as backend:
            threads = [threading.Thread(target=backend.send, args=([span(span_id=n)],)) for n in range(1, 9)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(receiver.requests) == 8)
            receiver.release()
            for thread in threads:
                thread.join()
            backend.send([span(span_id=9)])
        assert len(receiver.spans) == 9
        assert caplog.records == []

    def test_closing_ends_what_is_under_way(self, grpc):
        grpc.always(Hang())
        backend = destination_of(settings_for(grpc, timeout=60))
        failed = []
        thread = threading.Thread(target=lambda: failed.append(failure_of(backend)))
        thread.start()
        wait_until(lambda: grpc.requests)
        backend.close()
        thread.join(10)
        assert [error.retryable for error in failed] == [True]

    def test_sending_after_closing_is_a_failure(self, receiver):
        backend = destination_of(settings_for(receiver))
        backend.send([span()])
        backend.close()
        backend.close()
        assert "closed" in str(failure_of(backend))

    def test_an_https_endpoint_that_speaks_plain_text_is_a_failure_with_a_reason(self, receiver):
        settings = OtelSettings(
            endpoint=f"https://{receiver.host_port}", protocol=receiver.protocol, timeout=5
        )
        backend = destination_of(settings)
        error = failure_of(backend)
        backend.close()
        assert error.retryable
        assert isinstance(error, DestinationError)
        assert "does not speak TLS: http:// in place of https://" in str(error)


class TestRequests:
    @pytest.mark.parametrize("signal", [TRACES, METRICS, LOGS], ids=lambda signal: signal.items)
    def test_each_signal_goes_where_its_receiver_is(self, receiver, signal):
        transport = transport_for(receiver, signal)
        receiver.script(PartialSuccess(3, "no"))
        assert transport.send(b"") == ExportOutcome(3, "no")
        transport.close()
        assert receiver.requests[0].signal == PATHS[signal]

    def test_it_says_who_it_is(self, receiver):
        with connected(receiver) as backend:
            backend.send([span()])
        assert receiver.requests[0].headers["user-agent"].startswith("otpylib-telemetry/")

    def test_name_and_password_of_the_url_are_sent_as_a_header(self, receiver):
        endpoint = f"http://ann:p%40ss@{receiver.host_port}"
        backend = destination_of(OtelSettings(endpoint=endpoint, protocol=receiver.protocol))
        backend.send([span()])
        backend.close()
        assert receiver.requests[0].headers["authorization"] == "Basic YW5uOnBAc3M="

    def test_a_netrc_file_does_not_replace_the_api_key(self, http, tmp_path, monkeypatch):
        netrc = tmp_path / "netrc"
        netrc.write_text("default login ann password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with connected(http, api_key="key") as backend:
            backend.send([span()])
        assert http.requests[0].headers["authorization"] == "Bearer key"

    def test_a_proxy_of_the_environment_is_used_unless_told_otherwise(self, http, monkeypatch):
        monkeypatch.setenv("http_proxy", f"http://ann:secret@127.0.0.1:{http.port}")
        settings = OtelSettings(endpoint="http://collector.invalid:4318", protocol="http/protobuf")
        backend = destination_of(settings)
        # The receiver is no proxy: asked for a whole URL, it says that it has no such path.
        assert "HTTP 404" in str(failure_of(backend))
        backend.close()
        monkeypatch.setenv("no_proxy", "collector.invalid")
        backend = destination_of(settings)
        error = failure_of(backend)
        backend.close()
        assert error.retryable
        assert "404" not in str(error)

    def test_an_item_that_cannot_be_encoded_does_not_hold_up_the_others(self, receiver):
        broken = span(span_id=7)
        broken.start_ns = -1
        with connected(receiver) as backend:
            outcome = backend.send([span(span_id=1), broken, span(span_id=2)])
            why = "'shop.checkout': ValueError: Value out of range: -1"
            assert outcome == ExportOutcome(unusable=1, why=why)
            assert backend.send([broken]) == outcome
        assert len(receiver.requests) == 1
        assert [int(arrived.span_id, 16) for arrived in receiver.spans] == [1, 2]

    def test_what_the_server_rejects_is_told_apart_from_what_could_not_be_encoded(self):
        class Transport:
            def send(self, body):
                return ExportOutcome(2, "too old")

        backend = OtlpDestination(lambda items: Encoded(b"", 1, "ValueError: odd"), Transport())
        assert backend.send([1, 2, 3, 4]) == ExportOutcome(2, "too old", 1, "ValueError: odd")


class Scripted(SpanExporter):
    """An exporter of another package: it does what it is told and logs as they all do."""

    def __init__(self, act):
        self.act = act
        self.closed = 0

    def export(self, spans):
        return self.act(spans)

    def shutdown(self):
        logging.getLogger(__name__).warning("shutting down")
        self.closed += 1


class Plain:
    def convert(self, spans):
        return list(spans)


def refuse(spans):
    logging.getLogger(__name__).error("Failed: %s", "no quota")
    return SpanExportResult.FAILURE


def raising(error):
    def act(*_):
        raise error

    return act


class TestOtherExporters:
    def test_the_last_message_of_a_failing_exporter_is_the_reason(self, caplog):
        backend = SdkDestination(Scripted(refuse), Plain().convert)
        error = failure_of(backend)
        assert (str(error), error.retryable) == ("Failed: no quota", True)
        backend.close()
        assert caplog.records == []

    def test_a_failure_without_a_word_is_still_told(self):
        backend = SdkDestination(Scripted(lambda spans: SpanExportResult.FAILURE), Plain().convert)
        assert "gave no reason" in str(failure_of(backend))
        backend.close()

    @pytest.mark.parametrize(
        ("raised", "retryable"),
        [
            (OSError("down"), True),
            (RuntimeError("?"), True),
        ],
    )
    def test_an_exporter_that_raises_has_failed(self, raised, retryable):
        backend = SdkDestination(Scripted(raising(raised)), Plain().convert)
        error = failure_of(backend)
        assert error.retryable is retryable
        assert type(raised).__name__ in str(error)
        backend.close()

    @pytest.mark.parametrize("result", [SpanExportResult.SUCCESS, None])
    def test_no_failure_is_success(self, result):
        backend = SdkDestination(Scripted(lambda spans: result), Plain().convert)
        assert backend.send([span()]) is None
        backend.close()

    @pytest.mark.process
    def test_console_is_had_by_its_name(self, capsys):
        # The exporter takes sys.stdout as it was when its module was imported: look at a fresh interpreter's.
        program = (
            "from otpylib_telemetry_otel.traces.spans import FinishedSpan\n"
            "from otpylib_telemetry_otel.destinations import build\n"
            "from otpylib_telemetry_otel.settings.model import OtelSettings\n"
            "span = FinishedSpan('shop.checkout', 5, 6, 0, None, 7, {'item': b'tea'}, end_ns=8)\n"
            "span.seal()\n"
            "backend = build(OtelSettings(exporter='console'), 'traces', {})\n"
            "backend.send([span])\n"
            "backend.close()\n"
        )
        printed = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert '"name": "shop.checkout"' in printed
        assert '"item": "tea"' in printed

    def test_an_unknown_name_is_refused_with_those_that_are_known(self):
        with pytest.raises(
            BackendUnavailableError, match=r"'zipkin_json'.*console.*opentelemetry-exporter-zipkin-json"
        ):
            destination_of(OtelSettings(exporter="zipkin_json"))

    def test_an_exporter_that_cannot_be_built_says_why(self, monkeypatch):
        class Entry:
            name, value = "broken", "broken:Exporter"

            def load(self):
                return raising(ValueError("no key"))

        monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry()])
        with pytest.raises(BackendUnavailableError, match=r"'broken'.*ValueError: no key"):
            destination_of(OtelSettings(exporter="broken"))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.process
    def test_a_missing_package_is_named_with_the_extra_to_install(self):
        missing = {
            "grpc": {"protocol": "grpc"},
            "urllib3": {"protocol": "http/protobuf"},
            "opentelemetry.sdk.resources": {},
            "opentelemetry.sdk.trace": {"exporter": "console"},
        }
        # In an interpreter of its own, and a fork for each: what is imported once stays.
        program = (
            "import os, sys\n"
            "from otpylib_telemetry_otel.errors import BackendUnavailableError\n"
            "from otpylib_telemetry_otel.destinations import build\n"
            "from otpylib_telemetry_otel.settings.model import OtelSettings\n"
            f"for name, settings in {missing!r}.items():\n"
            "    if os.fork() == 0:\n"
            "        sys.modules[name] = None\n"
            "        try:\n"
            "            build(OtelSettings(endpoint='http://localhost:4317', **settings), 'traces', {})\n"
            "        except BackendUnavailableError as error:\n"
            "            print(error)\n"
            "        sys.exit()\n"
            "    os.wait()\n"
        )
        printed = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        ).stdout.splitlines()
        for name, said in zip(missing, printed, strict=True):
            assert "otpylib-telemetry[otel]" in said
            assert name in said

    @pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
    def test_a_certificate_file_that_is_not_there_is_named(self, protocol, tmp_path):
        path = tmp_path / "missing.pem"
        with pytest.raises(
            BackendUnavailableError, match=r"certificate: the file .*missing\.pem cannot be read"
        ):
            destination_of(
                OtelSettings(endpoint="https://localhost:4317", protocol=protocol, certificate=str(path))
            )

    @pytest.mark.process
    def test_importing_the_exporter_imports_no_opentelemetry_and_no_service(self):
        program = (
            "import sys, otpylib_telemetry_otel\n"
            "heavy = ('opentelemetry', 'grpc', 'google', 'requests', 'urllib3', 'aiohttp', 'html')\n"
            "parts = ('admin', 'command', 'instrument.actors', 'meters.views', 'poller')\n"
            "unused = {*heavy, *(f'otpylib_telemetry.{part}' for part in parts)}\n"
            "unused |= {'otpylib_telemetry_otel.service', 'otpylib_telemetry_otel.set_up'}\n"
            "print([name for name in sys.modules if unused & {name, name.split('.')[0]}])\n"
        )
        printed = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert printed.strip() == "[]"


class TestQuiet:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_grpc_is_told_to_be_quiet_unless_somebody_has_chosen(self):
        program = (
            "import os, sys\n"
            "for chosen in ({}, {'GRPC_VERBOSITY': 'INFO'}):\n"
            "    if os.fork() == 0:\n"
            "        os.environ.update(chosen)\n"
            "        from otpylib_telemetry_otel.otlp.grpc_import import grpc\n"
            "        print(grpc.__name__, os.environ.get('GRPC_VERBOSITY'))\n"
            "        sys.exit()\n"
            "    os.wait()\n"
        )
        kept = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=kept
        )
        assert done.stdout.split() == ["grpc", "None", "grpc", "INFO"]

    @needs_quiet_grpc
    def test_nothing_is_written_about_a_certificate_that_is_not_accepted(self, tmp_path):
        authority, stranger = Authority(tmp_path / "a"), Authority(tmp_path / "b", "Somebody Else")
        issued = stranger.issue()
        program = (
            "import sys\n"
            "from otpylib_telemetry_otel.destinations import build\n"
            "from otpylib_telemetry.exporter.errors import ExportError\n"
            "from otpylib_telemetry_otel.settings.model import OtelSettings\n"
            "backend = build(OtelSettings(endpoint=sys.argv[1], certificate=sys.argv[2]), 'traces', {})\n"
            "for _ in range(3):\n"
            "    try:\n"
            "        backend.send([])\n"
            "    except ExportError as error:\n"
            "        print(error)\n"
            "backend.close()\n"
        )
        with GrpcReceiver(tls=Tls(issued.certificate, issued.key)) as receiver:
            done = programs.run(["-c", program, receiver.endpoint, authority.certificate], timeout=60)
        assert done.stdout.count("is not trusted here") == 3
        assert done.stderr == ""

    def test_nothing_is_logged_about_a_collector_that_is_down(self, receiver, caplog):
        receiver.stop()
        with connected(receiver) as backend:
            for _ in range(3):
                failure_of(backend)
        assert caplog.records == []

    def test_the_messages_of_the_applications_own_exporters_are_left_alone(self, caplog):
        backend = SdkDestination(Scripted(refuse), Plain().convert)
        logging.getLogger(__name__).error("of the application")
        backend.close()
        assert [record.getMessage() for record in caplog.records] == ["of the application"]

    def test_the_loggers_are_as_before_once_all_are_closed(self):
        before = list(logging.getLogger(__name__).filters)
        one, other = (
            SdkDestination(Scripted(refuse), Plain().convert),
            SdkDestination(Scripted(refuse), Plain().convert),
        )
        assert len(logging.getLogger(__name__).filters) == len(before) + 1
        one.close()
        assert len(logging.getLogger(__name__).filters) == len(before) + 1
        other.close()
        assert logging.getLogger(__name__).filters == before

    def test_an_exporter_that_fails_to_close_leaves_the_loggers_as_they_were(self):
        exporter = Scripted(refuse)
        exporter.shutdown = raising(OSError("no"))
        backend = SdkDestination(exporter, Plain().convert)
        with pytest.raises(OSError, match="no"):
            backend.close()
        assert logging.getLogger(__name__).filters == []


# --- the exporter as the server runs it -----------------------------------------------------------

MS = 1_000_000


def context():
    async def nothing():
        """Nothing to catch up with."""

    return ExportContext("otel_exporter", "telemetry.otel", {}, nothing, dict)


def events(*names, **metadata):
    return [(name, {}, metadata, number * MS, "p") for number, name in enumerate(names)]


class TestOtelBackend:
    @pytest.mark.parametrize(
        ("settings", "idle"),
        [
            ({}, "endpoint"),
            ({"endpoint": "http://localhost:4317"}, None),
            ({"exporter": "console"}, None),
            ({"endpoint": "http://localhost:4317", "traces": False}, None),
            ({"endpoint": "http://localhost:4317", "traces": False, "logs": False}, None),
            (
                {"endpoint": "http://localhost:4317", "traces": False, "logs": False, "metrics": False},
                "no signal",
            ),
            ({"metrics_endpoint": "http://localhost:4317"}, None),
            ({"logs_endpoint": "http://localhost:4317"}, None),
            ({"endpoint": "http://localhost:4317", "logs": False}, None),
        ],
    )
    def test_it_is_idle_without_anything_to_do(self, settings, idle):
        reason = OtelBackend(OtelSettings(**settings), context()).idle_reason()
        assert reason is None if idle is None else idle in reason

    async def test_events_become_spans_at_the_receiver(self, receiver):
        exporter = OtelBackend(settings_for(receiver), context())
        await exporter.open()
        collected = exporter.collect(
            events("a.start", "note", "a.stop", "b.start", correlation_id="x"), START
        )
        assert [weight for _, weight in collected.items] == [3]
        assert (exporter.held, collected.events()) == (1, 3)
        assert await exporter.export([item for item, _ in collected.items]) is None
        await exporter.close()
        (arrived,) = receiver.spans
        assert (arrived.name, arrived.end_ns - arrived.start_ns) == ("a", 2 * MS)

    def test_every_event_is_counted_once(self):
        exporter = OtelBackend(OtelSettings(sampling_rate=0.0), context())
        taken = [
            *events("a.start", "a.stop", "b.start", "b.error", "note", "c.start"),
            (None, {}, {}, 0, "p"),
        ]
        collected = exporter.collect(taken, START)
        assert (collected.exported, collected.rejected, collected.sampled_out) == (1, 1, 2)
        assert [weight for _, weight in collected.items] == [2]
        assert collected.events() + exporter.held == len(taken)
        assert exporter.stats() == {
            "spans_created": 3,
            "spans_exported": 0,
            "open_spans": 1,
            "finished_spans": 2,
            "incomplete_spans": {},
            "unused": 1,
            "scrubbed": {},
            "components": {"spans": "otlp_grpc_span_exporter"},
        }

    @pytest.mark.parametrize("error", [OSError("first"), asyncio.CancelledError()])
    async def test_every_signal_is_closed_whatever_happens_to_the_others(self, error):
        exporter, closed = OtelBackend(OtelSettings(), context()), []

        async def close(signal):
            closed.append(signal)
            if len(closed) == 1:
                raise error

        for signal in exporter.signals:
            signal.close = functools.partial(close, signal)
        with pytest.raises(type(error)):
            await exporter.close()
        assert closed == [*reversed(exporter.signals)]

    async def test_closing_that_nobody_goes_on_with_awaits_nothing_more(self):
        """Its event loop has ended in the middle of it."""
        exporter, closed = OtelBackend(OtelSettings(), context()), []

        async def close(signal):
            closed.append(signal)
            await asyncio.get_running_loop().create_future()

        for signal in exporter.signals:
            signal.close = functools.partial(close, signal)
        closing = exporter.close()
        closing.send(None)
        closing.close()
        assert len(closed) == 1

    def test_time_death_and_the_end_finish_what_is_open(self):
        exporter = OtelBackend(OtelSettings(span_ttl=1.0), context())
        exporter.collect([("a.start", {}, {}, 0, "p")], START)
        exporter.collect([("b.start", {}, {}, 900 * MS, "dead")], START)
        exporter.collect([("c.start", {}, {}, 900 * MS, "p")], START)
        ended = exporter.tick(1000 * MS, START, lambda emitter: emitter != "dead")
        assert [item.incomplete for item, _ in ended.items] == ["ttl", "emitter_died"]
        assert [item.incomplete for item, _ in exporter.give_up_held(START).items] == ["shutdown"]
        assert exporter.held == 0
        assert exporter.stats()["incomplete_spans"] == {"ttl": 1, "emitter_died": 1, "shutdown": 1}

    def test_open_spans_outlive_the_exporter(self):
        shared = context()
        OtelBackend(OtelSettings(), shared).collect(events("a.start"), START)
        successor = OtelBackend(OtelSettings(), shared)
        assert successor.held == 1
        assert [item.name for item, _ in successor.collect(events("a.stop"), START).items] == ["a"]

    async def test_sampling_and_limits_change_in_place(self):
        exporter = OtelBackend(OtelSettings(), context())
        changed = {
            "sampling_rate": 0.0,
            "always_keep_errors": False,
            "always_keep_slower_than_ms": 50.0,
            "max_active_spans": 1,
            "span_ttl": 0.5,
            "batch_size": 7,
        }
        assert await exporter.apply(OtelSettings(**changed), frozenset(changed))
        finished = exporter.collect(events("a.start", "a.error"), START)
        assert (finished.items, finished.sampled_out) == ([], 2)
        slow = [("a.start", {}, {}, 0, "p"), ("a.stop", {"duration_ms": 51}, {}, 0, "p")]
        assert len(exporter.collect(slow, START).items) == 1
        exporter.collect(events("a.start", "a.start"), START)
        assert exporter.held == 1
        exporter.tick(600 * MS, START, lambda emitter: True)
        assert exporter.held == 0

    @pytest.mark.parametrize(
        "change",
        [
            {"endpoint": "http://localhost:4318"},
            {"headers": {"a": "b"}},
            {"service_name": "shop"},
            {"exporter": "console", "sampling_rate": 0.5},
        ],
    )
    async def test_a_change_of_the_connection_needs_a_new_exporter(self, change):
        exporter = OtelBackend(OtelSettings(), context())
        assert not await exporter.apply(OtelSettings(**change), frozenset(change))
        assert exporter.settings == OtelSettings()

    async def test_exporting_never_holds_the_event_loop_up(self, receiver):
        receiver.always(Hang())
        exporter = OtelBackend(settings_for(receiver), context())
        await exporter.open()
        sending = asyncio.create_task(exporter.export([span()]))
        while not receiver.requests:
            await asyncio.sleep(0.001)
        assert not sending.done()
        receiver.always(receiver.requests[0].behaviour.then)
        receiver.release()
        await sending
        await exporter.close()
        assert len(receiver.spans) == 1

    async def test_an_exporter_that_never_returns_is_given_up(self, monkeypatch):
        monkeypatch.setattr("otpylib_telemetry_otel.signals.base._GRACE", 0.0)
        released = threading.Event()
        exporter = OtelBackend(OtelSettings(exporter="console", timeout=0.05), context())
        exporter.traces._destination = SdkDestination(
            Scripted(lambda spans: released.wait(30)), Plain().convert
        )
        with pytest.raises(ExportError, match=r"no answer within 0\.05 s"):
            await exporter.export([span()])
        released.set()
        await exporter.close()

    async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_ones(self, http):
        http.script(Hang(then=HttpStatus(400)))
        backend = destination_of(settings_for(http))
        late = []
        thread = threading.Thread(target=lambda: late.append(failure_of(backend)))
        thread.start()
        while not http.requests:
            time.sleep(0.001)
        assert backend.send([span()]) is None
        http.release()
        thread.join()
        backend.close()
        assert str(late[0]).startswith("HTTP 400")

    async def test_exporting_before_opening_is_a_failure_and_closing_twice_is_none(self):
        exporter = OtelBackend(OtelSettings(endpoint=f"http://127.0.0.1:{free_port()}"), context())
        with pytest.raises(ExportError, match="not open"):
            await exporter.export([span()])
        await exporter.open()
        await exporter.close()
        await exporter.close()

    async def test_opening_again_releases_what_was_open(self, receiver):
        exporter = OtelBackend(settings_for(receiver), context())
        await exporter.open()
        first = exporter.traces._destination
        await exporter.open()
        assert "closed" in str(failure_of(first))
        assert await exporter.export([span()]) is None
        await exporter.close()
