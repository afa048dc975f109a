"""The OpenTelemetry variables that are not simply another name of a key: other units, other meanings.

The rules are those of OpenTelemetry's "Environment Variable Specification" and, for endpoints, of its "OTLP
Exporter" specification.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from otpylib_telemetry.config.environment import parse_table
from otpylib_telemetry.config.refusals import Unusable
from otpylib_telemetry_otel.settings.endpoint import SIGNALS, SignalName, SignalUrl

#: The resource attribute that says which service it is.
SERVICE_NAME = "service.name"

#: The signals that have OTLP options beside those of spans, as their keys begin.
OTHER_SIGNALS = SIGNALS[1:]

#: The options OTLP has for each signal, by the key that is for all; that for logs has ``logs_`` before it.
OTLP_OPTIONS = (
    "protocol",
    "headers",
    "timeout",
    "compression",
    "certificate",
    "client_key",
    "client_certificate",
    "insecure",
)

_PARENT_BASED = "parentbased_"

#: The entry points under which packages register what settings name.
EXPORTERS = tuple(f"opentelemetry_{signal}_exporter" for signal in SIGNALS)
SAMPLERS = "opentelemetry_traces_sampler"
ID_GENERATORS = "opentelemetry_id_generator"

#: Names that nobody need register.
_WORDS = ("otlp", "otlp_proto_grpc", "otlp_proto_http", "prometheus", "none")

#: What the specification calls the aggregations of histograms, and what the key does.
_HISTOGRAMS = {
    "explicit_bucket_histogram": "explicit",
    "base2_exponential_bucket_histogram": "exponential",
}


class StandardText(str):
    """What a variable about OTLP holds, told from what was set for this exporter itself."""

    __slots__ = ("of_traces",)
    of_traces: bool


class StandardTable(dict[str, Any]):
    """The same for a variable that holds a table."""

    __slots__ = ("of_traces",)
    of_traces: bool


def mark(value: Any, *, of_traces: bool) -> Any:
    """Return a text or a table marked as coming from a variable about OTLP; anything else as it is."""
    marked: StandardText | StandardTable
    if isinstance(value, str):
        marked = StandardText(value)
    elif isinstance(value, Mapping):
        marked = StandardTable(value)
    else:
        return value
    marked.of_traces = of_traces
    return marked


def otlp_variable(option: str, signal: SignalName | None = None) -> str:
    """Return the variable of an OTLP option: the general one, or that for a signal."""
    return f"OTEL_EXPORTER_OTLP_{f'{signal.upper()}_' if signal else ''}{option.upper()}"


def standard_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Return what the environment gives to keys under names that are not simply other names of them."""
    found: dict[str, tuple[str, Any]] = {}
    _read_switches(environ, found)
    _read_exporters(environ, found)
    _read_endpoint(environ, found)
    _read_otlp(environ, found)
    _read_resource(environ, found)
    _read_sampler(environ, found)
    for key, variable, read in _CONVERTED:
        if (text := environ.get(variable)) is not None and (value := read(text)) is not None:
            found[key] = (variable, value)
    return found


