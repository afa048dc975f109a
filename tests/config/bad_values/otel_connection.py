"""What every section has, and where the OpenTelemetry exporter sends: bad values."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

#: Section, configuration, and the one message the user reads.
CONNECTION = [
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
        "telemetry.otel.event_patterns (a list of 2 items) from the configuration is refused: expected a string or a list of strings, but item 2 is 5, an integer. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"event_patterns": "  "},
        "telemetry.otel.event_patterns ('  ', a string) from the configuration is refused: expected a string or a list of strings, but item 1 is empty. ['*'] stays in force (the default).",
    ),
    (
        "otel",
        {"event_patterns": {"a": 1}},
        "telemetry.otel.event_patterns (a table of 1 entry) from the configuration is refused: expected a string or a list of strings. ['*'] stays in force (the default).",
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
]
