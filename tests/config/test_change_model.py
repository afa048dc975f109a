"""Random changes from file, put, message, API, restart and rollback, against a model."""

import pytest

from tests.support.change_model import Run

SEQUENCES = 9_700


@pytest.mark.parametrize("part", range(10))
def test_configuration_origin_and_history_are_those_of_the_model(part, monkeypatch):
    size = SEQUENCES // 10
    for seed in range(part * size, (part + 1) * size):
        with monkeypatch.context() as patched:
            run = Run(seed, patched)
            try:
                run.go(3 + seed % 5)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {run.steps}") from error
