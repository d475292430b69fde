"""A key that a certificate store leads to: whether Windows finds it, and what its provider says. Nobody is asked."""

from collections.abc import Iterator

from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, known, ok
from rolekey.exportability import verdict
from rolekey.keys.inspect import kind_of


def check_key_in_store(context: Context) -> Iterator[Verdict]:
    """The key of the certificate; where its smart card is not in, only --sign says whether it signs."""
    reference = context.facts.key.store if context.facts.key is not None else None
    if reference is None:
        return
    known(context.facts.certificate, "the certificate")
    from rolekey.certstore.identity import closed_on_failure, open_key  # noqa: PLC0415 - for a key in a store only
    from rolekey.certstore.signer import check_kind  # noqa: PLC0415 - as above
    from rolekey.certstore.store import find_certificate  # noqa: PLC0415 - as above

    deadline = context.deadline()
    stored = deadline.run("the certificate store", lambda: find_certificate(reference))
    with closed_on_failure(stored):
        public_key = stored.certificate.public_key()
        check_kind(public_key, stored.key_text)
        key = open_key(stored, deadline, quiet=True)
        try:
            attributes, provider = key.attributes, key.provider
        finally:
            key.close()
    stored.close()
    context.admit(stored.key_text, attributes)
    yield ok(f"{stored.key_text}: {kind_of(public_key)}, {provider}; {verdict(attributes)}")
