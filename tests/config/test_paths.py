"""A relative path is one of the directory in which it was first read, wherever the application goes."""

import pytest

from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolution import redacted
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.config.reading import otel, prometheus

PATHS = {
    OtelSettings: [
        f"{signal}{key}"
        for signal in ("", "logs_", "metrics_")
        for key in ("certificate", "client_key", "client_certificate")
    ],
    PrometheusSettings: ["certificate", "key", "client_ca", "multiprocess_dir"],
}


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Two directories, of which the first is where we are, and a function that goes to the second."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    return here, lambda: monkeypatch.chdir(elsewhere)


@pytest.mark.parametrize("settings_type", PATHS)
@pytest.mark.parametrize("layer", ["argument", "environment", "config", "runtime"])
def test_every_path_from_every_source(places, settings_type, layer):
    here, leave = places
    keys = PATHS[settings_type]
    section = f"telemetry.{settings_type.kind}"
    values = {key: f"sub/{key}.pem" for key in keys}
    environ = {f"{section.replace('.', '_').upper()}_{key.upper()}": value for key, value in values.items()}
    live = LiveConfig(
        settings_type,
        section,
        values if layer == "argument" else {},
        environ if layer == "environment" else {},
    )
    if layer == "config":
        live.observe(values)
    leave()
    if layer == "runtime":
        live.change(values)
    wanted = {key: str(here / "sub" / f"{key}.pem") for key in keys}
    for _ in range(2):
        assert live.resolution.problems == ()
        assert {key: getattr(live.settings, key) for key in keys} == wanted
        assert {key: redacted(live.resolution)[key] for key in keys} == wanted
        # Another life of the exporter, another change: the same place.
        live.restart(values if layer == "argument" else {}, environ if layer == "environment" else {})
        live.change({"batch_size": 7})


def test_variables_of_opentelemetry_as_well(places):
    here, leave = places
    live = LiveConfig(
        OtelSettings,
        "telemetry.otel",
        {},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "ca.pem", "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE": "logs.pem"},
    )
    leave()
    assert live.settings.connection("traces").files[0] == str(here / "ca.pem")
    assert live.settings.connection("logs").files[0] == str(here / "logs.pem")


@pytest.mark.parametrize("written", ["/etc/ca.pem", " /etc/ca.pem\n"])
def test_an_absolute_path_stays_what_it_is(written):
    live = LiveConfig(OtelSettings, "telemetry.otel", {"certificate": written}, {})
    assert live.settings.certificate == "/etc/ca.pem"


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/srv/shop")
    live = LiveConfig(PrometheusSettings, "telemetry.prometheus", {"certificate": "~/tls.crt"}, {})
    assert live.settings.certificate == "/srv/shop/tls.crt"


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_one_still_means_none(empty):
    assert otel(config={"certificate": empty}).settings.certificate is None
    assert prometheus(config={"client_ca": empty}).settings.client_ca is None
    own = otel(config={"certificate": "ca.pem", "logs_certificate": empty}).settings
    assert own.connection("logs").files[0] is None


def test_a_working_directory_that_was_deleted_does_no_harm(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    live = LiveConfig(OtelSettings, "telemetry.otel", {"certificate": "ca.pem"}, {})
    assert live.settings.certificate == "ca.pem"
