"""Which user is at the other end of a connection on Windows: made-up tables and processes, in Windows' own layout."""

import contextlib
import socket
import struct
import time

import pytest

from rolekey.http_protocol.messages import Connection
from rolekey.vend.windows_peers import ESTABLISHED, TICK, OwnerTables, Process

V4, V6 = socket.AF_INET, socket.AF_INET6
SERVER, CLIENT = ("127.0.0.1", 9911), ("127.0.0.1", 50123)
US, THEM = b"\x01\x05us", b"\x01\x05them"
STARTED, MADE, LATER = 130_000_000_000_000_000, 130_000_000_100_000_000, 130_000_000_200_000_000
OWNER = 4711
FIN_WAIT_2 = 6


def row(local=CLIENT, remote=SERVER, *, state=ESTABLISHED, owner=OWNER, made=MADE):
    """MIB_TCPROW_OWNER_MODULE, or MIB_TCP6ROW_OWNER_MODULE for addresses of IPv6; what is not looked at is not zero."""
    v6 = ":" in local[0]
    ends = b""
    for address, port in (local, remote):
        ends += socket.inet_pton(V6 if v6 else V4, address) + (b"\x05\0\0\0" if v6 else b"")
        ends += port.to_bytes(2, "big") + b"\xab\xcd"
    numbers = (state, owner) if v6 else (owner,)
    head = ends if v6 else struct.pack("<I", state) + ends
    return head + struct.pack(f"<{len(numbers)}IQ", *numbers, made) + b"\xee" * 128


def table(*rows):
    """What GetExtendedTcpTable() gives, in a buffer with room for more."""
    return struct.pack("<II", len(rows), 0xEEEEEEEE) + b"".join(rows) + b"\xee" * 300


class FakeWindows:
    """Has a table of each family and some processes.

    Args:
        v4, v6: the rows.
        users: by a process's number; a process that may not be opened is missing.
        started: when the processes started.
    """

    def __init__(self, v4=(), v6=(), users=None, started=STARTED):
        self.tables = {V4: table(*v4), V6: table(*v6)}
        self.users = {OWNER: US} if users is None else users
        self.started = started
        self.opened = []
        self.held = 0
        self.while_open = lambda: None

    def table(self, family):
        """As System.table()."""
        return self.tables[family]

    @contextlib.contextmanager
    def process(self, number):
        """As System.process(); what happens meanwhile is for a test to say."""
        self.opened.append(number)
        self.held += 1
        self.while_open()
        yield Process(self.users[number], self.started) if number in self.users else None
        self.held -= 1


def user_of(windows, client=CLIENT, server=SERVER):
    """Who is at the client's end, after a look whether every process was closed again."""
    found = OwnerTables(windows)(Connection(server, client))
    assert windows.held == 0
    return found


@pytest.mark.parametrize(
    ("v4", "v6", "client", "server"),
    [
        ([row()], [], CLIENT, SERVER),
        ([], [row(("::1", 50123), ("::1", 9911))], ("::1", 50123), ("::1", 9911)),
        ([], [row(("::ffff:127.0.0.1", 50123), ("::ffff:127.0.0.1", 9911))], CLIENT, SERVER),
    ],
    ids=["IPv4", "IPv6", "IPv4 from IPv6"],
)
def test_the_owner_of_the_clients_end(v4, v6, client, server):
    """The user of the process whose socket it is, whatever family that socket has."""
    windows = FakeWindows(v4, v6)
    assert user_of(windows, client, server) == US
    assert windows.opened == [OWNER]
    assert user_of(FakeWindows(v4, v6, users={OWNER: THEM}), client, server) == THEM


def test_among_others():
    """Others' rows are passed over, whatever their number and order: the server's own end is one of them."""
    others = [
        row(SERVER, CLIENT, owner=1),
        row(("127.0.0.1", 50124), owner=2),
        row(CLIENT, ("127.0.0.1", 9912), owner=3),
        row(("127.0.0.2", 50123), owner=4),
        row(CLIENT, ("127.0.0.2", 9911), owner=5),
        row(state=FIN_WAIT_2, owner=6),
        # 50123 and 9911 with their bytes the other way round.
        row(("127.0.0.1", 0xCBC3), ("127.0.0.1", 0xB726), owner=7),
    ]
    for at in range(len(others) + 1):
        windows = FakeWindows([*others[:at], row(), *others[at:]])
        assert user_of(windows) == US
        assert windows.opened == [OWNER]
    alone = FakeWindows(others, users=dict.fromkeys(range(8), US))
    assert user_of(alone) is None
    assert alone.opened == []


@pytest.mark.parametrize("state", [state for state in range(13) if state != ESTABLISHED])
def test_other_states(state):
    """A socket that listens, closes or waits is not the client's end of a connection."""
    assert user_of(FakeWindows([row(state=state)])) is None


def test_a_listening_socket_is_no_client():
    """Nor is one that has the client's address, and any for the other end."""
    assert user_of(FakeWindows([row(CLIENT, ("0.0.0.0", 0)), row(CLIENT, ("0.0.0.0", 0), state=2)])) is None


def test_two_rows_for_one_connection():
    """What the tables say twice is not believed, even if both rows name one process."""
    mapped = row(("::ffff:127.0.0.1", 50123), ("::ffff:127.0.0.1", 9911))
    assert user_of(FakeWindows([row(), row(owner=1)])) is None
    assert user_of(FakeWindows([row()], [mapped])) is None


def test_nobody_s_socket():
    """A process without a number is none; one that may not be looked at is somebody else's."""
    nobody = FakeWindows([row(owner=0)], users={0: US})
    assert user_of(nobody) is None
    assert nobody.opened == []
    assert user_of(FakeWindows([row()], users={})) is None


@pytest.mark.parametrize(
    "after",
    [[], [row(owner=1)], [row(state=FIN_WAIT_2)], [row(made=LATER)], [row(), row()]],
    ids=["gone", "another owner", "closing", "made anew", "twice"],
)
def test_the_tables_after_the_process_was_opened(after):
    """They have to say the same again: its number may have been another process's when they were first read."""
    windows = FakeWindows([row()], users={OWNER: US, 1: US})
    windows.while_open = lambda: windows.tables.update({V4: table(*after)})
    assert user_of(windows) is None
    assert windows.opened == [OWNER]


def test_a_process_that_is_younger_than_the_connection():
    """Its number was another process's, which left its socket to somebody: whose that is, the tables do not tell."""
    for started, user in ((MADE, US), (MADE + TICK, US), (MADE + TICK + 1, None), (LATER, None)):
        assert user_of(FakeWindows([row()], started=started)) == user


def test_connections_without_a_time():
    """Where the tables do not tell when it was made, it is not younger than its acceptance."""
    now = int((time.time() + 11_644_473_600) * 10_000_000)
    minute = 60 * 10_000_000
    for started, user in ((now - minute, US), (now + minute, None)):
        assert user_of(FakeWindows([row(made=0)], started=started)) == user


@pytest.mark.parametrize("length", [0, 4, 8, 100, 167])
def test_a_table_that_is_not_whole(length):
    """Nothing of it is believed."""
    windows = FakeWindows()
    windows.tables[V4] = table(row())[:length]
    assert user_of(windows) is None
    windows.tables[V4] = table(row())[:168]
    assert user_of(windows) == US


@pytest.mark.parametrize("address", ["", "localhost", "fe80::1%3", "1.2.3"])
def test_no_address(address):
    """An end that is no plain address cannot be told."""
    assert user_of(FakeWindows([row()]), client=(address, 50123)) is None
