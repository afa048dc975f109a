"""The built distributions, and a fresh environment for each extra."""

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
    """A function that installs the wheel with one extra into an empty environment and gives its Python."""

    def install(extra, versions=built.NEWEST, distribution=wheel, by=built.install_with_uv):
        extra = built.first_with_the_same(extra)
        what = f"{distribution}[{extra}]" if extra else distribution
        name = f"{by.__name__}-{distribution.suffix[1:]}-{extra}-{versions}"
        return built.python_of(built.shared(tmp_path_factory, name, lambda place: by(place, versions, what)))

    return install


@pytest.fixture
def execute_in(installed, tmp_path):
    """A function that runs a program in the environment of one extra; gives what it wrote."""

    def execute(extra, program, **what):
        file = tmp_path / "program.py"
        file.write_text(program, encoding="utf-8")
        # Isolated: neither the working directory nor the user's packages are importable.
        return built.run(installed(extra, **what), "-I", "-W", "error", file, cwd=tmp_path, timeout=250)

    return execute
