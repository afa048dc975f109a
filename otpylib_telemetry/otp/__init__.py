"""Every workaround for otpylib 0.5.18 and otpylib-config 0.2.9, each with the defect it answers.

No module outside this package uses a private name of either library. tests/otp asserts each defect, so that a
fixed release fails there and tells which of these can go.
"""

from otpylib_telemetry.otp.calls import safe_call as safe_call
from otpylib_telemetry.otp.calls import step_back as step_back
from otpylib_telemetry.otp.calls import step_outside as step_outside
from otpylib_telemetry.otp.config_manager import config_manager_name as config_manager_name
from otpylib_telemetry.otp.config_manager import config_puts as config_puts
from otpylib_telemetry.otp.config_manager import hear_no_more as hear_no_more
from otpylib_telemetry.otp.config_manager import hear_of_equal_puts as hear_of_equal_puts
from otpylib_telemetry.otp.emitters import current_emitter as current_emitter
from otpylib_telemetry.otp.emitters import current_process as current_process
from otpylib_telemetry.otp.emitters import is_running as is_running
from otpylib_telemetry.otp.emitters import note_end as note_end
from otpylib_telemetry.otp.emitters import reason_of_end as reason_of_end
from otpylib_telemetry.otp.mailboxes import LOGGER as LOGGER
from otpylib_telemetry.otp.mailboxes import OwnProcess as OwnProcess
from otpylib_telemetry.otp.mailboxes import overhear as overhear
from otpylib_telemetry.otp.mailboxes import start_logger as start_logger
from otpylib_telemetry.otp.messages import down_pid as down_pid
from otpylib_telemetry.otp.messages import exit_sender as exit_sender
from otpylib_telemetry.otp.messages import is_request as is_request
from otpylib_telemetry.otp.own_work import be_quiet as be_quiet
from otpylib_telemetry.otp.own_work import is_own_process as is_own_process
from otpylib_telemetry.otp.own_work import is_quiet as is_quiet
from otpylib_telemetry.otp.processes import process_record as process_record
from otpylib_telemetry.otp.processes import process_records as process_records
from otpylib_telemetry.otp.processes import task_of as task_of
from otpylib_telemetry.otp.processes import timers as timers
from otpylib_telemetry.otp.processes import whereis as whereis
from otpylib_telemetry.otp.runtimes import Runtime as Runtime
from otpylib_telemetry.otp.runtimes import get_runtime as get_runtime
from otpylib_telemetry.otp.runtimes import is_inherited as is_inherited
from otpylib_telemetry.otp.runtimes import private_runtime as private_runtime
from otpylib_telemetry.otp.servers import served_class as served_class
from otpylib_telemetry.otp.servers import server_module as server_module
from otpylib_telemetry.otp.servers import start_server as start_server
from otpylib_telemetry.otp.starting import end_quietly as end_quietly
from otpylib_telemetry.otp.starting import is_shut_down as is_shut_down
from otpylib_telemetry.otp.supervisors import start_supervisor as start_supervisor
from otpylib_telemetry.otp.supervisors import supervisor_module as supervisor_module
from otpylib_telemetry.otp.tasks import outlast as outlast
from otpylib_telemetry.otp.tasks import persist as persist
from otpylib_telemetry.otp.tasks import run_in_background as run_in_background
from otpylib_telemetry.otp.tasks import running_loop as running_loop
from otpylib_telemetry.otp.tasks import time_left as time_left
from otpylib_telemetry.otp.tasks import within as within
