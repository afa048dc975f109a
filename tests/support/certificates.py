"""Certificates for tests, valid or not, made with the openssl program."""

import datetime as dt
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import peers

CONFIG = """
[ca]
default_ca = tests
[tests]
database = {directory}/index
serial = {directory}/serial
new_certs_dir = {directory}
default_md = sha256
policy = anything
unique_subject = no
copy_extensions = copy
[anything]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as files."""

    certificate: Path
    key: Path

    def copy_to(self, directory):
        """Put it in place of what lies there: under the same two names, each replaced at once."""
        for source, name in ((self.certificate, "tls.crt"), (self.key, "tls.key")):
            staged = directory / f"{name}.new"
            staged.write_bytes(source.read_bytes())
            staged.replace(directory / name)
        return Issued(directory / "tls.crt", directory / "tls.key")


class Authority:
    """Signs certificates; ``certificate`` is what those who trust it are given."""

    def __init__(self, directory, name="Test Authority"):
        self.openssl = peers.find_program("openssl", "the package openssl")
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "index").touch()
        (directory / "serial").write_text("1000\n")
        self.config = directory / "openssl.cnf"
        self.config.write_text(CONFIG.format(directory=directory))
        self.key, self.certificate = directory / "ca.key", directory / "ca.crt"
        self._new_key(self.key)
        self._run("req", "-x509", "-key", self.key, "-out", self.certificate, "-days", "30")(
            *("-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        self._count = 0

    def issue(self, begins=dt.timedelta(days=-1), ends=dt.timedelta(days=1), host="127.0.0.1"):
        """Make a certificate for a host, valid between two times relative to now."""
        self._count += 1
        stem = self.directory / f"issued{self._count}"
        issued = Issued(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        request = stem.with_suffix(".csr")
        self._new_key(issued.key)
        self._run("req", "-new", "-key", issued.key, "-out", request, "-subj", f"/CN={host}")(
            *("-addext", f"subjectAltName=IP:{host}", "-addext", "basicConstraints=CA:FALSE"),
        )
        now = dt.datetime.now(tz=dt.UTC)
        first, last = ((now + each).strftime("%Y%m%d%H%M%SZ") for each in (begins, ends))
        self._run("ca", "-batch", "-notext", "-in", request, "-out", issued.certificate)(
            *("-keyfile", self.key, "-cert", self.certificate, "-startdate", first, "-enddate", last),
        )
        return issued

    def _new_key(self, path):
        self._run("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path, config=False)()

    def _run(self, command, *arguments, config=True):
        def run(*more):
            chosen = ("-config", self.config) if config else ()
            line = [self.openssl, command, *chosen, *arguments, *more]
            done = subprocess.run([str(part) for part in line], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

        return run
