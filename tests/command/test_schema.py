"""The JSON schema for editors: it has every key, and takes files as people write them."""

import json
import tomllib

import pytest

from otpylib_telemetry.command.main import main
from scripts import reference
from scripts.sample import SAMPLE
from tests.project.test_docs import BLOCKS
from tests.support.json_schema import complaints

# Older versions make no schema of a union of models, whoever asks.
pytest.importorskip("pydantic", minversion="2.11")

SCHEMA = json.loads(reference.schema())
SECTIONS = {section: model for section, model, _ in reference.SECTIONS}
TOML = [block for block in BLOCKS if block.language == "toml"]


def test_the_schema_in_the_reference_is_up_to_date():
    assert reference.SCHEMA.read_text(encoding="utf-8") == reference.schema(), (
        "run: python -m scripts.reference"
    )


def test_the_command_writes_it(capsys):
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == reference.schema()


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described_with_its_default(section):
    properties = SCHEMA["definitions"][section]["properties"]
    assert set(SECTIONS[section].model_fields) == set(properties) - {"kind"}
    for key, info in SECTIONS[section].model_fields.items():
        assert properties[key]["description"].startswith(info.description)
        if "default" in properties[key]:
            assert complaints(properties[key], properties[key]["default"]) == []
    secret = {key for key in SECTIONS[section].secret_keys() if "default" in properties[key]}
    assert secret == set()


def test_units_and_variables_are_in_the_description():
    told = SCHEMA["definitions"]["otel"]["properties"]
    assert told["flush_interval"]["description"].endswith("In seconds.")
    assert told["service_name"]["description"].endswith("In the environment: OTEL_SERVICE_NAME.")


@pytest.mark.parametrize("block", TOML, ids=str)
def test_every_file_in_the_documentation_is_good(block):
    assert complaints(SCHEMA, tomllib.loads(block.text)) == []


def test_every_key_of_the_sample_is_good():
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    shown = [
        line.removeprefix("# ") for line in lines if " = " in line or line.removeprefix("# ").startswith("[")
    ]
    section, looked_at = "", 0
    for line in shown:
        try:
            table = tomllib.loads(line)
        except tomllib.TOMLDecodeError:
            continue
        if line.startswith("["):
            section = next(iter(table.get("telemetry", {"": 0})), "")
            is_section = line == f"[telemetry.{section}]"
        elif is_section and section in SECTIONS:
            looked_at += 1
            assert complaints(SCHEMA, {"telemetry": {section: table}}) == []
    assert looked_at > 100


@pytest.mark.parametrize(
    "good",
    [
        {"otel": {"event_patterns": "shop.*", "timeout": "${SECONDS}", "enabled": "${ON:-true}"}},
        {
            "otel": {
                "headers": {"x-scope-orgid": 1},
                "metrics_definitions": [{"type": "counter", "name": "a.b"}],
            }
        },
        {"prometheus": {"basic_auth": "name:word", "certificate": False, "metrics": "automatic"}},
        {
            "prometheus": {
                "basic_auth": {"username": "name", "password": "${WORD}"},
                "global_labels": {"n": 1},
            }
        },
        {"eu": {"kind": "otel", "endpoint": "http://eu:4317"}, "test": {"kind": "mock", "max_events": 1}},
    ],
)
def test_what_an_exporter_takes_is_good(good):
    assert complaints(SCHEMA, {"telemetry": good, "database": {"url": "x"}}) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"otel": {"endpont": "http://x:4317"}},
        {"otel": {"sampling_rate": 2}},
        {"otel": {"protocol": "http"}},
        {"otel": {"batch_size": True}},
        {"otel": {"headers": {"a": []}}},
        {"otel": {"span_processors": ["x"]}},
        {"prometheus": {"basic_auth": True}},
        {"prometheus": {"metrics": [{"type": "countr", "name": "x"}]}},
        {"poller": {"kind": "poller"}},
        {"eu": {"endpoint": "http://eu:4317"}},
        {"eu": {"kind": "poller"}},
        {"eu": {"kind": "mock", "endpoint": "http://eu:4317"}},
        {"e u": {"kind": "otel"}},
    ],
)
def test_a_mistake_is_marked(bad):
    assert complaints(SCHEMA, {"telemetry": bad}) != []
