"""An otpylib runtime for an application that has none: an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from otpylib.runtime import get_runtime, reset_runtime, set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

#: Seconds that the thread may take to begin, and to end once everything in it has.
_PATIENCE = 30.0


class OwnRuntime:
    """The thread, its loop, and the runtime in it, which is the process's as long as it lives."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._backend: Any = None
        self._trouble: BaseException | None = None
        begun = threading.Event()
        # A daemon: an application that forgets to end it must end all the same.
        self._thread = threading.Thread(
            target=self._run, args=(begun,), name="otpylib-telemetry", daemon=True
        )
        self._thread.start()
        begun.wait(_PATIENCE)
        if self._stopping is None:
            why = "its thread did not begin" if self._trouble is None else describe(self._trouble)
            raise RuntimeError(f"no otpylib runtime could be set up: {why}")

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine there and wait for its result.

        Raises:
            TimeoutError: It took longer than so many seconds.
            RuntimeError: The runtime has ended.
        """
        if self._loop is None or self._loop.is_closed():
            work.close()
            raise RuntimeError("the runtime of its own has ended")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def stop(self) -> None:
        """End the runtime, its loop and its thread."""
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_PATIENCE)

    def _run(self, begun: threading.Event) -> None:
        try:
            asyncio.run(self._main(begun))
        except BaseException as error:  # noqa: BLE001  # told to whoever waits
            self._trouble = error
        finally:
            begun.set()

    async def _main(self, begun: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        backend = self._backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        self._stopping = asyncio.Event()
        begun.set()
        await self._stopping.wait()
        await backend.shutdown()
        if get_runtime() is backend:
            reset_runtime()
