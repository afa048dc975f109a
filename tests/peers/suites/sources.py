"""The test suites of OpenTelemetry and prometheus_client: source distributions of what is installed here.

Downloaded when the tests run, never kept in the repository.
"""

import hashlib
import importlib.metadata
import os
import re
import sys
import tarfile
import tomllib
import urllib.request

from scripts.uv import variables
from tests.support.distributions import NEWEST, ROOT, attempt, shared

SDK, API, UTILS = "opentelemetry-sdk", "opentelemetry-api", "opentelemetry-test-utils"
CLIENT = "prometheus-client"


class UnreachableError(Exception):
    """The package index does not give a source distribution."""


def pinned():
    """The versions of the constraints, by package, with that of what OpenTelemetry's tests import."""
    lines = (ROOT / NEWEST).read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    # Both are released together, under the one version.
    versions[UTILS] = versions["opentelemetry-semantic-conventions"]
    return {name: versions[name] for name in (SDK, API, UTILS, CLIENT)}


def differing():
    """What is installed here in another version than the constraints name; nobody has a list for that."""
    found = {name: importlib.metadata.version(name) for name in (SDK, API, CLIENT)}
    wanted = pinned()
    return [
        f"{name} {found[name]} instead of {wanted[name]}" for name in found if found[name] != wanted[name]
    ]


def unpacked(tmp_path_factory):
    """Where the source distributions lie, by the name of the package; unpacked once for a whole run."""
    return _places(shared(tmp_path_factory, "peer-suites", download))


def _places(place):
    return {name: place / f"{name.replace('-', '_')}-{version}" for name, version in pinned().items()}


def download(place):
    """Put the source distributions into a folder; returns where each lies."""
    for url, expected in _addresses(place):
        with urllib.request.urlopen(url, timeout=60) as answer:
            packed = answer.read()
        if hashlib.sha256(packed).hexdigest() != expected:
            raise UnreachableError(f"{url} is not what the index says it is")
        archive = place / url.rpartition("/")[2]
        archive.write_bytes(packed)
        with tarfile.open(archive) as opened:
            opened.extractall(place, filter="data")
        archive.unlink()
    return _places(place)


def _addresses(place):
    """Where the archives are, with their SHA-256. uv knows how to ask the index, and builds nothing."""
    wanted = place / "wanted.txt"
    wanted.write_text("".join(f"{name}=={version}\n" for name, version in pinned().items()), encoding="utf-8")
    uv = (sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-deps", "--no-header")
    asked = attempt(*uv, "--no-binary", ":all:", "--format", "pylock.toml", wanted, env=variables())
    if asked.returncode != 0:
        raise UnreachableError(re.sub(r"//\S*@", "//", asked.stderr)[-1000:])
    for package in tomllib.loads(asked.stdout)["packages"]:
        if "sdist" not in package:
            raise UnreachableError(f"the index has no source distribution of {package['name']}")
        sdist = package["sdist"]
        url = sdist.get("url") or (place / sdist["path"]).resolve().as_uri()
        yield url, sdist["hashes"]["sha256"]


if not hasattr(tarfile, "data_filter"):  # a Python older than 3.11.4
    raise UnreachableError(f"{os.fspath(sys.executable)} cannot unpack archives safely")
