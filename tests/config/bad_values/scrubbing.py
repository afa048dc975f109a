"""What is taken out of what is sent: bad values."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

_RULES = "expected a list of patterns, or a table of patterns with mask, hash or drop for each. {} stays in force (the default)."

#: Section, configuration, and the one message the user reads.
SCRUBBING = [
    message
    for section in ("otel", "prometheus")
    for message in (
        (
            section,
            {"scrub": "some"},
            f"telemetry.{section}.scrub ('some', a string) from the configuration is refused: expected one of 'all', 'keys', 'own', 'off'. 'all' stays in force (the default).",
        ),
        (
            section,
            {"scrub": 5},
            f"telemetry.{section}.scrub (5, an integer) from the configuration is refused: expected one of 'all', 'keys', 'own', 'off'. 'all' stays in force (the default).",
        ),
        (
            section,
            {"scrub_action": "burn"},
            f"telemetry.{section}.scrub_action ('burn', a string) from the configuration is refused: expected one of 'mask', 'hash', 'drop'. 'mask' stays in force (the default).",
        ),
        (
            section,
            {"scrub_keys": 5},
            f"telemetry.{section}.scrub_keys (5, an integer) from the configuration is refused: {_RULES}",
        ),
        (
            section,
            {"scrub_keys": {"note": "burn"}},
            f"telemetry.{section}.scrub_keys (a table of 1 entry) from the configuration is refused: {_RULES}",
        ),
        (
            section,
            {"scrub_keys": [f"key{number}" for number in range(65)]},
            f"telemetry.{section}.scrub_keys (a list of 65 items) from the configuration is refused: expected at most 64 patterns. {{}} stays in force (the default).",
        ),
        (
            section,
            {"scrub_values": ["fine", "("]},
            f"telemetry.{section}.scrub_values (a list of 2 items) from the configuration is refused: pattern 2: expected a regular expression (missing ), unterminated subpattern at position 0). {{}} stays in force (the default).",
        ),
        (
            section,
            {"scrub_values": ["(a+)+$"]},
            f"telemetry.{section}.scrub_values (a list of 1 item) from the configuration is refused: pattern 1: expected a regular expression that is quick for every text; this one takes ever longer for texts such as 'aaa', repeated. Repetitions inside repetitions, or one right after another, do that. {{}} stays in force (the default).",
        ),
    )
]
