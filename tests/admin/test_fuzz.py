"""The API answers whatever anybody sends as its own document says: schemathesis sends it."""

import asyncio
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from otpylib_telemetry import execute
from otpylib_telemetry.admin.route_table import ROUTES
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support import admin
from tests.support.chassis import make_exporter, start, up
from tests.support.fresh import forget_everything
from tests.support.runtime import running_runtime

#: Of each operation, valid requests and others.
EXAMPLES = 12

#: A stream has no end: tests of its own are about it.
ASKED = [each for each in ROUTES if each.path != "/events"]
CASES = [
    *((each.method, each.path, GenerationMode.POSITIVE) for each in ASKED),
    # Where there is nothing to be said, nothing can be said wrong.
    *(
        (each.method, each.path, GenerationMode.NEGATIVE)
        for each in ASKED
        if each.method != "GET" or each.parameters.model_fields
    ),
]

#: Which keys there are, and that a text is JSON, no schema says.
UNKNOWABLE = {("PATCH", "/config"), ("DELETE", "/series/{exporter}/{metric}")}

BY = "X-Telemetry-By"

SETTINGS = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Application:
    """An application with two exporters and the API, on an event loop of another thread."""

    def __init__(self):
        self.port = None
        self._is_up = threading.Event()
        self._loop = None
        self._over = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with running_runtime():
                module, _ = make_exporter()
                await start(module)
                await start_prometheus_exporter({"port": 0})
                await up("prometheus_exporter")
                execute("shop.sale", {"count": 1}, {"shop": "north"})
                self.port = (await admin.start(port=0))["port"]
                self._is_up.set()
                await self._over.wait()
        finally:
            self._is_up.set()

    def __enter__(self):
        self._thread.start()
        assert self._is_up.wait(60)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_error):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


@pytest.fixture(scope="module")
def document():
    """What describes a running application, and knows where it is."""
    with Application() as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")
    forget_everything()


@pytest.fixture(autouse=True)
def _nothing_left_over():
    """The application outlives each test: its end is seen to by the fixture above."""
    return


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_answer_is_as_the_document_says(document, method, path, mode):
    operation = document[path][method.lower()]
    left_out = [checks.positive_data_acceptance] if (method, path) in UNKNOWABLE else []

    @SETTINGS
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if mode is GenerationMode.NEGATIVE and BY in case.headers:
            # Any name will do: what cannot be shown of it is replaced, and nobody is refused for it.
            case.headers[BY] = "ada"
        case.call_and_validate(timeout=60, excluded_checks=left_out)

    ask()


def test_what_it_survived_left_it_whole(document):
    status = schemathesis.openapi.from_url(document.location)["/status"]["get"].Case().call(timeout=60)
    assert status.status_code == 200
    assert status.json()["handlers"]
