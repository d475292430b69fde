"""Which user is at the other end of a loopback connection, asked of the real kernel."""

import contextlib
import os
import socket
import struct
import sys

import pytest

from rolekey.http_protocol.addresses import bind
from rolekey.http_protocol.messages import Connection
from rolekey.vend import linux_peers
from rolekey.vend.linux_peers import ProcNet, ask_sock_diag
from rolekey.vend.peers import PeerCheck, check_for_own_user

WAYS = [lambda: ask_sock_diag, ProcNet]
# The family of the client's socket, the address that it asks for, and the listener's.
ROUTES = [
    (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
    (socket.AF_INET, "127.1.2.3", "127.1.2.3"),
    (socket.AF_INET6, "::1", "::1"),
    (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),  # Java's way
]


@contextlib.contextmanager
def connected(family=socket.AF_INET, to="127.0.0.1", host="127.0.0.1"):
    """The client's socket, and the connection as the server has it."""
    with bind(host, 0) as listener, socket.socket(family) as client:
        client.connect((to, listener.getsockname()[1]))
        accepted, _ = listener.accept()
        with accepted:
            yield client, Connection(accepted.getsockname()[:2], accepted.getpeername()[:2])


@pytest.mark.parametrize("way", WAYS, ids=["sock_diag", "proc"])
@pytest.mark.parametrize(("family", "to", "host"), ROUTES)
def test_our_own_connections(way, family, to, host):
    """Both ways find this user, over IPv4, IPv6, and IPv4 from a socket of IPv6."""
    with connected(family, to, host) as (_, connection):
        assert way()(connection) == os.geteuid()


@pytest.mark.parametrize("way", WAYS, ids=["sock_diag", "proc"])
def test_a_client_that_has_gone_cannot_be_told(way):
    """The kernel gives the socket of a process that closed it to root: nobody is taken for root for that."""
    with connected() as (client, connection):
        client.close()
        assert way()(connection) is None


@pytest.mark.parametrize("way", WAYS, ids=["sock_diag", "proc"])
def test_a_client_that_has_said_all_is_still_known(way):
    """A client may close its half of the connection before it is asked for."""
    with connected() as (client, connection):
        client.shutdown(socket.SHUT_WR)
        assert way()(connection) == os.geteuid()


@pytest.mark.parametrize("way", WAYS, ids=["sock_diag", "proc"])
def test_a_connection_that_is_none_cannot_be_told(way):
    """Nor one whose ends are the wrong way round, if only the server's has them."""
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert way()(Connection(("127.0.0.1", port), ("127.0.0.1", 1))) is None


def test_tables_are_not_older_than_the_connection():
    """What was read before a connection came is about others that had its addresses; later it serves for many."""
    lookup = ProcNet()
    with connected() as (_, first):
        assert lookup(first) == os.geteuid()
        read = lookup._read
        assert lookup(first) == os.geteuid()
        assert lookup._read == read
        lookup._users = dict.fromkeys(lookup._users, 4242)
        with connected() as (_, second):
            assert lookup(second) == os.geteuid()
        assert lookup._read > read


def test_each_connection_is_asked_for_once():
    """And who cannot be told is refused."""
    asked = []

    def lookup(connection):
        asked.append(connection)
        return users[connection]

    right, wrong, unknown = (Connection(("127.0.0.1", 1), ("127.0.0.1", port)) for port in (2, 3, 4))
    users = {right: 7, wrong: 8, unknown: None}
    check = PeerCheck(lookup, 7)
    for _ in range(3):
        assert [check.admits(found) for found in (right, wrong, unknown)] == [True, False, False]
    assert asked == [right, wrong, unknown]


def test_the_check_for_this_user():
    """A process of this user is admitted; with another user's number the same connection is not."""
    check = check_for_own_user()
    with connected() as (_, connection):
        assert check.admits(connection)
    with connected() as (_, connection):
        assert not PeerCheck(check._lookup, os.geteuid() + 1).admits(connection)


def test_the_tables_are_read_where_the_kernel_answers_nothing(monkeypatch):
    """Without sock_diag the tables serve."""
    monkeypatch.setattr(linux_peers, "_NETLINK_SOCK_DIAG", 31)  # no such protocol
    assert isinstance(check_for_own_user()._lookup, ProcNet)


def test_systems_that_do_not_tell(monkeypatch, tmp_path):
    """Without either there is no check, and nothing passes for one."""
    monkeypatch.setattr(linux_peers, "_NETLINK_SOCK_DIAG", 31)
    monkeypatch.setattr(linux_peers, "_PROC_FILES", (tmp_path / "none",))
    assert check_for_own_user() is None


@pytest.mark.parametrize("system", ["darwin", "freebsd14"])
def test_other_systems(monkeypatch, system):
    """Nor is there one on a system that nobody here has tried."""
    monkeypatch.setattr(sys, "platform", system)
    assert check_for_own_user() is None


def test_a_number_that_stands_for_many_is_no_user(monkeypatch, tmp_path):
    """In a user namespace one number stands for all who have none there: whoever has that number cannot check."""
    (tmp_path / "overflow").write_text(f"{os.geteuid()}\n")
    (tmp_path / "part").write_text("         0     100000      65536\n")
    (tmp_path / "all").write_text("         0          0 4294967295\n")
    monkeypatch.setattr(linux_peers, "_OVERFLOW_USER", tmp_path / "overflow")
    monkeypatch.setattr(linux_peers, "_USER_MAP", tmp_path / "all")
    assert check_for_own_user() is not None
    monkeypatch.setattr(linux_peers, "_USER_MAP", tmp_path / "part")
    assert check_for_own_user() is None


def test_the_kernels_structures():
    """Their sizes are those of <linux/inet_diag.h>."""
    assert struct.calcsize("=BBBBI") + linux_peers._ADDRESSES.size + 4 + 8 == 56
    assert linux_peers._ANSWER.size == 72
