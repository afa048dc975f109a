"""The API on a socket, with one scripted exporter beside it."""

import pytest

from tests.support import admin
from tests.support.admin import Client
from tests.support.chassis import make_exporter, start


@pytest.fixture
async def client(runtime, tmp_path):
    path = str(tmp_path / "admin.sock")
    await admin.start(socket=path)
    return Client(socket=path)


@pytest.fixture
async def backend(runtime):
    """An exporter ``x_exporter`` of the section ``telemetry.x``, and what it talks to."""
    module, backend = make_exporter()
    await start(module, api_key="sesame-sesame")
    return backend
