"""One HTTPS exchange: a POST that follows no redirect, reads no ~/.netrc, and ends at the deadline.

Straight to the service it goes over http.client (direct.py), which a command that ends at once can afford to import,
by a connection that may have been opened before (opening.py); through a proxy over requests (proxied.py), which knows
all that proxies want.
"""

from rolekey.deadline import Deadline
from rolekey.transport.messages import Answer, PermanentTransportError, Post, Route
from rolekey.transport.opening import Opening

__all__ = ["Answer", "Opening", "PermanentTransportError", "Post", "Route", "open_ahead", "send"]


def open_ahead(url: str, route: Route, deadline: Deadline) -> Opening | None:
    """Open a connection in a thread of its own, while there is nothing to send yet.

    Args:
        url: the service's.
        route: TLS and proxy; None is opened where there is a proxy.
        deadline: for opening it.

    Returns:
        What send() takes. What goes wrong is said there; what was opened too long ago is opened anew there.
    """
    return Opening(url, route, deadline) if route.proxy is None else None


def send(request: Post, route: Route, deadline: Deadline, opening: Opening | None = None) -> Answer:
    """Send one POST and read the whole answer.

    Args:
        request: what to send.
        route: TLS and proxy.
        deadline: for resolving, connecting, sending and reading together.
        opening: from open_ahead(), for the same service by the same route; it serves once.

    Raises:
        ConfigurationError: the proxy's URL cannot be used.
        TransportError: no answer. Its text holds no URL, header or proxy, which may hold secrets.
        MalformedResponseError: an answer of more than 1 MiB.
        DeadlineError: the time was over first.
    """
    # Each is slow to import; the connection is being opened meanwhile.
    if route.proxy is None:
        from rolekey.transport.direct import send_directly  # noqa: PLC0415

        return send_directly(request, route, deadline, opening)
    from rolekey.transport.proxied import send_through_proxy  # noqa: PLC0415

    return send_through_proxy(request, route, route.proxy, deadline)
