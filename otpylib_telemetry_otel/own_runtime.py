"""An otpylib runtime for an application that has none: an event loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from otpylib_telemetry import otp
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine

T = TypeVar("T")

#: Seconds that the thread may take to end once everything in it has.
_PATIENCE = 30.0


class OwnRuntime:
    """The thread, its loop, and the runtime in it, which no other thread sees: the application sets its own.

    Attributes:
        loop: The loop; work may be given to it at once.
        backend: The runtime.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.backend: Any = otp.Runtime()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._trouble: BaseException | None = None
        # A daemon: an application that forgets to end it must end all the same.
        self._thread = threading.Thread(target=self._run, name="otpylib-telemetry", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether it is there no more."""
        return self.loop.is_closed()

    def begin(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine there, once the runtime is up.

        Raises:
            RuntimeError: The runtime has ended.
        """
        if self.loop.is_closed():
            work.close()
            raise RuntimeError("the runtime of its own has ended")
        return asyncio.run_coroutine_threadsafe(self._when_ready(work), self.loop)

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine there and wait for its result.

        Raises:
            TimeoutError: It took longer than so many seconds.
            RuntimeError: The runtime could not be set up, or has ended.
        """
        return self.begin(work).result(timeout)

    def stop(self) -> None:
        """End the runtime, its loop and its thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_PATIENCE)

    async def _when_ready(self, work: Coroutine[Any, Any, T]) -> T:
        await self._ready.wait()
        if self._trouble is not None:
            work.close()
            raise RuntimeError(f"no otpylib runtime could be set up: {describe(self._trouble)}")
        return await work

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        try:
            await self.backend.initialize()
        except Exception as error:  # noqa: BLE001  # told to whoever gives it work
            self._trouble = error
        with otp.private_runtime(self.backend):
            self._ready.set()
            await self._stopping.wait()
            if self._trouble is None:
                await self.backend.shutdown()
