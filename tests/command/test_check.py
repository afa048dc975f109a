"""``otpylib-telemetry check``, run as it is run: what it says, and how it ends."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pkgutil import resolve_name

import pytest

from otpylib_telemetry.command.main import main
from otpylib_telemetry.command.screen import Screen
from otpylib_telemetry.config import sections
from otpylib_telemetry.version import __version__
from tests.command.running import ROOT, check, command, lines
from tests.support import programs

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def _no_files_of_others():
    sections.forget()
    yield
    sections.forget()


GOOD = """\
[telemetry.otel]
service_name = "shop"
sampling_rate = 0.5

[telemetry.eu]
kind = "otel"

[telemetry.poller]
interval = 5

[database]
url = "postgres://localhost"
"""

BAD = """\
[telemetry.otel]
sampling_rat = 0.5
timeout = "soon"
headers = { "bad name" = "x", good = "y" }

[telemetry.prometheus]
port = 70000
key = "key.pem"
metrics = [
    { type = "counter", name = "shop.checkout.stop.count" },
    { type = "countr", name = "shop.refund" },
]

[telemetry.promtheus]
port = 1

[telemetry.eu]
kind = "zipkin"

[telemetry.instrument]
recorder = 2.5
"""


def test_a_good_file_is_good(tmp_path):
    (tmp_path / "config.toml").write_text(GOOD)
    done = command("check", "config.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "config.toml: 0 errors, 0 warnings; sections read: telemetry.otel, telemetry.poller, telemetry.eu.\n"
    )


def test_every_mistake_is_one_line_that_says_where_it_is(tmp_path):
    (tmp_path / "config.toml").write_text(BAD)
    done = command("check", "config.toml", cwd=tmp_path)
    assert done.returncode == 1
    *found, summary = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert [line.split(" ", 2)[:2] for line in found] == [
        [f"config.toml:{number}:", "error:"] for number in (2, 3, 4, 7, 8, 9, 14, 18, 21)
    ]
    assert "did you mean telemetry.otel.sampling_rate?" in found[0]
    assert "expected a number of seconds from 0.001 to 3600" in found[1]
    assert "header names" in found[2]
    assert "expected a whole number from 0 to 65535" in found[3]
    assert "key is of use only together with certificate" in found[4]
    assert "item 2 ('shop.refund'): type is 'countr'" in found[5]
    assert "did you mean telemetry.prometheus?" in found[6]
    assert "is no kind of exporter there is" in found[7]
    assert "expected a whole number from 0 to 10000" in found[8]
    assert summary.startswith("config.toml: 9 errors, 0 warnings; sections read: telemetry.otel, ")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[telemetry.otel]\nenabled = true\nservice_name = \n", 3, "is not valid TOML: Invalid value"),
        ("[telemetry.otel]\n[telemetry.otel]\n", 2, "is not valid TOML: Cannot declare"),
        ("a = 1\nb = 2\na = 3\n", 3, "is not valid TOML: Cannot overwrite a value"),
        ('\nx = "\n', 2, "is not valid TOML: Illegal character"),
        ("", None, "is empty"),
        ("# nothing\n", None, "holds nothing but comments"),
        ("a = " + 5000 * "[" + 5000 * "]", None, "has tables or lists nested too deeply"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text, line, said, tmp_path, capsys):
    (tmp_path / "config.toml").write_text(text)
    assert main(["check", str(tmp_path / "config.toml"), "--json"]) == 1
    ((level, where, message),) = lines(json.loads(capsys.readouterr().out))
    assert (level, where) == ("error", line)
    assert message.startswith(f"The file {said}")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("telemetry = 3\n", "telemetry", 1),
        ("[telemetry]\nenabled = true\n", "telemetry.enabled", 2),
        ("[[telemetry.otel]]\nx = 1\n", "telemetry.otel", 1),
        ("x = 1\r\n[telemetry.x]\r\nkind = 3\r\n", "telemetry.x.kind", 3),
        ("\ufeff\ntelemetry.otel.timeout = 'x'\n", "telemetry.otel.timeout", 2),
        ("telemetry = { otel = { y = 2 } }\n", "telemetry.otel.y", 1),
        ('[telemetry.otel]\nservice_name = """\ny = 1\n"""\n"y" = 2\n', "telemetry.otel.y", 5),
        ("[telemetry.poller]\nkind = 'otel'\nbatch_size = 0\n", "telemetry.poller.batch_size", 3),
        ("[telemetry.otel]\nclient_key = 'a'\n", "telemetry.otel.client_key", 2),
        ("[telemetry.otel.headers]\na = 'b'\nc-bin = 'd'\n", "telemetry.otel.headers.c-bin", 3),
        (f"[telemetry.otel]\nresource = {100 * '['}{100 * ']'}\n", "telemetry.otel.resource", 2),
    ],
)
def test_each_mistake_has_its_key_and_its_line_wherever_it_stands(text, key, line, tmp_path, capsys):
    (tmp_path / "config.toml").write_bytes(text.encode())
    assert main(["check", str(tmp_path / "config.toml"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(each["key"], each["line"]) for each in found] == [(key, line)]


def test_a_preset_without_its_key_tries_nothing(tmp_path):
    status, found = check("[telemetry.datadog]\nenabled = true\n", "--connect", cwd=tmp_path)
    assert (status, found["findings"], found["connections"]) == (0, [], [])


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_whose_owner_wants_them(variables, coloured, monkeypatch):
    for name, value in {"NO_COLOR": "", "TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb") as reader:
        shown = Screen(terminal).coloured("error", "red")
        assert shown == ("\x1b[31merror\x1b[0m" if coloured else "error")
        assert reader.fileno() != terminal.fileno()
    assert Screen(io.StringIO()).coloured("error", "red") == "error"


def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(tmp_path):
    with programs.start(["-m", "otpylib_telemetry", "schema"], cwd=tmp_path) as done:
        done.stdout.close()
        assert done.stderr.read() == ""
        assert done.wait(200) == 1


def test_variables_that_are_not_set_are_told_and_may_come_from_a_file(tmp_path):
    text = (
        '[telemetry.otel]\napi_key = "${KEY_OF_THE_SHOP}"\n'
        '[telemetry.prometheus]\nbasic_auth = { username = "x", password = "${PASSWORD_OF_THE_SHOP}" }\n'
        '[database]\nurl = "${URL_OF_THE_SHOP}"\n'
    )
    status, found = check(text, cwd=tmp_path)
    assert status == 1
    assert [(level, line) for level, line, _ in lines(found)] == [
        ("error", 4),
        ("warning", 6),
        ("error", 2),
    ]
    for (_, _, message), name in zip(lines(found), ("PASSWORD", "URL", "KEY"), strict=True):
        assert f"the environment variable {name}_OF_THE_SHOP is not set" in message
    (tmp_path / "secrets.env").write_text(
        "# of the shop\n\nexport KEY_OF_THE_SHOP='correct horse'\nPASSWORD_OF_THE_SHOP=battery staple\n"
    )
    status, found = check(text, "--env", "secrets.env", cwd=tmp_path)
    assert (status, [level for level, _, _ in lines(found)]) == (0, ["warning"])
    status, found = check(text, "--env", "secrets.env", cwd=tmp_path, env={"URL_OF_THE_SHOP": "x"})
    assert (status, found["findings"]) == (0, [])


def test_the_environment_counts_as_it_does_for_an_exporter(tmp_path):
    env = {"TELEMETRY_OTEL_TIMEOUT": "soon", "TELEMETRY_AUDIT_KIND": "otel", "TELEMETRY_AUDIT_RATE": "1"}
    status, found = check('[telemetry.otel]\nservice_name = "x"\n', cwd=tmp_path, env=env)
    assert status == 1
    said = [message for _, line, message in lines(found) if line is None]
    assert len(said) == 2
    assert "telemetry.otel.timeout ('soon', a string) from the environment variable TELEMETRY_" in said[0]
    assert "telemetry.audit.rate from the environment variable TELEMETRY_AUDIT_RATE is not a known" in said[1]


def test_what_the_file_names_is_looked_at_unless_it_is_not_wanted(tmp_path):
    text = (
        '[telemetry.otel]\nendpoint = "https://localhost:4317"\ncertificate = "authority.pem"\n'
        'sampler = "clever"\nresource_detectors = ["moon"]\n'
        '[telemetry.prometheus]\ncertificate = "/nowhere/page.pem"\n'
    )
    status, found = check(text, cwd=tmp_path)
    assert status == 1
    (sampler, detector, authority, page) = [(line, message) for _, line, message in lines(found)]
    assert sampler[0] == detector[0] == 1
    assert "no installed package registers an OpenTelemetry sampler named 'clever'" in sampler[1]
    assert "no installed package registers an OpenTelemetry resource detector named 'moon'" in detector[1]
    missing = "cannot be read: No such file or directory."
    path = tmp_path / "authority.pem"
    assert authority == (3, f"telemetry.otel: certificate: the file {path} {missing}")
    assert page == (7, f"telemetry.prometheus: certificate: /nowhere/page.pem {missing}")
    status, found = check(text, "--no-files", cwd=tmp_path)
    assert (status, found["findings"]) == (0, [])
    disabled = text.replace("]\nendpoint", "]\nenabled = false\nendpoint").replace(
        "]\ncert", "]\nserve = false\ncert"
    )
    status, found = check(disabled, cwd=tmp_path)
    assert (status, found["findings"]) == (0, [])


def test_a_file_without_telemetry_is_told_of(tmp_path):
    status, found = check("[database]\nurl = 1\n", cwd=tmp_path)
    assert (status, found["sections"], [level for level, _, _ in lines(found)]) == (0, [], ["warning"])
    status, found = check("[telemtry.otel]\nenabled = true\n", cwd=tmp_path)
    assert (status, lines(found)) == (
        1,
        [("error", 1, "No exporter reads [telemtry]; did you mean [telemetry]?")],
    )


SECRETS = ("hunter2-hunter2", "tr0ub4dor-and-3", "battery-staple")


def test_no_secret_is_shown(tmp_path):
    text = f"""\
