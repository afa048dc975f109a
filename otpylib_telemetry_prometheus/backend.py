"""Events into series, and series onto the endpoint: what is particular to the Prometheus exporter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry import otp
from otpylib_telemetry.aggregation.observers import Regularly
from otpylib_telemetry.config.redaction import hide_in_url
from otpylib_telemetry.exporter.probe import Probe
from otpylib_telemetry.metrics.exporting import MetricsExporter
from otpylib_telemetry.primitives.listening import joined
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_prometheus.client.merged import merged_in
from otpylib_telemetry_prometheus.endpoint.access import Guard
from otpylib_telemetry_prometheus.endpoint.server import Endpoint
from otpylib_telemetry_prometheus.endpoint.sockets import bind, resolve
from otpylib_telemetry_prometheus.endpoint.tls import context_of
from otpylib_telemetry_prometheus.mount.in_process import PageSource
from otpylib_telemetry_prometheus.multiprocess.workers import Multiprocess
from otpylib_telemetry_prometheus.page_maker import PageMaker
from otpylib_telemetry_prometheus.push import Pusher, PushPlan
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from otpylib_telemetry_prometheus.sharing import use_look

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.exporter.base import ExportContext
    from otpylib_telemetry.exporter.collected import Collected, ExportOutcome


#: Seconds a scrape under way gets when the exporter closes: within what the server grants for closing.
_CLOSE_GRACE: Final = 0.4

#: Where the series are in the memory the server lends.
_MEMORY: Final = "prometheus"

#: Keys that have the endpoint made anew; see ``field_extra``.
_ENDPOINT_KEYS: Final = PrometheusSettings.keys_with("remakes", "endpoint")


class _Kept:
    """What outlives the exporter's process, besides the series."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        #: Whose endpoint it is: one that has been succeeded must not close its successor's.
        self.owner: object = None
        #: Whom the page may be shown to, at the endpoint or mounted.
        self.guard = Guard()
        #: The port that was found for port 0. A restart takes it again, if it can.
        self.found_port = 0


