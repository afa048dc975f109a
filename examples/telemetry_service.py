"""The telemetry of an application without otpylib: traces, metrics and logs, set up in four lines.

Give the endpoint of a collector; without one everything is printed::

    python telemetry_service.py http://localhost:4317
"""

import logging
import sys

from otpylib_telemetry_otel.service import TelemetryService


def main() -> None:
    """Sell some tea."""
    where = {"endpoint": sys.argv[1]} if len(sys.argv) > 1 else {"exporter": "console"}
    telemetry = TelemetryService("my-application", service_version="1.0.0", **where)
    tracer = telemetry.initialize_tracing()
    meter = telemetry.initialize_metrics()
    telemetry.initialize_logging()

    sold = meter.create_counter("shop.sold", unit="{cup}")
    with tracer.start_as_current_span("shop.checkout", attributes={"customer": "Ada"}):
        sold.add(2, {"tea": "assam"})
        logging.getLogger("shop").warning("there is little %s left", "assam")

    report = telemetry.shutdown().report or {}
    print("left unsent:", report.get("left"))


if __name__ == "__main__":
    main()
