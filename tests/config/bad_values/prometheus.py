"""The Prometheus exporter and the one for tests: bad values."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

#: Section, configuration, and the one message the user reads.
PROMETHEUS = [
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
        {"host": "[]"},
        "telemetry.prometheus.host ('[]', a string) from the configuration is refused: expected a host name or an address, such as 127.0.0.1 or 0.0.0.0. '127.0.0.1' stays in force (the default).",
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
        "telemetry.prometheus.labels (a list of 2 items) from the configuration is refused: expected a string or a list of strings, but item 2 is empty. It stays unset.",
    ),
    (
        "prometheus",
        {"drop_labels": [None]},
        "telemetry.prometheus.drop_labels (a list of 1 item) from the configuration is refused: expected a string or a list of strings, but item 1 is nothing (None). ['baggage', 'correlation_id', 'error', 'parent_span_id', 're... stays in force (the default).",
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
        "telemetry.prometheus.certificate (5, an integer) from the configuration is refused: expected a string. The metrics are not served until this is mended.",
    ),
    (
        "prometheus",
        {"key": "/k.pem"},
        "telemetry.prometheus.key ('/k.pem', a string) from the configuration is refused: key is of use only together with certificate. The metrics are not served until this is mended.",
    ),
    (
        "prometheus",
        {"client_ca": "/ca.pem"},
        "telemetry.prometheus.client_ca ('/ca.pem', a string) from the configuration is refused: client_ca is of use only together with certificate. The metrics are not served until this is mended.",
    ),
    (
        "prometheus",
        {"basic_auth": 5},
        'telemetry.prometheus.basic_auth (an integer, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password". The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": "hunter2"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password". The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": ":hunter2"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", neither of them empty. The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": "user:"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", neither of them empty. The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": "{hunter2"},
        'telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected { username = "...", password = "..." } or "username:password". The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": {"user": "u", "password": "p"}},
        'telemetry.prometheus.basic_auth (a table of 2 entries) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", with no other keys. The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": {"username": "u", "password": 5}},
        'telemetry.prometheus.basic_auth (a table of 2 entries) from the configuration is refused: expected { username = "...", password = "..." } or "username:password", both of them strings. The metrics are not served until this is mended.',
    ),
    (
        "prometheus",
        {"basic_auth": {"username": "u:v", "password": "p"}},
        "telemetry.prometheus.basic_auth (a table of 2 entries) from the configuration is refused: expected a user name without a colon, which is where the password begins. The metrics are not served until this is mended.",
    ),
    (
        "prometheus",
        {"basic_auth": "user:two\nlines"},
        "telemetry.prometheus.basic_auth (a string, not shown) from the configuration is refused: expected a user name and a password without control characters. The metrics are not served until this is mended.",
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
        "telemetry.prometheus.merge_registries (5, an integer) from the configuration is refused: expected a string or a list of strings. [] stays in force (the default).",
    ),
    (
        "prometheus",
        {"merge_registries": ["prometheus_client:REGISTRY", "shop.metrics"]},
        "telemetry.prometheus.merge_registries (a list of 2 items) from the configuration is refused: expected import paths such as prometheus_client:REGISTRY, but 'shop.metrics' is none. [] stays in force (the default).",
    ),
    (
        "prometheus",
        {"push_url": "localhost:9091"},
        "telemetry.prometheus.push_url ('localhost:9091', a string) from the configuration is refused: expected the URL of a Pushgateway, such as http://localhost:9091. Nothing is pushed until this is mended.",
    ),
    (
        "prometheus",
        {"push_url": "http://ada:lovelace@gateway:9091/metrics/job/x"},
        "telemetry.prometheus.push_url ('http://<redacted>@gateway:9091/metrics/job/x', a string) from the configuration is refused: expected the URL of a Pushgateway, such as http://localhost:9091, without /metrics: push_job and push_grouping make the rest. Nothing is pushed until this is mended.",
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
