"""The pages about backends: what their config.toml makes of the exporter, short of connecting it."""

import os
import re
from pathlib import Path

import pytest

from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.config.toml_source import TomlSource
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.presets import DatadogBackend
from otpylib_telemetry_otel.sdk import plugins
from tests.project.test_docs import blocks_of

DIRECTORY = Path(__file__).parents[2] / "docs" / "how-to" / "export" / "backends"
PAGES = sorted(path.stem for path in DIRECTORY.glob("*.md") if path.name != "README.md")
BACKENDS = {"otel": OtelBackend, "datadog": DatadogBackend}
CONFIG = "config.toml"
LOCAL = "http://localhost:4317"


def blocks(page, language):
    return [block for block in blocks_of(DIRECTORY / f"{page}.md") if block.language == language]


def configurations(page):
    """The page's blocks of TOML, its config.toml first."""
    found = blocks(page, "toml")
    return sorted(found, key=lambda block: block.title != CONFIG)


async def read(text, directory, environ=None):
    """Read a configuration as an application does: (section, settings)."""
    environ = environ or {}
    path = directory / CONFIG
    path.write_text(text, encoding="utf-8")
    source = TomlSource(path, environ=environ)
    ((section, values),) = (await source.load())["telemetry"].items()
    assert source.trouble is None
    return section, settings_of(section, environ, values)


def settings_of(section, environ, values=None):
    resolution = resolve(
        BACKENDS[section].settings_type, f"telemetry.{section}", environ=environ, config=values or {}
    )
    assert [problem.message for problem in resolution.problems] == []
    return resolution.settings


def exporter_of(section, settings):
    async def nothing():
        """Nothing to catch up with."""

    context = ExportContext(f"{section}_exporter", f"telemetry.{section}", {}, nothing, dict)
    return BACKENDS[section](settings, context)


async def opened(section, settings):
    exporter = exporter_of(section, settings)
    assert exporter.idle_reason() is None
    await exporter.open()
    return exporter


async def transport_of(text, directory, environ=None):
    """Where a configuration sends: (address, headers, whether encrypted), of the connection itself."""
    exporter = await opened(*await read(text, directory, environ))
    try:
        transport = exporter.traces._destination._transport
        headers = dict(transport._headers)
        headers.pop("user-agent", None)
        if hasattr(transport, "_target"):
            return transport._target, headers, transport._encrypted
        headers.pop("content-type")
        return transport._url, headers, transport._url.startswith("https://")
    finally:
        await exporter.close()


def environment_of(page):
    """The variables a page gives as the alternative: the last block of NAME=value lines."""
    found = [block.text for block in blocks(page, "text") if re.match(r"[A-Z_]+=", block.text)]
    return dict(line.split("=", 1) for line in found[-1].splitlines())