def _read_switches(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    disabled = environ.get("OTEL_SDK_DISABLED")
    if disabled is not None:
        match disabled.lower():
            case "true":
                found["enabled"] = ("OTEL_SDK_DISABLED", False)
            case "false":
                pass
            case _:
                found["enabled"] = ("OTEL_SDK_DISABLED", Unusable(disabled, "expected true or false"))
    generator = environ.get("OTEL_PYTHON_ID_GENERATOR")
    if generator is not None and generator.lower() != "random":
        found["id_generator"] = ("OTEL_PYTHON_ID_GENERATOR", generator)


def _read_exporters(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    """Choose the one exporter there is; a variable that names more, or another, is complained of."""
    variable = "OTEL_TRACES_EXPORTER"
    traces = _names(environ.get(variable, ""), "traces")
    taken, without_spans = "otlp", traces == ["none"]
    if without_spans:
        found["traces"] = (variable, False)
    elif traces:
        taken = _first_installed(traces, "opentelemetry_traces_exporter")
        found["exporter"] = (variable, taken)
        if len(traces) > 1:
            reason = f"all is sent by one exporter, so expected one name; the one taken is {taken!r}"
            found["traces"] = (variable, Unusable(environ[variable], reason))
    chosen = not without_spans
    for signal, items in (("logs", "log records"), ("metrics", "metrics")):
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        # The endpoint for Prometheus is an exporter of its own, and nobody else's business.
        given = _names(environ.get(variable, ""), signal)
        names = [name for name in given if name != "prometheus" or signal != "metrics"]
        if given and (not names or names == ["none"]):
            found[signal] = (variable, False)
            continue
        if names and not chosen:
            taken, chosen = _first_installed(names, f"opentelemetry_{signal}_exporter"), True
            found["exporter"] = (variable, taken)
        if names and names != [taken]:
            reason = f"{items} are sent by the exporter of the spans, so expected {taken!r} or 'none'"
            if without_spans:
                reason = f"all is sent by one exporter, so expected one name; the one taken is {taken!r}"
            found[signal] = (variable, Unusable(environ[variable], reason))


def _names(text: str, signal: str) -> list[str]:
    groups = (f"opentelemetry_{signal}_exporter",)
    return [str(registered_name(name, groups)) for name in text.split(",") if name.strip()]


def registered_name(value: object, groups: Iterable[str]) -> object:
    """Return the name, in whatever case it is given, of what a package registers under entry points."""
    if not isinstance(value, str):
        return value
    name = value.strip()
    if name == name.lower():
        return name
    known = {*_WORDS, *(entry.name for group in groups for entry in entry_points(group=group))}
    return name if name in known else next((one for one in known if one.lower() == name.lower()), name)


def _first_installed(names: list[str], group: str) -> str:
    """Return the first name that is OTLP's or registered by a package; of several that are not, the first."""
    if len(names) == 1:
        return names[0]
    known = {"otlp", *(entry.name for entry in entry_points(group=group))}
    return next((name for name in names if name in known), names[0])


def _read_endpoint(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    # The address for traces alone is used as it is and is the stronger one; the general one is a base.
    general, exact = otlp_variable("endpoint"), otlp_variable("endpoint", "traces")
    if exact in environ:
        found["endpoint"] = (exact, SignalUrl(environ[exact]))
    elif general in environ:
        found["endpoint"] = (general, environ[general])
    for signal in OTHER_SIGNALS:
        own = otlp_variable("endpoint", signal)
        if own in environ:
            found[f"{signal}_endpoint"] = (own, SignalUrl(environ[own]))
        elif exact in environ and general in environ:
            # Only spans go elsewhere.
            found[f"{signal}_endpoint"] = (general, environ[general])


def _read_otlp(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    for key in OTLP_OPTIONS:
        general, of_traces = otlp_variable(key), otlp_variable(key, "traces")
        for variable in (of_traces, general):
            if variable in environ:
                value = _option(key, environ[variable], of_traces=variable == of_traces)
                found[key] = (variable, value)
                break
        for signal in OTHER_SIGNALS:
            of_signal = otlp_variable(key, signal)
            # Without one of its own, a signal is told the general one where spans have another.
            own = of_signal if of_signal in environ or of_traces not in environ else general
            if own in environ and own != found.get(key, ("",))[0]:
                found[f"{signal}_{key}"] = (own, _option(key, environ[own], of_traces=False))


def _option(key: str, text: str, *, of_traces: bool) -> Any:
    return mark(parse_table(text) if key == "headers" else text, of_traces=of_traces)


def _read_resource(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    variable = "OTEL_RESOURCE_ATTRIBUTES"
    if variable not in environ:
        return
    table = parse_table(environ[variable])
    found["resource"] = (variable, table)
    if isinstance(table, Mapping) and isinstance(table.get(SERVICE_NAME), str):
        # OTEL_SERVICE_NAME, being the env name of the field, is stronger: so says the specification.
        found["service_name"] = (variable, table[SERVICE_NAME])


def _read_sampler(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    variable, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
    sampler = environ.get(variable)
    if sampler is None:
        return
    sampler = str(registered_name(sampler, (SAMPLERS,)))
    usual = sampler.lower()
    match usual.removeprefix(_PARENT_BASED):
        case "always_on":
            found["sampling_rate"] = (variable, 1.0)
        case "always_off":
            found["sampling_rate"] = (variable, 0.0)
            # "Off" leaves no room for exceptions.
            found["always_keep_errors"] = (variable, False)
        case "traceidratio":
            if argument in environ:
                found["sampling_rate"] = (argument, environ[argument])
        case _:
            found["sampler"] = (variable, _installed_sampler(sampler))
            if argument in environ:
                found["sampler_argument"] = (argument, environ[argument])
            return
    if usual.startswith(_PARENT_BASED):
        found["sampling_parent_based"] = (variable, True)


def _installed_sampler(name: str) -> Any:
    """Return the name of a sampler that a package registers; any other is warned of, and ignored.

    So the specification has it for values that are none ("Enum"). A sampler that a program or a file asks for
    is waited for instead.
    """
    names = sorted({entry.name for entry in entry_points(group=SAMPLERS)})
    return name if name in names else Unusable(name, f"expected the name of a sampler: {', '.join(names)}")


def _histogram(text: str) -> Any:
    return _HISTOGRAMS.get(text.strip().lower()) or Unusable(text, f"expected {' or '.join(_HISTOGRAMS)}")


def _exemplars(text: str) -> Any:
    match text.strip().lower():
        case "always_off":
            return False
        case "" | "always_on" | "trace_based":
            return None
        case _:
            return Unusable(text, "expected always_on, always_off or trace_based")


def _seconds(milliseconds: str) -> Any:
    try:
        return float(milliseconds) / 1000
    except ValueError:
        return Unusable(milliseconds, "expected a number of milliseconds")


#: Keys, the variables that say them otherwise, and what reads these; None where nothing is said.
_CONVERTED: Final[tuple[tuple[str, str, Callable[[str], Any]], ...]] = (
    ("batch_size", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", str),
    ("queue_limit", "OTEL_BSP_MAX_QUEUE_SIZE", str),
    ("flush_interval", "OTEL_BSP_SCHEDULE_DELAY", _seconds),
    ("metrics_interval", "OTEL_METRIC_EXPORT_INTERVAL", _seconds),
    ("metrics_histogram", "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", _histogram),
    ("metrics_exemplars", "OTEL_METRICS_EXEMPLAR_FILTER", _exemplars),
)
