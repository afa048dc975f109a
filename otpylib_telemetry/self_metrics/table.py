"""The table of every metric about the telemetry itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.aggregation.refusals import NAME_TAKEN, NOT_A_NUMBER, OUT_OF_RANGE
from otpylib_telemetry.self_metrics import readings
from otpylib_telemetry.self_metrics.model import EXPORTER, PROMETHEUS, Reading, SelfMetric, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


#: States of an exporter; what says "stopped" is a name nothing runs under at present.
_STATES: Final = ("starting", "running", "degraded", "idle", "disabled", "drained", "stopped")
_BREAKER_STATES: Final = ("closed", "open", "half_open")

#: Reasons that are there from the beginning, at 0: a rate needs a value before the first loss.
_REJECTIONS: Final = ("refused", "partial_success", "too_large", "unusable")
_DROPS: Final = ("queue_full",)
#: The rule that finds most.
_SCRUBBED: Final = ("password",)
_PROBLEMS: Final = ("rejected", "unknown")


def _counter(name: str, text: str, read: Callable[[Stats], Iterable[Reading]], *labels: str) -> SelfMetric:
    return SelfMetric(name, "counter", text, labels, read)


def _gauge(name: str, text: str, read: Callable[[Stats], Iterable[Reading]], *labels: str) -> SelfMetric:
    return SelfMetric(name, "gauge", text, labels, read)


def _summary(name: str, text: str, read: Callable[[Stats], Iterable[Reading]], *labels: str) -> SelfMetric:
    return SelfMetric(name, "summary", text, labels, read)


#: Every metric there is about the telemetry itself, in the order of the page. What begins with
#: :data:`PROMETHEUS` only Prometheus exporters have.
SELF_METRICS: Final[tuple[SelfMetric, ...]] = (
    _gauge(
        f"{EXPORTER}state",
        "Whether the exporter is in this state: 1 for the one it is in, 0 for the others.",
        readings.which("state", _STATES),
        "state",
    ),
    _counter(
        f"{EXPORTER}events_accepted_total",
        "Events offered to the exporter; each is in exactly one of exported, rejected, dropped, sampled "
        "out, queued and in flight.",
        readings.one("accepted"),
    ),
    _counter(
        f"{EXPORTER}events_exported_total",
        "Events handled to the end: delivered, aggregated, or of no use to this exporter.",
        readings.one("exported"),
    ),
    _counter(
        f"{EXPORTER}events_rejected_total",
        "Events the backend refused or that could not be used, by reason.",
        readings.each("rejected_for", _REJECTIONS),
        "reason",
    ),
    _counter(
        f"{EXPORTER}events_dropped_total",
        "Events lost, by reason; queue_full is a queue that is too small or a backend that is too slow.",
        readings.each("dropped", _DROPS),
        "reason",
    ),
    _counter(
        f"{EXPORTER}events_sampled_out_total",
        "Events left out by sampling, as configured.",
        readings.one("sampled_out"),
    ),
    _counter(
        f"{EXPORTER}secrets_scrubbed_total",
        "Secrets that were taken out of what is sent, by the rule that found them.",
        readings.each("scrubbed", _SCRUBBED),
        "rule",
    ),
    _gauge(
        f"{EXPORTER}events_queued",
        "Events that wait, be it in the queue, held for their operation to end, or for a batch to leave.",
        readings.one("queued"),
    ),
    _gauge(f"{EXPORTER}events_in_flight", "Events being sent right now.", readings.one("in_flight")),
    _gauge(
        f"{EXPORTER}events_held",
        "Those of the queued events that wait for their operation or its trace to end.",
        readings.one("held"),
    ),
    _gauge(
        f"{EXPORTER}queue_limit",
        "How many events may wait and be in flight together before new ones are dropped (queue_limit).",
        readings.one("queue_limit"),
    ),
    _gauge(
        f"{EXPORTER}lane_items",
        "Items, such as spans or log records, that wait to be sent, by kind; only where there are kinds.",
        readings.each("lanes"),
        "lane",
    ),
    _counter(
        f"{EXPORTER}batches_total",
        "Batches sent since the exporter's process started.",
        readings.one("batches"),
    ),
    _counter(
        f"{EXPORTER}export_failures_total",
        "Attempts to send a batch that failed since the exporter's process started.",
        readings.one("export_failures"),
    ),
    _counter(
        f"{EXPORTER}metric_readings_total",
        "How often an exporter that sends metrics has read its series.",
        readings.one("metrics.readings"),
    ),
    _counter(
        f"{EXPORTER}metric_readings_failed_total",
        "Readings of series that were not done, or not wholly, by reason: skipped because the backend is "
        "behind, cut_off because time was up, unobserved because callbacks took too long.",
        readings.of(skipped="metrics.skipped", cut_off="metrics.cut_off", unobserved="metrics.unobserved"),
        "reason",
    ),
    _counter(
        f"{EXPORTER}metric_producer_failures_total",
        "How often a metric producer that was added to an exporter failed or was late.",
        readings.added_up("metrics.producers", "failures"),
    ),
    _counter(
        f"{EXPORTER}metric_producer_parts_left_out_total",
        "How often a producer did without a part of what it brings: a collector of its registry failed.",
        readings.added_up("metrics.producers", "left_out"),
    ),
    _gauge(
        f"{EXPORTER}breaker_state",
        "Whether the circuit breaker around the backend is in this state: 1 or 0.",
        readings.which("breaker", _BREAKER_STATES),
        "state",
    ),
    _gauge(
        f"{EXPORTER}breaker_failures",
        "Failures in a row the circuit breaker has counted since the last success.",
        readings.one("breaker_failures"),
    ),
    _counter(
        f"{EXPORTER}breaker_transitions_total",
        "How often the circuit breaker has gone into a state.",
        readings.each("breaker_transitions", _BREAKER_STATES),
        "to",
    ),
    _counter(
        f"{EXPORTER}starts_total",
        "How often the exporter's process was started; what exceeds 1 are restarts.",
        readings.one("lives"),
    ),
    _gauge(
        f"{EXPORTER}uptime_seconds",
        "How long the exporter's process has run since it was started last.",
        readings.one("uptime"),
    ),
    _gauge(
        f"{EXPORTER}config_generation",
        "Grows by one with every change of the configuration in force; the first is 1.",
        readings.one("config_generation"),
    ),
    _gauge(
        f"{EXPORTER}config_problems",
        "Configuration values that are not in force: rejected as bad, or of an unknown key.",
        readings.each("config_problems", _PROBLEMS),
        "kind",
    ),
    _counter(
        f"{EXPORTER}unknown_messages_total",
        "Messages to the exporter's process that it did not understand.",
        readings.one("unknown_messages"),
    ),
    _counter(f"{PROMETHEUS}scrapes_total", "Scrapes answered.", readings.one("scrapes")),
    _counter(
        f"{PROMETHEUS}scrapes_failed_total",
        "Scrapes answered with status 500 because the page could not be made.",
        readings.one("scrapes_failed"),
    ),
    _counter(
        f"{PROMETHEUS}metrics_unwritten_total",
        "Metrics left out of a page because writing them failed, each as often as it was.",
        readings.one("metrics_unwritten"),
    ),
    _counter(
        f"{PROMETHEUS}scrapes_cut_off_total",
        "Scrapes broken off because the client did not read the answer in time.",
        readings.one("scrapes_cut_off"),
    ),
    _counter(
        f"{PROMETHEUS}bad_requests_total",
        "Connections on which something came that is no HTTP request.",
        readings.one("bad_requests"),
    ),
    _counter(
        f"{PROMETHEUS}logins_refused_total",
        "Requests without the user name and password, or the certificate, that the endpoint wants.",
        readings.one("logins_refused"),
    ),
    _gauge(f"{PROMETHEUS}connections", "Connections to the endpoint.", readings.one("connections")),
    _counter(
        f"{PROMETHEUS}connections_closed_total",
        "Connections the endpoint closed by itself, by reason: refused or gave_way because there were "
        "too many, timed_out, or handshake if TLS could not be agreed on.",
        readings.of(
            refused="connections_refused",
            gave_way="connections_gave_way",
            timed_out="connections_timed_out",
            handshake="handshakes_failed",
        ),
        "reason",
    ),
    _gauge(
        f"{PROMETHEUS}last_scrape_duration_seconds",
        "How long it took to make the page of the scrape before this one.",
        readings.one("scrape_seconds"),
    ),
    _gauge(
        f"{PROMETHEUS}last_scrape_size_bytes",
        "How large the page of the scrape before this one was, before compression.",
        readings.one("scrape_bytes"),
    ),
    _summary(
        f"{PROMETHEUS}scrape_duration_seconds",
        "How long it took to make pages.",
        readings.summed("pages", "scrape_seconds_sum"),
    ),
    _summary(
        f"{PROMETHEUS}scrape_size_bytes",
        "How large pages were, before compression.",
        readings.summed("pages", "scrape_bytes_sum"),
    ),
    _gauge(f"{PROMETHEUS}metrics", "Metrics in the exporter's store.", readings.one("metrics")),
    _gauge(
        f"{PROMETHEUS}series",
        "Series in the exporter's store, those labelled otel_metric_overflow included.",
        readings.one("series"),
    ),
    _counter(
        f"{PROMETHEUS}series_expired_total",
        "Series that went because nothing was measured for them any more (series_ttl).",
        readings.one("series_expired"),
    ),
    _gauge(
        f"{PROMETHEUS}overflowing_metrics",
        "Metrics that have reached max_series, so that further series are added up in one.",
        readings.size("overflowing"),
    ),
    _gauge(
        f"{PROMETHEUS}metric_overflowing",
        "1 for each metric that has reached max_series, by name; those that have not are not listed.",
        readings.listed("overflowing"),
        "metric",
    ),
    _gauge(
        f"{PROMETHEUS}metric_label_folded",
        "1 for each label whose values were made one, because with them the metric had reached max_series.",
        readings.pairs("labels_folded"),
        "metric",
        "label",
    ),
    _counter(
        f"{PROMETHEUS}samples_refused_total",
        f"Measurements that were not taken, by reason, for instance: {NOT_A_NUMBER}; {OUT_OF_RANGE}; "
        f"{NAME_TAKEN}.",
        readings.each("samples_refused"),
        "reason",
    ),
    _gauge(
        f"{PROMETHEUS}metrics_refused",
        "Names of metrics that were refused, because something else has the name or there are too many.",
        readings.size("metrics_refused"),
    ),
    _counter(f"{PROMETHEUS}events_unused_total", "Events no metric was made of.", readings.one("unused")),
    _gauge(
        f"{PROMETHEUS}open_operations",
        "Operations that have begun and not ended, as far as they are followed.",
        readings.one("open_operations"),
    ),
    _counter(
        f"{PROMETHEUS}operations_given_up_total",
        "Operations whose end was not seen, by reason.",
        readings.each("operations_given_up"),
        "reason",
    ),
    _counter(
        f"{PROMETHEUS}pushes_total",
        "Pushes the Pushgateway took; only with push_url.",
        readings.one("push.pushes"),
    ),
    _counter(
        f"{PROMETHEUS}push_failures_total",
        "Pushes that failed; only with push_url.",
        readings.one("push.failures"),
    ),
    _gauge(
        f"{PROMETHEUS}push_failing",
        "1 if the latest push failed, 0 if it was taken; only with push_url.",
        readings.one("push.failing"),
    ),
    _gauge(
        f"{PROMETHEUS}merged_registries",
        "Registries of prometheus_client whose metrics are on the page.",
        readings.one("merged.registries"),
    ),
    _counter(
        f"{PROMETHEUS}merge_failures_total",
        "Collectors of merged registries that were left out of a scrape, by reason: failed, slow, or "
        "missing if the whole registry cannot be imported.",
        readings.each("merged.failures", ("failed", "slow", "missing")),
        "reason",
    ),
    _counter(
        f"{PROMETHEUS}merge_duplicates_total",
        "Metrics of merged registries that were left out of a scrape because the exporter has their name.",
        readings.one("merged.duplicates"),
    ),
    _counter(
        f"{PROMETHEUS}multiprocess_writes_total",
        "Writes of this worker's series to where the other workers find them; only with multiprocess_dir.",
        readings.one("multiprocess.writes"),
    ),
    _gauge(
        f"{PROMETHEUS}multiprocess_trouble",
        "1 if this worker's series cannot be written or what dead ones left cannot be cleared up, else "
        "0; only with multiprocess_dir.",
        readings.whether("multiprocess.trouble"),
    ),
    _counter(
        f"{PROMETHEUS}multiprocess_files_skipped_total",
        "Files of workers that were left out because they are torn or foreign, each as often as it was; "
        "only with multiprocess_dir.",
        readings.one("multiprocess.files_skipped"),
    ),
    _counter(
        f"{PROMETHEUS}multiprocess_workers_absorbed_total",
        "Dead workers whose numbers this one has added up; only with multiprocess_dir.",
        readings.one("multiprocess.workers_absorbed"),
    ),
)
