"""What is to protect the metrics is in force, or they are shown to nobody."""

import asyncio
import base64
import logging

import pytest
from otpylib import gen_server

from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry_prometheus import asgi_app, start_prometheus_exporter, wsgi_app
from otpylib_telemetry_prometheus.endpoint.access import WITHHELD
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.prometheus.test_mount import AsgiServer, fetch, wsgi_server
from tests.support.chassis import runner
from tests.support.waiting import eventually

NAME = "prometheus_exporter"
SECTION = "telemetry.prometheus"
GOOD = "scraper:secret"

UNUSABLE = {
    "no colon": {"basic_auth": "scraper"},
    "nothing": {"basic_auth": ""},
    "blanks": {"basic_auth": "  "},
    "no password": {"basic_auth": "scraper:"},
    "no name": {"basic_auth": ":secret"},
    "a line feed at the end": {"basic_auth": "scraper:secret\n"},
    "half of JSON": {"basic_auth": '{"username": "scraper"'},
    "true": {"basic_auth": True},
    "a number": {"basic_auth": 7},
    "a list": {"basic_auth": ["scraper", "secret"]},
    "an object": {"basic_auth": object()},
    "a key missing": {"basic_auth": {"username": "scraper"}},
    "a key misspelt": {"basic_auth": {"user": "scraper", "password": "secret"}},
    "a key too many": {"basic_auth": {"username": "scraper", "password": "secret", "realm": "x"}},
    "a password that is a number": {"basic_auth": {"username": "scraper", "password": 7}},
    "an empty password": {"basic_auth": {"username": "scraper", "password": ""}},
    "a variable that is not set": {"basic_auth": "${NOT_SET}"},
    "a variable that is empty": {"basic_auth": "${EMPTY}"},
    "a variable that is blank": {"basic_auth": "${BLANK}"},
    "a password that is not set": {"basic_auth": {"username": "scraper", "password": "${NOT_SET}"}},
    "a password that is empty": {"basic_auth": "scraper:${EMPTY}"},
    "a placeholder that is not closed": {"basic_auth": "scraper:${EMPTY"},
    "an authority without a certificate": {"client_ca": "/ca.pem"},
    "a key without a certificate": {"key": "/key.pem"},
    "an empty certificate": {"certificate": ""},
    "a certificate that is not set": {"certificate": "${NOT_SET}"},
    "a certificate that is empty": {"certificate": "${EMPTY}", "key": "/key.pem"},
    "an empty authority": {"certificate": "/c.pem", "client_ca": ""},
    "an authority that is empty": {"certificate": "/c.pem", "client_ca": "${EMPTY}"},
    "a certificate that is a number": {"certificate": 7},
    **{
        f"the unknown key {name}": {name: "scraper:secret"}
        for name in [
            "basicauth",
            "basic-auth",
            "basicAuth",
            "BASIC_AUTH",
            "basic_auht",
            "auth",
            "password",
            "users",
            "bearer_token",
            "login",
            "clientca",
            "client_ca_file",
            "cert",
            "certificate_file",
            "certficate",
            "tls",
            "ssl_key",
            "tlsCert",
            "api_key",
        ]
    },
}
ENVIRON = {"EMPTY": "", "BLANK": " \n"}

UNUSABLE_CASES = pytest.mark.parametrize("written", UNUSABLE.values(), ids=UNUSABLE)


@UNUSABLE_CASES
@pytest.mark.parametrize("layer", ["config", "argument", "runtime"])
def test_what_cannot_be_used_is_not_taken_for_nothing(written, layer):
    resolution = resolve(PrometheusSettings, SECTION, environ=ENVIRON, **{layer: written})
    assert resolution.settings.withheld.keys() == {"page"}
    told = [problem.message for problem in resolution.problems if problem.withholds]
    assert all(message.endswith("The metrics are not served until this is mended.") for message in told)
    assert all("\n" not in message and "secret" not in message for message in told)


