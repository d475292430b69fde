"""What `rolekey key list` shows, whatever keeps the keys."""

from rolekey.value import Value


class Row(Value):
    """A key or certificate.

    Args:
        uri: selects it; it names the module, too.
        what: its type and certificate.
        use: ``usable, 42 days left``, or why not.
    """

    uri: str
    what: str
    use: str


class Listing(Value):
    """What one token, module or TPM shows.

    Args:
        title: what it is.
        rows: its keys and certificates.
        note: what is not shown and why, or nothing.
    """

    title: str
    rows: tuple[Row, ...] = ()
    note: str = ""
