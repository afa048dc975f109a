"""The service: where the API is served, what stands in the way, and who may ask."""

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import subprocess
import threading
from pathlib import Path

import aiohttp
import pytest
from otpylib import gen_server

from otpylib_telemetry import TomlSource, otp, start_exporter
from otpylib_telemetry.admin import server, sockets
from otpylib_telemetry.admin.settings import AdminSettings
from otpylib_telemetry.config.resolve import resolve
from tests.support import admin, programs
from tests.support.admin import NAME, Client
from tests.support.chassis import make_exporter, up
from tests.support.waiting import eventually

TOKEN = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.services.server.full_jitter", lambda _attempt, _most: 0.02)
    monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 0.05)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "admin.sock")


async def change(key, value):
    await gen_server.cast(NAME, ("config_changed", f"telemetry.admin.{key}", None, value))


async def test_an_exporter_brings_it_up_where_its_section_says_so(runtime, config_manager, path, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(f'[telemetry.admin]\nenabled = true\nsocket = "{path}"\nport = 0\n')
    await config_manager(TomlSource(file))
    module, _ = make_exporter()
    await start_exporter(module)
    await up()
    await eventually(lambda: Path(path).exists())
    assert (await Client(socket=path).get("/healthz")).body == {"status": "ok"}
    await eventually(lambda: admin.stats_now_are(lambda found: found["port"]))
    found = await admin.stats()
    assert found["url"] == f"http://127.0.0.1:{found['port']}"
    assert (await Client(port=found["port"]).get("/healthz")).status == 200
    file.write_text("[telemetry.admin]\nenabled = false\n")
    await eventually(lambda: not Path(path).exists())
    await eventually(lambda: admin.stats_now_are(lambda found: found["state"] == "disabled"))


async def test_only_this_user_can_open_the_socket_and_it_goes_with_the_service(runtime, path):
    await admin.start(socket=path)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    await change("enabled", False)
    await eventually(lambda: not Path(path).exists())


async def test_the_socket_of_a_dead_process_is_replaced_and_that_of_a_live_one_is_not(runtime, path, caplog):
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    await admin.start(socket=path)
    assert (await Client(socket=path).get("/healthz")).status == 200
    with pytest.raises(sockets.UnavailableError, match="another process serves there"):
        sockets.bind_path(path)
    assert (await Client(socket=path).get("/healthz")).status == 200


def leave_a_dead_one(path):
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)


def test_nobody_removes_what_another_has_put_in_the_place_of_a_dead_one(path, monkeypatch):
    leave_a_dead_one(path)
    looked, other_is_done, ask = threading.Event(), threading.Event(), sockets._is_alive
    outcomes = {}

    def is_alive(where):
        found = ask(where)
        if not looked.is_set():
            looked.set()
            # Time enough for the other, unless it is kept out.
            other_is_done.wait(0.5)
        return found

    def bind(name):
        try:
            outcomes[name] = sockets.bind_path(path)
        except sockets.UnavailableError as error:
            outcomes[name] = str(error)

    monkeypatch.setattr(sockets, "_is_alive", is_alive)
    first = threading.Thread(target=bind, args=("first",))
    first.start()
    assert looked.wait(60)
    bind("second")
    other_is_done.set()
    first.join(60)
    assert "another process serves there. Expected a path for each process" in outcomes["second"]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        outcomes["first"].accept()[0].close()
    outcomes["first"].close()


CONTENDER = """
import sys
from otpylib_telemetry.admin import sockets
print("ready", flush=True)
for path in sys.stdin:
    try:
        mine = sockets.bind_path(path.strip())
        print("serves", flush=True)
    except sockets.UnavailableError as error:
        print(error, flush=True)
"""


def test_of_processes_that_start_at_once_one_serves(path):
    with contextlib.ExitStack() as stack:
        contenders = [
            stack.enter_context(programs.start(["-c", CONTENDER], stdin=subprocess.PIPE)) for _ in range(4)
        ]
        assert {each.stdout.readline() for each in contenders} == {"ready\n"}
        for number in range(20):
            place = f"{path}{number}"
            leave_a_dead_one(place)
            for each in contenders:
                each.stdin.write(f"{place}\n")
                each.stdin.flush()
            told = sorted(each.stdout.readline() for each in contenders)
            assert told.count("serves\n") == 1
            assert sum("another process serves there" in line for line in told) == 3
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(place)
        for each in contenders:
            each.stdin.close()


