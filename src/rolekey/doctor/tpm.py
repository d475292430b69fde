"""A key in a TPM: whether the TPM answers, knows the key, and takes passwords. No password is sent."""

from collections.abc import Iterator

from rolekey.certificates import spki
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Verdict, failed, ok
from rolekey.doctor.key_file import content_of_key_file
from rolekey.exportability import verdict
from rolekey.identity import mismatch
from rolekey.keys.inspect import kind_of
from rolekey.pins import record_directories
from rolekey.signers.tpm_key import read_key_file, tpm_library
from rolekey.tpm_handle import TPMHandle
from rolekey.tss2_key import HIERARCHIES, is_tss2


def check_tpm_key(context: Context) -> Iterator[Verdict]:
    """The TPM and the key in it."""
    settings = context.facts.key
    if settings is None:
        return
    handle = settings.private_key
    found = None if isinstance(handle, TPMHandle) else content_of_key_file(context)
    if not isinstance(handle, TPMHandle) and (found is None or not is_tss2(found[1])):
        return
    with tpm_library():
        from rolekey.signers.tpm_connection import TPM  # noqa: PLC0415 - an extra
        from rolekey.signers.tpm_objects import read_public  # noqa: PLC0415 - as above
        from rolekey.tpm_identity import area_of_handle, find_tpm  # noqa: PLC0415 - as above
        from rolekey.tpm_login import name_of_area  # noqa: PLC0415 - as above
        from rolekey.tpm_passwords import check_lockout  # noqa: PLC0415 - as above

    device = find_tpm(settings, context.deadline(), record_directories(context.environment))
    file = None
    if isinstance(handle, TPMHandle):
        text, area = area_of_handle(device, handle)
    elif found is not None:
        key = read_key_file(*found)
        text, area, file = key.text, key.area, key.file
        if file is not None and file.parent not in HIERARCHIES:
            parent = file.parent
            device.run(text, lambda tpm: read_public(tpm, parent, f"the parent {parent:#x} of {text}"))
    lockout = device.run("the TPM", TPM.lockout)
    area.check_can_sign(text)
    leaf = context.facts.certificate
    if leaf is not None and spki(area.public_key) != spki(leaf.public_key()):
        raise mismatch(leaf)
    context.admit(text, area.key_attributes)
    belongs = "" if leaf is None else ", belongs to the certificate"
    yield ok(f"{text}: {kind_of(area.public_key)}, TPM at {device.address}{belongs}; {verdict(area.key_attributes)}")
    if file is not None and file.empty_auth and settings.tpm.key_password is not None:
        yield failed(f"a password was given, but {text} has none (emptyAuth)", "leave out --tpm-key-password")
    elif (file is not None and file.empty_auth) or settings.tpm.no_key_password:
        yield ok("the key has no password")
    else:
        if area.counts_wrong_passwords:
            check_lockout(lockout, use_last_try=settings.use_last_try)
            yield ok(f"{lockout.counter} of {lockout.maximum} wrong passwords are counted")
        context.facts.holder = name_of_area(area)
