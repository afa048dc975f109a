"""``python -m otpylib_telemetry``: the command ``otpylib-telemetry``."""

import sys

from otpylib_telemetry.command.main import main

if __name__ == "__main__":
    sys.exit(main())
