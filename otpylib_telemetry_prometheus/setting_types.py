"""The types of settings that are texts of a kind: a host, a path, a Pushgateway, labels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator

from otpylib_telemetry.config.field_types import OptionalPath, OptionalText, Words, absolute
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.metrics.options import MULTIPROCESS_MODES
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry_prometheus.endpoint.access import protection

# Prometheus data model: names of metrics may contain colons, but those are reserved for recording rules.
_METRIC_PREFIX: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL: Final = _METRIC_PREFIX
#: What the exporter itself gives a meaning, and what is said of it.
_RESERVED_LABELS: Final = {
    name: f"the label {name} is reserved: the exporter itself gives it a meaning"
    for name in ("le", "quantile", "otel_metric_overflow", "outcome")
}
_PATH: Final = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
# What names an object in a module, as entry points do: prometheus_client:REGISTRY.
_IMPORT_PATH: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


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


def _host(value: str) -> str:
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


def _path(value: str) -> str:
    path = value.strip()
    if not path.startswith("/"):
        raise RefusedError("expected a path that begins with '/', such as /metrics")
    if not _PATH.fullmatch(path):
        raise RefusedError("expected a path without blanks, braces, '?' or '#', such as /metrics")
    return path


def _namespace(value: str | None) -> str | None:
    if value is None:
        return None
    namespace = value.strip()
    if not _METRIC_PREFIX.fullmatch(namespace):
        raise RefusedError("expected letters, digits and underscores, not beginning with a digit")
    return namespace


def _attributes(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    if not all(isinstance(name, str) and name.strip() for name in value):
        raise RefusedError("expected attribute names that are strings and not empty")
    return {name: _label_value(name, item) for name, item in value.items()}


def _import_paths(value: tuple[str, ...]) -> tuple[str, ...]:
    for path in value:
        if not _IMPORT_PATH.fullmatch(path):
            raise RefusedError(
                f"expected import paths such as prometheus_client:REGISTRY, but {path[:60]!r} is none",
                "expected import paths such as prometheus_client:REGISTRY",
            )
    return value


def _directory(value: str | None) -> str | None:
    if value is None:
        return None
    path = Path(value.strip()).expanduser()
    if "\0" in value or (path.exists() and not path.is_dir()):
        raise RefusedError("expected a directory, which need not exist yet")
    return os.path.abspath(path)  # noqa: PTH100 - Path.absolute leaves ".." in


def _modes(value: Mapping[str, str]) -> Mapping[str, str]:
    value = {name: mode.strip().lower() for name, mode in value.items()}
    for name, mode in value.items():
        if mode not in MULTIPROCESS_MODES:
            public = f"expected one of {', '.join(MULTIPROCESS_MODES)} for each metric"
            raise RefusedError(f"{public}, but that of {name[:60]} is {mode[:60]!r}", public)
    return value


def _gateway(value: str | None) -> str | None:
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


def _job(value: str) -> str:
    if not value.strip():
        raise RefusedError("expected a name; a Pushgateway takes nothing without one")
    # It may come from an environment that is no Unicode.
    return text(value.strip(), None)


def _global_labels(value: object) -> object:
    return _labels(value, _RESERVED_LABELS)


def _grouping(value: object) -> object:
    return _labels(value, {"job": "the label job has a key of its own, push_job"})


#: A file that protects the page: an empty text is no way to say that it need not be protected.
Protection: TypeAlias = Annotated[
    str | None,
    BeforeValidator(absolute),
    BeforeValidator(protection, json_schema_input_type=str | Literal[False]),
]
Host: TypeAlias = Annotated[str, AfterValidator(_host)]
PagePath: TypeAlias = Annotated[str, AfterValidator(_path)]
Namespace: TypeAlias = Annotated[OptionalText, AfterValidator(_namespace)]
GlobalLabels: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(_global_labels)]
Attributes: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(_attributes)]
ImportPaths: TypeAlias = Annotated[Words, AfterValidator(_import_paths)]
Directory: TypeAlias = Annotated[OptionalPath, AfterValidator(_directory)]
Modes: TypeAlias = Annotated[Mapping[str, str], AfterValidator(_modes)]
Gateway: TypeAlias = Annotated[OptionalText, AfterValidator(_gateway)]
Job: TypeAlias = Annotated[str, AfterValidator(_job)]
Grouping: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(_grouping)]
