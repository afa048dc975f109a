"""What is still on the terminal when the bridge is the only handler of Python's logging."""

import pytest

from tests.support import programs

#: A program without any handler: pytest has handlers of its own everywhere.
PROGRAM = """
import logging, sys
from otpylib_telemetry.bus.table import add
from otpylib_telemetry.instrument.logging import install

heard = []
{before}
if {listened}:
    add("heard", ("log.record",), lambda name, measurements, metadata: heard.append(metadata["message"]))
{action}
print(*heard, sep="\\n")
"""

SUITE = 'logging.getLogger("otpylib_telemetry").{level}("of the suite")'
OTEL = 'logging.getLogger("{name}").warning("of opentelemetry")'
SHOP = 'logging.getLogger("shop").warning("of the shop")'


def run(action, before="install()", *, listened=True):
    """What becomes an event, and what is on the terminal."""
    text = PROGRAM.format(before=before, action=action, listened=listened)
    done = programs.run(["-c", text], timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1], done.stderr


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
def test_warnings_of_the_suite_are_printed_as_without_the_bridge(level):
    assert run(SUITE.format(level=level)) == ([""], "of the suite\n")


def test_what_python_does_not_print_is_not_printed():
    quiet = "logging.getLogger().setLevel(0)\n"
    assert run(quiet + SUITE.format(level="info")) == ([""], "")


@pytest.mark.parametrize(
    "name",
    [
        "opentelemetry.attributes",
        "opentelemetry.sdk.trace",
        "opentelemetry.context",
        "opentelemetry.exporter.x",
    ],
)
def test_warnings_of_opentelemetry_are_printed_and_no_records(name):
    assert run(OTEL.format(name=name)) == ([""], "of opentelemetry\n")


def test_its_instrumentations_speak_of_the_application():
    assert run(OTEL.format(name="opentelemetry.instrumentation.aiohttp")) == (["of opentelemetry"], "")


def test_what_became_an_event_is_not_printed():
    assert run(SHOP) == (["of the shop"], "")


def test_what_nobody_listens_to_is_printed():
    assert run(SHOP, listened=False) == ([""], "of the shop\n")


@pytest.mark.parametrize(
    "before",
    [
        "logging.basicConfig(format='%(message)s'); install()",
        "install(); logging.getLogger().addHandler(logging.StreamHandler())",
        "logging.getLogger('otpylib_telemetry').addHandler(logging.StreamHandler()); install()",
    ],
)
def test_where_there_is_another_handler_nothing_is_printed_twice(before):
    assert run(SUITE.format(level="warning"), before) == ([""], "of the suite\n")


def test_a_handler_that_was_to_keep_it_quiet_does_so():
    before = "logging.getLogger('otpylib_telemetry').addHandler(logging.NullHandler()); install()"
    assert run(SUITE.format(level="warning"), before) == ([""], "")
    assert run(SUITE.format(level="warning"), "logging.lastResort = None; install()") == ([""], "")


def test_two_bridges_print_once():
    action = 'logging.getLogger("otpylib_telemetry.prometheus").warning("once")'
    assert run(action, 'install(); install("otpylib_telemetry")') == ([""], "once\n")


def test_a_terminal_that_is_logged_does_not_log_for_ever():
    before = """
class Logged:
    def write(self, text):
        if text.strip():
            written.append(text.strip())
            logging.getLogger("otpylib_telemetry").warning("again %s", text)
    def flush(self):
        pass
written = []
install()
sys.stderr = Logged()
"""
    assert run(f"{SUITE.format(level='warning')}\nheard[:] = written", before) == (["of the suite"], "")


def test_what_a_handler_of_records_logs_is_printed_and_feeds_nothing_back():
    before = """
def handler(name, measurements, metadata):
    for logger in ("shop.handlers", "opentelemetry.attributes", "otpylib_telemetry"):
        logging.getLogger(logger).warning("while handling")
install()
from otpylib_telemetry.bus import table
table.add("handler", ("log.record",), handler)
"""
    assert run(SHOP, before) == (["of the shop"], "while handling\n" * 3)
