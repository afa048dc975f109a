"""Every block of code in the documentation does what the page says it does."""

import os
import re
import tomllib
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from otpylib_telemetry.config.resolve import resolve
from scripts import reference, reference_commands
from tests.support import programs
from tests.support.alone import alone

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[ ]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"python", "javascript", "toml", "sh", "text"}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page):
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text[: match.start()].count("\n") + 1, match[1], match[2].strip(), match[3])
        for match in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]


#: What a block that serves on a port says, or what is beside it. The ports of the pages are well-known ones.
PORTS = re.compile(r"prometheus|Prometheus|localhost|127\.0\.0\.1|\bport\b")


def waits_for_its_port(block):
    """Hold off other blocks that serve on the same port."""
    beside = [other.text for other in blocks_of(block.page) if other.title]
    found = any(PORTS.search(text) for text in [block.text, *beside])
    return alone("well-known-ports") if found else nullcontext()


def is_test_file(block):
    return Path(block.title).name.startswith("test_")


#: Those that the pages speak of; the others that are installed here would only be imported.
PLUGINS = ["-p", "pytest_asyncio.plugin", "-p", "otpylib_telemetry_mock.pytest_plugin"]


def test_every_block_says_what_it_is():
    assert [str(block) for block in BLOCKS if block.language not in LANGUAGES] == []


@pytest.mark.process
@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_runs_as_it_stands(block, tmp_path):
    """Beside the files that the page shows; a block named test_... is run by pytest."""
    for other in blocks_of(block.page):
        if other.title and other.language in {"toml", "python"}:
            (tmp_path / other.title).write_text(other.text, encoding="utf-8")
    script = tmp_path / (block.title or "block.py")
    script.write_text(block.text, encoding="utf-8")
    command = [script]
    if is_test_file(block):
        command = ["-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", tmp_path, *PLUGINS]
        command += ["-o", "asyncio_mode=auto", script]
    with waits_for_its_port(block):
        done = programs.run(
            command,
            cwd=tmp_path,
            timeout=200,
            env=_environment(),
            options=() if is_test_file(block) else ("-W", "error"),
            about="".join(other.text for other in blocks_of(block.page) if other is block or other.title),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in _promised_output(block):
        assert text in done.stdout, f"{text!r} is not in\n{done.stdout}\n{done.stderr}"


def _promised_output(block):
    """The lines of the output block that follows, less what differs from run to run and what is left out."""
    following = [other for other in blocks_of(block.page) if other.line > block.line]
    if not following or following[0].language != "text":
        return []
    lines = [line.strip() for line in following[0].text.splitlines()]
    varies = re.compile(r"\d\.\d{3,}|[0-9a-f]{16}")
    return [line for line in lines if line and "..." not in line and not varies.search(line)]


def _environment():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))}
    # On a busy machine a page is not there yet after the seconds that an example gives it.
    patient = ROOT / "tests" / "support" / "patient"
    return {
        **kept,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{patient}",
        "PYTHONUTF8": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_toml_is_accepted_without_a_complaint(block):
    models = {section: model for section, model, _ in reference.SECTIONS}
    content = tomllib.loads(block.text)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "set by the reader")
    for section, values in content.get("telemetry", {}).items():
        kind = values.get("kind", section)
        assert kind in models, f"{block}: no exporter reads [telemetry.{section}]"
        resolution = resolve(models[kind], f"telemetry.{section}", environ=environ, config=values)
        assert [problem.message for problem in resolution.problems] == []


def test_shell_blocks_use_only_commands_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    lines = [
        (block, line.split("#")[0].strip())
        for block in BLOCKS
        if block.language == "sh"
        for line in block.text.splitlines()
    ]
    assert lines
    for block, line in lines:
        line = re.sub(r"^([A-Z_]+=\S+ )+", "", line)  # noqa: PLW2901  # variables set in front of the command
        if line.startswith("make "):
            assert line.split()[1] in targets, f"{block}: {line}"
        elif line.startswith("pip install"):
            named = re.search(r"\[([a-z,]+)\]", line)
            assert named is None or set(named[1].split(",")) <= extras, f"{block}: {line}"
        else:
            # The first: tests/command/test_page.py. The last three:
            # tests/processes/test_auto_instrumentation.py, tests/peers/test_express.py.
            programs = ("otpylib-telemetry ", "python ", "curl ", "kill ")
            programs += ("opentelemetry-instrument ", "npm install ", "node ")
            assert not line or line.startswith(programs), f"{block}: {line}"


def test_the_configuration_reference_is_up_to_date():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python -m scripts.reference"


def test_the_reference_of_the_commands_is_up_to_date():
    page = reference_commands.PAGE.read_text(encoding="utf-8")
    assert page == reference_commands.page(), "run: python -m scripts.reference"


def test_the_reference_of_the_exporters_own_metrics_is_up_to_date():
    assert reference.SELF_PAGE.read_text(encoding="utf-8") == reference.self_page(), (
        "run: python -m scripts.reference"
    )
