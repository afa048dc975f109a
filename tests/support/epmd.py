"""Erlang's port mapper: nodes tell it their ports, and ask it for those of others.

https://www.erlang.org/doc/apps/erts/erl_dist_protocol, "EPMD Protocol"
"""

import asyncio
import contextlib
import struct

ALIVE2_REQ, ALIVE2_RESP = 120, 121
PORT2_REQ, PORT2_RESP = 122, 119


@contextlib.asynccontextmanager
async def running_epmd():
    """A port mapper at a free port, which is given."""
    ports = {}

    async def serve(reader, writer):
        name = None
        try:
            while True:
                (length,) = struct.unpack(">H", await reader.readexactly(2))
                request = await reader.readexactly(length)
                if request[0] == ALIVE2_REQ:
                    port, _, _, _, _, size = struct.unpack_from(">HBBHHH", request, 1)
                    name = request[11 : 11 + size].decode()
                    ports[name] = port
                    writer.write(struct.pack(">BBH", ALIVE2_RESP, 0, len(ports)))
                elif request[0] == PORT2_REQ:
                    writer.write(_found(request[1:], ports.get(request[1:].decode())))
                    await writer.drain()
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            # The node has ended.
            ports.pop(name, None)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _found(name, port):
    if port is None:
        return bytes([PORT2_RESP, 1])
    found = struct.pack(">BBHBBHHH", PORT2_RESP, 0, port, 77, 0, 6, 5, len(name))
    return found + name + struct.pack(">H", 0)
