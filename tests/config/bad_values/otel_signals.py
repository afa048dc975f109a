"""Sampling, and what is sent of spans, logs and metrics: bad values."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

import datetime as dt

#: Section, configuration, and the one message the user reads.
SIGNALS = [
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
        "telemetry.otel.resource_detectors (5, an integer) from the configuration is refused: expected a string or a list of strings. [] stays in force (the default).",
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
        {"metric_producers": ["a"]},
        "telemetry.otel.metric_producers (a list of 1 item) from the configuration is refused: expected a list of metric producers, objects with produce(timeout_millis), which only a program can give. [] stays in force (the default).",
    ),
    (
        "otel",
        {"metric_readers": ["a"]},
        "telemetry.otel.metric_readers (a list of 1 item) from the configuration is refused: expected a list of metric readers, objects with collect(), which only a program can give. [] stays in force (the default).",
    ),
    (
        "otel",
        {"span_processors": ["a"]},
        "telemetry.otel.span_processors (a list of 1 item) from the configuration is refused: expected a list of span processors, objects with on_end(span), which only a program can give. [] stays in force (the default).",
    ),
    (
        "otel",
        {"log_record_processors": ["a"]},
        "telemetry.otel.log_record_processors (a list of 1 item) from the configuration is refused: expected a list of log record processors, objects with on_emit(record), which only a program can give. [] stays in force (the default).",
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
        "telemetry.otel.log_patterns (a list of 2 items) from the configuration is refused: expected a string or a list of strings, but item 2 is empty. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"log_severity": "loud"},
        "telemetry.otel.log_severity ('loud', a string) from the configuration is refused: expected one of 'trace', 'debug', 'info', 'warn', 'error', 'fatal'. 'info' stays in force (the default).",
    ),
    (
        "otel",
        {"span_events": "events"},
        "telemetry.otel.span_events ('events', a string) from the configuration is refused: expected one of 'event', 'log', 'both'. 'event' stays in force (the default).",
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
        "telemetry.otel.metrics_drop_labels (a list of 1 item) from the configuration is refused: expected a string or a list of strings, but item 1 is 5, an integer. ['baggage', 'correlation_id', 'error', 'parent_span_id', 're... stays in force (the default).",
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
        "telemetry.otel.metrics_definitions (a list of 1 item) from the configuration is refused: expected \"automatic\", or a list of tables that each define a metric, but item 1 ('a.b'): type is 'count', a string, expected one of counter, sum, last_value, summary, distribution; did you mean counter? 'automatic' stays in force (the default).",
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
]
