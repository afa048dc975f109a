"""Random changes from file, put, message, API, restart and rollback, against a model."""

import pytest

from tests.support.change_model import Run
from tests.support.examples import examples

SEQUENCES = examples(1_000)


@pytest.mark.parametrize("part", range(10))
def test_configuration_origin_and_history_are_those_of_the_model(part, monkeypatch):
    for seed in range(part * SEQUENCES, (part + 1) * SEQUENCES):
        with monkeypatch.context() as patched:
            run = Run(seed, patched)
            try:
                run.go(3 + seed % 5)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {run.steps}") from error