class PrometheusBackend(MetricsExporter[PrometheusSettings]):
    """Aggregates events as they come and serves the sums over HTTP. The series are in the server's memory."""

    settings_type: ClassVar[type[PrometheusSettings]] = PrometheusSettings
    # A new address must not be open to everybody for want of the password that belongs to it.
    inseparable: ClassVar[tuple[frozenset[str], ...]] = (_ENDPOINT_KEYS,)
    takes_operations: ClassVar[bool] = True

    def __init__(self, settings: PrometheusSettings, context: ExportContext) -> None:
        super().__init__(settings, context)
        self._observed = Regularly(context.name)
        if _MEMORY not in context.memory:
            context.memory[_MEMORY] = _Kept()
        self._kept: _Kept = context.memory[_MEMORY]
        # Whatever may fail from here on, nothing is served with less to protect it than is wanted now.
        self._kept.guard.want(settings.access())
        self._kept.guard.withheld = settings.withheld.get("page")
        self._merged = merged_in(context.memory, context.name)
        self._pages = PageMaker(context, self.metrics.store, self._merged, settings)
        self._is_open = False
        self._pusher = Pusher(self._pages.text, context.name)
        self._multiprocess: Multiprocess | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def effects(
        cls, before: PrometheusSettings, after: PrometheusSettings, changed: frozenset[str]
    ) -> Sequence[str]:
        """Return in words what a change would do to the endpoint and the series."""
        told = list(super().effects(before, after, changed))
        if after.serve and changed & _ENDPOINT_KEYS:
            where = joined(after.host, after.port)
            told.append(f"the endpoint is served on {where} with the new settings; no series is lost")
        return told

    @classmethod
    def probes(cls, settings: PrometheusSettings) -> Sequence[Probe]:
        """Return what can be tried of the settings: certificates, and the port."""
        found = []
        access = settings.access()
        if settings.serve and (files := access.files) is not None:
            found.append(Probe("the endpoint's certificate", lambda _: context_of(files)))
        if settings.serve:
            where = f"the port of {joined(settings.host, settings.port)}"
            found.append(Probe(where, lambda _: _try_port(settings), connects=True, takes=True))
        return found

    @property
    def page_source(self) -> PageSource | None:
        """How others in this process get the page; None before it was opened."""
        if self._loop is None:
            return None
        return PageSource(self._pages.page, self._loop, self.settings.scrape_timeout, self._kept.guard)

    def ahead(self) -> Mapping[str, Any]:
        """Return the password that is asked for: a new one counts though its address cannot be had."""
        return {"basic_auth": self._kept.guard.login}

    async def open(self) -> None:
        """Serve."""
        self._loop = asyncio.get_running_loop()
        # First of all: what ends before its endpoint is up has something to push all the same.
        self._pusher.configure(PushPlan.of(self.settings))
        self._pages.use(self.settings)
        await super().open()
        kept = self._kept
        if kept.endpoint is not None and not kept.endpoint.serving:
            kept.endpoint.abandon()
            kept.endpoint = None
        kept.owner = self
        await self._look_around(self.settings, self._files_for(self.settings))
        await self._serve(self.settings)
        self._is_open = True

    def collect(self, events: Sequence[Entry], wall_offset_ns: int) -> Collected:
        """Add events to the series."""
        collected = super().collect(events, wall_offset_ns)
        if self._multiprocess is not None:
            self._multiprocess.write(self.metrics.store)
        return collected

    def tick(self, now_ns: int, wall_offset_ns: int, alive: Callable[[object], bool]) -> Collected:
        """Give up operations whose end will not come, whose events are accounted for; push if it is time."""
        collected = super().tick(now_ns, wall_offset_ns, alive)
        if self._multiprocess is not None:
            # A scrape that another worker answers tells of what is observed here as well.
            self._observed.tick(now_ns)
            self._multiprocess.write(self.metrics.store)
        self._pusher.tick()
        return collected

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Write what other workers have to see: who flushes before he acknowledges loses nothing."""
        del book, held, seconds, last_chance
        files = self._multiprocess
        if files is not None:
            await run_in_thread(lambda: files.write(self.metrics.store, force=True))

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Do nothing: who wants the series fetches them, so :meth:`collect` makes no items."""
        del batch
        return None

    async def apply(self, settings: PrometheusSettings, changed: frozenset[str]) -> bool:
        """Take over all settings, or none if the definitions or the endpoint cannot be had; always True."""
        endpoint = self._kept.endpoint
        await self.check(settings, changed)
        # First what may fail and can be left as it is; what cannot be taken back comes last.
        files = self._files_for(settings)
        try:
            if changed & _ENDPOINT_KEYS or (endpoint is not None and not endpoint.serving):
                await self._serve(settings)
        except BaseException:
            if files is not None and files is not self._multiprocess:
                files.close()
            raise
        self.metrics.use(self.plan(settings))
        self._pages.use(settings)
        await self._look_around(settings, files)
        self.settings = settings
        return True

    async def close(self) -> None:
        """Stop serving, and push for the last time. The series stay for whoever bears the name next."""
        kept = self._kept
        limit = self.settings.shutdown_timeout
        # Half of the time has gone where the end was held up for an endpoint that did not come up.
        seconds = min(otp.time_left(limit), limit if self._is_open else limit / 2)
        ending: list[Coroutine[Any, Any, Any]] = [self._pusher.stop(seconds)]
        if kept.owner is self and kept.endpoint is not None:
            endpoint, kept.endpoint, kept.owner = kept.endpoint, None, None
            ending.append(endpoint.stop(_CLOSE_GRACE))
        try:
            await asyncio.gather(*ending)
        finally:
            await self._leave_files()

    def place(self) -> str:
        """Return where the page can be had, with the port that was found where any was wanted."""
        endpoint = self._kept.endpoint
        if endpoint is not None:
            served = f"metrics are served at {endpoint.url}"
        else:
            served = "metrics are served by no endpoint of its own, only where its page is mounted"
        if (plan := PushPlan.of(self.settings)) is None:
            return served
        when = "at the end" if plan.interval is None else f"every {plan.interval:g} s"
        return f"{served}, and pushed to {hide_in_url(plan.url)} {when}"

    def stats(self) -> dict[str, Any]:
        """Return where the endpoint is, how much there is on it, and what was left out."""
        endpoint, pages = self._kept.endpoint, self._pages
        told = self._pusher.stats()
        return {
            "url": endpoint.url if endpoint else None,
            "host": endpoint.host if endpoint else None,
            "port": endpoint.port if endpoint else None,
            "scrapes": endpoint.served if endpoint else 0,
            "scrapes_failed": endpoint.failed if endpoint else 0,
            "scrapes_cut_off": endpoint.cut_off if endpoint else 0,
            "scrapes_abandoned": endpoint.abandoned if endpoint else 0,
            "bad_requests": endpoint.unintelligible + endpoint.counts.oversized if endpoint else 0,
            "logins_refused": endpoint.unauthorized if endpoint else 0,
            "connections": endpoint.connections if endpoint else 0,
            "connections_refused": endpoint.counts.refused if endpoint else 0,
            "connections_gave_way": endpoint.counts.gave_way if endpoint else 0,
            "connections_timed_out": endpoint.counts.timed_out if endpoint else 0,
            "handshakes_failed": endpoint.counts.handshakes if endpoint else 0,
            "pages": pages.pages,
            "metrics_unwritten": pages.failures,
            "scrape_seconds": pages.seconds[0],
            "scrape_seconds_sum": pages.seconds[1],
            "scrape_bytes": pages.size[0],
            "scrape_bytes_sum": pages.size[1],
            "metrics_updated": self.metrics.recorder.updated,
            **super().stats(),
            **({"push": told} if told else {}),
            **({"merged": self._merged.stats()} if self._merged else {}),
            **({"multiprocess": self._multiprocess.stats()} if self._multiprocess else {}),
        }

    async def _look_around(self, settings: PrometheusSettings, files: Multiprocess | None) -> None:
        """Take up what is outside of this process: other workers, registries, a gateway."""
        if self._multiprocess is not None and self._multiprocess is not files:
            await self._leave_files()
        if files is not None:
            use_look(files, settings)
        self._multiprocess = self._pages.multiprocess = files
        await self._merged.configure(settings.merge_registries)
        self._pusher.configure(PushPlan.of(settings))

    def _files_for(self, settings: PrometheusSettings) -> Multiprocess | None:
        """Return the files to share with other workers under these settings, if there are any."""
        files = self._multiprocess
        if settings.multiprocess_dir is None:
            return None
        if files is not None and settings.multiprocess_dir == str(files.directory):
            return files
        return Multiprocess(settings.multiprocess_dir, self.context.name)

    async def _leave_files(self) -> None:
        files, self._multiprocess, self._pages.multiprocess = self._multiprocess, None, None
        if files is not None:
            await run_in_thread(lambda: files.write(self.metrics.store, force=True))
            files.close()

    async def _serve(self, settings: PrometheusSettings) -> None:
        """Have an endpoint, or none, as the settings want it."""
        kept = self._kept
        endpoint = kept.endpoint
        if not settings.serve:
            kept.guard.put_in_force(settings.access())
            kept.endpoint = None
            if endpoint is not None:
                await endpoint.stop(_CLOSE_GRACE)
            return
        if endpoint is None:
            endpoint = kept.endpoint = Endpoint(self._pages.page, guard=kept.guard)
        endpoint.scrape, endpoint.ready = self._pages.page, self._not_ready
        await self._place(endpoint, settings)

    async def _place(self, endpoint: Endpoint, settings: PrometheusSettings) -> None:
        async def place(port: int) -> None:
            await endpoint.place(
                settings.host,
                port,
                settings.path,
                access=settings.access(),
                limits=settings.limits(),
                shared=settings.multiprocess_dir is not None,
            )

        kept = self._kept
        if settings.port == 0 and kept.found_port and not endpoint.serving:
            try:
                await place(kept.found_port)
            except Exception:  # noqa: BLE001 - then another free port will do
                kept.found_port = 0
            else:
                return
        await place(settings.port)
        kept.found_port = (endpoint.port or 0) if settings.port == 0 else 0

    def _not_ready(self) -> str | None:
        """Return why what is served may not be what is wanted, or None if it is."""
        stats = self.context.stats()
        state, reason = stats.get("state", "running"), stats.get("reason")
        if state == "running":
            return None
        return f"{state}: {reason}" if reason else str(state)


def _try_port(settings: PrometheusSettings) -> None:
    """Have the port for a moment. On a thread without an event loop."""
    addresses = asyncio.run(resolve(settings.host, settings.port))
    shared = settings.multiprocess_dir is not None
    for sock in bind(settings.host, settings.port, addresses, shared=shared):
        sock.close()
