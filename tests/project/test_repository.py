"""What holds for the repository as a whole, and nobody would notice breaking."""

import ast
import functools
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.constraints import lower_bounds

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = [
    "otpylib_telemetry",
    "otpylib_telemetry_otel",
    "otpylib_telemetry_prometheus",
    "otpylib_telemetry_mock",
]
MODULES = sorted(
    path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
)
#: The one package that may use what otpylib keeps to itself, and the instrumentor, which replaces some of it.
WORKAROUNDS = "otpylib_telemetry/otp/"
INSTRUMENTOR = "otpylib_telemetry/instrument/otpylib/"
NOT_OURS = re.compile(r"(^|/)(\.(?!ci/)|build/|dist/|[^/]*\.egg-info/)")


def files(*suffixes):
    """The files of the repository, as they would be committed."""
    found = (path for path in ROOT.rglob("*") if path.suffix in suffixes and path.is_file())
    return sorted(path for path in found if not NOT_OURS.search(name(path)))


def name(path):
    return path.relative_to(ROOT).as_posix()


# --- code ------------------------------------------------------------------------------------------------


OTPYLIB = re.compile(r"otpylib(_config)?(\.|$)")
#: Reached through objects rather than modules, so that an import does not give them away.
ATTRIBUTES = {
    "_current_process",
    "_gen_server_loop",
    "_monitors",
    "_name_registry",
    "_processes",
    "_wheel_task",
}


def private_otpylib_names(tree):
    """Names with a leading underscore that a module takes out of otpylib or otpylib-config."""
    nodes = list(ast.walk(tree))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and OTPYLIB.match(node.module or "")]
    imported = [alias for node in froms for alias in node.names]
    modules = {alias.asname or alias.name for alias in imported}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    return {
        *(alias.name for alias in imported if alias.name.startswith("_")),
        *(node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id in modules),
        *(node.attr for node in attributes if node.attr in ATTRIBUTES),
    }


@functools.cache
def tree_of(module):
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


def test_only_one_package_uses_what_otpylib_keeps_to_itself():
    others = [module for module in MODULES if not module.startswith((WORKAROUNDS, INSTRUMENTOR))]
    found = {module: private_otpylib_names(tree_of(module)) for module in others}
    assert {module: names for module, names in found.items() if names} == {}


def test_no_assertion_decides_anything():
    """``python -O`` leaves them out; and whoever else's classes or loops come must be met, not refused."""
    assert [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Name) and node.id == "__debug__")
    ] == []


def test_the_search_for_private_names_finds_them():
    found = [private_otpylib_names(tree_of(module)) for module in MODULES if module.startswith(WORKAROUNDS)]
    assert {"_current_process", "_gen_server_loop", "_processes"} <= set().union(*found)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_lists_what_a_package_offers(package):
    module = importlib.import_module(package)
    made_there = {
        entry
        for entry, value in vars(module).items()
        if not entry.startswith("_")
        and (getattr(value, "__module__", None) or "").partition(".")[0] == package
    }
    assert made_there <= set(module.__all__)
    assert [entry for entry in module.__all__ if not hasattr(module, entry)] == []


# --- what is written -------------------------------------------------------------------------------------

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def links(page):
    """Relative links of a page: (target as written, file it leads to, anchor)."""
    for match in LINK.finditer(without_code(page.read_text(encoding="utf-8"))):
        target = match.group(1) or match.group(2)
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            place, _, anchor = target.partition("#")
            yield target, (page.parent / place).resolve() if place else page, anchor


def anchors(page):
    """The anchors of a page's headings, made the way code-hosting sites make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+\s+(.*?)\s*#*$", text, re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


PAGES = files(".md")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page):
    broken = [
        target
        for target, place, anchor in links(page)
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place))
    ]
    assert broken == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md"])
def test_every_file_that_a_page_for_contributors_names_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+/[\w.-]+\.\w+|[\w-]+\.(?:py|toml|txt|md))`", text))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_every_page_can_be_reached_from_the_readme():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        for _, place, _ in links(page):
            waiting += sorted(place.glob("*.md")) if place.is_dir() else [place] * (place.suffix == ".md")
    assert [name(page) for page in PAGES if page not in seen] == []


def test_nothing_speaks_of_one_persons_machine():
    ours = files(".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ".json", "")
    place = re.compile(r"(?<![\w./:{}<>-])/(?:home|root|Users|work|opt)/[\w.-]+")
    found = {f"{name(path)}: {match.group()}" for path in ours for match in place.finditer(read(path))}
    assert found == set()


def read(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


# --- configuration and versions --------------------------------------------------------------------------


def test_the_sample_configuration_has_every_exporter():
    sample = tomllib.loads((ROOT / "config.toml").read_text(encoding="utf-8"))["telemetry"]
    assert {"otel", "prometheus", "datadog"} <= set(sample)
    assert sample["datadog"]["enabled"] is False


def test_the_change_log_begins_with_this_version():
    headings = re.findall(
        r"^## \[?([^],\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    released = [heading for heading in headings if heading.lower() != "unreleased"]
    assert released[0] == PROJECT["project"]["version"]


def required():
    """Everything that the project asks for anywhere."""
    project = PROJECT["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
        PROJECT["build-system"]["requires"],
    ]
    wanted = [Requirement(text) for group in groups for text in group]
    return [requirement for requirement in wanted if requirement.name != project["name"]]


def pinned(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("constraints", ["constraints.txt", "constraints-lowest.txt"])
def test_the_constraints_fix_a_fitting_version_of_everything_required(constraints):
    fixed = pinned(constraints)
    unfit = [str(r) for r in required() if r.name not in fixed or not r.specifier.contains(fixed[r.name])]
    assert unfit == []


def test_the_lowest_versions_are_the_lower_bounds():
    fixed = pinned("constraints-lowest.txt")
    bounds = [pin.strip().split("==") for pin in lower_bounds(PROJECT["project"])]
    assert {name for name, _ in bounds} >= {"pydantic", "opentelemetry-sdk", "grpcio", "aiohttp", "pytest"}
    assert [name for name, bound in bounds if Version(fixed[name]) != Version(bound)] == []


# --- make ------------------------------------------------------------------------------------------------


@pytest.fixture
def environment_script(tmp_path):
    """A function that runs scripts/environment with only these fake programs called python on the PATH."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("cat", "cksum", "dirname", "ln", "mkdir", "rm", "sed", "touch"):
        (tools / tool).symlink_to(shutil.which(tool))

    def run(arguments, **pythons):
        for program, body in pythons.items():
            file = tools / program.replace("python3_", "python3.")
            file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
            file.chmod(0o755)
        command = ["/bin/sh", str(ROOT / "scripts" / "environment"), *map(str, arguments)]
        return subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, encoding="utf-8")

    return run


