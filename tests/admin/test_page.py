"""The page, in a real browser, of a real application."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from otpylib_telemetry.admin import api, route_table
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import admin
from tests.support.chromium import Chromium, find_chromium
from tests.support.operated import operated, said
from tests.support.peers import PeerProcess
from tests.support.shop_app import EVIL
from tests.support.waiting import eventually

pytestmark = [pytest.mark.peer, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
TOKEN = "sesame-sesame-sesame"

#: A selector that is there, and one element of it that has a text.
SHOWN = {
    "the ledgers": "#ledgers tbody tr",
    "charts": "#charts figure path",
    "breakers": "#charts rect.closed",
    "event rates": "#rates tbody tr",
    "traces": "#trace-list button",
    "a waterfall": "#waterfall rect.waiting",
    "mailboxes waited in": "#waterfall rect.queue",
    "what servers do": "#work tbody tr",
    "the supervision tree": "#tree tbody tr:nth-child(4)",
    "metrics by size": "#sizes tbody tr:nth-child(4)",
    "the configuration": "#config-otel tbody tr",
}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = Chromium(find_chromium(), tmp_path_factory.mktemp("chromium"))
    browser.start()
    yield browser
    browser.stop()


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The shop as a process, and the URL of its page."""
    directory = tmp_path_factory.mktemp("shop")
    log = directory / "shop.log"
    program = PeerProcess(
        (sys.executable, "-m", "tests.support.shop_app", directory), log, {"PYTHONPATH": str(ROOT)}
    )
    program.start()
    yield program
    program.stop()


async def url_of(shop):
    def said():
        shop.must_run()
        return re.search(r"^http\S+$", shop.log.read_text(), re.MULTILINE)

    return (await eventually(said))[0]


def there(selector):
    return f"document.querySelectorAll({json.dumps(selector)}).length > 0"


async def test_every_section_shows_a_real_application_and_the_console_stays_clean(chromium, shop):
    async with chromium.page(await url_of(shop)) as page:
        for selector in SHOWN.values():
            await page.until(there(selector))
        assert "stock" in await page.text("#work")
        assert "shop.checkout" in await page.text("#rates")
        assert "accepted" in await page.value(
            "document.querySelector('#charts svg').getAttribute('aria-label')"
        )
        assert await page.text("#connection") == "Connected."

        shop.process.send_signal(signal.SIGUSR1)
        await page.until(there("#incidents tbody tr"))
        incidents = await page.text("#incidents")
        assert "catalogue" in incidents
        assert "TypeError" in incidents
        tree = await page.text("#tree")
        assert {"shop_sup", "telemetry_sup", "catalogue", "Payment"} <= set(tree.split())
        assert "item" in await page.text("#sizes")

        # What an application calls an event stays a text, wherever it is shown.
        await page.until(f"document.querySelector('#rates').innerText.includes({json.dumps(EVIL)})")
        await page.value("document.querySelector('#latest').closest('details').open = true")
        await page.until("document.querySelector('#latest').innerText.includes('<b>label</b>')")
        assert (
            await page.value("document.querySelectorAll('#rates img, #rates script, #latest b').length") == 0
        )
        assert page.complaints == []
        origin = await page.value("location.origin")
        assert {each for each in page.requests if not each.startswith((origin, "data:"))} == set()


async def test_it_fits_a_narrow_screen_and_has_the_colours_that_are_wanted(chromium, shop):
    def luminance(colour):
        """Of ``rgb(...)``, as WCAG has it."""
        parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
        linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    texts = "p, th, td, a, button, h1, h2, h3, caption, label, summary, span, figcaption"
    colours = f"""(() => {{
        const paper = (node) => {{
            const own = getComputedStyle(node).backgroundColor;
            if (own !== "rgba(0, 0, 0, 0)") return own;
            return node.parentElement ? paper(node.parentElement) : "rgb(255, 255, 255)";
        }};
        return [...document.querySelectorAll("{texts}")]
            .filter((node) => node.checkVisibility() && node.innerText.trim() && !node.disabled)
            .map((node) => [getComputedStyle(node).color, paper(node), node.innerText.slice(0, 40)]);
    }})()"""
    async with chromium.page(await url_of(shop), width=360, height=740) as page:
        for selector in SHOWN.values():
            await page.until(there(selector))
        papers = set()
        for dark in (False, True):
            await page.look(width=360, height=740, dark=dark, touch=True)
            assert await page.value("document.documentElement.scrollWidth") <= 360
            shown = await page.value(colours)
            assert len(shown) > 100
            for ink, paper, text in shown:
                lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
                assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ink, paper)
            papers.add(await page.value("getComputedStyle(document.body).backgroundColor"))
        assert len(papers) == 2
        assert page.complaints == []


