"""The delay of support/delaying_proxy.py, by a clock that a test sets; what goes through, by the real one."""

import contextlib
import os
import queue
import socket
import threading

import pytest

from support.delaying_proxy import Clock, DelayingProxy
from support.listener import Listener

PATIENCE = 20  # seconds after which a test that hangs fails


class SetClock(Clock):
    """Stands still until it is set."""

    def __init__(self):
        self._now = 0.0
        self._waiting = []
        self._asked = 0
        self._changed = threading.Condition()

    def now(self):
        with self._changed:
            self._asked += 1
            self._changed.notify_all()
            return self._now

    def wait_until(self, moment):
        with self._changed:
            self._waiting.append(moment)
            self._changed.notify_all()
            self._until(lambda: self._now >= moment)
            self._waiting.remove(moment)

    def asked(self):
        """How often the time was asked for."""
        with self._changed:
            return self._asked

    def wait_for_question(self, asked):
        """Return once the time was asked for more often than that."""
        with self._changed:
            self._until(lambda: self._asked > asked)

    def set(self, moment):
        with self._changed:
            self._now = moment
            self._changed.notify_all()

    def go_on(self):
        """Go to the first moment that is waited for, and return it."""
        with self._changed:
            self._until(lambda: any(moment > self._now for moment in self._waiting))
            self._now = min(moment for moment in self._waiting if moment > self._now)
            self._changed.notify_all()
            return self._now

    def _until(self, condition):
        assert self._changed.wait_for(condition, PATIENCE)


class Server(Listener):
    """Does with each connection what a function does."""

    def __init__(self, conversation):
        super().__init__("127.0.0.1")
        self._conversation = conversation

    def serve(self, connection, number):  # noqa: ARG002 - the base class's signature
        self._conversation(connection)


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def answer_at_the_end(connection):
    received = read_all(connection)
    connection.sendall(b"received: " + received)


def list_arrivals(connection, arrived):
    while data := connection.recv(65536):
        arrived.put(data)


def read_all(connection):
    return b"".join(iter(lambda: connection.recv(65536), b""))


@contextlib.contextmanager
def connected(conversation, round_trip, clock=None):
    with Server(conversation) as server, DelayingProxy(server.port, round_trip, clock) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
            yield client
        if clock is not None:
            clock.set(float("inf"))


def test_what_an_exchange_takes():
    """The first exchange takes two round trips, one of them for the connection, and the next takes one."""
    clock = SetClock()
    with connected(echo, 10, clock) as client:
        client.sendall(b"first")
        assert [clock.go_on(), clock.go_on()] == [15, 20]
        assert client.recv(100) == b"first"
        client.sendall(b"second")
        assert [clock.go_on(), clock.go_on()] == [25, 30]
        assert client.recv(100) == b"second"


def test_chunks_travel_side_by_side():
    """A chunk that is sent while another is under way does not wait for it: each arrives half a round trip after it was
    sent.
    """
    clock, arrived = SetClock(), queue.Queue()
    with connected(lambda connection: list_arrivals(connection, arrived), 10, clock) as client:
        clock.wait_for_question(0)  # the connection has been accepted
        for moment, data in ((30, b"one"), (32, b"two")):
            clock.set(moment)
            asked = clock.asked()
            client.sendall(data)
            clock.wait_for_question(asked)  # it is under way, and knows when it is due
        assert arrived.empty()
        assert (clock.go_on(), arrived.get(timeout=PATIENCE)) == (35, b"one")
        assert (clock.go_on(), arrived.get(timeout=PATIENCE)) == (37, b"two")


@pytest.mark.parametrize("round_trip", [0, 0.002])
def test_everything_comes_through(round_trip):
    """Two megabytes arrive at the server and come back in their order."""
    data = os.urandom(2_000_000)
    with connected(echo, round_trip) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        received = read_all(client)
        sender.join()
    assert received == data


def test_half_closed():
    """A client that has said everything still gets the answer."""
    with connected(answer_at_the_end, 0.002) as client:
        client.sendall(b"all there is")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"received: all there is"


def test_many_at_once():
    """Connections have nothing to do with each other: each gets its own answer, also the first one after the others."""
    with Server(echo) as server, DelayingProxy(server.port, 0.002) as proxy, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE))
            for _ in range(10)
        ]
        for number, client in reversed(list(enumerate(clients))):
            client.sendall(b"%d" % number)
        assert [client.recv(100) for client in clients] == [b"%d" % number for number in range(10)]


def test_no_server():
    """Where no server listens, the connection ends without an answer."""
    server = Server(echo)
    server.close()
    with (
        DelayingProxy(server.port, 0) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client,
        contextlib.suppress(ConnectionResetError),
    ):
        assert client.recv(100) == b""
