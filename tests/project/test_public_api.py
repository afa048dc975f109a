"""What users import says what it takes, returns and raises."""

import importlib
import inspect
import tomllib
from pathlib import Path

import pytest
from otpylib.module import OTPModule

ROOT = Path(__file__).resolve().parents[2]
FACADES = (
    "otpylib_telemetry",
    "otpylib_telemetry.metrics",
    "otpylib_telemetry_otel",
    "otpylib_telemetry_prometheus",
    "otpylib_telemetry_prometheus.multiprocess",
    "otpylib_telemetry_mock",
    "otpylib_telemetry_mock.conformance",
)


def public(facade):
    module = importlib.import_module(facade)
    return [(name, getattr(module, name)) for name in module.__all__]


@pytest.mark.parametrize("facade", FACADES)
def test_everything_in_a_facade_says_what_it_is(facade):
    silent = []
    for name, thing in public(facade):
        if not inspect.getdoc(thing):
            silent.append(name)
        if not inspect.isclass(thing) or isinstance(thing, OTPModule):
            continue  # the callbacks of a process are otpylib's to describe
        # A copy: a model that is looked at builds its validator.
        for member, value in list(vars(thing).items()):
            function = getattr(value, "__func__", value)
            if inspect.isfunction(function) and not member.startswith("_") and not inspect.getdoc(function):
                silent.append(f"{name}.{member}")
    assert silent == []


@pytest.mark.parametrize("facade", FACADES)
def test_every_function_of_a_facade_names_its_arguments(facade):
    missing = []
    for name, function in public(facade):
        if not inspect.isfunction(function):
            continue
        text = inspect.getdoc(function) or ""
        for argument, parameter in inspect.signature(function).parameters.items():
            if f"{argument}:" not in text and parameter.kind is not parameter.VAR_POSITIONAL:
                missing.append(f"{facade}.{name}: {argument}")
    assert missing == []


@pytest.mark.parametrize("package", [name for name in FACADES if "." not in name])
def test_every_package_tells_its_version(package):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    module = importlib.import_module(package)
    assert module.__version__ == declared
    assert "__version__" in module.__all__
