"""Exporting without being observed: the request that carries spans must not make another span.

Instrumentation of HTTP or gRPC clients leaves alone what runs in a context that asks for it; so do
OpenTelemetry's own exporters when their processors call them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable


P = ParamSpec("P")
R = TypeVar("R")

#: The keys by which OpenTelemetry and its instrumentations are asked; the last is from before there was one.
_NAMES = ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
_PLAIN = "suppress_instrumentation"


def unobserved(func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function where instrumentations make no spans of what it does."""
    api = sys.modules.get("opentelemetry.context")
    if api is None:
        return func(*args, **kwargs)
    context = api.get_current()
    for key in (*(getattr(api, name, _PLAIN) for name in _NAMES), _PLAIN):
        context = api.set_value(key, True, context)
    token = api.attach(context)
    try:
        return func(*args, **kwargs)
    finally:
        api.detach(token)
