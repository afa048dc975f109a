"""Small state machines of otpylib's, made of one function."""

from otpylib.atom import ensure
from otpylib.gen_statem.core import GEN_STATEM, CallbackMode, KeepState
from otpylib.module import OTPModule


def machine(name="Machine", *, handle, first="idle", actions=(), by_state=()):
    """A state machine that begins in a state; ``handle(type, content, state, data)`` gets every event.

    With ``by_state`` each of these states has a callback of its own, and ``handle`` is behind all of them.
    """

    async def callback_mode(_self):
        return CallbackMode.STATE_FUNCTIONS if by_state else CallbackMode.HANDLE_EVENT_FUNCTION

    async def init(_self, argument):
        began = (ensure(first), argument)
        return (*began, list(actions)) if actions else began

    async def handle_event(_self, event_type, content, state, data):
        result = await handle(event_type, content, state, data)
        return KeepState(data) if result is None else result

    async def terminate(_self, _reason, _state, _data):
        """Nothing to clean up."""

    body = {
        "callback_mode": callback_mode,
        "init": init,
        "terminate": terminate,
        "__module__": __name__,
        "__qualname__": name,
    }
    if by_state:
        for state in by_state:
            body[f"state_{state}"] = _in_state(handle_event, ensure(state))
    else:
        body["handle_event"] = handle_event
    return OTPModule(name, (), body, behavior=GEN_STATEM, version="1.0.0")


def _in_state(handle_event, state):
    async def callback(self, event_type, content, data):
        return await handle_event(self, event_type, content, state, data)

    return callback
