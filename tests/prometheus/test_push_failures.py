"""Why a Pushgateway was not reached is said in words of ours, whatever aiohttp's are."""

import asyncio
import contextlib
import errno
import socket
import ssl

import aiohttp
import pytest

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_prometheus.push_failures import failure_words
from tests.support.certificates import Authority


async def told(url):
    """What is said when a push to a URL fails."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises((OSError, aiohttp.ClientError)) as caught:
            await session.put(url, data=b"")
    return failure_words(caught.value, url)


@contextlib.asynccontextmanager
async def server(answer, **how):
    """Something that answers so to whatever it is asked; its port."""
    serving = set()

    async def serve(reader, writer):
        serving.add(asyncio.current_task())
        # Whoever leaves while the answer is written has had enough of it.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, **how)
    async with listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.gather(*serving)


async def test_nothing_listens():
    port = free_port()
    assert await told(f"http://127.0.0.1:{port}/metrics") == f"127.0.0.1:{port}: Connection refused"


async def test_the_connection_is_closed_at_once():
    async with server(b"") as port:
        words = await told(f"http://127.0.0.1:{port}/metrics")
    assert words == f"127.0.0.1:{port}: the connection was closed before an answer came"


async def test_something_else_answers():
    async with server(b"SSH-2.0-hello\r\n\r\n") as port:
        words = await told(f"http://127.0.0.1:{port}/metrics")
    assert words == f"127.0.0.1:{port}: what answers there does not speak HTTP"


async def test_tls_meets_a_port_without():
    async with server(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        words = await told(f"https://127.0.0.1:{port}/metrics")
    assert words.startswith(f"127.0.0.1:{port}: ")
    assert "ssl:" not in words
    assert "_ssl.c" not in words


async def test_an_authority_that_nobody_knows(tmp_path):
    issued = Authority(tmp_path).issue()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(issued.certificate, issued.key)
    async with server(b"", ssl=context) as port:
        words = await told(f"https://127.0.0.1:{port}/metrics")
    assert words.startswith(f"127.0.0.1:{port}: the server's certificate is not accepted: ")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name unknown"), "the host cannot be found: Name unknown"),
        (ConnectionResetError(errno.ECONNRESET, "whatever asyncio says"), "Connection reset by peer"),
        (OSError(errno.EHOSTUNREACH, "x"), "No route to host"),
        (ssl.SSLError(), "TLS fails: the handshake is broken off"),
        (aiohttp.ClientPayloadError(), "the answer was cut short"),
        (ConnectionError("in words of somebody's"), "ConnectionError: in words of somebody's"),
    ],
)
def test_each_kind_has_words(error, expected):
    assert failure_words(error, "http://gateway:9091/metrics") == f"gateway:9091: {expected}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://gateway/", "gateway:80"), ("https://gateway/", "gateway:443"), ("http://[::1]:9/", "[::1]:9")],
)
def test_the_port_is_told_also_where_it_is_the_usual_one(url, expected):
    assert failure_words(aiohttp.ClientPayloadError(), url).startswith(f"{expected}: ")
