"""A node of Erlang's gets what an instrumented one sends, and does not mind the context that rides along."""

import re
from pathlib import Path

from otpylib import distribution
from otpylib.atom import ensure
from otpylib.runtime.backends.asyncio_backend import epmd
from otpylib.runtime.backends.asyncio_backend.distribution import AsyncIODistribution
from otpylib.runtime.backends.base import Pid

from otpylib_telemetry import extract, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from tests.support.actors import Heard
from tests.support.epmd import running_epmd
from tests.support.peers import PeerProcess, find_program
from tests.support.waiting import eventually

NODE = "erl@127.0.0.1"
#: Says what it gets, and its own number where it is asked for that.
PROGRAM = """
    register(echo, self()),
    io:format("ready~n"),
    Creation = fun(T) -> binary:decode_unsigned(binary:part(T, byte_size(T), -4)) end,
    (fun L() ->
        receive
            number -> io:format("number ~p ~p~n", [self(), Creation(term_to_binary(self()))]), L();
            Got -> io:format("got ~p~n", [Got]), L()
        end
    end)().
"""
OUTER = {
    "traceparent": f"00-{5:032x}-{6:016x}-01",
    "tracestate": "shop=7",
    "baggage": "customer=ann,more=" + 4000 * "y",
}


async def test_erlang_skips_the_context(runtime, tmp_path, monkeypatch):
    erl = find_program("erl", "the Debian package erlang-base")
    log = Path(tmp_path / "erl")
    Heard("*")
    OtpylibInstrumentor().instrument()
    async with running_epmd() as port:
        monkeypatch.setattr(epmd, "EPMD_PORT", port)
        options = ["-name", NODE, "-setcookie", "secret", "-start_epmd", "false", "-noshell"]
        node = PeerProcess(
            [erl, *options, "-eval", PROGRAM], log, {"ERL_EPMD_PORT": str(port), "HOME": str(tmp_path)}
        )
        ours = AsyncIODistribution(runtime, "py@127.0.0.1", "secret")
        try:
            node.start()
            await eventually(lambda: node.must_run() or "ready\n" in log.read_text())
            await ours.start()
            distribution.use_distribution(ours)
            with extract(OUTER), span("asking"):
                await distribution.send(NODE, "echo", (ensure("by_name"), 1))
                await distribution.send(NODE, "echo", ensure("number"))
                await eventually(lambda: "number" in log.read_text())
                number = re.search(r"number <0\.(\d+)\.(\d+)> (\d+)", log.read_text())
                await runtime.send(Pid(ensure(NODE), *map(int, number.groups())), (ensure("by_number"), 2))
            await runtime.send(("echo", NODE), ensure("last"))
            await eventually(lambda: "got last\n" in log.read_text())
            said = [line for line in log.read_text().splitlines() if line.startswith("got ")]
            assert said == ["got {by_name,1}", "got {by_number,2}", "got last"]
        finally:
            OtpylibInstrumentor().uninstrument()
            table.remove("heard")
            distribution.use_distribution(None)
            ours.node.close()
            node.stop()