OLD = 'case "$2" in *platform*) echo 3.9.2;; *) exit 1;; esac'
WITHOUT_VENV = 'case "$2" in *platform*) echo 3.11.2;; *ensurepip*) exit 1;; esac'
BROKEN = "exit 127"
CANNOT_INSTALL = """
case "$2" in
    *platform*) echo 3.12.1;;
    venv) mkdir -p "$3/bin"; ln -s "$0" "$3/bin/python"; touch "$3/pyvenv.cfg";;
    pip) echo "could not connect to anything"; exit 1;;
esac
"""


@pytest.mark.parametrize(
    ("arguments", "pythons", "expected"),
    [
        ([], {}, r"Python 3\.11 or newer is needed.*python3 there is: missing"),
        (
            [],
            {"python3_11": BROKEN, "python3": OLD},
            r"Python 3\.11 or newer is needed.*python3 there is: 3\.9\.2",
        ),
        (["old"], {"old": OLD}, r"PYTHON=old was asked for\. Needed: Python 3\.11 or newer\. Found: 3\.9\.2"),
        (
            ["absent"],
            {"python3_12": "exit 0"},
            r"PYTHON=absent was asked for.*nothing that runs under that name",
        ),
        (
            [],
            {"python3": WITHOUT_VENV},
            r"python3 is Python 3\.11\.2 but cannot.*apt-get install python3-venv",
        ),
        ([], {"python3_12": CANNOT_INSTALL}, r"(?s)could not connect to anything.*Installing into .* failed"),
    ],
    ids=["no python", "old and broken", "named, old", "named, absent", "no venv module", "no index"],
)
def test_make_says_what_is_missing(environment_script, tmp_path, arguments, pythons, expected):
    done = environment_script([tmp_path / "venv", *arguments], **pythons)
    assert done.returncode == 1
    assert re.search(expected, done.stderr.replace("\n", " ")), done.stderr


def test_make_says_that_there_are_no_such_constraints(environment_script, tmp_path):
    done = environment_script([tmp_path / "venv", "", "absent.txt"], python3="exit 0")
    assert (done.returncode, done.stderr) == (1, "CONSTRAINTS=absent.txt: there is no such file.\n")
    assert not (tmp_path / "venv").exists()


def test_make_leaves_alone_what_is_not_a_virtual_environment(environment_script, tmp_path):
    precious = tmp_path / "venv" / "precious"
    precious.parent.mkdir()
    precious.touch()
    done = environment_script([precious.parent], python3="exit 0")
    assert "is not a virtual environment, so it is left alone" in done.stderr
    assert precious.exists()


@pytest.mark.parametrize(("script", "shell"), [("scripts/environment", "sh"), (".ci/run", "bash")])
def test_scripts_can_be_run(script, shell):
    assert (ROOT / script).stat().st_mode & 0o111
    subprocess.run([shell, "-n", ROOT / script], check=True)


def test_what_is_not_tested_with_the_lowest_versions_uses_no_other_package():
    left_out = re.findall(r"--ignore=tests/(\w+)", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert {"project", "primitives", "aggregation", "exporter"} <= set(left_out)
    newest, lowest = pinned("constraints.txt"), pinned("constraints-lowest.txt")
    same = {name.replace("-", "_") for name, version in lowest.items() if newest.get(name) == version}
    used = set()
    for folder in left_out:
        for path in (ROOT / "otpylib_telemetry" / folder).rglob("*.py"):
            for node in ast.walk(tree_of(path.relative_to(ROOT).as_posix())):
                if isinstance(node, ast.ImportFrom):
                    used.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Import):
                    used.update(each.name.partition(".")[0] for each in node.names)
    assert used - sys.stdlib_module_names - same == {"otpylib_telemetry"}


def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE).group(1).split())
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert set(re.findall(r"^  make (\w+)", shown, re.MULTILINE)) == targets
