"""The built distributions, and a fresh environment for each extra."""

import contextlib

import pytest

from tests.support import distributions as built


@pytest.fixture(scope="session")
def distributions(tmp_path_factory):
    """A directory with the source distribution and the wheel built from it."""
    return built.shared(tmp_path_factory, "distributions", built.build)


@pytest.fixture(scope="session")
def wheel(distributions):
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def sdist(distributions):
    (found,) = distributions.glob("*.tar.gz")
    return found


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """A context with an environment that holds the wheel with one extra, and nothing else; gives its Python.

    There is one for the newest and one for the lowest versions; who asks for another extra has it changed.
    """

    @contextlib.contextmanager
    def held(extra, versions=built.NEWEST, distribution=wheel):
        extra = built.first_with_the_same(extra)
        what = f"{distribution}[{extra}]" if extra else str(distribution)
        with built.held(tmp_path_factory, f"environment-{versions}") as place:
            place.mkdir(exist_ok=True)
            holds = place / "holds"
            if not holds.exists() or holds.read_text(encoding="utf-8") != what:
                holds.unlink(missing_ok=True)
                built.install(place, versions, what)
                holds.write_text(what, encoding="utf-8")
            yield built.python_of(place)

    return held


@pytest.fixture
def execute_in(installed, tmp_path):
    """A function that runs a program in the environment of one extra; gives what it wrote."""

    def execute(extra, program, **what):
        with installed(extra, **what) as python:
            return run_alone(python, program, tmp_path)

    return execute


def run_alone(python, program, directory):
    """Return what a program writes that can import neither from its directory nor what the user has."""
    file = directory / "program.py"
    file.write_text(program, encoding="utf-8")
    return built.run(python, "-I", "-W", "error", file, cwd=directory, timeout=250)