@pytest.mark.parametrize("written", ["scraper", "scraper:", ":secret", '{"username": 1}'])
@pytest.mark.parametrize("variable", ["TELEMETRY_PROMETHEUS_BASIC_AUTH", "TELEMETRY_BASIC_AUTH"])
def test_nor_is_a_variable(written, variable):
    resolution = resolve(PrometheusSettings, SECTION, environ={variable: written})
    assert resolution.settings.withheld.keys() == {"page"}


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"basic_auth": False, "certificate": False, "key": False, "client_ca": False},
        {"basic_auth": {}},
        {"basic_auth": GOOD},
        {"basic_auth": "${LOGIN:-scraper:secret}"},
        {"certificate": "/c.pem", "key": 7},
        {"certificate": "/c.pem", "client_ca": "/ca.pem"},
        {"batchsize": 5, "prot": 1, "user": False},
    ],
)
def test_what_was_not_asked_for_does_not_have_to_be_there(written):
    resolution = resolve(PrometheusSettings, SECTION, environ=ENVIRON, config=written)
    assert resolution.settings.withheld == {}


@UNUSABLE_CASES
def test_a_weaker_layer_or_what_was_in_force_protects_as_well(written):
    strong = {"certificate": "/old.pem", "client_ca": "/old-ca.pem", "basic_auth": GOOD}
    before = resolve(PrometheusSettings, SECTION, environ=ENVIRON, config=strong)
    after = resolve(
        PrometheusSettings, SECTION, environ=ENVIRON, config={**strong, **written}, previous=before
    )
    assert after.settings.basic_auth == before.settings.basic_auth
    assert after.settings.client_ca in {"/old-ca.pem", "/ca.pem"}
    assert after.settings.withheld == {}


@UNUSABLE_CASES
def test_it_stays_withheld_whatever_else_changes_until_it_is_mended(written):
    live = LiveConfig(PrometheusSettings, SECTION, {}, ENVIRON)
    live.change(written)
    for change in ({"port": 1}, {"batch_size": 7}, {"basic_auth": None, "certificate": None, "port": 2}):
        expected = not written.keys() <= change.keys()
        live.change(change)
        assert bool(live.settings.withheld) is expected
        if not expected:
            return
    live.change(dict.fromkeys(written))
    assert live.settings.withheld == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://user:${NOT_SET}@gw:9091",
        "http://user:${EMPTY}@gw:9091",
        "http://:secret@gw:9091",
        "http://user@gw:9091",
        "http://@gw:9091",
        "http://user:se%0Acret@gw:9091",
        "http://user:12/secret@gw:9091",
        "http://user:1?secret@gw:9091",
        "http://user:1#secret@gw:9091",
        "gw:9091",
    ],
)
def test_nothing_is_pushed_with_half_a_login(url):
    resolution = resolve(PrometheusSettings, SECTION, environ=ENVIRON, config={"push_url": url})
    (problem,) = resolution.problems
    assert resolution.settings.push_url is None
    assert resolution.settings.withheld.keys() == {"push"}
    assert problem.message.endswith("Nothing is pushed until this is mended.")
    assert "secret" not in problem.message


# --- the exporter -------------------------------------------------------------------------------------------


def basic(login):
    return {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}


async def put(key, value):
    await gen_server.cast(NAME, ("config_changed", f"{SECTION}.{key}", None, value))


def stats():
    return runner(NAME).stats()


async def answers(path="/metrics", **headers):
    base = stats()["url"].removesuffix("/metrics")
    status, _, body = await asyncio.to_thread(fetch, base + path, **headers)
    return status, body.decode().strip()


async def state(expected):
    await eventually(lambda: stats()["state"] == expected)


async def test_the_page_is_shown_to_nobody_and_the_state_says_why(runtime, monkeypatch, caplog):
    monkeypatch.setenv("TELEMETRY_PROMETHEUS_BASIC_AUTH", "scraper")
    caplog.set_level(logging.WARNING)
    await start_prometheus_exporter({"port": 0})
    await state("degraded")
    assert await answers() == (503, WITHHELD)
    assert await answers(**basic("scraper:")) == (503, WITHHELD)
    assert (await answers("/readyz"))[0] == 503
    assert await answers("/healthz") == (200, "ok")
    assert "basic_auth" in stats()["reason"]
    assert [record.getMessage() for record in caplog.records if "basic_auth" in record.getMessage()] == [
        stats()["reason"] + "."
    ]
    await put("basic_auth", GOOD)
    await state("running")
    assert (await answers())[0] == 401
    assert (await answers(**basic(GOOD)))[0] == 200
    assert await answers("/readyz") == (200, "ready")


async def test_an_unusable_login_leaves_the_one_before_in_force(runtime):
    await start_prometheus_exporter({"port": 0, "basic_auth": GOOD})
    await state("running")
    for bad in ("scraper", "", {"username": "scraper"}, "${NOT_SET_ANYWHERE}", ["x"]):
        await put("basic_auth", bad)
        await gen_server.call(NAME, ("flush", 1))
        assert (await answers())[0] == 401
        assert (await answers(**basic(GOOD)))[0] == 200


