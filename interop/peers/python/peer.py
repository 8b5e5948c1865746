"""Drives PyPI kcp through the exchange described in ../README.md.

Commands on stdin, one event per line on stdout. The package's own
KCPServerAsync and KCPClientSync do the networking; what is changed about them,
and why, is said at the two subclasses.
"""

import argparse
import asyncio
import hashlib
import os
import socket
import struct
import sys
import threading

from kcp import KCPClientSync, KCPServerAsync

WINDOW = 256
INTERVAL_MS = 10
MAGIC = b"KCPX"
WELCOME = b"GOOD"
RECEIPT = b"DONE"


def event(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def content(seed, length):
    """SHA-256 in counter mode: the same bytes in every language."""
    sha256, pack = hashlib.sha256, struct.Struct("<II").pack
    blocks = (sha256(pack(seed & 0xFFFFFFFF, i)).digest() for i in range(-(-length // 32)))
    return b"".join(blocks)[:length]


class Plan:
    """What every exchange of this process sends and expects."""

    def __init__(self, args):
        self.stream = args.mode == "stream"
        self.send = [int(n) for n in args.send.split(",")]
        self.expect = [int(n) for n in args.expect.split(",")]
        self.up = content(args.seed, args.bytes)
        self.down = content(args.seed + 1, args.bytes)

    @staticmethod
    def pieces(sizes, data):
        offset = i = 0
        while offset < len(data):
            piece = data[offset : offset + sizes[i % len(sizes)]]
            yield offset, piece
            offset += len(piece)
            i += 1

    def send_content(self, send, data):
        for _, piece in self.pieces(self.send, data):
            send(piece)

    def take_content(self, want):
        """A generator: yields the sizes it needs, returns the digest of what came."""
        digest = hashlib.sha256()
        for offset, piece in self.pieces(self.expect, want):
            got = yield len(piece)
            if got != piece:
                raise ValueError(f"content differs in bytes {offset}..{offset + len(piece)}")
            digest.update(got)
        return digest.digest()

    def take_receipt(self, sent):
        got = yield len(RECEIPT) + 32
        if got != RECEIPT + hashlib.sha256(sent).digest():
            raise ValueError(f"bad receipt {got.hex()}")

    def request(self, send, length):
        """The client's side of one exchange."""
        send(MAGIC + struct.pack("<I", length))
        welcome = yield len(WELCOME)
        if welcome != WELCOME:
            raise ValueError(f"bad welcome {welcome.hex()}")
        self.send_content(send, self.up[:length])
        got = yield from self.take_content(self.down[:length])
        send(RECEIPT + got)
        yield from self.take_receipt(self.up[:length])

    def serve(self, send):
        """The server's side of one exchange."""
        header = yield 8
        length = struct.unpack("<I", header[4:])[0]
        if header[:4] != MAGIC or length > len(self.up):
            raise ValueError(f"bad header {header.hex()}")
        send(WELCOME)
        got = yield from self.take_content(self.up[:length])
        self.send_content(send, self.down[:length])
        yield from self.take_receipt(self.down[:length])
        send(RECEIPT + got)


class Exchange:
    """Feeds received messages (or bytes) to one side of an exchange."""

    def __init__(self, number, stream, script):
        self.number, self.stream, self.script = number, stream, script
        self.pending = bytearray()
        self.wanted = None
        self.done = False

    def start(self):
        self._advance(None)

    def feed(self, data):
        if self.done:
            return
        if not self.stream and len(data) != self.wanted:
            return self._fail(f"message of {len(data)} bytes, expected {self.wanted}")
        self.pending += data
        while not self.done and len(self.pending) >= self.wanted:
            piece = bytes(self.pending[: self.wanted])
            del self.pending[: self.wanted]
            self._advance(piece)

    def _advance(self, piece):
        try:
            self.wanted = self.script.send(piece)
        except StopIteration:
            self.done = True
            event(f"ok {self.number}")
        except Exception as error:
            self._fail(error)

    def _fail(self, error):
        self.done = True
        event(f"failed {self.number} {error!r}")


def enlarge_buffers(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)


class Server(KCPServerAsync):
    """The package's server, counting the connections that it makes."""

    def __init__(self, plan, conv):
        super().__init__(
            "127.0.0.1",
            0,
            conv,
            delay=INTERVAL_MS,
            no_delay=True,
            no_congestion_control=True,
            resend_count=2,
            receive_window_size=WINDOW,
            send_window_size=WINDOW,
        )
        self.plan = plan
        self.created = 0
        self.exchanges = {}
        self.on_data(self.handle)
        self.on_start(self.announce)

    async def announce(self):
        enlarge_buffers(self._transport.get_extra_info("socket"))
        event("listening %s:%d" % self._transport.get_extra_info("sockname"))

    def _ensure_connection(self, address):
        known = address in self._connections
        connection = super()._ensure_connection(address)
        if not known:
            self.created += 1
            exchange = Exchange(self.created, self.plan.stream, self.plan.serve(connection.enqueue))
            self.exchanges[address] = exchange
            event(f"accepted {self.created}")
            exchange.start()
        return connection

    async def handle(self, connection, data):
        exchange = self.exchanges.get(connection.address_tuple)
        if exchange is not None:
            exchange.feed(data)

    def command(self, words):
        if words[0] == "close":
            self._connections.clear()
            self.exchanges.clear()
            event("closed")
        elif words[0] == "sessions":
            event(f"sessions {self.created} {len(self._connections)}")


class Client(KCPClientSync):
    """The package's client with its two threads kept apart.

    update() and receive() call into one C object from two threads, and the
    output callback gives up the interpreter lock in the middle of a flush: the
    receiving thread then frees segments that the flush is walking over.
    """

    def __init__(self, address, conv):
        host, port = address.rsplit(":", 1)
        self.lock = threading.RLock()
        super().__init__(
            host,
            int(port),
            conv,
            no_delay=True,
            update_interval=INTERVAL_MS,
            resend_count=2,
            no_congestion_control=True,
            receive_window_size=WINDOW,
            send_window_size=WINDOW,
        )
        enlarge_buffers(self._sock)
        self.stopped = False
        self.ended = None

    def send(self, data):
        with self.lock:
            super().send(data)

    def _receive(self, data):
        if self.stopped:
            return
        with self.lock:
            super()._receive(data)

    def receive_loop(self):
        try:
            super().receive_loop()
        except BaseException as error:
            self.ended = repr(error)
            raise

    def update_loop(self):
        tick = threading.Event()
        while not self.stopped:
            with self.lock:
                self._kcp.update()
                wait = self._kcp.update_check() / 1000
            tick.wait(max(wait, 0.001))


class Clients:
    """The client sessions of this process, for the commands."""

    def __init__(self, plan):
        self.plan = plan
        self.created = 0
        self.live = []

    def command(self, words):
        if words[0] == "connect":
            self.connect(words[1], int(words[2]), int(words[3]))
        elif words[0] == "close":
            for client in self.live:
                client.stopped = True
            self.live.clear()
            event("closed")
        elif words[0] == "sessions":
            for client in self.live:
                if client.ended is not None:
                    event(f"failed 0 the receive thread ended: {client.ended}")
            event(f"sessions {self.created} {len(self.live)}")

    def connect(self, address, conv, length):
        client = Client(address, conv)
        self.created += 1
        self.live.append(client)
        exchange = Exchange(self.created, self.plan.stream, self.plan.request(client.send, length))
        client.on_data(exchange.feed)

        def begin():
            # Held, so that the answer finds the script waiting for it.
            with client.lock:
                exchange.start()

        client.on_start(begin)
        threading.Thread(target=client.start, daemon=True).start()


def read_commands(handle):
    for line in sys.stdin:
        words = line.split()
        if words and words[0] == "quit":
            break
        if words:
            handle(words)
    # Daemon threads are inside C code: leave without tearing them down.
    sys.stdout.flush()
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["server", "client"])
    parser.add_argument("--mode", choices=["message", "stream"])
    parser.add_argument("--conv", type=int, default=0)
    parser.add_argument("--send")
    parser.add_argument("--expect")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--bytes", type=int)
    args = parser.parse_args()
    plan = Plan(args)
    if args.role == "client":
        read_commands(Clients(plan).command)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server = Server(plan, args.conv)
    handle = lambda words: loop.call_soon_threadsafe(server.command, words)
    threading.Thread(target=read_commands, args=(handle,), daemon=True).start()
    server.start()


main()
