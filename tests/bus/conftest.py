"""Fixtures of the tests of the bus."""

import logging

import pytest


@pytest.fixture
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "otpylib_telemetry")
