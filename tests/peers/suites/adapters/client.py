"""prometheus_client's tests against our exposition, our reading of many processes' files, and our pushes.

Registries and metrics stay theirs: they are merged into a page of ours.
"""

import asyncio
import re

import prometheus_client
from adapters import recording
from prometheus_client import exposition, multiprocess, parser
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.utils import floatToGoString

from otpylib_telemetry_prometheus import push
from otpylib_telemetry_prometheus.client.merged import MergedRegistries
from otpylib_telemetry_prometheus.exposition import negotiation, text
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from otpylib_telemetry_prometheus.multiprocess.registry import MultiProcessRegistry

#: A line with a sample: what it is called, and its number.
_SAMPLE = re.compile(r"^([^#\s{]*(?:\{.*\})?) (\S+)(.*)$", re.MULTILINE)

_parse = parser.text_string_to_metric_families


def _page(registry, form):
    recording.take_part()
    merged = MergedRegistries("peer")
    merged.add(registry)
    return _as_theirs(Exposition().text([], asyncio.run(merged.families(())), form)).encode()


def _as_theirs(page):
    """The same page with numbers as they spell them: ``1.0`` for what is ``1`` with us."""
    return _SAMPLE.sub(lambda line: f"{line[1]} {floatToGoString(float(line[2]))}{line[3]}", page)


def generate_latest(registry=prometheus_client.REGISTRY, escaping=openmetrics_exposition.UNDERSCORES):
    """Our page in the classic text."""
    utf8 = escaping == openmetrics_exposition.ALLOWUTF8
    return _page(registry, negotiation.CLASSIC_UTF8 if utf8 else negotiation.CLASSIC)


def choose_encoder(accept_header):
    """Our choice of the format."""
    recording.take_part()
    form = negotiation.choose(accept_header or "")
    return (lambda registry: _page(registry, form)), form.content_type


def text_string_to_metric_families(page):
    """Their parser, and once more on what we write of what it found."""
    found = list(_parse(page))
    recording.take_part()
    return _parse(Exposition().text([], found, negotiation.CLASSIC_UTF8))


class MultiProcessCollector(multiprocess.MultiProcessCollector):
    """Our registry of all processes, as a collector of theirs."""

    def __init__(self, registry, path=None):
        super().__init__(registry, path)
        self._ours = MultiProcessRegistry(path)

    def collect(self):
        recording.take_part()
        return self._ours.collect()


def push_to_gateway(gateway, job, registry, grouping_key=None, timeout=30, handler=None, compression=None):
    """Our push, with our URL."""
    if handler is not None or compression is not None:
        return _pushed_by_them(
            gateway, job, registry, grouping_key, timeout, handler or exposition.default_handler
        )
    recording.take_part()
    base = gateway if "://" in gateway else f"http://{gateway}"
    grouping = {name: str(value) for name, value in (grouping_key or {}).items()}
    plan = push.PushPlan(push.group_url(base, job, grouping))
    return asyncio.run(push._put(plan, generate_latest(registry)))


_pushed_by_them = exposition.push_to_gateway


def _escape_with_ours(kind, offered):
    """Have names of a kind escaped by ours, in the ways that we offer; those that fit are left alone."""
    theirs = getattr(openmetrics_exposition, f"escape_{kind}_name")

    def escape(name, escaping, *args):
        recording.take_part()
        fits = theirs(name, openmetrics_exposition.VALUES, *args) == name
        return theirs(name, escaping, *args) if fits or escaping not in offered else offered[escaping](name)

    setattr(openmetrics_exposition, f"escape_{kind}_name", escape)


def _substitute():
    underscores, values = openmetrics_exposition.UNDERSCORES, openmetrics_exposition.VALUES
    _escape_with_ours("metric", {underscores: text.underscored_metric, values: text.encoded_name})
    _escape_with_ours("label", {underscores: text.underscored_label})
    for module in (prometheus_client, exposition):
        module.generate_latest = generate_latest
        module.push_to_gateway = push_to_gateway
    exposition.choose_encoder = choose_encoder
    parser.text_string_to_metric_families = text_string_to_metric_families
    multiprocess.MultiProcessCollector = MultiProcessCollector


_substitute()