async def test_an_open_page_closes_for_what_cannot_protect_it(runtime):
    await start_prometheus_exporter({"port": 0})
    await state("running")
    assert (await answers())[0] == 200
    await put("basic_auth", "scraper")
    await state("degraded")
    await put("scrape_timeout", 7)
    await eventually(lambda: runner(NAME).lifecycle._configuration.settings.scrape_timeout == 7)
    await gen_server.call(NAME, ("flush", 1))
    assert (await answers())[0] == 503
    await put("basic_auth", None)
    await state("running")
    assert (await answers())[0] == 200


async def test_a_login_counts_though_the_endpoint_cannot_move(runtime, taken):
    await start_prometheus_exporter({"port": 0})
    await state("running")
    await gen_server.cast(NAME, ("config_changed", SECTION, None, {"port": taken, "basic_auth": GOOD}))
    await put("port", taken)
    await put("basic_auth", GOOD)
    await state("degraded")
    assert (await answers())[0] == 401
    assert (await answers(**basic(GOOD)))[0] == 200


async def test_a_login_is_given_up_only_where_the_rest_can_be_had(runtime, taken):
    await start_prometheus_exporter({"port": 0, "basic_auth": GOOD})
    await state("running")
    await put("port", taken)
    await put("basic_auth", False)
    await state("degraded")
    assert (await answers())[0] == 401


async def test_an_authority_that_cannot_be_had_closes_a_page_without_it(runtime, tmp_path):
    await start_prometheus_exporter({"port": 0})
    await state("running")
    missing = str(tmp_path / "missing.pem")
    await put("client_ca", missing)
    await put("certificate", missing)
    await state("degraded")
    assert await answers() == (503, WITHHELD)
    assert (await answers("/readyz"))[0] == 503


async def test_a_certificate_that_cannot_be_had_leaves_a_page_as_it_was(runtime, tmp_path):
    await start_prometheus_exporter({"port": 0, "max_connections": 50})
    await state("running")
    await put("certificate", str(tmp_path / "missing.pem"))
    await state("degraded")
    assert (await answers())[0] == 200
    assert (await answers("/readyz"))[0] == 503


@pytest.fixture
async def taken():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("make_app", "serve"), [(asgi_app, AsgiServer), (wsgi_app, wsgi_server)], ids=["asgi", "wsgi"]
)
async def test_the_mounted_page_is_protected_as_well(runtime, make_app, serve):
    await start_prometheus_exporter({"serve": False, "basic_auth": GOOD})
    await state("running")
    with serve(make_app()) as url:
        status, headers, _ = await asyncio.to_thread(fetch, url)
        assert status == 401
        assert {name.lower(): value for name, value in headers.items()}["www-authenticate"].startswith(
            "Basic"
        )
        assert (await asyncio.to_thread(fetch, url, **basic("scraper:wrong")))[0] == 401
        assert (await asyncio.to_thread(fetch, url, **basic(GOOD)))[0] == 200
        await put("basic_auth", False)
        await eventually(lambda: runner(NAME).exporter.settings.basic_auth is None)
        assert (await asyncio.to_thread(fetch, url))[0] == 200
        await put("basic_auth", "scraper")
        await state("degraded")
        assert (await asyncio.to_thread(fetch, url, **basic(GOOD)))[0] == 503


async def test_a_file_whose_variable_is_not_set_is_no_open_page(runtime, config_manager, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[telemetry.prometheus]\nport = 0\nbasic_auth = "scraper:${NOT_SET_ANYWHERE}"\n')
    from otpylib_telemetry import TomlSource  # noqa: PLC0415 - only here

    await config_manager(TomlSource(path))
    await start_prometheus_exporter(None)
    await state("degraded")
    assert await answers() == (503, WITHHELD)
    assert "NOT_SET_ANYWHERE is not set" in stats()["reason"]


async def test_nothing_is_pushed_and_the_state_says_why(runtime, monkeypatch):
    monkeypatch.setenv("TELEMETRY_PROMETHEUS_PUSH_URL", "http://scraper@localhost:9091")
    await start_prometheus_exporter({"port": 0})
    await state("degraded")
    assert "push_url" in stats()["reason"]
    assert (await answers())[0] == 200
    assert (await answers("/readyz"))[0] == 503
