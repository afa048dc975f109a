"""The settings of the Prometheus exporter, section ``telemetry.prometheus``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from otpylib_telemetry.config.environment import parse_table
from otpylib_telemetry.config.field_types import Number, OptionalNumber, WholeNumber
from otpylib_telemetry.config.refusals import Conflict
from otpylib_telemetry.metrics.options import MULTIPROCESS_MODES
from otpylib_telemetry.metrics.settings import MetricsSettings
from otpylib_telemetry_prometheus import setting_types as types  # noqa: TC001 - pydantic reads them
from otpylib_telemetry_prometheus.endpoint.access import Access, Login, login
from otpylib_telemetry_prometheus.endpoint.connections import Limits
from otpylib_telemetry_prometheus.endpoint.tls import Files

#: Characters of a name that are looked at: nobody's key is longer.
_LONGEST_KEY: Final = 100
#: Words of unknown keys that somebody may have meant to protect the page with, by the key they may stand for.
_MEANT: Final[Mapping[str, frozenset[str]]] = {
    key: frozenset(meant.split())
    for key, meant in {
        "basic_auth": "auth authorization basicauth bearer credential credentials htpasswd login pass passwd "
        "password pw secret token user username users",
        "certificate": "cert certfile certificate certs crt https key keyfile pem ssl tls",
        "client_ca": "ca cafile cas clientca mtls authorities authority",
    }.items()
}


class PrometheusSettings(MetricsSettings):
    """What the Prometheus exporter can be told."""

    kind: ClassVar[str] = "prometheus"
    shared_environment: ClassVar[frozenset[str]] = MetricsSettings.shared_environment | {"push_job"}

    port: WholeNumber = Field(
        9464,
        ge=0,
        le=65_535,
        description="Where metrics are to be scraped; 0 takes any free port, and `get_stats` tells which.",
        json_schema_extra={"env": ["OTEL_EXPORTER_PROMETHEUS_PORT"], "remakes": "endpoint"},
    )
    host: types.Host = Field(
        "127.0.0.1",
        description="The address the endpoint listens on; `0.0.0.0` lets other machines reach it, `::` "
        "those with IPv6 as well. An empty one is every address of this machine.",
        json_schema_extra={"env": ["OTEL_EXPORTER_PROMETHEUS_HOST"], "remakes": "endpoint"},
    )
    path: types.PagePath = Field(
        "/metrics", description="The path of the endpoint.", json_schema_extra={"remakes": "endpoint"}
    )
    serve: bool = Field(
        True,
        description="Whether there is an endpoint at all. Without it the metrics are shown by a server "
        "of your own (`asgi_app`, `wsgi_app`), or are pushed.",
        json_schema_extra={"remakes": "endpoint"},
    )
    certificate: types.Protection = Field(
        None,
        description="File with the certificate of the endpoint (PEM), and those between it and its "
        "authority: it then speaks HTTPS. Read again when it changes, as are the other two files.",
        json_schema_extra={"remakes": "endpoint"},
    )
    key: types.Protection = Field(
        None,
        description="File with the private key (PEM). Unset: it is in the file of the certificate.",
        json_schema_extra={"remakes": "endpoint"},
    )
    client_ca: types.Protection = Field(
        None,
        description="File with the authorities (PEM) of which a client must have a certificate. Unset: it "
        "needs none.",
        json_schema_extra={"remakes": "endpoint"},
    )
    basic_auth: Annotated[
        Login | None, BeforeValidator(login, json_schema_input_type=Login | str | Literal[False])
    ] = Field(
        None,
        description='Name and password a client must show: `{ username = "...", password = "..." }` or '
        '`"username:password"`. Unset or `false`: none. It protects the mounted page as well.',
        json_schema_extra={"secret": True, "remakes": "endpoint"},
    )
    max_connections: WholeNumber = Field(
        100,
        ge=1,
        le=10_000,
        description="How many connections the endpoint has at once. Beyond that, those that ask for nothing "
        "give way to new ones; while all are being answered, new ones are refused.",
        json_schema_extra={"remakes": "endpoint"},
    )
    scrape_timeout: Number = Field(
        30.0,
        ge=0.001,
        le=3_600,
        description="How long one answer may take, until the scraper has read it.",
        json_schema_extra={"unit": "seconds", "remakes": "endpoint"},
    )
    namespace: types.Namespace = Field(
        None, description="Put before the name of every metric, with an underscore between."
    )
    global_labels: types.GlobalLabels = Field(
        default_factory=dict, description="Labels every series carries, with their values."
    )
    compression: Literal["gzip", "none"] = Field(
        "gzip", description="How a page is compressed for a scraper that can undo it."
    )
    resource: types.Attributes = Field(
        default_factory=dict,
        description="What the page says about the process as a whole, as the labels of `target_info`. Those "
        "of OTEL_RESOURCE_ATTRIBUTES, and OTEL_SERVICE_NAME as `service.name`, are kept beside them.",
        json_schema_extra={"merge_environment": True},
    )
    self_metrics: bool = Field(
        True,
        description="Whether the page also says how every exporter of the process is doing: "
        "`otpylib_telemetry_...`.",
    )
    merge_registries: types.ImportPaths = Field(
        (),
        description="Registries of prometheus_client whose metrics are on the page too, as import paths such "
        "as `prometheus_client:REGISTRY`.",
    )
    multiprocess_dir: types.Directory = Field(
        None,
        description="A directory in which the workers of one application (gunicorn, uvicorn, celery) share "
        "their series: whichever is scraped then tells of all. Unset: each tells of itself.",
        json_schema_extra={"env": ["PROMETHEUS_MULTIPROC_DIR"], "remakes": "endpoint"},
    )
    multiprocess_modes: types.Modes = Field(
        default_factory=dict,
        description="How the values a gauge has in several workers become one, by the name of the metric, in "
        "the words of prometheus_client: "
        + ", ".join(f"`{mode}`" for mode in MULTIPROCESS_MODES)
        + ". Without an entry: "
        "`livesum` for what counts up and down, `mostrecent` for what is set.",
    )
    push_url: types.Gateway = Field(
        None,
        description="A Pushgateway to push to, `http://localhost:9091`; a user name and a password may stand "
        "before the host, and are shown nowhere. Unset: nothing is pushed.",
    )
    push_interval: OptionalNumber = Field(
        None,
        ge=0.1,
        le=86_400,
        description="From one push to the next. Unset: only once, when the exporter stops.",
        json_schema_extra={"unit": "seconds"},
    )
    push_job: types.Job = Field(
        "otpylib",
        description="The label `job` of what is pushed.",
        json_schema_extra={"env": ["OTEL_SERVICE_NAME"]},
    )
    push_grouping: types.Grouping = Field(
        default_factory=dict,
        description="Further labels of what is pushed. A push replaces what was pushed before with the same "
        "ones, so instances that must not replace each other need one each, such as `instance`.",
    )

    @classmethod
    def meant_protection(cls, name: str) -> str | None:
        """Return the key that protects the page, or what is pushed, and that a name may stand for."""
        if name in cls.model_fields:
            return name if name in {*_MEANT, "key", "push_url"} else None
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name[:_LONGEST_KEY])
        joined = "".join(words).lower()
        for key, meant in _MEANT.items():
            if joined == key.replace("_", "") or not meant.isdisjoint(word.lower() for word in words):
                return key
        near = difflib.get_close_matches(name[:_LONGEST_KEY].lower(), cls.model_fields, n=1, cutoff=0.6)
        return near[0] if near and near[0] in {*_MEANT, "push_url"} else None

    def exposed(self, wished: frozenset[str]) -> Mapping[str, str]:
        """Return what would be open to everybody, or go to nobody, without what was wished for."""
        open_keys = {key for key in ("certificate", "client_ca", "basic_auth") if getattr(self, key) is None}
        if "certificate" in open_keys:
            open_keys.add("key")
        found = {}
        if not open_keys.isdisjoint(wished):
            found["page"] = "The metrics are not served until this is mended."
        if "push_url" in wished and self.push_url is None:
            found["push"] = "Nothing is pushed until this is mended."
        return found

    @classmethod
    def standard_environment(cls, environ: Mapping[str, str]) -> Mapping[str, tuple[str, Any]]:
        """Return the resource attributes that OpenTelemetry's variables tell."""
        variable, service = "OTEL_RESOURCE_ATTRIBUTES", environ.get("OTEL_SERVICE_NAME")
        table = parse_table(environ.get(variable, ""))
        if service is not None and isinstance(table, Mapping):
            # Of the two variables it is the stronger one: so says the specification.
            variable = "OTEL_SERVICE_NAME" if variable not in environ else variable
            table = {**table, "service.name": service}
        return {"resource": (variable, table)} if table else {}

    def access(self) -> Access:
        """Return what stands between a client and the endpoint's page."""
        files = None if self.certificate is None else Files(self.certificate, self.key, self.client_ca)
        return Access(files, self.basic_auth)

    def limits(self) -> Limits:
        """Return what the endpoint takes on."""
        return Limits(self.max_connections, self.scrape_timeout)

    def conflicts(self) -> Iterable[Conflict]:
        """Return the settings that do not go together."""
        for name in ("key", "client_ca"):
            if getattr(self, name) is not None and self.certificate is None:
                yield Conflict((name, "certificate"), f"{name} is of use only together with certificate")
        if self.push_url is None and self.push_interval is not None:
            yield Conflict(
                ("push_interval", "push_url"), "push_interval needs push_url, which says where to push to"
            )
