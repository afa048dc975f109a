"""Every workaround for otpylib 0.5.18 and otpylib-config 0.2.9, each with the defect it answers.

No module outside this package uses a private name of either library. tests/otp asserts each defect, so that a
fixed release fails there and tells which of these can go.
"""

from otpylib_telemetry.otp.calls import (
    safe_call,
    step_back,
    step_outside,
)
from otpylib_telemetry.otp.config_manager import (
    config_manager_name,
    config_puts,
    hear_no_more,
    hear_of_equal_puts,
)
from otpylib_telemetry.otp.emitters import (
    current_emitter,
    current_process,
    is_running,
    note_end,
    reason_of_end,
)
from otpylib_telemetry.otp.mailboxes import (
    LOGGER,
    OwnProcess,
    overhear,
    start_logger,
)
from otpylib_telemetry.otp.messages import (
    down_pid,
    exit_sender,
    is_request,
)
from otpylib_telemetry.otp.own_work import (
    be_quiet,
    is_own_process,
    is_quiet,
)
from otpylib_telemetry.otp.processes import (
    process_record,
    process_records,
    task_of,
    timers,
    whereis,
)
from otpylib_telemetry.otp.runtimes import (
    get_runtime,
    is_inherited,
    private_runtime,
)
from otpylib_telemetry.otp.servers import (
    served_class,
    server_module,
    start_server,
)
from otpylib_telemetry.otp.starting import end_quietly
from otpylib_telemetry.otp.supervisors import start_supervisor, supervisor_module
from otpylib_telemetry.otp.tasks import (
    outlast,
    persist,
    run_in_background,
    running_loop,
    time_left,
    within,
)

__all__ = [
    "LOGGER",
    "OwnProcess",
    "be_quiet",
    "config_manager_name",
    "config_puts",
    "current_emitter",
    "current_process",
    "down_pid",
    "end_quietly",
    "exit_sender",
    "get_runtime",
    "hear_no_more",
    "hear_of_equal_puts",
    "is_inherited",
    "is_own_process",
    "is_quiet",
    "is_request",
    "is_running",
    "note_end",
    "outlast",
    "overhear",
    "persist",
    "private_runtime",
    "process_record",
    "process_records",
    "reason_of_end",
    "run_in_background",
    "running_loop",
    "safe_call",
    "served_class",
    "server_module",
    "start_logger",
    "start_server",
    "start_supervisor",
    "step_back",
    "step_outside",
    "supervisor_module",
    "task_of",
    "time_left",
    "timers",
    "whereis",
    "within",
]
