"""Bad values of every key, each with what the user reads."""

from tests.config.bad_values.otel_connection import CONNECTION
from tests.config.bad_values.otel_signals import SIGNALS
from tests.config.bad_values.prometheus import PROMETHEUS
from tests.config.bad_values.scrubbing import SCRUBBING

#: Section, configuration, and the one message the user reads.
BAD = [*CONNECTION, *SIGNALS, *PROMETHEUS, *SCRUBBING]
