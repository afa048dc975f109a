"""What is installed beside us in real applications, and fits."""

import json
import re
import sys

import pytest

from scripts import uv
from tests.support.distributions import UV, attempt
from tests.support.peers import missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


#: What applications have beside us, and what instruments it: their versions move together, and not with ours.
NEIGHBOURS = ("aiohttp", "celery", "django", "fastapi", "flask", "requests")
INSTRUMENTED = ("aiohttp-client", "asyncio", "celery", "django", "fastapi", "flask", "requests")
UNREACHABLE = re.compile(r"from versions: none|onnection|timed out|getaddrinfo", re.IGNORECASE)


def test_it_can_be_installed_beside_popular_packages_and_their_instrumentations(wheel):
    instrumentations = [f"opentelemetry-instrumentation-{name}" for name in INSTRUMENTED]
    wanted = (f"{wheel}[all]", *NEIGHBOURS, *instrumentations)
    # Either finds versions that fit; uv takes a tenth of pip's time, and pip answers for what uv cannot tell.
    compiled = attempt(*UV, "pip", "compile", "--quiet", "-", input="\n".join(wanted), env=uv.variables())
    if compiled.returncode == 0:
        chosen = set(re.findall(r"^([\w-]+)==", compiled.stdout, re.MULTILINE))
    else:
        chosen = chosen_by_pip(wanted)
    assert chosen >= {*NEIGHBOURS, *instrumentations, "otpylib", "opentelemetry-sdk"}


def chosen_by_pip(wanted):
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed")
    done = attempt(*pip, "--report", "-", *wanted)
    if done.returncode and UNREACHABLE.search(done.stderr) and "conflict" not in done.stderr:
        missing(f"the package index does not answer: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return {item["metadata"]["name"].lower() for item in json.loads(done.stdout)["install"]}
