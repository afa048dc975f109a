"""Classes made by OTPModule, which takes callbacks from the body of a class alone."""

from __future__ import annotations

from typing import Any

from otpylib.module import OTPModule


def otp_module(  # noqa: PLR0913  # what a class statement would say
    name: str, callbacks: dict[str, Any], behavior: Any, start_link: Any, *, module: str, doc: str
) -> Any:
    """Make a class as the statement would, with a ``start_link`` of our own."""
    body = {**callbacks, "__module__": module, "__qualname__": name, "__doc__": doc}
    cls = OTPModule(name, (), body, behavior=behavior, version="1.0.0")
    cls.start_link = classmethod(start_link)
    return cls