def test_a_directory_that_somebody_keeps_locked_is_told_of(path, monkeypatch):
    monkeypatch.setattr(sockets, "_TAKING", 0.0)
    lock = os.open(Path(path).parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(sockets.UnavailableError, match="another process holds a lock on its directory"):
        sockets.bind_path(path)
    os.close(lock)
    sockets.bind_path(path).close()


async def test_a_socket_that_was_removed_is_made_again_and_that_is_said(runtime, path, caplog, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.services.server._LOOK", 0.02)
    await admin.start(socket=path)
    Path(path).unlink()
    await eventually(lambda: Path(path).exists())
    await eventually(lambda: admin.stats_now_are(lambda found: found["state"] == "running"))
    assert (await Client(socket=path).get("/healthz")).status == 200
    lost = [each for each in caplog.messages if "was removed" in each]
    assert lost == [f"telemetry_admin: the socket {path} was removed, and is made again"]


async def test_what_is_no_socket_stays(runtime, path, caplog):
    Path(path).write_text("mine")
    found = await admin.start(socket=path)
    assert found["state"] == "degraded"
    assert "there is something else, which stays" in found["reason"]
    assert Path(path).read_text() == "mine"
    assert caplog.text.count("is degraded") == 1
    Path(path).unlink()
    await eventually(lambda: admin.stats_now_are(lambda found: found["state"] == "running"))
    assert (await Client(socket=path).get("/healthz")).status == 200


def test_a_directory_of_others_is_refused(tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(sockets.UnavailableError, match="others may write into its directory"):
        sockets.bind_path(str(open_to_all / "a.sock"))
    open_to_all.chmod(0o1777)
    sockets.bind_path(str(open_to_all / "a.sock")).close()
    with pytest.raises(sockets.UnavailableError, match="its directory cannot be used"):
        sockets.bind_path(str(tmp_path / "none" / "a.sock"))
    with pytest.raises(sockets.UnavailableError, match="at most 103 bytes"):
        sockets.bind_path(str(tmp_path / ("a" * 120)))


async def test_a_port_that_is_taken_degrades_the_service_until_it_is_free(runtime):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = await admin.start(port=port)
        assert found["state"] == "degraded"
        assert f"127.0.0.1:{port}: the port is taken by another program" in found["reason"]
    await eventually(lambda: admin.stats_now_are(lambda found: found["state"] == "running"))
    assert (await Client(port=port).get("/healthz")).status == 200


async def test_what_cannot_be_had_leaves_what_is_served(runtime, path, tmp_path):
    await admin.start(socket=path)
    await change("socket", str(tmp_path / "none" / "a.sock"))
    await eventually(lambda: admin.stats_now_are(lambda found: found["state"] == "degraded"))
    assert (await Client(socket=path).get("/healthz")).status == 200
    other = str(tmp_path / "other.sock")
    await change("socket", other)
    await eventually(lambda: admin.stats_now_are(lambda found: found["state"] == "running"))
    assert (await Client(socket=other).get("/healthz")).status == 200
    assert not Path(path).exists()


async def test_with_neither_a_socket_nor_a_port_it_says_what_to_set(runtime):
    found = await admin.start()
    assert found["state"] == "degraded"
    assert "set telemetry.admin.socket, or telemetry.admin.port" in found["reason"]


async def test_without_aiohttp_it_says_what_to_install(runtime, path, monkeypatch):
    def missing(name):
        raise ImportError("No module named 'aiohttp'")

    monkeypatch.setattr("otpylib_telemetry.admin.server.import_module", missing)
    found = await admin.start(socket=path)
    assert found["state"] == "degraded"
    assert "install otpylib-telemetry[admin]" in found["reason"]


def settings(**values):
    return resolve(AdminSettings, "telemetry.admin", environ={}, config=values, argument={})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "telemetry.example"])
def test_a_port_that_others_can_reach_needs_a_token(host):
    found = settings(enabled=True, port=0, host=host)
    assert found.settings.host == "127.0.0.1"
    assert "there is no telemetry.admin.token" in found.problems[0].message
    assert settings(enabled=True, port=0, host=host, token=TOKEN).settings.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_loopback_needs_none(host):
    assert not settings(enabled=True, port=0, host=host).problems


@pytest.mark.parametrize(
    "token", ["short", "with a blank in it all", "ünicode-token-of-enough", 17, ["x" * 20]]
)
def test_a_token_that_cannot_be_used_leaves_the_port_closed(token):
    found = settings(enabled=True, port=0, token=token)
    assert "port" in found.settings.withheld
    assert str(token) not in found.problems[0].message or token == 17


async def test_a_token_that_cannot_be_used_leaves_the_socket_open_alone(runtime, path):
    await admin.start(socket=path, port=0, token=TOKEN)
    port = (await admin.stats())["port"]
    await change("token", "short")
    await asyncio.sleep(0)
    # What was in force stays in force.
    assert (await Client(port=port).get("/status")).status == 401
    assert (await Client(port=port, token=TOKEN).get("/status")).status == 200
    assert (await Client(socket=path).get("/status")).status == 200


async def test_the_token_opens_the_port_and_the_socket_needs_none(runtime, path):
    found = await admin.start(socket=path, port=0, token=TOKEN)
    port = found["port"]
    assert TOKEN not in str(found)
    refused = await Client(port=port).get("/status")
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.body["where"] == "header: Authorization"
    for wrong in ("", "x", TOKEN[:-1], TOKEN + "x", "ü" * 20):
        assert (await Client(port=port).get("/status", Authorization=f"Bearer {wrong}")).status == 401
    assert (await Client(port=port).get("/status", Authorization=f"Basic {TOKEN}")).status == 401
    assert (await Client(port=port).get("/healthz")).status == 200
    assert (await Client(port=port, token=TOKEN).get("/status")).status == 200
    assert (await Client(socket=path).get("/status")).status == 200
    config = await Client(socket=path).get("/config")
    assert TOKEN not in str(config.body)
    assert config.body["sections"]["admin"]["keys"]["token"]["value"] == "<redacted>"


async def test_another_token_counts_at_once(runtime):
    port = (await admin.start(port=0, token=TOKEN))["port"]
    await change("token", TOKEN[::-1])
    await eventually(lambda: answers(port, TOKEN[::-1], 200))
    assert await answers(port, TOKEN, 401)


async def answers(port, token, status):
    return (await Client(port=port, token=token).get("/status")).status == status


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_pages_of_other_sites_are_refused(runtime, token):
    port = (await admin.start(port=0, token=token))["port"]
    client = Client(port=port, token=token)
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "[",
    ):
        assert (await client.get("/status", Host=host)).status == 421, host
    for host in ("localhost", f"localhost:{port}", "LOCALHOST.", "[::1]", "127.0.0.1", "x.localhost"):
        assert (await client.get("/status", Host=host)).status == 200, host
    assert (await client.get("/status", Origin="https://evil.example")).status == 403
    assert (await client.get("/status", Origin="null")).status == 403
    assert (await client.get("/status", Sec_Fetch_Site="cross-site")).status == 403
    assert (await client.get("/status", Sec_Fetch_Site="same-site")).status == 403
    same = {"Origin": client.base, "Sec_Fetch_Site": "same-origin"}
    assert (await client.get("/status", **same)).status == 200
    for form in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert (await client.ask("POST", "/flush", Content_Type=form)).status == 415
    assert (await client.ask("POST", "/flush", Content_Type="text/plain", X_Telemetry_By="me")).status == 200
    assert (await client.ask("POST", "/flush")).status == 200
    preflight = await client.ask("OPTIONS", "/flush")
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.lower().startswith("access-control")]


