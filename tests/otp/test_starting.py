"""Classes made by OTPModule, which takes callbacks from the body of a class alone."""

import pytest
from otpylib.module import GEN_SERVER, SUPERVISOR, ModuleError, OTPModule

from otpylib_telemetry import otp
from tests.support.otp_defects import ours, server


def test_defect_otpmodule_refuses_inherited_callbacks():
    base = server()
    with pytest.raises(ModuleError, match=r"(?i)callback"):  # otherwise server_module can derive
        OTPModule("Derived", (base,), {}, behavior=GEN_SERVER, version="1.0.0")


async def _nothing(self, *args):
    """Nothing."""


def test_our_modules_look_like_any_other():
    cls = ours()
    assert (cls.__name__, cls.__module__, cls.__doc__) == ("Ours", "tests.support.otp_defects", "A probe.")
    assert cls.__behavior__ == GEN_SERVER
    sup = otp.supervisor_module("OurSup", _nothing, module=__name__, doc="Of ours.")
    assert sup.__behavior__ == SUPERVISOR
