"""The order in which the reference of the configuration lists its keys: by need, not by alphabet."""

from __future__ import annotations

from typing import Final

#: The keys that most applications set, with their sections; None for every section.
FIRST: Final[tuple[tuple[str | None, str], ...]] = (
    ("otel", "service_name"),
    ("otel", "endpoint"),
    ("otel", "protocol"),
    ("otel", "headers"),
    ("otel", "resource"),
    ("otel", "sampling_rate"),
    ("prometheus", "port"),
    ("prometheus", "host"),
    (None, "enabled"),
    (None, "event_patterns"),
)

_WAY: Final = (
    "endpoint",
    "protocol",
    "headers",
    "timeout",
    "compression",
    "certificate",
    "client_key",
    "client_certificate",
    "insecure",
)

#: For each section ("" for the keys of every section) its groups of keys, the most needed first.
GROUPS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "": {
        "What is exported": ("enabled", "event_patterns"),
        "How much at once, and how often": ("batch_size", "flush_interval", "queue_limit", "concurrency"),
        "When the backend fails": (
            "retry_attempts",
            "failure_threshold",
            "reset_timeout",
            "shutdown_timeout",
        ),
    },
    "otel": {
        "Who you are": ("service_name", "resource", "resource_detectors"),
        "Where it goes": (
            "endpoint",
            "protocol",
            "headers",
            "api_key",
            "exporter",
            *_WAY[3:],
        ),
        "Which traces are sent": (
            "traces",
            "sampling_rate",
            "always_keep_errors",
            "always_keep_slower_than_ms",
            "sampling_rules",
            "max_spans_per_second",
            "sampling_parent_based",
            "sampler",
            "sampler_argument",
        ),
        "Limits of spans and log records": (
            "attribute_count_limit",
            "attribute_value_length_limit",
            "span_attribute_count_limit",
            "span_attribute_value_length_limit",
            "span_event_count_limit",
            "span_link_count_limit",
            "event_attribute_count_limit",
            "link_attribute_count_limit",
            "span_stack_traces",
            "logrecord_attribute_count_limit",
            "logrecord_attribute_value_length_limit",
        ),
        "Log records": ("logs", "log_severity", "log_patterns", "span_events"),
        "Metrics": (
            "metrics",
            "metrics_interval",
            "metrics_definitions",
            "automatic_metrics",
            "metrics_temporality",
            "metrics_labels",
            "metrics_drop_labels",
            "metrics_histogram",
            "metrics_buckets",
            "self_metrics",
            "metrics_exemplars",
            "span_metrics",
            "max_series",
            "series_ttl",
        ),
        "Where log records go, if elsewhere": tuple(f"logs_{key}" for key in _WAY),
        "Where metrics go, if elsewhere": tuple(f"metrics_{key}" for key in _WAY),
    },
    "prometheus": {
        "Where metrics are scraped": ("port", "host", "path", "serve"),
        "What is on the page": (
            "metrics",
            "automatic_metrics",
            "labels",
            "drop_labels",
            "buckets",
            "namespace",
            "global_labels",
            "resource",
            "span_metrics",
            "self_metrics",
            "exemplars",
            "max_series",
            "series_ttl",
            "merge_registries",
        ),
        "Who may scrape": (
            "certificate",
            "key",
            "client_ca",
            "basic_auth",
            "max_connections",
            "scrape_timeout",
        ),
        "Several processes": ("multiprocess_dir", "multiprocess_modes"),
        "Pushing": ("push_url", "push_interval", "push_job", "push_grouping"),
    },
}

#: What a key is listed under that is in no group.
REST: Final = "Seldom needed"
