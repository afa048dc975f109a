"""An operator in a second terminal mends four incidents, by the command alone; the page has what is read.

``WRITE_TRANSCRIPTS=1`` writes what the command says into the page.
"""

import os
import pwd
import re
import secrets
import shlex
import shutil
import urllib.request
from pathlib import Path

import pytest

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from tests.support.operated import ROOT, Application, said
from tests.support.rotel import Collector
from tests.support.waiting import wait_until

PAGE = ROOT / "docs" / "how-to" / "operate" / "incidents.md"
BLOCKS = re.compile(r"```sh\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
#: Numbers, times, shares: what differs from run to run.
VARIES = re.compile(r"\d[\w,.:/%-]*(?: (?:ms|s)\b)?")

HEADINGS = {
    "test_an_outage": "Outage",
    "test_a_bad_edit": "A bad edit",
    "test_a_full_queue": "A full queue",
    "test_cardinality": "Cardinality",
}

WRITES = bool(os.environ.get("WRITE_TRANSCRIPTS"))

pytestmark = [pytest.mark.process, pytest.mark.peer, pytest.mark.timeout(600)]


#: What a library says of a connection, in words of its own.
REASON = re.compile(r"(circuit breaker is open): .*")


#: The user of the application, as the system proves it; in the transcript its name is shop.
USER = pwd.getpwuid(os.geteuid()).pw_name


def alike(text):
    """A text without what differs from run to run, and however wide its columns are."""
    text = text.replace(f"by {USER} (as ann)", "by shop (as ann)")
    return [" ".join(VARIES.sub("#", REASON.sub(r"\1", line)).split()) for line in text.splitlines()]


class Terminal:
    """Types what a section of the page shows, block by block; has there what it reads here."""

    def __init__(self, heading, replacements):
        self.page = PAGE.read_text(encoding="utf-8")
        begin = self.page.index(f"\n## {heading}\n")
        end = self.page.find("\n## ", begin + 1)
        self.section = self.page[begin : end if end > 0 else len(self.page)]
        self.blocks = list(BLOCKS.finditer(self.section))
        self.replacements = replacements
        self.typed = []

    def type_next(self, *good, back_to=None):
        """Type the lines of the next block; ``good`` says of each whether it ends well."""
        commands, text = self.blocks[len(self.typed)].groups()
        if back_to is not None:
            commands = re.sub(r"rollback \d+", f"rollback {back_to}", commands)
        told = ""
        for line, is_good in zip(commands.splitlines(), good, strict=True):
            found = said(*(self.real(word) for word in shlex.split(line)[1:]))
            assert (found.status, found.err) == (0 if is_good else 1, ""), found
            told += self.shown(found.out)
        self.typed.append((commands, told))
        if not WRITES:
            assert alike(told) == alike(text)

    def real(self, word):
        for shown, real in self.replacements.items():
            word = word.replace(shown, real)
        return word

    def shown(self, text):
        for shown, real in self.replacements.items():
            # Where it stands in a column, the next one stays where it is.
            gap = " " * (len(real) - len(shown))
            text = text.replace(f'{real}"  ', f'{shown}"  {gap}').replace(real, shown)
        return text

    def end(self):
        assert len(self.typed) == len(self.blocks)
        if WRITES:
            typed = iter(self.typed)
            new = BLOCKS.sub(lambda _: "```sh\n{}```\n\n```text\n{}```".format(*next(typed)), self.section)
            PAGE.write_text(self.page.replace(self.section, new), encoding="utf-8")


@pytest.fixture
def collector(tmp_path):
    (tmp_path / "collector").mkdir()
    found = Collector(tmp_path / "collector")
    found.start()
    yield found
    found.close()


@pytest.fixture
def spare():
    with GrpcReceiver() as receiver:
        yield receiver


@pytest.fixture
def app(collector, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OTEL_", "TELEMETRY_")):
            monkeypatch.delenv(name)
    text = re.search(r"```toml config.toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    text = text.replace("http://127.0.0.1:4317", collector.grpc_endpoint).replace("9464", "0")
    # As long as what the page shows in its place: columns are as wide as what is in them.
    directory = Path(f"/tmp/{secrets.token_hex(2)}")  # noqa: S108  # made here, for this user alone
    directory.mkdir(mode=0o700)
    found = Application(directory, text)
    monkeypatch.chdir(directory)
    monkeypatch.setenv("USER", "ann")
    monkeypatch.setenv("LOGNAME", "ann")
    try:
        found.start()
        wait_until(
            lambda: all(
                status()[f"{name}_exporter"]["state"] == "running" for name in ("otel", "prometheus")
            ),
            120,
        )
        yield found
    finally:
        found.close()
        shutil.rmtree(directory)


@pytest.fixture
def terminal(request, app, collector, spare):
    shown = {
        "/srv/shop": str(app.directory),
        "127.0.0.1:4317": collector.grpc_endpoint.removeprefix("http://"),
        "127.0.0.1:5317": spare.host_port,
    }
    found = Terminal(HEADINGS[request.node.name], shown)
    yield found
    found.end()


def status():
    return {each["name"]: each for each in said("status", "--json").json["exporters"]}


def otel():
    return status()["otel_exporter"]


def in_force(section, key):
    return said("config", section, "--json").json["sections"][section]["keys"][key]["value"]


def books():
    return otel()["ledger"]


def test_an_outage(app, collector, spare, terminal):
    app.do("sell", 10)
    wait_until(lambda: len(collector.spans) == 20)
    collector.stop(kill=True)
    app.do("sell", 100)
    wait_until(lambda: otel()["breaker"]["state"] == "open" and "refused" in otel()["reason"])
    terminal.type_next(False)
    terminal.type_next(True)
    terminal.type_next(True)
    terminal.type_next(True, True, True)
    names = [span.name for span in spare.wait_for_spans(200)]
    assert sorted(names) == ["shop.order"] * 100 + ["shop.order.pay"] * 100
    assert books()["dropped"] == {}


def test_a_bad_edit(app, collector, terminal):
    app.do("sell", 10)
    wait_until(lambda: len(collector.spans) == 20)
    text = app.file.read_text()
    app.file.write_text(text.replace("logs = false", 'logs = false\nsampling_rate = 0\ntimeout = "ten"'))
    wait_until(lambda: in_force("otel", "sampling_rate") == 0)
    app.do("sell", 50)
    wait_until(lambda: books()["sampled_out"] >= 100 and books()["queued"] + books()["in_flight"] == 0)
    terminal.type_next(True)
    terminal.type_next(True, True)
    entries = said("history", "otel", "--json").json["entries"]
    edit = next(each["generation"] for each in reversed(entries) if "sampling_rate" in each["changes"])
    terminal.type_next(True, True, back_to=edit - 1)
    app.do("sell", 5)
    wait_until(lambda: len(collector.spans) == 30)


def test_a_full_queue(app, collector, terminal):
    collector.stop(kill=True)
    app.do("sell", 1500)
    wait_until(lambda: "refused" in (otel()["reason"] or "") and books()["dropped"])
    wait_until(lambda: otel()["breaker"]["state"] == "open")
    terminal.type_next(False)
    terminal.type_next(True)
    lost = books()["dropped"]
    app.do("sell", 500)
    wait_until(lambda: books()["queued"] + books()["in_flight"] > 1000)
    assert books()["dropped"] == lost
    collector.start()
    terminal.type_next(True, True, True)
    assert books()["dropped"] == lost
    assert books()["queued"] + books()["in_flight"] == 0


def test_cardinality(app, terminal):
    def page():
        found = status()["prometheus_exporter"]["stats"]
        with urllib.request.urlopen(found["url"], timeout=60) as answer:
            text = answer.read().decode()
        return [line for line in text.splitlines() if line.startswith("shop_visit_total")]

    app.do("visit", 200)
    wait_until(lambda: status()["prometheus_exporter"]["stats"]["labels_folded"])
    assert any("(folded)" in line for line in page())
    terminal.type_next(True, True)
    terminal.type_next(True, True, True)
    app.do("visit", 200)
    wait_until(lambda: 'shop_visit_total{country="de"} 200' in page())
