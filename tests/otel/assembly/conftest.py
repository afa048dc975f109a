"""An assembler for each test."""

import pytest

from tests.support.assembly import Trace


@pytest.fixture
def trace():
    return Trace()
