"""Certificates and keys: read, read again, and complained about."""

import base64
import datetime as dt
import logging
import os
import ssl
from pathlib import Path

import pytest

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver, Tls
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel.destinations import transport
from otpylib_telemetry_otel.otlp.certificates import complaint, validity, validity_of_pem, why_refused
from otpylib_telemetry_otel.otlp.credentials import CredentialsError, Files, Watched, read
from otpylib_telemetry_otel.otlp.services import TRACES
from otpylib_telemetry_otel.settings.model import OtelSettings
from tests.support.certificates import Authority

NOW = dt.datetime.now(tz=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pairs(authority):
    """Two certificates, each with its key."""
    return authority.issue(), authority.issue()


@pytest.fixture
def place(tmp_path, authority, pairs):
    """Files that are in order, in a directory of the test's own."""
    issued = pairs[0].copy_to(tmp_path)
    certificate = tmp_path / "ca.crt"
    certificate.write_bytes(authority.certificate.read_bytes())
    return Files(str(certificate), str(issued.key), str(issued.certificate))


class TestValidity:
    @pytest.mark.parametrize("year", [1951, 1999, 2049])
    def test_the_dates_are_those_of_the_certificate(self, authority, year):
        ends = dt.datetime(year, 6, 30, 12, 30, 15, tzinfo=dt.UTC)
        now = dt.datetime.now(tz=dt.UTC)
        issued = authority.issue(begins=ends - DAY - now, ends=ends - now)
        found = validity_of_pem(issued.certificate.read_bytes())
        assert abs(found.ends - ends) < dt.timedelta(minutes=5)
        assert abs(found.begins - (ends - DAY)) < dt.timedelta(minutes=5)

    def test_an_expired_one_is_told_with_its_date_and_one_of_tomorrow_as_well(self, authority):
        old = validity_of_pem(authority.issue(-9 * DAY, -2 * DAY).certificate.read_bytes())
        assert complaint(old, NOW) == f"expired on {old.ends:%Y-%m-%d %H:%M} UTC"
        new = validity_of_pem(authority.issue(DAY, 2 * DAY).certificate.read_bytes())
        assert complaint(new, NOW) == f"is not valid before {new.begins:%Y-%m-%d %H:%M} UTC"
        assert complaint(new, NOW + 1.5 * DAY) is None

    def test_what_is_no_certificate_is_refused_and_nothing_else_happens(self, pairs):
        der = ssl.PEM_cert_to_DER_cert(pairs[0].certificate.read_text())
        for cut in range(0, len(der), 7):
            try:
                validity(der[:cut])
            except ValueError:
                continue
            pytest.fail(f"{cut} of {len(der)} bytes passed for a certificate")
        for pem in (b"", b"-----BEGIN CERTIFICATE-----\n", b"nonsense"):
            with pytest.raises(ValueError, match="no certificate"):
                validity_of_pem(pem)

    def test_a_server_that_is_not_there_is_asked_in_vain(self):
        assert why_refused("127.0.0.1", free_port(), NOW) is None


class TestReading:
    def test_files_in_order_are_read(self, place):
        found = read(place, NOW)
        assert found.certificate.startswith(b"-----BEGIN CERTIFICATE")
        assert found.client_key.startswith(b"-----BEGIN EC PRIVATE KEY")
        assert found.warning is None
        assert found.context.verify_mode == ssl.CERT_REQUIRED
        assert found.context.check_hostname

    def test_our_authority_is_the_only_one_trusted(self, place):
        assert len(read(place, NOW).context.get_ca_certs()) == 1

    @pytest.mark.parametrize("key", ["certificate", "client_key", "client_certificate"])
    def test_a_file_that_is_not_there_is_named(self, place, tmp_path, key):
        missing = str(tmp_path / "missing.pem")
        files = Files(**{"certificate": place.certificate, "client_key": place.client_key} | {key: missing})
        with pytest.raises(
            CredentialsError, match=rf"^{key}: the file .*missing\.pem cannot be read: No such"
        ):
            read(files, NOW)

    def test_a_file_without_a_certificate_is_named(self, place):
        Path(place.certificate).write_text("nonsense")
        with pytest.raises(CredentialsError, match=r"certificate: the file .*ca\.crt holds no certificate"):
            read(place, NOW)

    def test_a_key_of_another_certificate_is_told(self, place, pairs):
        files = Files(place.certificate, str(pairs[1].key), place.client_certificate)
        with pytest.raises(CredentialsError, match=r"the key in .* does not belong to the certificate in"):
            read(files, NOW)

    def test_a_key_in_no_form_at_all_is_told(self, place):
        Path(place.client_key).write_text("nonsense")
        with pytest.raises(CredentialsError, match=r"client_key: the file .* holds no private key in PEM"):
            read(place, NOW)

    def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(self, place, tmp_path, authority):
        locked = tmp_path / "locked.key"
        authority._run(
            "pkcs8",
            "-topk8",
            "-in",
            place.client_key,
            "-out",
            locked,
            "-passout",
            "pass:secret",
            config=False,
        )()
        files = Files(place.certificate, str(locked), place.client_certificate)
        with pytest.raises(CredentialsError, match="encrypted with a password"):
            read(files, NOW)

    def test_an_expired_client_certificate_is_a_warning_that_names_the_date(self, tmp_path, authority):
        old = authority.issue(-9 * DAY, -2 * DAY)
        found = read(Files(None, str(old.key), str(old.certificate)), NOW)
        # NOW may have been yesterday.
        days = {f"{when - 2 * DAY:%Y-%m-%d}" for when in (NOW, dt.datetime.now(dt.UTC))}
        assert any(f"expired on {day}" in found.warning for day in days)
        assert str(old.certificate) in found.warning


#: What a file may become that has to be read all the same, and what has to be refused.
SOUND = {
    "a comment in UTF-8": lambda pem: "# Größe, 大きさ\n".encode() + pem + "# Ende: ü\n".encode(),
    "a comment in Latin-1": lambda pem: "# Größe\n".encode("latin-1") + pem,
    "a byte order mark": lambda pem: b"\xef\xbb\xbf" + pem,
    "lines as on Windows": lambda pem: pem.replace(b"\n", b"\r\n"),
    "blank lines": lambda pem: b"\n\n" + pem + b"\n\n",
    "no last line end": lambda pem: pem.rstrip(),
}
UNSOUND = {
    "empty": lambda pem: b"",
    "blank": lambda pem: b" \n\n",
    "only a comment": lambda pem: "# Größe\n".encode(),
    "half": lambda pem: pem[: len(pem) // 2],
    "the end missing": lambda pem: pem[: pem.index(b"-----END")],
    "a second one begun": lambda pem: pem + pem[: len(pem) // 2],
    "damaged": lambda pem: pem[:60] + b"!" + pem[61:],
    "a bit gone": lambda pem: b"\n".join(pem.splitlines()[:2] + pem.splitlines()[3:]),
    "DER": lambda pem: base64.b64decode(b"".join(pem.splitlines()[1:-1])),
    "UTF-16": lambda pem: pem.decode().encode("utf-16"),
    "zeros": lambda pem: b"\0" * 100,
    "text": lambda pem: b"hello",
}
KEYS = ["certificate", "client_key", "client_certificate"]


def rewrite(path, change):
    path = Path(path)
    pem = path.read_bytes()
    # Some programs write what a certificate says in front of it.
    path.write_bytes(change(pem[pem.index(b"-----BEGIN") :]))


class TestForms:
    # OpenSSL reads the client's own two files itself, and refuses a byte order mark.
    @pytest.mark.parametrize(
        ("key", "form"),
        [(key, form) for key in KEYS for form in SOUND if (key == KEYS[0] or form != "a byte order mark")],
    )
    def test_what_stands_around_a_block_does_not_matter(self, place, key, form):
        before = read(place, NOW)
        rewrite(getattr(place, key), SOUND[form])
        found = read(place, NOW)
        assert found.certificate == before.certificate
        assert found.client_certificate == before.client_certificate
        assert len(found.context.get_ca_certs()) == 1

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize("form", UNSOUND)
    def test_what_is_no_whole_block_is_refused_and_trusts_nobody_else(self, place, key, form):
        rewrite(getattr(place, key), UNSOUND[form])
        with pytest.raises(CredentialsError, match=key) as refused:
            read(place, NOW)
        assert getattr(place, key) in str(refused.value)
        with pytest.raises(CredentialsError):
            Watched(place)

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize("form", UNSOUND)
    def test_what_was_read_before_stays_and_the_first_trouble_is_said(self, place, key, form, caplog):
        watched = Watched(place)
        before = watched.credentials
        sound = Path(getattr(place, key)).read_bytes()
        rewrite(getattr(place, key), UNSOUND[form])
        assert [watched.renewed() for _ in range(3)] == [False] * 3
        assert watched.credentials is before
        (message,) = caplog.messages
        assert key in message.partition(": ")[0]
        assert message.endswith("The credentials read before stay in use.")
        Path(getattr(place, key)).write_bytes(sound)
        assert watched.renewed()
        assert watched.credentials.certificate == before.certificate

    def test_key_and_certificate_may_be_in_one_file(self, place, tmp_path):
        both = tmp_path / "both.pem"
        both.write_bytes(Path(place.client_key).read_bytes() + Path(place.client_certificate).read_bytes())
        found, apart = read(Files(None, str(both), str(both)), NOW), read(place, NOW)
        assert (found.client_key, found.client_certificate) == (apart.client_key, apart.client_certificate)

    @pytest.mark.parametrize("key", KEYS)
    def test_a_named_pipe_is_not_waited_for(self, place, tmp_path, key):
        os.mkfifo(tmp_path / "pipe")
        files = place._replace(**{key: str(tmp_path / "pipe")})
        with pytest.raises(CredentialsError, match=rf"^{key}: the file .*pipe cannot be read: Is no regular"):
            read(files, NOW)

    @pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
    def test_over_either_protocol_the_server_is_known_by_a_file_with_a_comment(
        self, place, authority, protocol
    ):
        rewrite(place.certificate, SOUND["a comment in UTF-8"])
        issued = authority.issue()
        tls = Tls(issued.certificate, issued.key)
        with (GrpcReceiver if protocol == "grpc" else HttpReceiver)(tls=tls) as receiver:
            settings = OtelSettings(
                endpoint=receiver.endpoint, protocol=protocol, certificate=place.certificate, timeout=20
            )
            sender = transport(settings.connection("traces"), TRACES)
            try:
                assert sender.send(b"") is None
                # What can no longer be used is no reason to stop, nor to trust anybody else.
                for content in (b"", "# Größe\n".encode(), b"-----BEGIN CERTIFICATE-----\nMIIB"):
                    Path(place.certificate).write_bytes(content)
                    assert sender.send(b"") is None
            finally:
                sender.close()


class TestFollowing:
    def test_nothing_is_read_while_nothing_changes(self, place, monkeypatch):
        watched = Watched(place)
        monkeypatch.setattr("otpylib_telemetry_otel.otlp.credentials.read", None)
        assert [watched.renewed() for _ in range(3)] == [False] * 3

    def test_new_files_are_taken_once_and_said_once(self, place, pairs, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        watched = Watched(place)
        before = watched.credentials
        pairs[1].copy_to(tmp_path)
        assert [watched.renewed() for _ in range(3)] == [True, False, False]
        assert watched.credentials.client_certificate == pairs[1].certificate.read_bytes()
        assert watched.credentials.context is not before.context
        assert len(caplog.records) == 1
        assert "read again" in caplog.text

    @pytest.mark.parametrize("damage", ["broken", "gone", "key of another"])
    def test_what_cannot_be_used_is_said_once_and_the_old_stays_until_it_can(
        self, place, pairs, tmp_path, caplog, damage
    ):
        caplog.set_level(logging.INFO)
        watched = Watched(place)
        before = watched.credentials
        match damage:
            case "broken":
                (tmp_path / "tls.crt").write_text("nonsense")
            case "gone":
                (tmp_path / "tls.crt").unlink()
            case "key of another":
                (tmp_path / "tls.key").write_bytes(pairs[1].key.read_bytes())
        assert [watched.renewed() for _ in range(3)] == [False] * 3
        assert watched.credentials is before
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "stay in use" in caplog.text
        (tmp_path / "tls.crt").write_text("other nonsense")
        assert not watched.renewed()
        assert len(caplog.records) == 1
        pairs[1].copy_to(tmp_path)
        assert watched.renewed()
        assert "in order now" in caplog.text

    def test_files_that_change_while_they_are_read_are_read_again(self, place, pairs, tmp_path, monkeypatch):
        watched = Watched(place)
        before = watched.credentials
        pairs[1].copy_to(tmp_path)
        really = read

        def slowly(*args):
            found = really(*args)
            os.utime(tmp_path / "tls.key", ns=(1, 1))
            monkeypatch.setattr("otpylib_telemetry_otel.otlp.credentials.read", really)
            return found

        monkeypatch.setattr("otpylib_telemetry_otel.otlp.credentials.read", slowly)
        assert not watched.renewed()
        assert watched.credentials is before
        assert watched.renewed()

    def test_a_link_that_is_turned_to_another_directory_is_a_change(self, tmp_path, pairs):
        for name, pair in zip(("one", "two"), pairs, strict=True):
            (tmp_path / name).mkdir()
            pair.copy_to(tmp_path / name)
        current = tmp_path / "current"
        current.symlink_to("one")
        watched = Watched(Files(None, str(current / "tls.key"), str(current / "tls.crt")))
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(current)
        assert watched.renewed()
        assert watched.credentials.client_key == pairs[1].key.read_bytes()

    def test_a_warning_about_an_expired_certificate_is_said_at_the_start(self, authority, caplog):
        old = authority.issue(-9 * DAY, -2 * DAY)
        Watched(Files(None, str(old.key), str(old.certificate)))
        assert "expired on" in caplog.text