[telemetry.otel]
endpoint = "http://user:{SECRETS[0]}@localhost:1/?token={SECRETS[1]}"
api_key = "{SECRETS[0]}\\n"
headers = {{ authorization = "{SECRETS[1]}\\n", "x y" = "{SECRETS[0]}" }}
protocol = "${{SECRET}}"
[telemetry.prometheus]
basic_auth = "{SECRETS[1]}"
push_url = "http://user:{SECRETS[0]}@gateway/?q={SECRETS[1]}"
port = "${{SECRET}}"
[telemetry.otel.password]
x = "{SECRETS[0]}"
"""
    for form in ((), ("--json",)):
        (tmp_path / "config.toml").write_text(text)
        done = command(
            "check",
            "config.toml",
            "--connect",
            "--timeout",
            "1",
            *form,
            cwd=tmp_path,
            env={"SECRET": SECRETS[2]},
        )
        assert done.returncode == 1
        assert [secret for secret in SECRETS if secret in done.stdout + done.stderr] == []


def test_what_a_value_has_in_it_does_not_reach_the_terminal(tmp_path):
    (tmp_path / "config.toml").write_text('[telemetry.otel]\n"\\u001b[31mx\\ny" = 1\n')
    done = command("check", "config.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("chek", "x"), "invalid choice: 'chek'"),
        (("check",), "the following arguments are required: FILE"),
        (("check", "nowhere.toml"), "nowhere.toml: No such file or directory"),
        (("check", "."), ".: it is not a regular file"),
        (("check", "pipe"), "pipe: it is not a regular file"),
        (("check", "config.toml", "--env", "nowhere.env"), "--env nowhere.env: No such file or directory"),
        (("check", "config.toml", "--env", "bad.env"), "--env bad.env, line 2: expected NAME=value"),
        (("check", "config.toml", "--timeout", "0"), "--timeout: expected a number of seconds above 0"),
        (("check", "config.toml", "--timeout", "x"), "invalid float value: 'x'"),
    ],
)
def test_wrong_use_is_told_from_a_bad_file(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(GOOD)
    (tmp_path / "bad.env").write_text("A=1\nhunter2-hunter2\n")
    os.mkfifo(tmp_path / "pipe")
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "hunter2" not in told.err


def test_a_process_ends_with_the_status(tmp_path):
    done = command("check", "nowhere.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "otpylib-telemetry check: nowhere.toml: No such file or directory\n"


def test_the_program_is_this_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert resolve_name(scripts["otpylib-telemetry"]) is main


#: Each command in a fork: what is imported once stays.
WITHOUT_EXTRAS = """\
import os, sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"opentelemetry", "google", "grpc", "urllib3", "aiohttp", "psutil"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
from otpylib_telemetry.command.main import main

for command in ("check idle.toml --json", "check sends.toml --json", "schema"):
    if os.fork() == 0:
        sys.exit(main(command.split()))
    print("status", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


def test_it_needs_no_extra_but_those_of_the_exporters_that_are_to_send(tmp_path):
    (tmp_path / "idle.toml").write_text("[telemetry.otel]\ntimeout = 1\n[telemetry.poller]\ninterval = 3\n")
    (tmp_path / "sends.toml").write_text('[telemetry.otel]\nendpoint = "http://localhost:1"\n')
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )
    assert (done.returncode, done.stderr) == (0, "")
    idle, sends, _schema = done.stdout.split("status ")[:3]
    found = json.loads(idle)
    assert (found["findings"], len(found["sections"])) == ([], 2)
    found = json.loads(sends.partition("\n")[2])
    assert "pip install 'otpylib-telemetry[otel]'" in found["findings"][0]["message"]
    assert re.findall(r"^status (\d)$", done.stdout, re.MULTILINE) == ["0", "1", "0"]


def test_help_and_version(tmp_path):
    done = command("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "check" in done.stdout
    assert "The exit status is 0" in " ".join(done.stdout.split())
    done = command("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"otpylib-telemetry {__version__}\n")