def test_every_backend_has_a_page_that_the_index_names():
    assert set(PAGES) == {"collector", "jaeger", "tempo", "datadog", "x-ray", "azure", "google"}
    index = (DIRECTORY / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES if f"({page}.md)" not in index] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_config_toml_and_says_what_was_run(page):
    assert [block.title for block in blocks(page, "toml")].count(CONFIG) == 1
    text = (DIRECTORY / f"{page}.md").read_text(encoding="utf-8")
    assert re.search(r"^\*\*(Not run here|Run here)", text, re.MULTILINE)
    assert {"## Install", "## Check", "## Pitfalls"} <= set(re.findall(r"^## \w+", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES)
async def test_every_configuration_of_a_page_is_read_without_a_complaint(page, tmp_path, caplog):
    for block in configurations(page):
        _, settings = await read(block.text, tmp_path)
        assert settings.service_name == "shop"
    assert caplog.messages == []


@pytest.mark.parametrize("page", ["collector", "jaeger", "tempo", "x-ray", "google"])
async def test_what_goes_to_a_receiver_nearby_goes_there_over_grpc_without_encryption(page, tmp_path):
    target, headers, encrypted = await transport_of(configurations(page)[0].text, tmp_path)
    assert (target, encrypted) == ("localhost:4317", False)
    assert headers == ({"x-scope-orgid": "1"} if page == "tempo" else {})


@pytest.mark.parametrize("page", PAGES)
def test_the_variables_of_a_page_do_what_its_config_toml_does(page):
    section = "datadog" if page == "datadog" else "otel"
    settings = settings_of(section, environment_of(page))
    assert settings.service_name == "shop"
    match page:
        case "azure":
            assert settings.exporter == "azure_monitor_opentelemetry_exporter"
        case "datadog":
            assert (settings.endpoint, settings.protocol) == ("https://otlp.datadoghq.eu", "http/protobuf")
            assert settings.connection("traces").headers == {"dd-api-key": "..."}
        case _:
            assert (settings.endpoint, settings.protocol) == (LOCAL, "grpc")
    if page == "tempo":
        assert settings.connection("traces").headers == {"x-scope-orgid": "1"}
    if page == "x-ray":
        assert settings.resource_detectors == ("aws_ecs",)
    if page == "google":
        assert settings.resource_attributes()["gcp.project_id"] == "my-project"
    if page in {"jaeger", "tempo", "x-ray", "google"}:
        assert settings.logs is False


async def test_resource_attributes_come_from_the_variable_or_the_default(tmp_path):
    text = configurations("collector")[0].text
    _, settings = await read(text, tmp_path)
    assert settings.resource_attributes()["deployment.environment.name"] == "development"
    _, settings = await read(text, tmp_path, {"ENVIRONMENT": "production"})
    assert settings.resource_attributes()["deployment.environment.name"] == "production"
    _, settings = await read(configurations("google")[0].text, tmp_path, {"GOOGLE_CLOUD_PROJECT": "shop-1"})
    assert settings.resource_attributes()["gcp.project_id"] == "shop-1"


async def test_the_collector_over_http_has_the_path_appended_and_certificates_that_must_exist(tmp_path):
    text = configurations("collector")[1].text
    section, settings = await read(text, tmp_path, {"TENANT": "shops"})
    assert settings.connection("traces").url == "https://collector.example.com:4318/v1/traces"
    assert settings.connection("traces").headers == {"x-tenant": "shops"}
    with pytest.raises(BackendUnavailableError, match=r"certificate: the file /etc/ssl/collector-ca\.pem"):
        await opened(section, settings)


async def test_grafana_cloud_gets_basic_authentication_below_its_own_path(tmp_path):
    url, headers, encrypted = await transport_of(
        configurations("tempo")[1].text, tmp_path, {"GRAFANA_OTLP_AUTH": "MTIzOmFiYw=="}
    )
    assert url == "https://otlp-gateway-prod-eu-west-2.grafana.net/otlp/v1/traces"
    assert (headers, encrypted) == ({"authorization": "Basic MTIzOmFiYw=="}, True)


async def test_a_blank_in_a_header_is_percent_encoded_in_the_environment():
    headers = "authorization=Basic%20abc"
    assert headers in (DIRECTORY / "tempo.md").read_text(encoding="utf-8")
    settings = settings_of("otel", {"OTEL_EXPORTER_OTLP_HEADERS": headers})
    assert settings.connection("traces").headers == {"authorization": "Basic abc"}


@pytest.mark.parametrize("site", ["datadoghq.com", "datadoghq.eu", "us5.datadoghq.com"])
async def test_datadog_gets_the_key_in_its_own_header_at_the_intake_of_the_site(site, tmp_path):
    environ = {"DD_API_KEY": "0123456789abcdef", "DD_SITE": site}
    url, headers, encrypted = await transport_of(configurations("datadog")[0].text, tmp_path, environ)
    assert url == f"https://otlp.{site}/v1/traces"
    assert (headers, encrypted) == ({"dd-api-key": "0123456789abcdef"}, True)


async def test_datadog_without_a_key_is_idle(tmp_path):
    section, settings = await read(configurations("datadog")[0].text, tmp_path)
    assert "no api_key is set" in exporter_of(section, settings).idle_reason()


async def test_datadogs_agent_is_a_receiver_nearby(tmp_path):
    target, headers, encrypted = await transport_of(configurations("datadog")[1].text, tmp_path)
    assert (target, headers, encrypted) == ("localhost:4317", {}, False)


class Exporter:
    """An exporter of another package, which sends nothing."""

    def export(self, _spans):
        return None

    def shutdown(self):
        """Nothing to release."""


class Detector:
    def detect(self):
        return type("Resource", (), {"attributes": {"cloud.provider": "aws"}})


class Entry:
    value = "vendor:Thing"

    def __init__(self, name, factory):
        self.name, self.factory = name, factory

    def load(self):
        return self.factory


#: Page, configuration on it, the name its package registers, where, and what may be missing.
PLUGINS = [
    ("azure", 0, "exporter", "azure-monitor-opentelemetry-exporter", Exporter),
    ("google", 1, "exporter", "opentelemetry-exporter-gcp-trace", Exporter),
    ("x-ray", 1, "resource_detectors", "opentelemetry-sdk-extension-aws", Detector),
]


def name_of(settings, key):
    value = getattr(settings, key)
    return value if isinstance(value, str) else value[0]


@pytest.mark.parametrize(("page", "number", "key", "package", "factory"), PLUGINS)
class TestPackagesOfVendors:
    async def test_without_the_package_the_message_names_what_the_page_has_installed(
        self, page, number, key, package, factory, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(plugins, "entry_points", lambda group: [])
        section, settings = await read(configurations(page)[number].text, tmp_path)
        with pytest.raises(BackendUnavailableError) as refused:
            await opened(section, settings)
        assert repr(name_of(settings, key)) in str(refused.value)
        installed = "\n".join(block.text for block in blocks(page, "sh"))
        assert re.search(rf"^pip install .*{re.escape(package)}", installed, re.MULTILINE)
        assert package in str(refused.value)

    async def test_with_the_package_what_it_registers_under_that_name_is_used(
        self, page, number, key, package, factory, tmp_path, monkeypatch
    ):
        section, settings = await read(configurations(page)[number].text, tmp_path)
        entries = [Entry(name_of(settings, key), factory)]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
        exporter = await opened(section, settings)
        try:
            if key == "exporter":
                assert isinstance(exporter.traces._destination._exporter, Exporter)
            else:
                assert exporter.traces._destination._transport._target == "localhost:4317"
        finally:
            await exporter.close()


async def test_azures_connection_string_is_left_to_its_package():
    """It is built without arguments; so a variable is the only place for the string."""
    assert "APPLICATIONINSIGHTS_CONNECTION_STRING=" in "".join(
        block.text for block in blocks("azure", "text")
    )
    assert settings_of("otel", {"APPLICATIONINSIGHTS_CONNECTION_STRING": "x", **os.environ}).endpoint is None
