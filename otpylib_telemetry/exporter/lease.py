"""One life's hold on what belongs to an exporter's name."""

from __future__ import annotations

from otpylib_telemetry.exporter.state import ExporterState


class Lease:
    """Gives one life of an exporter what belongs to its name, for as long as that life bears it.

    A life that has ended, or that another one follows, leaves tasks and callbacks behind: exports under way,
    a drain, a process about to be cancelled. Whatever these do reaches a state that belongs to nobody,
    so that none of them can touch a later life, however late it comes.
    """

    __slots__ = ("holds", "state")

    def __init__(self, state: ExporterState) -> None:
        void_predecessor, state.void_lease = state.void_lease, self._void
        self.state = state
        self.holds = True
        if void_predecessor is not None:
            void_predecessor()

    def end(self) -> None:
        """Bear the name no more; a life that has not borne it any more anyway changes nothing."""
        if self.holds:
            self.state.void_lease = None
            self._void()

    def _void(self) -> None:
        self.state, self.holds = _NobodysState(self.state.name), False


class _NobodysState(ExporterState):
    """The state of a life that does not bear its name any more: nothing comes in, and nothing gets out."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.limit(0)

    def subscribe(self, patterns: tuple[str, ...], *, traces: bool = True) -> None:
        """Whoever listens under the name is somebody else."""

    def unsubscribe(self) -> None:
        """As for :meth:`subscribe`."""
