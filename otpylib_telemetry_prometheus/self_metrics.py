"""What the exporters of this process say about themselves, as metric families.

Whoever watches an application must be able to watch what watches it: whether events are lost, whether a
backend is given up on, whether a scrape is slow. One table, :data:`SELF_METRICS`, has every such metric: the
families are made from it, the reference page is written from it, and dashboards and alert rules are checked
against it.

The numbers come from the answers to ``get_stats`` of *every* exporter, whichever kind it is, and go straight
to the page: they are in no store, take up no series, come under no limit, and clash with nothing, because
their names begin as no event of an application does. An answer that lacks something, or has nonsense in its
place, costs the metric concerned and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.aggregation.store import NAME_TAKEN, NOT_A_NUMBER, OUT_OF_RANGE
from otpylib_telemetry.metrics.names import readable
from otpylib_telemetry_prometheus.exposition.families import Family, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXPORTER", "PROMETHEUS", "SELF_METRICS", "SelfMetric", "self_families"]

#: How the names begin of what every exporter has, and of what Prometheus exporters have.
EXPORTER: Final = "otpylib_telemetry_exporter_"
PROMETHEUS: Final = "otpylib_telemetry_prometheus_"

#: States of an exporter; what says "stopped" is a name nothing runs under at present.
_STATES: Final = ("starting", "running", "degraded", "idle", "disabled", "drained", "stopped")
_BREAKER_STATES: Final = ("closed", "open", "half_open")

#: Reasons that are there from the beginning, at 0: a rate needs a value before the first loss.
_REJECTIONS: Final = ("refused", "partial_success", "too_large", "unusable")
_DROPS: Final = ("queue_full",)
_PROBLEMS: Final = ("rejected", "unknown")

Stats: TypeAlias = "Mapping[str, Any]"

#: A suffix of the family's name, the values of the labels beside ``exporter``, and the number.
_Reading: TypeAlias = "tuple[str, tuple[str, ...], float]"


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One metric about the telemetry itself.

    Attributes:
        name: Its name, as Prometheus shows it: that of a counter with ``_total``.
        type: ``counter``, ``gauge`` or ``summary``.
        documentation: What it says.
        labels: Its labels beside ``exporter``, the registered name of the exporter it is about.
        read: Takes its numbers from what ``get_stats`` answers; a LookupError means there are none.
    """

    name: str
    type: str
    documentation: str
    labels: tuple[str, ...]
    read: Callable[[Stats], Iterable[_Reading]]

    @property
    def family(self) -> str:
        """The name of its family, which for a counter is without ``_total``."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """The names its samples have."""
        return (f"{self.name}_count", f"{self.name}_sum") if self.type == "summary" else (self.name,)


def _at(stats: Stats, path: str) -> Any:
    """Return what is at a path such as ``push.failures``."""
    found: Any = stats
    for key in path.split("."):
        if not isinstance(found, Mapping):
            raise LookupError(path)  # noqa: TRY004  # to whoever asks for a metric there is none, that is all
        found = found[key]
    if found is None:
        raise LookupError(path)
    return found


def _one(path: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read one number."""
    return lambda stats: [("", (), _at(stats, path))]


