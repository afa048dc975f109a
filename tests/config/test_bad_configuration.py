"""Bad configuration values of every key: what the user reads, and what is in force afterwards."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

import datetime as dt

import pytest

from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry_mock.settings import MockSettings
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings

SETTINGS = {"otel": OtelSettings, "prometheus": PrometheusSettings, "mock": MockSettings}

#: Section, configuration, and the one message the user reads.
BAD = [
    (
        "otel",
        {"enabled": "perhaps"},
        "telemetry.otel.enabled ('perhaps', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"enabled": 2},
        "telemetry.otel.enabled (2, an integer) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"enabled": []},
        "telemetry.otel.enabled (an empty list) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"event_patterns": []},
        "telemetry.otel.event_patterns (an empty list) from the configuration is refused: expected at least one pattern; enabled = false switches the exporter off. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"event_patterns": ["a.*", 5]},
        "telemetry.otel.event_patterns (a list of 2 items) from the configuration is refused: expected a list of strings, but item 2 is 5, an integer. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"event_patterns": "  "},
        "telemetry.otel.event_patterns ('  ', a string) from the configuration is refused: expected a list of strings, but item 1 is empty. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"event_patterns": {"a": 1}},
        "telemetry.otel.event_patterns (a table of 1 entry) from the configuration is refused: expected a list of strings. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"batch_size": True},
        "telemetry.otel.batch_size (true, a boolean) from the configuration is refused: expected a whole number from 1 to 100000. 100 stays in force (the default).",
    ),
    (
        "otel",
        {"batch_size": 0},
        "telemetry.otel.batch_size (0, an integer) from the configuration is refused: expected a whole number from 1 to 100000. 100 stays in force (the default).",
    ),
    (
        "otel",
        {"batch_size": 2.5},
        "telemetry.otel.batch_size (2.5, a float) from the configuration is refused: expected a whole number from 1 to 100000. 100 stays in force (the default).",
    ),
    (
        "otel",
        {"batch_size": 10**5000},
        "telemetry.otel.batch_size (a huge integer) from the configuration is refused: expected a whole number from 1 to 100000. 100 stays in force (the default).",
    ),
    (
        "otel",
        {"flush_interval": "5s"},
        "telemetry.otel.flush_interval ('5s', a string) from the configuration is refused: expected a number of seconds from 0.001 to 86400. 5 stays in force (the default).",
    ),
    (
        "otel",
        {"flush_interval": -1},
        "telemetry.otel.flush_interval (-1, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 86400. 5 stays in force (the default).",
    ),
    (
        "otel",
        {"flush_interval": float("nan")},
        "telemetry.otel.flush_interval (nan, a float) from the configuration is refused: expected a number of seconds from 0.001 to 86400. 5 stays in force (the default).",
    ),
    (
        "otel",
        {"concurrency": 0},
        "telemetry.otel.concurrency (0, an integer) from the configuration is refused: expected a whole number from 1 to 64. 1 stays in force (the default).",
    ),
    (
        "otel",
        {"retry_attempts": -1},
        "telemetry.otel.retry_attempts (-1, an integer) from the configuration is refused: expected a whole number from 0 to 100. 3 stays in force (the default).",
    ),
    (
        "otel",
        {"queue_limit": "lots"},
        "telemetry.otel.queue_limit ('lots', a string) from the configuration is refused: expected a whole number from 1 to 10000000. 100000 stays in force (the default).",
    ),
    (
        "otel",
        {"failure_threshold": 0},
        "telemetry.otel.failure_threshold (0, an integer) from the configuration is refused: expected a whole number from 1 to 1000000. 5 stays in force (the default).",
    ),
    (
        "otel",
        {"reset_timeout": float("inf")},
        "telemetry.otel.reset_timeout (inf, a float) from the configuration is refused: expected a number of seconds from 0.001 to 86400. 60 stays in force (the default).",
    ),
    (
        "otel",
        {"shutdown_timeout": [5]},
        "telemetry.otel.shutdown_timeout (a list of 1 item) from the configuration is refused: expected a number of seconds from 0 to 3600. 5 stays in force (the default).",
    ),
    (
        "otel",
        {"service_name": ""},
        "telemetry.otel.service_name ('', a string) from the configuration is refused: expected a name, not an empty string. 'otpylib' stays in force (the default).",
    ),
    (
        "otel",
        {"service_name": 5},
        "telemetry.otel.service_name (5, an integer) from the configuration is refused: expected a string. 'otpylib' stays in force (the default).",
    ),
    (
        "otel",
        {"resource": "shop"},
        "telemetry.otel.resource ('shop', a string) from the configuration is refused: expected a table of names and values. {} stays in force (the default).",
    ),
    (
        "otel",
        {"resource": {"a": {"b": 1}}},
        "telemetry.otel.resource (a table of 1 entry) from the configuration is refused: expected attributes that are strings, booleans, finite numbers or lists of one kind of these, but 'a' is something else. {} stays in force (the default).",
    ),
    (
        "otel",
        {"resource": {"": 1}},
        "telemetry.otel.resource (a table of 1 entry) from the configuration is refused: expected attribute names that are strings and not empty. {} stays in force (the default).",
    ),
    (
        "otel",
        {"endpoint": 4317},
        "telemetry.otel.endpoint (4317, an integer) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "collector"},
        "telemetry.otel.endpoint ('collector', a string) from the configuration is refused: expected a URL such as http://collector:4317 (or host:port alone). It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "collector:99999"},
        "telemetry.otel.endpoint ('collector:99999', a string) from the configuration is refused: expected a port from 1 to 65535. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "http://collector:port"},
        "telemetry.otel.endpoint ('http://collector:port', a string) from the configuration is refused: expected a URL whose port is a number from 1 to 65535. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "http://:4317"},
        "telemetry.otel.endpoint ('http://:4317', a string) from the configuration is refused: expected a URL with a host, such as http://collector:4317. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "ftp://collector:4317"},
        "telemetry.otel.endpoint ('ftp://collector:4317', a string) from the configuration is refused: expected a URL that begins with http:// or https:// (or host:port alone). It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "http://collector: 4317"},
        "telemetry.otel.endpoint ('http://collector: 4317', a string) from the configuration is refused: expected an endpoint without blanks or control characters. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "http://collector:4318/v1/traces"},
        "telemetry.otel.endpoint ('http://collector:4318/v1/traces', a string) from the configuration is refused: OTLP over gRPC has no path; leave it out, or set protocol = 'http/protobuf' if that is meant. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "http://jaeger:14268/api/traces"},
        "telemetry.otel.endpoint ('http://jaeger:14268/api/traces', a string) from the configuration is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use http://jaeger:4317. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "jaeger:6831"},
        "telemetry.otel.endpoint ('jaeger:6831', a string) from the configuration is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use http://jaeger:4317. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "udp://jaeger:6832"},
        "telemetry.otel.endpoint ('udp://jaeger:6832', a string) from the configuration is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use http://jaeger:4317. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "https://user:pw@jaeger:14250"},
        "telemetry.otel.endpoint ('https://<redacted>@jaeger:14250', a string) from the configuration is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use https://jaeger:4317. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "http://[::1]:14250", "protocol": "http/protobuf"},
        "telemetry.otel.endpoint ('http://[::1]:14250', a string) from the configuration is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use http://[::1]:4318. It stays unset.",
    ),
    (
        "otel",
        {"endpoint": "collector:4318", "protocol": "http/protobuf"},
        "telemetry.otel.endpoint ('collector:4318', a string) from the configuration is refused: expected a URL such as http://collector:4318: only gRPC does without http://. It stays unset.",
    ),
    (
        "otel",
        {"exporter": "none"},
        "telemetry.otel.exporter ('none', a string) from the configuration is refused: expected the name of an exporter; enabled = false switches exporting off. 'otlp' stays in force (the default).",
    ),
    (
        "otel",
        {"exporter": "my exporter"},
        "telemetry.otel.exporter ('my exporter', a string) from the configuration is refused: expected the name of an OpenTelemetry exporter, such as otlp or console. 'otlp' stays in force (the default).",
    ),
    (
        "otel",
        {"protocol": "http"},
        "telemetry.otel.protocol ('http', a string) from the configuration is refused: expected one of 'grpc', 'http/protobuf'. 'grpc' stays in force (the default).",
    ),
    (
        "otel",
        {"api_key": 5},
        "telemetry.otel.api_key (an integer, not shown) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"api_key": "two\nlines"},
        "telemetry.otel.api_key (a string, not shown) from the configuration is refused: expected printable ASCII on one line, which is all a header carries. It stays unset.",
    ),
    (
        "otel",
        {"headers": ["a=b"]},
        "telemetry.otel.headers (a list of 1 item) from the configuration is refused: expected a table of names and values. {} stays in force (the default).",
    ),
    (
        "otel",
        {"headers": {"x y": "z"}},
        "telemetry.otel.headers (a table of 1 entry) from the configuration is refused: expected header names of letters, digits and hyphens. {} stays in force (the default).",
    ),
    (
        "otel",
        {"headers": {"x-key": "\u00e9"}},
        "telemetry.otel.headers (a table of 1 entry) from the configuration is refused: the value of the header x-key is not printable ASCII on one line. {} stays in force (the default).",
    ),
    (
        "otel",
        {"timeout": 0},
        "telemetry.otel.timeout (0, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 3600. 10 stays in force (the default).",
    ),
    (
        "otel",
        {"timeout": 10000},
        "telemetry.otel.timeout (10000, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 3600. 10 stays in force (the default).",
    ),
    (
        "otel",
        {"compression": "zstd"},
        "telemetry.otel.compression ('zstd', a string) from the configuration is refused: expected one of 'none', 'gzip', 'deflate'. 'none' stays in force (the default).",
    ),
    (
        "otel",
        {"compression": "deflate"},
        "telemetry.otel.compression ('deflate', a string) from the configuration is refused: over gRPC expected one of 'none', 'gzip'; 'deflate' is for http/protobuf. 'none' stays in force (the default).",
    ),
    (
        "otel",
        {"certificate": 5},
        "telemetry.otel.certificate (5, an integer) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"client_key": "/k.pem"},
        "telemetry.otel.client_key ('/k.pem', a string) from the configuration is refused: client_key and client_certificate are of use only together. It stays unset.",
    ),
    (
        "otel",
        {"client_certificate": "/c.pem"},
        "telemetry.otel.client_certificate ('/c.pem', a string) from the configuration is refused: client_key and client_certificate are of use only together. It stays unset.",
    ),
    (
        "otel",
        {"insecure": "sometimes"},
        "telemetry.otel.insecure ('sometimes', a string) from the configuration is refused: expected true or false. false stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rate": 1.5},
        "telemetry.otel.sampling_rate (1.5, a float) from the configuration is refused: expected a number from 0 to 1. 1 stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rate": "10%"},
        "telemetry.otel.sampling_rate ('10%', a string) from the configuration is refused: expected a number from 0 to 1. 1 stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_parent_based": "caller"},
        "telemetry.otel.sampling_parent_based ('caller', a string) from the configuration is refused: expected true or false. false stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": 5},
        "telemetry.otel.sampling_rules (5, an integer) from the configuration is refused: expected a list of tables such as { name = 'health.*', attributes = { tenant = 'gold' }, rate = 0.5 }. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": ["health.*"]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected a list of tables such as { name = 'health.*', attributes = { tenant = 'gold' }, rate = 0.5 }, but item 1 is no table. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": "a", "ratio": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: rule 1 has the key 'ratio'; expected only name, attributes and rate. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": "a"}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected rule 1 to have a rate from 0 to 1. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": "a", "rate": 2}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected rule 1 to have a rate from 0 to 1. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": "a", "rate": "high"}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected rule 1 to have a rate from 0 to 1. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": "a", "rate": True}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected rule 1 to have a rate from 0 to 1. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": "", "rate": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected the name of rule 1 to be a pattern such as 'health.*'. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"name": 5, "rate": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected the name of rule 1 to be a pattern such as 'health.*'. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"rate": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: rule 1 matches everything, which sampling_rate is for; expected a name or attributes. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"attributes": "gold", "rate": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected the attributes of rule 1 to be a table. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"attributes": {"": "gold"}, "rate": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected the attributes of rule 1 to have names. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampling_rules": [{"attributes": {"tenant": []}, "rate": 1}]},
        "telemetry.otel.sampling_rules (a list of 1 item) from the configuration is refused: expected the attribute 'tenant' of rule 1 to be a string, a number, a boolean or a list of these. [] stays in force (the default).",
    ),
    (
        "otel",
        {"resource_detectors": 5},
        "telemetry.otel.resource_detectors (5, an integer) from the configuration is refused: expected a list of strings. [] stays in force (the default).",
    ),
    (
        "otel",
        {"sampler": "jaeger remote"},
        "telemetry.otel.sampler ('jaeger remote', a string) from the configuration is refused: expected the name of an OpenTelemetry sampler, such as always_on. It stays unset.",
    ),
    (
        "otel",
        {"sampler_argument": 0.5},
        "telemetry.otel.sampler_argument (0.5, a float) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"id_generator": 7},
        "telemetry.otel.id_generator (7, an integer) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"trace_id_from_correlation": "perhaps"},
        "telemetry.otel.trace_id_from_correlation ('perhaps', a string) from the configuration is refused: expected true or false. false stays in force (the default).",
    ),
    (
        "otel",
        {"max_spans_per_second": 0},
        "telemetry.otel.max_spans_per_second (0, an integer) from the configuration is refused: expected a number above 0 to 1000000000. It stays unset.",
    ),
    (
        "otel",
        {"sampling_wait": -1},
        "telemetry.otel.sampling_wait (-1, an integer) from the configuration is refused: expected a number of seconds from 0 to 3600. 1 stays in force (the default).",
    ),
    (
        "otel",
        {"max_held_spans": 0},
        "telemetry.otel.max_held_spans (0, an integer) from the configuration is refused: expected a whole number from 1 to 10000000. 20000 stays in force (the default).",
    ),
    (
        "otel",
        {"always_keep_errors": 5},
        "telemetry.otel.always_keep_errors (5, an integer) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"always_keep_slower_than_ms": -1},
        "telemetry.otel.always_keep_slower_than_ms (-1, an integer) from the configuration is refused: expected a number of milliseconds from 0 to 1000000000. It stays unset.",
    ),
    (
        "otel",
        {"traces": "some"},
        "telemetry.otel.traces ('some', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"max_active_spans": 0},
        "telemetry.otel.max_active_spans (0, an integer) from the configuration is refused: expected a whole number from 1 to 10000000. 10000 stays in force (the default).",
    ),
    (
        "otel",
        {"span_ttl": dt.time(0, 5)},
        "telemetry.otel.span_ttl (a date or time) from the configuration is refused: expected a number of seconds from 0.001 to 604800. 300 stays in force (the default).",
    ),
    (
        "otel",
        {"metrics": "automatic"},
        "telemetry.otel.metrics ('automatic', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"logs": "some"},
        "telemetry.otel.logs ('some', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"log_patterns": ["shop.*", ""]},
        "telemetry.otel.log_patterns (a list of 2 items) from the configuration is refused: expected a list of strings, but item 2 is empty. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"log_severity": "loud"},
        "telemetry.otel.log_severity ('loud', a string) from the configuration is refused: expected one of 'trace', 'debug', 'info', 'warn', 'error', 'fatal'. 'info' stays in force (the default).",
    ),
    (
        "otel",
        {"metrics_histogram": "native"},
        "telemetry.otel.metrics_histogram ('native', a string) from the configuration is refused: expected one of 'explicit', 'exponential'. 'explicit' stays in force (the default).",
    ),
    (
        "otel",
        {"metrics_exemplars": "some"},
        "telemetry.otel.metrics_exemplars ('some', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"automatic_metrics": "perhaps"},
        "telemetry.otel.automatic_metrics ('perhaps', a string) from the configuration is refused: expected true or false. It stays unset.",
    ),
    (
        "otel",
        {"span_metrics": "maybe"},
        "telemetry.otel.span_metrics ('maybe', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "otel",
        {"metrics_labels": []},
        "telemetry.otel.metrics_labels (an empty list) from the configuration is refused: expected at least one name, or 'all'. It stays unset.",
    ),
    (
        "otel",
        {"metrics_drop_labels": [5]},
        "telemetry.otel.metrics_drop_labels (a list of 1 item) from the configuration is refused: expected a list of strings, but item 1 is 5, an integer. ['correlation_id', 'error', 'parent_span_id', 'request_id', ... stays in force (the default).",
    ),
    (
        "otel",
        {"metrics_buckets": [1, 0.5]},
        "telemetry.otel.metrics_buckets (a list of 2 items) from the configuration is refused: expected ascending bounds, but bound 2 is not above the one before it. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "otel",
        {"max_series": 0},
        "telemetry.otel.max_series (0, an integer) from the configuration is refused: expected a whole number from 1 to 1000000. 2000 stays in force (the default).",
    ),
    (
        "otel",
        {"series_ttl": 0},
        "telemetry.otel.series_ttl (0, an integer) from the configuration is refused: expected a number of seconds from 1 to 31536000. It stays unset.",
    ),
    (
        "otel",
        {"metrics_endpoint": "collector"},
        "telemetry.otel.metrics_endpoint ('collector', a string) from the configuration is refused: expected a URL such as http://collector:4317 (or host:port alone). It stays unset.",
    ),
    (
        "otel",
        {"metrics_protocol": "http"},
        "telemetry.otel.metrics_protocol ('http', a string) from the configuration is refused: expected one of 'grpc', 'http/protobuf'. It stays unset.",
    ),
    (
        "otel",
        {"metrics_headers": {"x-key": "é"}},
        "telemetry.otel.metrics_headers (a table of 1 entry) from the configuration is refused: the value of the header x-key is not printable ASCII on one line. It stays unset.",
    ),
    (
        "otel",
        {"metrics_timeout": 0},
        "telemetry.otel.metrics_timeout (0, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 3600. It stays unset.",
    ),
    (
        "otel",
        {"metrics_compression": "deflate"},
        "telemetry.otel.metrics_compression ('deflate', a string) from the configuration is refused: over gRPC expected one of 'none', 'gzip'; 'deflate' is for http/protobuf. It stays unset.",
    ),
    (
        "otel",
        {"metrics_certificate": 5},
        "telemetry.otel.metrics_certificate (5, an integer) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"metrics_client_key": "/k.pem"},
        "telemetry.otel.metrics_client_key ('/k.pem', a string) from the configuration is refused: metrics_client_key and metrics_client_certificate are of use only together. It stays unset.",
    ),
    (
        "otel",
        {"metrics_client_certificate": "/c.pem"},
        "telemetry.otel.metrics_client_certificate ('/c.pem', a string) from the configuration is refused: metrics_client_key and metrics_client_certificate are of use only together. It stays unset.",
    ),
    (
        "otel",
        {"metrics_insecure": "very"},
        "telemetry.otel.metrics_insecure ('very', a string) from the configuration is refused: expected true or false. It stays unset.",
    ),
    (
        "otel",
        {"logs_endpoint": "collector"},
        "telemetry.otel.logs_endpoint ('collector', a string) from the configuration is refused: expected a URL such as http://collector:4317 (or host:port alone). It stays unset.",
    ),
    (
        "otel",
        {"logs_protocol": "http"},
        "telemetry.otel.logs_protocol ('http', a string) from the configuration is refused: expected one of 'grpc', 'http/protobuf'. It stays unset.",
    ),
    (
        "otel",
        {"logs_headers": {"x-key": "\u00e9"}},
        "telemetry.otel.logs_headers (a table of 1 entry) from the configuration is refused: the value of the header x-key is not printable ASCII on one line. It stays unset.",
    ),
    (
        "otel",
        {"logs_timeout": 0},
        "telemetry.otel.logs_timeout (0, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 3600. It stays unset.",
    ),
    (
        "otel",
        {"logs_compression": "deflate"},
        "telemetry.otel.logs_compression ('deflate', a string) from the configuration is refused: over gRPC expected one of 'none', 'gzip'; 'deflate' is for http/protobuf. It stays unset.",
    ),
    (
        "otel",
        {"logs_certificate": 5},
        "telemetry.otel.logs_certificate (5, an integer) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "otel",
        {"logs_client_key": "/k.pem"},
        "telemetry.otel.logs_client_key ('/k.pem', a string) from the configuration is refused: logs_client_key and logs_client_certificate are of use only together. It stays unset.",
    ),
    (
        "otel",
        {"logs_client_certificate": "/c.pem"},
        "telemetry.otel.logs_client_certificate ('/c.pem', a string) from the configuration is refused: logs_client_key and logs_client_certificate are of use only together. It stays unset.",
    ),
    (
        "otel",
        {"logs_insecure": "sometimes"},
        "telemetry.otel.logs_insecure ('sometimes', a string) from the configuration is refused: expected true or false. It stays unset.",
    ),
    (
        "otel",
        {"metrics_interval": 0},
        "telemetry.otel.metrics_interval (0, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 86400. 60 stays in force (the default).",
    ),
    (
        "otel",
        {"metrics_temporality": "delat"},
        "telemetry.otel.metrics_temporality ('delat', a string) from the configuration is refused: expected one of 'cumulative', 'delta', 'lowmemory'. 'cumulative' stays in force (the default).",
    ),
    (
        "otel",
        {"metrics_definitions": [{"type": "count", "name": "a.b"}]},
        "telemetry.otel.metrics_definitions (a list of 1 item) from the configuration is refused: expected \"automatic\", or a list of tables that each define a metric, but item 1 ('a.b'): type is 'count', a string, expected one of counter, sum, last_value, summary, distribution; did you mean counter?. 'automatic' stays in force (the default).",
    ),
    (
        "otel",
        {"batchsize": 5},
        "telemetry.otel.batchsize from the configuration is not a known key; did you mean telemetry.otel.batch_size? It is ignored.",
    ),
    (
        "otel",
        {"colour": "red"},
        "telemetry.otel.colour from the configuration is not a known key. It is ignored.",
    ),
    (
        "otel",
        {5: 5},
        "telemetry.otel.(5, an integer) from the configuration is not a known key. It is ignored.",
    ),
    (
        "prometheus",
        {"port": 65536},
        "telemetry.prometheus.port (65536, an integer) from the configuration is refused: expected a whole number from 0 to 65535. 9464 stays in force (the default).",
    ),
    (
        "prometheus",
        {"port": "http"},
        "telemetry.prometheus.port ('http', a string) from the configuration is refused: expected a whole number from 0 to 65535. 9464 stays in force (the default).",
    ),
    (
        "prometheus",
        {"host": ""},
        "telemetry.prometheus.host ('', a string) from the configuration is refused: expected a host name or an address, such as 127.0.0.1 or 0.0.0.0. '127.0.0.1' stays in force (the default).",
    ),
    (
        "prometheus",
        {"host": "http://0.0.0.0"},
        "telemetry.prometheus.host ('http://0.0.0.0', a string) from the configuration is refused: expected a host name or an address, such as 127.0.0.1 or 0.0.0.0. '127.0.0.1' stays in force (the default).",
    ),
    (
        "prometheus",
        {"host": "0.0.0.0:9464"},
        "telemetry.prometheus.host ('0.0.0.0:9464', a string) from the configuration is refused: expected a host without a port; the port has a key of its own. '127.0.0.1' stays in force (the default).",
    ),
    (
        "prometheus",
        {"path": "metrics"},
        "telemetry.prometheus.path ('metrics', a string) from the configuration is refused: expected a path that begins with '/', such as /metrics. '/metrics' stays in force (the default).",
    ),
    (
        "prometheus",
        {"path": "/{metrics}"},
        "telemetry.prometheus.path ('/{metrics}', a string) from the configuration is refused: expected a path without blanks, braces, '?' or '#', such as /metrics. '/metrics' stays in force (the default).",
    ),
    (
        "prometheus",
        {"namespace": "my-shop"},
        "telemetry.prometheus.namespace ('my-shop', a string) from the configuration is refused: expected letters, digits and underscores, not beginning with a digit. It stays unset.",
    ),
    (
        "prometheus",
        {"global_labels": {"le": "x"}},
        "telemetry.prometheus.global_labels (a table of 1 entry) from the configuration is refused: the label le is reserved: the exporter itself gives it a meaning. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"global_labels": {"my-label": "x"}},
        "telemetry.prometheus.global_labels (a table of 1 entry) from the configuration is refused: expected label names of letters, digits and underscores that begin with neither a digit nor two underscores, but 'my-label' is not. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"global_labels": {"a": []}},
        "telemetry.prometheus.global_labels (a table of 1 entry) from the configuration is refused: expected label values that are strings, numbers or booleans, but that of a is something else. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"global_labels": "region"},
        "telemetry.prometheus.global_labels ('region', a string) from the configuration is refused: expected a table of names and values. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"exemplars": "perhaps"},
        "telemetry.prometheus.exemplars ('perhaps', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "prometheus",
        {"compression": "zstd"},
        "telemetry.prometheus.compression ('zstd', a string) from the configuration is refused: expected one of 'gzip', 'none'. 'gzip' stays in force (the default).",
    ),
    (
        "prometheus",
        {"resource": "shop"},
        "telemetry.prometheus.resource ('shop', a string) from the configuration is refused: expected a table of names and values. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"resource": {"a": {"b": 1}}},
        "telemetry.prometheus.resource (a table of 1 entry) from the configuration is refused: expected label values that are strings, numbers or booleans, but that of a is something else. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"resource": {"": 1}},
        "telemetry.prometheus.resource (a table of 1 entry) from the configuration is refused: expected attribute names that are strings and not empty. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"labels": []},
        "telemetry.prometheus.labels (an empty list) from the configuration is refused: expected at least one name, or 'all'. It stays unset.",
    ),
    (
        "prometheus",
        {"labels": ["a", ""]},
        "telemetry.prometheus.labels (a list of 2 items) from the configuration is refused: expected a list of strings, but item 2 is empty. It stays unset.",
    ),
    (
        "prometheus",
        {"drop_labels": [None]},
        "telemetry.prometheus.drop_labels (a list of 1 item) from the configuration is refused: expected a list of strings, but item 1 is nothing (None). ['correlation_id', 'error', 'parent_span_id', 'request_id', ... stays in force (the default).",
    ),
    (
        "prometheus",
        {"buckets": []},
        "telemetry.prometheus.buckets (an empty list) from the configuration is refused: expected from 1 to 200 bounds. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "prometheus",
        {"buckets": [0, 1]},
        "telemetry.prometheus.buckets (a list of 2 items) from the configuration is refused: expected bounds above 0, in seconds. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "prometheus",
        {"buckets": [1, 1]},
        "telemetry.prometheus.buckets (a list of 2 items) from the configuration is refused: expected ascending bounds, but bound 2 is not above the one before it. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "prometheus",
        {"buckets": [1, float("inf"), 2]},
        "telemetry.prometheus.buckets (a list of 3 items) from the configuration is refused: expected a list of finite numbers, but item 2 is inf, a float. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "prometheus",
        {"buckets": [1, "x"]},
        "telemetry.prometheus.buckets (a list of 2 items) from the configuration is refused: expected a list of finite numbers, but item 2 is 'x', a string. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "prometheus",
        {"buckets": "fine"},
        "telemetry.prometheus.buckets ('fine', a string) from the configuration is refused: expected a list of finite numbers. [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2... stays in force (the default).",
    ),
    (
        "prometheus",
        {"max_series": 0},
        "telemetry.prometheus.max_series (0, an integer) from the configuration is refused: expected a whole number from 1 to 1000000. 2000 stays in force (the default).",
    ),
    (
        "prometheus",
        {"span_metrics": "maybe"},
        "telemetry.prometheus.span_metrics ('maybe', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "prometheus",
        {"metrics": [{"type": "counter"}]},
        "telemetry.prometheus.metrics (a list of 1 item) from the configuration is refused: expected \"automatic\", or a list of tables that each define a metric, but item 1 (counter): name is missing, expected a dotted name of at most 200 characters, without blanks, such as shop.checkout.stop.count. 'automatic' stays in force (the default).",
    ),
    (
        "prometheus",
        {"metrics": "none"},
        "telemetry.prometheus.metrics ('none', a string) from the configuration is refused: expected \"automatic\", or a list of tables that each define a metric. 'automatic' stays in force (the default).",
    ),
    (
        "prometheus",
        {"metrics": [{"type": "sum", "name": "a.b", "tag": ["x"]}, {"type": "counter", "name": "c"}]},
        "telemetry.prometheus.metrics (a list of 2 items) from the configuration is refused: expected \"automatic\", or a list of tables that each define a metric, but item 1 (sum 'a.b'): 'tag' is no option of a sum; did you mean tags?; item 2 (counter 'c'): event is missing, and the name 'c' has no part that says it. 'automatic' stays in force (the default).",
    ),
    (
        "prometheus",
        {"automatic_metrics": "perhaps"},
        "telemetry.prometheus.automatic_metrics ('perhaps', a string) from the configuration is refused: expected true or false. It stays unset.",
    ),
    (
        "prometheus",
        {"series_ttl": 0},
        "telemetry.prometheus.series_ttl (0, an integer) from the configuration is refused: expected a number of seconds from 1 to 31536000. It stays unset.",
    ),
    (
        "prometheus",
        {"serve": "perhaps"},
        "telemetry.prometheus.serve ('perhaps', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "prometheus",
        {"certificate": 5},
        "telemetry.prometheus.certificate (5, an integer) from the configuration is refused: expected a string. It stays unset.",
    ),
    (
        "prometheus",
        {"key": "/k.pem"},
        "telemetry.prometheus.key ('/k.pem', a string) from the configuration is refused: key is of use only together with certificate. It stays unset.",
    ),
    (
        "prometheus",
        {"client_ca": "/ca.pem"},
        "telemetry.prometheus.client_ca ('/ca.pem', a string) from the configuration is refused: client_ca is of use only together with certificate. It stays unset.",
    ),
    (
        "prometheus",
        {"basic_auth": 5},
        'telemetry.prometheus.basic_auth (an integer, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password". It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": "hunter2"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password". It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": ":hunter2"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", neither of them empty. It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": "user:"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", neither of them empty. It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": "{hunter2"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password". It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": {"user": "u", "password": "p"}},
        'telemetry.prometheus.basic_auth (a table of 2 entries) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", with no other keys. It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": {"username": "u", "password": 5}},
        'telemetry.prometheus.basic_auth (a table of 2 entries) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", both of them strings. It stays unset.',
    ),
    (
        "prometheus",
        {"basic_auth": {"username": "u:v", "password": "p"}},
        "telemetry.prometheus.basic_auth (a table of 2 entries) from the configuration is refused: expected a user name without a colon, which is where the password begins. It stays unset.",
    ),
    (
        "prometheus",
        {"basic_auth": "user:two\nlines"},
        "telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected a user name and a password without control characters. It stays unset.",
    ),
    (
        "prometheus",
        {"max_connections": 0},
        "telemetry.prometheus.max_connections (0, an integer) from the configuration is refused: expected a whole number from 1 to 10000. 100 stays in force (the default).",
    ),
    (
        "prometheus",
        {"scrape_timeout": 0},
        "telemetry.prometheus.scrape_timeout (0, an integer) from the configuration is refused: expected a number of seconds from 0.001 to 3600. 30 stays in force (the default).",
    ),
    (
        "prometheus",
        {"push_interval": 0},
        "telemetry.prometheus.push_interval (0, an integer) from the configuration is refused: expected a number of seconds from 0.1 to 86400. It stays unset.",
    ),
    (
        "prometheus",
        {"push_interval": 15},
        "telemetry.prometheus.push_interval (15, an integer) from the configuration is refused: push_interval needs push_url, which says where to push to. It stays unset.",
    ),
    (
        "prometheus",
        {"push_job": " "},
        "telemetry.prometheus.push_job (' ', a string) from the configuration is refused: expected a name; a Pushgateway takes nothing without one. 'otpylib' stays in force (the default).",
    ),
    (
        "prometheus",
        {"multiprocess_dir": "/dev/null"},
        "telemetry.prometheus.multiprocess_dir ('/dev/null', a string) from the configuration is refused: expected a directory, which need not exist yet. It stays unset.",
    ),
    (
        "prometheus",
        {"multiprocess_modes": {"depth": "avg"}},
        "telemetry.prometheus.multiprocess_modes (a table of 1 entry) from the configuration is refused: expected one of all, liveall, min, livemin, max, livemax, sum, livesum, mostrecent, livemostrecent for each metric, but that of depth is 'avg'. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"multiprocess_modes": "max"},
        "telemetry.prometheus.multiprocess_modes ('max', a string) from the configuration is refused: expected a table of names and values. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"self_metrics": "perhaps"},
        "telemetry.prometheus.self_metrics ('perhaps', a string) from the configuration is refused: expected true or false. true stays in force (the default).",
    ),
    (
        "prometheus",
        {"merge_registries": 5},
        "telemetry.prometheus.merge_registries (5, an integer) from the configuration is refused: expected a list of strings. [] stays in force (the default).",
    ),
    (
        "prometheus",
        {"merge_registries": ["prometheus_client:REGISTRY", "shop.metrics"]},
        "telemetry.prometheus.merge_registries (a list of 2 items) from the configuration is refused: expected import paths such as prometheus_client:REGISTRY, but 'shop.metrics' is none. [] stays in force (the default).",
    ),
    (
        "prometheus",
        {"push_url": "localhost:9091"},
        "telemetry.prometheus.push_url ('localhost:9091', a string) from the configuration is refused: expected the URL of a Pushgateway, such as http://localhost:9091. It stays unset.",
    ),
    (
        "prometheus",
        {"push_url": "http://ada:lovelace@gateway:9091/metrics/job/x"},
        "telemetry.prometheus.push_url ('http://<redacted>@gateway:9091/metrics/job/x', a string) from the configuration is refused: expected the URL of a Pushgateway, such as http://localhost:9091, without /metrics: push_job and push_grouping make the rest. It stays unset.",
    ),
    (
        "prometheus",
        {"push_grouping": {"job": "a"}},
        "telemetry.prometheus.push_grouping (a table of 1 entry) from the configuration is refused: the label job has a key of its own, push_job. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"push_grouping": {"in-stance": "a"}},
        "telemetry.prometheus.push_grouping (a table of 1 entry) from the configuration is refused: expected label names of letters, digits and underscores that begin with neither a digit nor two underscores, but 'in-stance' is not. {} stays in force (the default).",
    ),
    (
        "prometheus",
        {"push_grouping": {"instance": [1]}},
        "telemetry.prometheus.push_grouping (a table of 1 entry) from the configuration is refused: expected label values that are strings, numbers or booleans, but that of instance is something else. {} stays in force (the default).",
    ),
    (
        "mock",
        {"max_events": 0},
        "telemetry.mock.max_events (0, an integer) from the configuration is refused: expected a whole number from 1 to 10000000. 100000 stays in force (the default).",
    ),
    (
        "mock",
        {"max_event": 5},
        "telemetry.mock.max_event from the configuration is not a known key; did you mean telemetry.mock.max_events? It is ignored.",
    ),
]


def _identify(value):
    return value if isinstance(value, str) and len(value) < 20 else None


@pytest.mark.parametrize(("section", "config", "message"), BAD, ids=_identify)
def test_a_bad_value_gives_one_message_and_leaves_the_rest_in_force(section, config, message):
    settings_type = SETTINGS[section]
    defaults = settings_type()
    bystanders = {"batch_size": 7, "failure_threshold": 3}
    resolution = resolve(settings_type, section, environ={}, config={**bystanders, **config})
    assert [problem.message for problem in resolution.problems] == [message]
    (problem,) = resolution.problems
    bad = next(iter(config))
    in_force = {
        key: getattr(resolution.settings, key)
        for key in settings_type.model_fields
        if key == bad or key not in config
    }
    expected = {key: bystanders.get(key, getattr(defaults, key)) for key in in_force}
    if bad in expected:
        expected[bad] = getattr(defaults, bad)
        assert problem.kind == "rejected"
        assert resolution.origins[bad] == "default"
    assert in_force == expected
    assert problem.keys == ((bad,) if isinstance(bad, str) else ())


@pytest.mark.parametrize(("section", "config", "message"), BAD, ids=_identify)
def test_a_bad_value_leaves_the_last_good_configuration_in_force_while_running(section, config, message):
    settings_type = SETTINGS[section]
    good = resolve(settings_type, section, environ={}, config={"batch_size": 7, "shutdown_timeout": 2})
    changed = {"batch_size": 7, "shutdown_timeout": 2, **config}
    resolution = resolve(settings_type, section, environ={}, config=changed, previous=good)
    (problem,) = resolution.problems
    bad = next(iter(config))
    if bad in settings_type.model_fields:
        assert getattr(resolution.settings, bad) == getattr(good.settings, bad)
        assert resolution.origins[bad] == good.origins[bad]
        assert problem.summary == message[: message.rindex(". ", 0, message.rindex(" stays ")) + 1]
    else:
        assert resolution.settings == good.settings
        assert problem.message == message


def test_every_key_of_every_section_is_in_the_table():
    for section, settings_type in SETTINGS.items():
        keys = set(settings_type.model_fields)
        tried = {key for name, config, _ in BAD for key in config if name == section}
        if section != "otel":
            keys -= set(OtelSettings.model_fields) - {"certificate"}
        assert keys <= tried
    assert len(BAD) >= 40


#: Environment and the one message the user reads.
BAD_ENVIRONMENT = [
    (
        {"OTEL_SDK_DISABLED": "1"},
        "telemetry.otel.enabled ('1', a string) from the environment variable OTEL_SDK_DISABLED is refused: expected true or false. true stays in force (the default).",
    ),
    (
        {"OTEL_TRACES_SAMPLER": "jaeger remote"},
        "telemetry.otel.sampler ('jaeger remote', a string) from the environment variable OTEL_TRACES_SAMPLER is refused: expected the name of an OpenTelemetry sampler, such as always_on. It stays unset.",
    ),
    (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
        "telemetry.otel.sampling_rate ('half', a string) from the environment variable OTEL_TRACES_SAMPLER_ARG is refused: expected a number from 0 to 1. 1 stays in force (the default).",
    ),
    (
        {"OTEL_BSP_SCHEDULE_DELAY": "5s"},
        "telemetry.otel.flush_interval ('5s', a string) from the environment variable OTEL_BSP_SCHEDULE_DELAY is refused: expected a number of milliseconds. 5 stays in force (the default).",
    ),
    (
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
        "telemetry.otel.queue_limit ('-1', a string) from the environment variable OTEL_BSP_MAX_QUEUE_SIZE is refused: expected a whole number from 1 to 10000000. 100000 stays in force (the default).",
    ),
    (
        {"OTEL_RESOURCE_ATTRIBUTES": "a=1,b"},
        "telemetry.otel.resource ('a=1,b', a string) from the environment variable OTEL_RESOURCE_ATTRIBUTES is refused: expected name=value pairs separated by commas, but pair 2 is not one. {} stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_HEADERS": "secret"},
        "telemetry.otel.headers (a string, not shown) from the environment variable OTEL_EXPORTER_OTLP_HEADERS is refused: expected name=value pairs separated by commas, but pair 1 is not one. {} stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"},
        "telemetry.otel.timeout ('10000', a string) from the environment variable OTEL_EXPORTER_OTLP_TIMEOUT is refused: expected a number of seconds from 0.001 to 3600. 10 stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        "telemetry.otel.protocol ('http/json', a string) from the environment variable OTEL_EXPORTER_OTLP_PROTOCOL is refused: expected one of 'grpc', 'http/protobuf'. 'grpc' stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:14268/api/traces"},
        "telemetry.otel.endpoint ('http://jaeger:14268/api/traces', a string) from the environment variable OTEL_EXPORTER_OTLP_ENDPOINT is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use http://jaeger:4317. It stays unset.",
    ),
    (
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k"},
        "telemetry.otel.client_key ('/k', a string) from the environment variable OTEL_EXPORTER_OTLP_CLIENT_KEY is refused: client_key and client_certificate are of use only together. It stays unset.",
    ),
    (
        {"OTEL_TRACES_EXPORTER": "otlp,console"},
        "telemetry.otel.traces ('otlp,console', a string) from the environment variable OTEL_TRACES_EXPORTER is refused: all is sent by one exporter, so expected one name; the one taken is 'otlp'. true stays in force (the default).",
    ),
    (
        {"OTEL_LOGS_EXPORTER": "console"},
        "telemetry.otel.logs ('console', a string) from the environment variable OTEL_LOGS_EXPORTER is refused: log records are sent by the exporter of the spans, so expected 'otlp' or 'none'. true stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "soon"},
        "telemetry.otel.logs_timeout ('soon', a string) from the environment variable OTEL_EXPORTER_OTLP_LOGS_TIMEOUT is refused: expected a number of seconds from 0.001 to 3600. It stays unset.",
    ),
    (
        {"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "secret"},
        "telemetry.otel.logs_headers (a string, not shown) from the environment variable OTEL_EXPORTER_OTLP_LOGS_HEADERS is refused: expected name=value pairs separated by commas, but pair 1 is not one. It stays unset.",
    ),
    (
        {"TELEMETRY_BATCH_SIZE": "many"},
        "telemetry.otel.batch_size ('many', a string) from the environment variable TELEMETRY_BATCH_SIZE is refused: expected a whole number from 1 to 100000. 100 stays in force (the default).",
    ),
    (
        {"TELEMETRY_OTEL_RESOURCE": "{not json"},
        "telemetry.otel.resource ('{not json', a string) from the environment variable TELEMETRY_OTEL_RESOURCE is refused: expected name=value pairs separated by commas, or a JSON object. {} stays in force (the default).",
    ),
    (
        {"TELEMETRY_OTEL_METRICS_INTERVAL": "soon"},
        "telemetry.otel.metrics_interval ('soon', a string) from the environment variable TELEMETRY_OTEL_METRICS_INTERVAL is refused: expected a number of seconds from 0.001 to 86400. 60 stays in force (the default).",
    ),
    (
        {"OTEL_METRIC_EXPORT_INTERVAL": "1m"},
        "telemetry.otel.metrics_interval ('1m', a string) from the environment variable OTEL_METRIC_EXPORT_INTERVAL is refused: expected a number of milliseconds. 60 stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delat"},
        "telemetry.otel.metrics_temporality ('delat', a string) from the environment variable OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is refused: expected one of 'cumulative', 'delta', 'lowmemory'. 'cumulative' stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "native"},
        "telemetry.otel.metrics_histogram ('native', a string) from the environment variable OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION is refused: expected explicit_bucket_histogram or base2_exponential_bucket_histogram. 'explicit' stays in force (the default).",
    ),
    (
        {"OTEL_METRICS_EXPORTER": "console"},
        "telemetry.otel.metrics ('console', a string) from the environment variable OTEL_METRICS_EXPORTER is refused: metrics are sent by the exporter of the spans, so expected 'otlp' or 'none'. true stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "soon"},
        "telemetry.otel.metrics_timeout ('soon', a string) from the environment variable OTEL_EXPORTER_OTLP_METRICS_TIMEOUT is refused: expected a number of seconds from 0.001 to 3600. It stays unset.",
    ),
    (
        {"TELEMETRY_OTEL_BATCHSIZE": "5"},
        "telemetry.otel.batchsize from the environment variable TELEMETRY_OTEL_BATCHSIZE is not a known key; did you mean telemetry.otel.batch_size? It is ignored.",
    ),
]


@pytest.mark.parametrize(("environ", "message"), BAD_ENVIRONMENT)
def test_a_bad_variable_gives_one_message_and_the_default_stays(environ, message):
    resolution = resolve(OtelSettings, "otel", environ=environ)
    assert [problem.message for problem in resolution.problems] == [message]
    assert resolution.settings == OtelSettings()


class Hostile:
    """Raises whatever is done with it."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __float__ = __int__ = __repr__


class HostileList(list):
    def __len__(self):
        raise RuntimeError("no")

    __repr__ = __len__


@pytest.mark.parametrize("settings_type", SETTINGS.values(), ids=SETTINGS)
def test_objects_of_no_sense_whatever_are_refused_for_every_key(settings_type):
    endless = []
    endless.append(endless)
    for key in settings_type.model_fields:
        for value in (
            Hostile(),
            HostileList([None]),
            endless,
            {"a": Hostile()},
            object,
            b"\xff",
            {None: None},
            1j,
        ):
            resolution = resolve(settings_type, "otel", environ={}, config={key: value})
            assert [problem.keys for problem in resolution.problems] == [(key,)], (key, type(value))
            assert resolution.settings == settings_type()


def test_a_message_is_one_line_however_long_or_odd_the_value():
    for value in ("x" * 10_000, "a\nb\rc", "\x1b[31m", "\u2028"):
        (problem,) = resolve(OtelSettings, "otel", environ={}, config={"protocol": value}).problems
        assert len(problem.message) < 300
        assert len(problem.message.splitlines()) == 1
        assert "\x1b" not in problem.message