async def test_a_screen_reader_finds_its_way(chromium, shop):
    async with chromium.page(await url_of(shop)) as page:
        for selector in SHOWN.values():
            await page.until(there(selector))
        nodes = (await page.do("Accessibility.getFullAXTree"))["nodes"]
        found = {}
        for node in nodes:
            if not node["ignored"]:
                found.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        assert set(found["region"]) >= {"Exporters", "Events", "Traces", "Actors", "Configuration", "History"}
        assert len(found["main"]) == len(found["navigation"]) == len(found["banner"]) == 1
        assert found["status"]
        for role in (
            "button",
            "link",
            "textbox",
            "combobox",
            "region",
            "table",
            "image",
            "article",
            "dialog",
        ):
            assert [name for name in found.get(role, ["-"]) if not name] == [], role
        assert {"columnheader", "rowheader", "form"} <= set(found)


@pytest.fixture(scope="module")
def till(tmp_path_factory):
    """An application whose collector is here, and whose page stays where it is when it is started anew."""
    with GrpcReceiver() as collector:
        text = f"""
[telemetry.otel]
endpoint = "{collector.endpoint}"
flush_interval = 0.1
metrics = false
logs = false

[telemetry.admin]
enabled = true
socket = "admin.sock"
port = {free_port()}
"""
        with operated(tmp_path_factory.mktemp("till"), text) as found:
            found.collector = collector
            yield found


def page_of(app):
    found = said("--socket", app.socket, "status", "--json").json
    return next(each["stats"]["url"] for each in found["services"] if each["name"] == "telemetry_admin")


def key_of(app, name):
    return said("--socket", app.socket, "config", f"otel.{name}", "--json").json["sections"]["otel"]["keys"][
        name
    ]


async def exported(app, before):
    """What a sale exports by now, once the exporter has nothing left."""
    app.do("sell", 1)
    assert said("--socket", app.socket, "flush", "otel").status == 0
    return len(app.collector.spans) - before