def _size(path: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read how many entries there are."""
    return lambda stats: [("", (), len(_at(stats, path)))]


def _whether(path: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read whether there is anything to be told: 1 if there is."""

    def read(stats: Stats) -> Iterable[_Reading]:
        above, _, key = path.rpartition(".")
        return [("", (), int(bool(_at(stats, above)[key])))]

    return read


def _each(path: str, known: Iterable[str] = ()) -> Callable[[Stats], Iterable[_Reading]]:
    """Read numbers by reason, those of known reasons in any case."""

    def read(stats: Stats) -> Iterable[_Reading]:
        numbers = {**dict.fromkeys(known, 0), **_at(stats, path)}
        return [("", (str(reason),), number) for reason, number in numbers.items()]

    return read


def _which(path: str, possible: tuple[str, ...]) -> Callable[[Stats], Iterable[_Reading]]:
    """Read a state: 1 for the one that is, 0 for all others."""

    def read(stats: Stats) -> Iterable[_Reading]:
        present = _at(stats, path)
        states = possible if present in possible else (*possible, str(present))
        return [("", (state,), int(state == present)) for state in states]

    return read


def _listed(path: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read a list of names: 1 for each."""
    return lambda stats: [("", (str(name),), 1) for name in _at(stats, path)]


def _of(**paths: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read a number from each of several places, which is its reason."""
    return lambda stats: [("", (reason,), _at(stats, path)) for reason, path in paths.items()]


def _summed(count: str, total: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read how often something was measured, and the sum."""
    return lambda stats: [("_count", (), _at(stats, count)), ("_sum", (), _at(stats, total))]


def _added_up(path: str, key: str) -> Callable[[Stats], Iterable[_Reading]]:
    """Read one number of each entry of a list, and add them up; an entry may lack it."""
    return lambda stats: [("", (), sum(entry.get(key, 0) for entry in _at(stats, path)))]


#: Every metric there is about the telemetry itself, in the order of the page. What begins with
#: :data:`PROMETHEUS` only Prometheus exporters have.
SELF_METRICS: Final[tuple[SelfMetric, ...]] = (
    SelfMetric(
        f"{EXPORTER}state",
        "gauge",
        "Whether the exporter is in this state: 1 for the one it is in, 0 for the others.",
        ("state",),
        _which("state", _STATES),
    ),
    SelfMetric(
        f"{EXPORTER}events_accepted_total",
        "counter",
        "Events offered to the exporter; each is in exactly one of exported, rejected, dropped, sampled out, "
        "queued and in flight.",
        (),
        _one("accepted"),
    ),
    SelfMetric(
        f"{EXPORTER}events_exported_total",
        "counter",
        "Events handled to the end: delivered, aggregated, or of no use to this exporter.",
        (),
        _one("exported"),
    ),
    SelfMetric(
        f"{EXPORTER}events_rejected_total",
        "counter",
        "Events the backend refused or that could not be used, by reason.",
        ("reason",),
        _each("rejected_for", _REJECTIONS),
    ),
    SelfMetric(
        f"{EXPORTER}events_dropped_total",
        "counter",
        "Events lost, by reason; queue_full is a queue that is too small or a backend that is too slow.",
        ("reason",),
        _each("dropped", _DROPS),
    ),
    SelfMetric(
        f"{EXPORTER}events_sampled_out_total",
        "counter",
        "Events left out by sampling, as configured.",
        (),
        _one("sampled_out"),
    ),
    SelfMetric(
        f"{EXPORTER}events_queued",
        "gauge",
        "Events that wait, be it in the queue, held for their operation to end, or for a batch to leave.",
        (),
        _one("queued"),
    ),
    SelfMetric(f"{EXPORTER}events_in_flight", "gauge", "Events being sent right now.", (), _one("in_flight")),
    SelfMetric(
        f"{EXPORTER}events_held",
        "gauge",
        "Those of the queued events that wait for their operation or its trace to end.",
        (),
        _one("held"),
    ),
    SelfMetric(
        f"{EXPORTER}queue_limit",
        "gauge",
        "How many events may wait and be in flight together before new ones are dropped (queue_limit).",
        (),
        _one("queue_limit"),
    ),
    SelfMetric(
        f"{EXPORTER}lane_items",
        "gauge",
        "Items, such as spans or log records, that wait to be sent, by kind; only where there are kinds.",
        ("lane",),
        _each("lanes"),
    ),
    SelfMetric(
        f"{EXPORTER}batches_total",
        "counter",
        "Batches sent since the exporter's process started.",
        (),
        _one("batches"),
    ),
    SelfMetric(
        f"{EXPORTER}export_failures_total",
        "counter",
        "Attempts to send a batch that failed since the exporter's process started.",
        (),
        _one("export_failures"),
    ),
    SelfMetric(
        f"{EXPORTER}metric_readings_total",
        "counter",
        "How often an exporter that sends metrics has read its series.",
        (),
        _one("metrics.readings"),
    ),
    SelfMetric(
        f"{EXPORTER}metric_readings_failed_total",
        "counter",
        "Readings of series that were not done, or not wholly, by reason: skipped because the backend is "
        "behind, cut_off because time was up, unobserved because callbacks took too long.",
        ("reason",),
        _of(skipped="metrics.skipped", cut_off="metrics.cut_off", unobserved="metrics.unobserved"),
    ),
    SelfMetric(
        f"{EXPORTER}metric_producer_failures_total",
        "counter",
        "How often a metric producer that was added to an exporter failed or was late.",
        (),
        _added_up("metrics.producers", "failures"),
    ),
    SelfMetric(
        f"{EXPORTER}metric_producer_parts_left_out_total",
        "counter",
        "How often a producer did without a part of what it brings: a collector of its registry failed.",
        (),
        _added_up("metrics.producers", "left_out"),
    ),
    SelfMetric(
        f"{EXPORTER}breaker_state",
        "gauge",
        "Whether the circuit breaker around the backend is in this state: 1 or 0.",
        ("state",),
        _which("breaker", _BREAKER_STATES),
    ),
    SelfMetric(
        f"{EXPORTER}breaker_failures",
        "gauge",
        "Failures in a row the circuit breaker has counted since the last success.",
        (),
        _one("breaker_failures"),
    ),
    SelfMetric(
        f"{EXPORTER}breaker_transitions_total",
        "counter",
        "How often the circuit breaker has gone into a state.",
        ("to",),
        _each("breaker_transitions", _BREAKER_STATES),
    ),
    SelfMetric(
        f"{EXPORTER}starts_total",
        "counter",
        "How often the exporter's process was started; what exceeds 1 are restarts.",
        (),
        _one("lives"),
    ),
    SelfMetric(
        f"{EXPORTER}uptime_seconds",
        "gauge",
        "How long the exporter's process has run since it was started last.",
        (),
        _one("uptime"),
    ),
    SelfMetric(
        f"{EXPORTER}config_generation",
        "gauge",
        "Grows by one with every change of the configuration in force; the first is 1.",
        (),
        _one("config_generation"),
    ),
    SelfMetric(
        f"{EXPORTER}config_problems",
        "gauge",
        "Configuration values that are not in force: rejected as bad, or of an unknown key.",
        ("kind",),
        _each("config_problems", _PROBLEMS),
    ),
    SelfMetric(
        f"{EXPORTER}unknown_messages_total",
        "counter",
        "Messages to the exporter's process that it did not understand.",
        (),
        _one("unknown_messages"),
    ),
    SelfMetric(f"{PROMETHEUS}scrapes_total", "counter", "Scrapes answered.", (), _one("scrapes")),
    SelfMetric(
        f"{PROMETHEUS}scrapes_failed_total",
        "counter",
        "Scrapes answered with status 500 because the page could not be made.",
        (),
        _one("scrapes_failed"),
    ),
    SelfMetric(
        f"{PROMETHEUS}metrics_unwritten_total",
        "counter",
        "Metrics left out of a page because writing them failed, each as often as it was.",
        (),
        _one("metrics_unwritten"),
    ),
    SelfMetric(
        f"{PROMETHEUS}scrapes_cut_off_total",
        "counter",
        "Scrapes broken off because the client did not read the answer in time.",
        (),
        _one("scrapes_cut_off"),
    ),
    SelfMetric(
        f"{PROMETHEUS}bad_requests_total",
        "counter",
        "Connections on which something came that is no HTTP request.",
        (),
        _one("bad_requests"),
    ),
    SelfMetric(
        f"{PROMETHEUS}logins_refused_total",
        "counter",
        "Requests without the user name and password, or the certificate, that the endpoint wants.",
        (),
        _one("logins_refused"),
    ),
    SelfMetric(f"{PROMETHEUS}connections", "gauge", "Connections to the endpoint.", (), _one("connections")),
    SelfMetric(
        f"{PROMETHEUS}connections_closed_total",
        "counter",
        "Connections the endpoint closed by itself, by reason: refused or gave_way because there were too "
        "many, timed_out, or handshake if TLS could not be agreed on.",
        ("reason",),
        _of(
            refused="connections_refused",
            gave_way="connections_gave_way",
            timed_out="connections_timed_out",
            handshake="handshakes_failed",
        ),
    ),
    SelfMetric(
        f"{PROMETHEUS}last_scrape_duration_seconds",
        "gauge",
        "How long it took to make the page of the scrape before this one.",
        (),
        _one("scrape_seconds"),
    ),
    SelfMetric(
        f"{PROMETHEUS}last_scrape_size_bytes",
        "gauge",
        "How large the page of the scrape before this one was, before compression.",
        (),
        _one("scrape_bytes"),
    ),
    SelfMetric(
        f"{PROMETHEUS}scrape_duration_seconds",
        "summary",
        "How long it took to make pages.",
        (),
        _summed("pages", "scrape_seconds_sum"),
    ),
    SelfMetric(
        f"{PROMETHEUS}scrape_size_bytes",
        "summary",
        "How large pages were, before compression.",
        (),
        _summed("pages", "scrape_bytes_sum"),
    ),
    SelfMetric(f"{PROMETHEUS}metrics", "gauge", "Metrics in the exporter's store.", (), _one("metrics")),
    SelfMetric(
        f"{PROMETHEUS}series",
        "gauge",
        "Series in the exporter's store, those labelled otel_metric_overflow included.",
        (),
        _one("series"),
    ),
    SelfMetric(
        f"{PROMETHEUS}series_expired_total",
        "counter",
        "Series that went because nothing was measured for them any more (series_ttl).",
        (),
        _one("series_expired"),
    ),
    SelfMetric(
        f"{PROMETHEUS}overflowing_metrics",
        "gauge",
        "Metrics that have reached max_series, so that further series are added up in one.",
        (),
        _size("overflowing"),
    ),
    SelfMetric(
        f"{PROMETHEUS}metric_overflowing",
        "gauge",
        "1 for each metric that has reached max_series, by name; those that have not are not listed.",
        ("metric",),
        _listed("overflowing"),
    ),
    SelfMetric(
        f"{PROMETHEUS}samples_refused_total",
        "counter",
        f"Measurements that were not taken, by reason, for instance: {NOT_A_NUMBER}; {OUT_OF_RANGE}; "
        f"{NAME_TAKEN}.",
        ("reason",),
        _each("samples_refused"),
    ),
    SelfMetric(
        f"{PROMETHEUS}metrics_refused",
        "gauge",
        "Names of metrics that were refused, because something else has the name or there are too many.",
        (),
        _size("metrics_refused"),
    ),
    SelfMetric(
        f"{PROMETHEUS}events_unused_total",
        "counter",
        "Events no metric was made of.",
        (),
        _one("unused"),
    ),
    SelfMetric(
        f"{PROMETHEUS}open_operations",
        "gauge",
        "Operations that have begun and not ended, as far as they are followed.",
        (),
        _one("open_operations"),
    ),
    SelfMetric(
        f"{PROMETHEUS}operations_given_up_total",
        "counter",
        "Operations whose end was not seen, by reason.",
        ("reason",),
        _each("operations_given_up"),
    ),
    SelfMetric(
        f"{PROMETHEUS}pushes_total",
        "counter",
        "Pushes the Pushgateway took; only with push_url.",
        (),
        _one("push.pushes"),
    ),
    SelfMetric(
        f"{PROMETHEUS}push_failures_total",
        "counter",
        "Pushes that failed; only with push_url.",
        (),
        _one("push.failures"),
    ),
    SelfMetric(
        f"{PROMETHEUS}push_failing",
        "gauge",
        "1 if the latest push failed, 0 if it was taken; only with push_url.",
        (),
        _one("push.failing"),
    ),
    SelfMetric(
        f"{PROMETHEUS}merged_registries",
        "gauge",
        "Registries of prometheus_client whose metrics are on the page.",
        (),
        _one("merged.registries"),
    ),
    SelfMetric(
        f"{PROMETHEUS}merge_failures_total",
        "counter",
        "Collectors of merged registries that were left out of a scrape, by reason: failed, slow, or missing "
        "if the whole registry cannot be imported.",
        ("reason",),
        _each("merged.failures", ("failed", "slow", "missing")),
    ),
    SelfMetric(
        f"{PROMETHEUS}merge_duplicates_total",
        "counter",
        "Metrics of merged registries that were left out of a scrape because the exporter has their name.",
        (),
        _one("merged.duplicates"),
    ),
    SelfMetric(
        f"{PROMETHEUS}multiprocess_writes_total",
        "counter",
        "Writes of this worker's series to where the other workers find them; only with multiprocess_dir.",
        (),
        _one("multiprocess.writes"),
    ),
    SelfMetric(
        f"{PROMETHEUS}multiprocess_trouble",
        "gauge",
        "1 if this worker's series cannot be written or what dead ones left cannot be cleared up, else 0; "
        "only with multiprocess_dir.",
        (),
        _whether("multiprocess.trouble"),
    ),
    SelfMetric(
        f"{PROMETHEUS}multiprocess_files_skipped_total",
        "counter",
        "Files of workers that were left out because they are torn or foreign, each as often as it was; only "
        "with multiprocess_dir.",
        (),
        _one("multiprocess.files_skipped"),
    ),
    SelfMetric(
        f"{PROMETHEUS}multiprocess_workers_absorbed_total",
        "counter",
        "Dead workers whose numbers this one has added up; only with multiprocess_dir.",
        (),
        _one("multiprocess.workers_absorbed"),
    ),
)


def self_families(answers: Iterable[Stats]) -> list[Family]:
    """Return what exporters say about themselves."""
    known = {readable(str(answer.get("name", ""))): answer for answer in answers}.items()
    families = []
    for metric in SELF_METRICS:
        samples = tuple(sample for name, answer in known for sample in _samples(metric, name, answer))
        if samples:
            families.append(Family(metric.family, metric.documentation, metric.type, "", samples))
    return families


def _samples(metric: SelfMetric, exporter: str, stats: Stats) -> list[Sample]:
    try:
        readings = [*metric.read(stats)]
    except Exception:  # noqa: BLE001  # an exporter of somebody else's may answer what it likes
        return []
    suffix = "_total" if metric.type == "counter" else ""
    names = ("exporter", *metric.labels)
    found: dict[tuple[str, ...], Sample] = {}
    for part, values, number in readings:
        if isinstance(number, (int, float)) and math.isfinite(number):
            texts = (exporter, *map(readable, values))
            # A page that has a series twice is refused as a whole.
            found.setdefault(
                (part, *texts),
                Sample(f"{metric.family}{part or suffix}", dict(zip(names, texts, strict=True)), number),
            )
    return [*found.values()]
