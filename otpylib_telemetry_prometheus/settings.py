"""The settings of the Prometheus exporter, section ``telemetry.prometheus``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, field_validator

from otpylib_telemetry.config.environment import parse_table
from otpylib_telemetry.config.settings import (
    Conflict,
    Number,
    OptionalNumber,
    OptionalPath,
    OptionalText,
    RefusedError,
    WholeNumber,
    Words,
    absolute,
)
from otpylib_telemetry.metrics.options import MULTIPROCESS_MODES
from otpylib_telemetry.metrics.settings import MetricsSettings
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry_prometheus.endpoint.access import Access, Login, login, protection
from otpylib_telemetry_prometheus.endpoint.connections import Limits
from otpylib_telemetry_prometheus.endpoint.tls import Files

# Prometheus data model: names of metrics may contain colons, but those are reserved for recording rules.
_METRIC_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
#: What the exporter itself gives a meaning, and what is said of it.
_RESERVED_LABELS = {
    name: f"the label {name} is reserved: the exporter itself gives it a meaning"
    for name in ("le", "quantile", "otel_metric_overflow", "outcome")
}
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
#: Characters of a name that are looked at: nobody's key is longer.
_LONGEST_KEY: Final = 100
# What names an object in a module, as entry points do: prometheus_client:REGISTRY.
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

#: A file that protects the page: an empty text is no way to say that it need not be protected.
Protection: TypeAlias = Annotated[
    str | None,
    BeforeValidator(absolute),
    BeforeValidator(protection, json_schema_input_type=str | Literal[False]),
]

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


def _is_login(username: str | None, password: str | None) -> bool:
    """Tell whether the user name and the password in a URL can be sent."""
    both = unquote(username or ""), unquote(password or "")
    return all(both) and "".join(both).isprintable() and ":" not in both[0]


def _labels(table: object, reserved: Mapping[str, str]) -> object:
    """Return a table of labels as text, none of a name that is ``reserved``, which has the reason."""
    if not isinstance(table, Mapping):
        return table
    for name in table:
        if not isinstance(name, str) or not _LABEL.fullmatch(name) or name.startswith("__"):
            shown_name = repr(name[:60]) if isinstance(name, str) else "one of them"
            raise RefusedError(
                "expected label names of letters, digits and underscores that begin with neither a digit "
                f"nor two underscores, but {shown_name} is not"
            )
        if name in reserved:
            raise RefusedError(reserved[name])
    return {name: _label_value(name, item) for name, item in table.items()}


def _label_value(name: object, value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return text(value, None)
        case int() | float():
            return repr(value)
        case _:
            public = "expected label values that are strings, numbers or booleans"
            raise RefusedError(f"{public}, but that of {name} is something else", public)


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
    host: str = Field(
        "127.0.0.1",
        description="The address the endpoint listens on; `0.0.0.0` lets other machines reach it, `::` "
        "those with IPv6 as well. An empty one is every address of this machine.",
        json_schema_extra={"env": ["OTEL_EXPORTER_PROMETHEUS_HOST"], "remakes": "endpoint"},
    )
    path: str = Field(
        "/metrics", description="The path of the endpoint.", json_schema_extra={"remakes": "endpoint"}
    )
    serve: bool = Field(
        True,
        description="Whether there is an endpoint at all. Without it the metrics are shown by a server "
        "of your own (`asgi_app`, `wsgi_app`), or are pushed.",
        json_schema_extra={"remakes": "endpoint"},
    )
    certificate: Protection = Field(
        None,
        description="File with the certificate of the endpoint (PEM), and those between it and its "
        "authority: it then speaks HTTPS. Read again when it changes, as are the other two files.",
        json_schema_extra={"remakes": "endpoint"},
    )
    key: Protection = Field(
        None,
        description="File with the private key (PEM). Unset: it is in the file of the certificate.",
        json_schema_extra={"remakes": "endpoint"},
    )
    client_ca: Protection = Field(
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
    namespace: OptionalText = Field(
        None, description="Put before the name of every metric, with an underscore between."
    )
    global_labels: Mapping[str, str] = Field(
        default_factory=dict, description="Labels every series carries, with their values."
    )
    compression: Literal["gzip", "none"] = Field(
        "gzip", description="How a page is compressed for a scraper that can undo it."
    )
    resource: Mapping[str, str] = Field(
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
    merge_registries: Words = Field(
        (),
        description="Registries of prometheus_client whose metrics are on the page too, as import paths such "
        "as `prometheus_client:REGISTRY`.",
    )
    multiprocess_dir: OptionalPath = Field(
        None,
        description="A directory in which the workers of one application (gunicorn, uvicorn, celery) share "
        "their series: whichever is scraped then tells of all. Unset: each tells of itself.",
        json_schema_extra={"env": ["PROMETHEUS_MULTIPROC_DIR"], "remakes": "endpoint"},
    )
    multiprocess_modes: Mapping[str, str] = Field(
        default_factory=dict,
        description="How the values a gauge has in several workers become one, by the name of the metric, in "
        "the words of prometheus_client: "
        + ", ".join(f"`{mode}`" for mode in MULTIPROCESS_MODES)
        + ". Without an entry: "
        "`livesum` for what counts up and down, `mostrecent` for what is set.",
    )
    push_url: OptionalText = Field(
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
    push_job: str = Field(
        "otpylib",
        description="The label `job` of what is pushed.",
        json_schema_extra={"env": ["OTEL_SERVICE_NAME"]},
    )
    push_grouping: Mapping[str, str] = Field(
        default_factory=dict,
        description="Further labels of what is pushed. A push replaces what was pushed before with the same "
        "ones, so instances that must not replace each other need one each, such as `instance`.",
    )

    @field_validator("host")
    @classmethod
    def _host_is_only_a_host(cls, value: str) -> str:
        host = value.strip()
        if not host:
            return host
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host or re.search(r"[\s/\[\]]", host) or "://" in host:
            raise RefusedError("expected a host name or an address, such as 127.0.0.1 or 0.0.0.0")
        if host.count(":") == 1:
            raise RefusedError("expected a host without a port; the port has a key of its own")
        return host

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str) -> str:
        path = value.strip()
        if not path.startswith("/"):
            raise RefusedError("expected a path that begins with '/', such as /metrics")
        if not _PATH.fullmatch(path):
            raise RefusedError("expected a path without blanks, braces, '?' or '#', such as /metrics")
        return path

    @field_validator("namespace")
    @classmethod
    def _namespace_begins_a_name(cls, value: str | None) -> str | None:
        if value is None:
            return None
        namespace = value.strip()
        if not _METRIC_PREFIX.fullmatch(namespace):
            raise RefusedError("expected letters, digits and underscores, not beginning with a digit")
        return namespace

    @field_validator("global_labels", mode="before")
    @classmethod
    def _global_labels_can_be_labels(cls, value: object) -> object:
        return _labels(value, _RESERVED_LABELS)

    @field_validator("resource", mode="before")
    @classmethod
    def _resource_is_attributes(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        if not all(isinstance(name, str) and name.strip() for name in value):
            raise RefusedError("expected attribute names that are strings and not empty")
        return {name: _label_value(name, item) for name, item in value.items()}

    @field_validator("merge_registries")
    @classmethod
    def _registries_have_import_paths(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for path in value:
            if not _IMPORT_PATH.fullmatch(path):
                raise RefusedError(
                    f"expected import paths such as prometheus_client:REGISTRY, but {path[:60]!r} is none",
                    "expected import paths such as prometheus_client:REGISTRY",
                )
        return value

    @field_validator("multiprocess_dir")
    @classmethod
    def _multiprocess_dir_is_a_directory(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = Path(value.strip()).expanduser()
        if "\0" in value or (path.exists() and not path.is_dir()):
            raise RefusedError("expected a directory, which need not exist yet")
        return os.path.abspath(path)  # noqa: PTH100 - Path.absolute leaves ".." in

    @field_validator("multiprocess_modes")
    @classmethod
    def _modes_are_modes(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        value = {name: mode.strip().lower() for name, mode in value.items()}
        for name, mode in value.items():
            if mode not in MULTIPROCESS_MODES:
                public = f"expected one of {', '.join(MULTIPROCESS_MODES)} for each metric"
                raise RefusedError(f"{public}, but that of {name[:60]} is {mode[:60]!r}", public)
        return value

    @field_validator("push_url")
    @classmethod
    def _push_url_is_a_gateway(cls, value: str | None) -> str | None:
        if value is None:
            return None
        expected = "expected the URL of a Pushgateway, such as http://localhost:9091"
        url = value.strip()
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or re.search(r"\s", url):
            raise RefusedError(expected)
        if "@" in parts.netloc and not _is_login(parts.username, parts.password):
            raise RefusedError(
                f"{expected}; before the @ a user name and a password, neither of them empty, with what is "
                "special in a URL percent-encoded"
            )
        if "@" in f"{parts.path}{parts.query}{parts.fragment}":
            raise RefusedError(f"{expected}, where '/', '?' and '#' in a password are percent-encoded")
        if parts.query or parts.fragment:
            raise RefusedError(f"{expected}, without '?' and '#'")
        if "/metrics/" in f"{parts.path}/":
            raise RefusedError(f"{expected}, without /metrics: push_job and push_grouping make the rest")
        return url

    @field_validator("push_job")
    @classmethod
    def _push_job_is_something(cls, value: str) -> str:
        if not value.strip():
            raise RefusedError("expected a name; a Pushgateway takes nothing without one")
        # It may come from an environment that is no Unicode.
        return text(value.strip(), None)

    @field_validator("push_grouping", mode="before")
    @classmethod
    def _push_grouping_can_be_labels(cls, value: object) -> object:
        return _labels(value, {"job": "the label job has a key of its own, push_job"})

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
