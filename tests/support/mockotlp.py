"""A receiver of other people's making, in another language: Elastic's mockotlpserver, on node.

It is installed from npm on first use, into a directory for temporary files that later runs find again. Every
request it got is one line of JSON, with what its decoder made of each field and nothing interpreted.
"""

import json

from tests.support import npm, peers
from tests.support.waiting import wait_until

VERSION = "0.10.0"
PACKAGE = "@elastic/mockotlpserver"

# 64-bit integers as decimal text, bytes as hexadecimal, numbers that JSON lacks as text; all else as it is.
DRIVER = """
const {MockOtlpServer} = require('@elastic/mockotlpserver');
const plain = (value) => {
    if (value === null || value === undefined) return null;
    if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
    if (typeof value !== 'object') return value;
    if (value instanceof Uint8Array) return {hex: Buffer.from(value).toString('hex')};
    if ('low' in value && 'high' in value && 'unsigned' in value) {
        const bits = (BigInt(value.high >>> 0) << 32n) | BigInt(value.low >>> 0);
        return {int: (value.unsigned ? bits : BigInt.asIntN(64, bits)).toString()};
    }
    if (Array.isArray(value)) return value.map(plain);
    return Object.fromEntries(Object.keys(value).map((key) => [key, plain(value[key])]));
};
const say = (what) => process.stdout.write(JSON.stringify(what) + '\\n');
const server = new MockOtlpServer({
    logLevel: 'fatal', services: ['http', 'grpc'],
    httpHostname: '127.0.0.1', httpPort: 0, grpcHostname: '127.0.0.1', grpcPort: 0,
    onTrace: (request) => say({traces: plain(request)}),
    onLogs: (request) => say({logs: plain(request)}),
});
server.start().then(
    () => say({listening: {http: String(server.httpUrl), grpc: String(server.grpcUrl)}}),
    (error) => { process.stderr.write(String(error)); process.exit(1); },
);
"""


class SecondReceiver:
    """Export to ``grpc_endpoint`` or ``http_endpoint``, uncompressed; it cannot decompress over HTTP."""

    def __init__(self, directory):
        where, node = npm.find(f"mockotlpserver-{VERSION}", f"{PACKAGE}@{VERSION}")
        self.output = directory / "second_receiver.jsonl"
        self._process = peers.PeerProcess(
            [node, "-e", DRIVER], self.output, {"NODE_PATH": where / "node_modules"}
        )
        self.grpc_endpoint = self.http_endpoint = ""

    def start(self):
        self._process.start()
        listening = wait_until(self._listening, 20, "the second receiver listens")
        self.grpc_endpoint = listening["grpc"].rstrip("/")
        self.http_endpoint = listening["http"].rstrip("/")

    def _listening(self):
        self._process.must_run()
        return next(iter(self._lines("listening")), None)

    def _lines(self, kind):
        text = self.output.read_text(encoding="utf-8")
        # What comes after the last end of line is still being written.
        lines = [json.loads(line) for line in text.split("\n")[:-1] if line]
        return [line[kind] for line in lines if kind in line]

    @property
    def spans(self):
        """Each as (resource, scope, span)."""
        return _flat(self._lines("traces"), "resourceSpans", "scopeSpans", "spans")

    @property
    def records(self):
        """Each as (resource, scope, record)."""
        return _flat(self._lines("logs"), "resourceLogs", "scopeLogs", "logRecords")

    def close(self):
        self._process.stop()


def _flat(requests, groups, scopes, items):
    return [
        (
            attributes_of(group["resource"]),
            (scoped["scope"].get("name", ""), scoped["scope"].get("version", "")),
            item,
        )
        for request in requests
        for group in request[groups]
        for scoped in group[scopes]
        for item in scoped[items]
    ]


def number(value):
    """A 64-bit integer; what is absent is 0."""
    return 0 if value is None else int(value["int"])


def identity(value):
    """An id as an integer; what is absent or empty is 0."""
    return int(value["hex"], 16) if value and value["hex"] else 0


def value_of(value):
    """What an AnyValue says."""
    if not value:
        return None
    ((kind, said),) = value.items()
    return _READ.get(kind, lambda as_it_is: as_it_is)(said)


_READ = {
    "intValue": lambda said: int(said["int"]),
    "doubleValue": float,
    "arrayValue": lambda said: tuple(value_of(element) for element in said.get("values", ())),
    "kvlistValue": lambda said: {pair["key"]: value_of(pair.get("value")) for pair in said.get("values", ())},
    "bytesValue": lambda said: bytes.fromhex(said["hex"]),
}


def attributes_of(holder):
    return {pair["key"]: value_of(pair["value"]) for pair in holder.get("attributes", ())}
