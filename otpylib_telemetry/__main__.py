"""``python -m otpylib_telemetry``: the command ``otpylib-telemetry``."""

import sys

from otpylib_telemetry.command.main import main

sys.exit(main())
