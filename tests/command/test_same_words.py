"""What the command says is what an exporter says: of every bad value there is, and of a whole file."""

import json
import logging

import pytest

from otpylib_telemetry import TomlSource, start_link
from otpylib_telemetry.command.checking import check_file
from otpylib_telemetry.config import sections
from tests.config.bad_values import BAD
from tests.support.runtime import in_process
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _no_files_of_others():
    sections.forget()
    yield
    sections.forget()


def as_toml(value):
    match value:
        case bool() | str():
            return json.dumps(value)
        case dict() if all(isinstance(key, str) for key in value):
            return (
                "{" + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
            )
        case list() | tuple():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case int() if abs(value) < 2**63:
            return str(value)
        case float():
            return repr(value)
        case _:
            raise ValueError(value)


def files():
    for section, config, message in BAD:
        try:
            body = "".join(f"{as_toml(key)} = {as_toml(value)}\n" for key, value in config.items() if key)
            body.encode()
        except (ValueError, AttributeError):
            continue
        if all(isinstance(key, str) and key for key in config) and "${" not in body:
            yield section, body, message


FILES = list(files())


def test_most_bad_values_can_be_written_in_a_file():
    assert len(FILES) > len(BAD) / 2


@pytest.mark.parametrize(("section", "body", "message"), FILES, ids=lambda text: text[:20])
def test_a_bad_value_is_told_in_the_words_of_its_exporter(section, body, message, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f"[telemetry.{section}]\n{body}", encoding="utf-8")
    checked = check_file(str(path), with_files=False)
    assert message in [finding.message for finding in checked.findings]
    assert all(finding.line is None or finding.line > 1 for finding in checked.findings)


WHOLE = """\
[telemetry.otel]
sampling_rat = 0.5
timeout = "soon"
service_name = "${NAME_OF_NOTHING}"
headers = { "bad name" = "x", good = "y" }

[telemetry.mock]
batch_size = true

[telemetry.eu]
kind = "mock"
queue_limit = -1

[telemetry.promtheus]
port = 1
"""


async def test_a_whole_file_is_told_in_the_words_of_the_exporters_that_run(
    config_manager, tmp_path, caplog, monkeypatch
):
    monkeypatch.delenv("NAME_OF_NOTHING", raising=False)
    path = tmp_path / "config.toml"
    path.write_text(WHOLE, encoding="utf-8")
    found = [finding.message for finding in check_file(str(path)).findings]
    assert len(found) == 7
    sections.forget()
    with caplog.at_level(logging.WARNING, "otpylib_telemetry"):
        await config_manager(TomlSource(path))
        await in_process(start_link)

        def unsaid():
            said = "\n".join(record.getMessage() for record in caplog.records)
            said = said.replace(f" from {path}", " from the configuration")
            return [message for message in found if message.rstrip(".") not in said]

        await eventually(lambda: not unsaid(), message=lambda: f"{unsaid()} in {caplog.text}")
