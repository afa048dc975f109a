"""A process with a section whose answers about its configuration are scripted."""

from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.services import starting
from otpylib_telemetry.services.known import KnownService


class Scripted:
    """What the process was asked, and what it answers; a message without an answer is unknown to it."""

    def __init__(self):
        self.asked = []
        self.answers = {"get_config": {"config": {}, "generation": 1}}


async def start(monkeypatch, section):
    """Start one, known as a service of ``telemetry.<section>``."""
    scripted = Scripted()

    async def init(_self, _arg):
        return scripted

    async def handle_call(_self, message, _from, state):
        state.asked.append(message)
        return (Reply(payload=state.answers.get(message[0], ("error", "unknown request"))), state)

    async def ignore(_self, _message, state):
        return (NoReply(), state)

    async def terminate(_self, _reason, _state):
        return None

    name = f"scripted_{section}"
    cls = otp.server_module(
        f"Scripted{section.capitalize()}",
        {
            "init": init,
            "handle_call": handle_call,
            "handle_cast": ignore,
            "handle_info": ignore,
            "terminate": terminate,
        },
        default_name=name,
        module=__name__,
        doc="Scripted.",
    )
    cls.section, cls.registered_name = f"telemetry.{section}", name
    service = KnownService(cls.section, name, (), module=cls)
    monkeypatch.setitem(starting._services, cls.section, service)
    await otp.start_server(cls, None, name, link=False)
    return scripted