async def test_pages_of_other_sites_are_refused_where_somebody_made_a_port_of_the_socket(runtime, path):
    await admin.start(socket=path)
    client = Client(socket=path)
    assert (await client.get("/status", Origin="https://evil.example")).status == 403
    assert (await client.get("/status", Sec_Fetch_Site="cross-site")).status == 403
    # A name that was made to resolve to this machine.
    assert (await client.get("/status", Host="evil.example:9000")).status == 421
    # What clients of a socket put there, and the page itself where it was forwarded.
    for host in ("x", "localhost", "telemetry", "127.0.0.1:9000"):
        assert (await client.get("/status", Host=host)).status == 200, host
    same = {"Host": "localhost:9000", "Origin": "http://localhost:9000", "Sec_Fetch_Site": "same-origin"}
    assert (await client.get("/status", **same)).status == 200


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("kind", ["port", "socket"])
async def test_a_client_that_comes_while_it_is_switched_off_does_not_wait(monkeypatch, path, kind, turns):
    monkeypatch.setattr(server, "_MOVING", 600.0)
    served, loop = server.Server(), asyncio.get_running_loop()
    await served.go_by(AdminSettings(enabled=True, **{kind: 0 if kind == "port" else path}))
    with socket.socket(socket.AF_INET if kind == "port" else socket.AF_UNIX) as client:
        client.connect(("127.0.0.1", served.port) if kind == "port" else path)
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        await loop.create_task(served.go_by(AdminSettings()))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(loop.sock_recv(client, 1), 60) == b""
    await served.stop()


async def test_a_stop_of_the_process_leaves_nothing_open(runtime, path):
    port = (await admin.start(socket=path, port=0))["port"]
    async with Client(socket=path).events() as stream:
        assert (await stream.next())[0] == "open"
        otp.task_of(otp.whereis(NAME)).cancel()
        await eventually(lambda: not Path(path).exists())
        with pytest.raises((EOFError, aiohttp.ClientError)):
            await stream.to_the_end()
    with pytest.raises(aiohttp.ClientConnectorError):
        await Client(port=port).get("/healthz")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12 on: forking with threads is what is tested
def test_a_forked_worker_keeps_nothing_open_that_its_parent_served(path):
    listening = [sockets.bind_path(path), *sockets.bind_port("127.0.0.1", 0, has_token=False)]
    port = listening[-1].getsockname()[1]
    waits, until = os.pipe()
    is_there, there = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(until)
        os.write(there, b".")
        os.read(waits, 1)
        os._exit(0)
    try:
        os.close(waits)
        assert os.read(is_there, 1) == b"."
        for each in listening:
            # It is still the parent's.
            with socket.socket(each.family) as client:
                client.connect(each.getsockname())
            # As the end of the process does it, however it ends.
            each.close()
        again = [sockets.bind_path(path), *sockets.bind_port("127.0.0.1", port, has_token=False)]
    finally:
        for each in (until, is_there, there):
            os.close(each)
        os.waitpid(worker, 0)
    for each in again:
        each.close()