async def test_a_change_is_tried_applied_and_taken_back_with_the_keyboard_alone(chromium, till):
    outcome = "document.querySelector('#outcome').innerText"
    async with chromium.page(page_of(till)) as page:
        await page.until(there("#config-otel button"))
        await page.tab_to("[aria-label='Change otel.sampling_rate']")
        await page.press("Enter")
        assert await page.value("document.activeElement.id") == "change-value"
        assert await page.value("document.querySelector('#change-key').value") == "otel.sampling_rate"
        # What is refused is told, and cannot be applied.
        await page.type("5")
        await page.press("Enter")
        await page.until(f"{outcome}.includes('expected a number from 0 to 1')")
        assert await page.value("document.querySelector('#apply').disabled")
        await page.tab_to("#change-value")
        await page.type("0")
        await page.tab_to("#change-by")
        await page.type("ann")
        await page.press("Enter")
        await page.until("document.activeElement.id === 'apply'")
        told = await page.text("#outcome")
        for words in ("can be applied", "otel.sampling_rate: 1 → 0", "of the traces that begin from now on"):
            assert words in told
        assert key_of(till, "sampling_rate")["value"] == 1.0
        # Whatever else is in the field now was not tried, and cannot be applied.
        await page.tab_to("#change-value")
        await page.type("0.5")
        assert await page.value("document.querySelector('#apply').disabled")
        await page.press("Tab", shift=True)
        await page.press("Tab")
        await page.type("0")
        await page.press("Enter")
        await page.until("document.activeElement.id === 'apply'")
        await page.press("Space")
        await page.until(f"{outcome}.includes('Applied.')")
        generation = int(re.search(r"Generation (\d+)", await page.text("#outcome"))[1])
        # It is in force: nothing is exported any more.
        found = key_of(till, "sampling_rate")
        assert (found["value"], found["origin"]) == (0.0, "api by ann")
        before = len(till.collector.spans)
        assert await exported(till, before) == 0
        await page.until(
            f"document.querySelector('#config-otel').innerText.includes({json.dumps(found['origin'])})"
        )

        # Asked whether it is sure, No comes first.
        back = f"[aria-label='Go back to generation {generation - 1}']"
        await page.until(there(back))
        await page.tab_to(back)
        await page.press("Enter")
        await page.until("document.querySelector('#sure').open")
        await page.press("Enter")
        await page.until("!document.querySelector('#sure').open")
        assert key_of(till, "sampling_rate")["value"] == 0.0
        await page.press("Enter")
        await page.until("document.querySelector('#sure').open")
        await page.press("Tab", shift=True)
        await page.press("Enter")
        await page.until("document.querySelector('#said').innerText.includes('in force again')")
        assert key_of(till, "sampling_rate")["value"] == 1.0
        assert await exported(till, before) == 2
        assert page.complaints == []


async def test_a_destination_that_does_not_answer_is_told_and_a_change_for_a_minute(chromium, till):
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with chromium.page(page_of(till)) as page:
        await page.until(there("#config-otel button"))
        await page.tab_to("#change-key")
        await page.type("otel.endpoint")
        await page.press("Tab")
        await page.type(nowhere)
        await page.press("Tab")
        await page.press("ArrowDown")
        await page.press("Tab", "Tab", "Enter")
        await page.until("document.activeElement.id === 'apply'")
        told = await page.text("#outcome")
        assert "The destination was tried:" in told
        assert "Connection refused" in told
        assert told.startswith("This would wait until the new destination answers.")
        assert await page.value("document.querySelector('#outcome p').className") == "warn"
        await page.press("Enter")
        await page.until("document.querySelector('#outcome').innerText.includes('not in force yet')")
        assert "It takes itself back at " in await page.text("#outcome")
        await page.until(
            "document.querySelector('#config-otel').innerText.includes('wished for, and not in')"
        )
        assert key_of(till, "endpoint")["wished"] == nowhere
        assert await exported(till, len(till.collector.spans)) == 2
        await page.until("document.querySelector('#changes').innerText.includes(', until ')")
        # Nothing at all takes it back.
        await page.tab_to("[aria-label='Change otel.endpoint']")
        await page.press("Enter")
        await page.press("Backspace")
        await page.press("Enter")
        await page.until("document.activeElement.id === 'apply'")
        await page.press("Enter")
        await page.until("document.querySelector('#outcome').innerText.includes('Applied.')")
        found = key_of(till, "endpoint")
        assert (found["value"], found["pending"]) == (till.collector.endpoint, False)
        assert page.complaints == []


async def test_the_page_says_that_the_process_has_ended_and_comes_back_with_the_next_one(chromium, till):
    async with chromium.page(page_of(till)) as page:
        await page.until("document.querySelector('#connection').innerText === 'Connected.'")
        await page.until("document.querySelector('#tap-state').innerText.startsWith('Live')")
        till.close(kill=True)
        await page.until("document.querySelector('#connection').innerText.startsWith('No answer since ')")
        assert await page.text("#said") == "The process does not answer."
        till.start_again()
        await page.until("document.querySelector('#connection').innerText === 'Connected.'")
        assert await page.text("#said") == "Connected again."
        await page.until(
            f"document.querySelector('#process').innerText.includes('process {till.process.pid},')"
        )
        await page.until("document.querySelector('#tap-state').innerText.startsWith('Live')")

        async def sold():
            till.do("sell", 1)
            return "shop.order" in (await page.text("#rates"))

        await eventually(sold)
        # What the browser says of connections that nobody took is all that there is.
        assert [each for each in page.complaints if "net::ERR_" not in each] == []


