"""What the built distributions hold and say of themselves."""

import email
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.support.distributions import BROUGHT_BY, PACKAGES, PROJECT, ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def dist_info(contents, name):
    return contents[f"otpylib_telemetry-{PROJECT['version']}.dist-info/{name}"].decode()


def test_the_wheel_says_what_it_is(contents):
    metadata = email.message_from_string(dist_info(contents, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("otpylib-telemetry", PROJECT["version"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra")) == {*BROUGHT_BY, "all"}
    assert {Requirement(text) for text in metadata.get_all("Requires-Dist")} == {
        *map(Requirement, PROJECT["dependencies"]),
        *(
            Requirement(f'{text}; extra == "{extra}"')
            for extra, texts in PROJECT["optional-dependencies"].items()
            for text in texts
        ),
    }
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == PROJECT["authors"][0]["name"]
    assert metadata["Summary"] == PROJECT["description"]
    assert metadata["Keywords"].split(",") == PROJECT["keywords"]
    assert metadata.get_all("Classifier") == PROJECT["classifiers"]
    assert metadata.get_all("Project-URL") == [", ".join(pair) for pair in PROJECT["urls"].items()]
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_description_is_the_readme_with_links_that_work_anywhere(contents):
    description = email.message_from_string(dist_info(contents, "METADATA")).get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", description, flags=re.DOTALL))
    assert [target for target in targets if not target.startswith("https://")] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = [line for line in readme.splitlines() if line and "](" not in line]
    assert set(kept) <= set(description.splitlines())
    named = re.findall(r"\(`([^`\s]+\.[a-z]+|LICENSE)`\)", description)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_wheel_holds_the_packages_with_their_types_and_the_licence(contents):
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    held = {name for name in contents if ".dist-info/" not in name}
    assert held == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert dist_info(contents, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    """The source distribution as somebody has it who works with it."""
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    return place / f"otpylib_telemetry-{PROJECT['version']}"


def test_the_source_distribution_has_everything_that_the_repository_has(unpacked):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout.split("\0")
    kept = {name for name in tracked if name and (ROOT / name).exists()}
    assert sorted(name for name in kept if not (unpacked / name).exists()) == []


def test_the_tests_in_the_source_distribution_run(unpacked):
    pytest_there = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    where = {"cwd": unpacked, "env": {"PYTHONPATH": str(unpacked)}}
    said = run(*pytest_there, "tests/metrics/test_units.py", "tests/project/test_layers.py", **where)
    assert " passed" in said.splitlines()[-1]