async def test_a_port_with_a_token_asks_for_it_and_keeps_it_in_the_tab(chromium, runtime):
    stats = await admin.start(port=0, token=TOKEN)
    async with chromium.page(stats["url"]) as page:
        await page.until("document.activeElement.id === 'token-field'")
        await page.type("this is not the token")
        await page.press("Enter")
        await page.until("document.querySelector('#token-wrong').innerText.includes('wrong')")
        await page.type(TOKEN)
        await page.press("Enter")
        await page.until("document.querySelector('#connection').innerText === 'Connected.'")
        assert TOKEN not in await page.value("document.documentElement.outerHTML + location.href")
        assert await page.value("[document.cookie, Object.keys(localStorage).length]") == ["", 0]
        assert {text.rpartition("/")[2] for text in page.complaints} <= {"openapi.json"}  # the answers 401
        await page.do("Page.reload")
        await page.until("document.querySelector('#connection').innerText === 'Connected.'")
        assert not await page.value("document.querySelector('#token').checkVisibility()")


async def test_sections_without_a_route_say_so_and_ask_for_nothing(chromium, runtime, monkeypatch):
    kept = tuple(each for each in route_table.ROUTES if each.path in {"/", "/openapi.json", "/status"})
    for module in (route_table, api):
        monkeypatch.setattr(module, "ROUTES", kept)
    stats = await admin.start(port=0)
    async with chromium.page(stats["url"]) as page:
        await page.until("document.querySelector('#connection').innerText === 'Connected.'")
        for section, path in {"events": "/events", "configuration": "/config", "actors": "/actors"}.items():
            assert f"has no {path}." in await page.text(f"#{section}")
        await asyncio.sleep(3)
        asked = {each.rpartition("/")[2] for each in page.requests if not each.startswith("data:")}
        assert asked == {"", "openapi.json", "status"}
        assert page.complaints == []


async def test_what_it_keeps_is_bounded(chromium, runtime):
    stats = await admin.start(port=0)
    async with chromium.page(stats["url"]) as page:
        await page.until("document.querySelector('#connection').innerText === 'Connected.'")
        # A day of it in a moment: names, traces and statuses that are ever new.
        sizes = await page.value("""(() => {
            const message = (event_name, measurements, metadata, time) =>
                ({event_name, measurements, metadata, time});
            for (let n = 0; n < 20000; n++) {
                const trace_id = String(n).padStart(32, "0");
                const span = {trace_id, span_id: trace_id.slice(16), server: `server ${n}`};
                const handled = {...span, span_id: `x${n}`}, times = {duration_ms: 1, wait_ms: 1};
                takeEvent("message", message(`e${n}.start`, {}, span, n));
                takeEvent("message", message("otpylib.handle.success", times, handled, n));
                takeEvent("message", message("one.start", {}, {trace_id: "one", span_id: String(n)}, n));
            }
            const exporter = {name: "x", state: "running", ready: true, queue_limit: 1, stats: {},
                ledger: {accepted: 1, exported: 1, dropped: {}, queued: 0}, breaker: {state: "closed"}};
            for (let n = 0; n < 400; n++) {
                tap.ticked = 0;
                tick();
                takeStatus({time: n, pid: 1, exporters: [exporter], services: [], handlers: []});
            }
            drawEvents();
            drawTraces();
            return {
                names: names.size, traces: traces.size, spans: traces.get("one").spans.size,
                servers: servers.size, latest: latest.length,
                rates: rateChart.length, points: exporters.get("x").points.length,
                elements: document.querySelectorAll("*").length,
            };
        })()""")
        assert sizes.pop("elements") < 6000
        bounds = {
            "names": 300,
            "traces": 200,
            "spans": 300,
            "servers": 300,
            "latest": 30,
            "rates": 300,
            "points": 300,
        }
        assert {key for key, size in sizes.items() if size > bounds[key]} == set()
        assert page.complaints == []
