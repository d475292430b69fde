"""The checks in their order, each as a function of the context and of what those before it have found out."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from rolekey.doctor import certificate, configuration, key_file, network, pin, signing, storage, store, token, tpm
from rolekey.doctor.context import Context
from rolekey.doctor.finding import Finding, Verdict, run_check
from rolekey.value import Value


class Check(Value):
    """One check.

    Args:
        name: at the beginning of its lines.
        function: gives its verdicts; none where there is nothing to look at.
        is_of_sdk: its failure keeps SDKs from asking rolekey, and says nothing of whether rolekey could answer.
    """

    name: str
    function: Callable[[Context], Iterable[Verdict]]
    is_of_sdk: bool = False


CHECKS = (
    Check("configuration", configuration.check_configuration),
    Check("environment", configuration.check_environment, True),
    Check("AWS profile", configuration.check_aws_profile, True),
    Check("AWS files", configuration.check_aws_files, True),
    Check("ARNs", configuration.check_arns),
    Check("key and certificate", configuration.check_key_settings),
    Check("settings", configuration.check_settings),
    Check("module", token.check_module),
    Check("pcscd", token.check_pcscd),
    Check("token", token.check_token),
    Check("certificate", certificate.check_certificate),
    Check("certificate profile", certificate.check_profile),
    Check("validity", certificate.check_validity),
    Check("chain", certificate.check_chain),
    Check("trust anchor", certificate.check_trust_anchor),
    Check("key file", key_file.check_key_file),
    Check("TPM key", tpm.check_tpm_key),
    Check("key in store", store.check_key_in_store),
    Check("key in token", token.check_key_in_token),
    Check("PIN state", token.check_pin_state),
    Check("PIN source", pin.check_pin_source),
    Check("cache", storage.check_cache),
    Check("proxy", network.check_proxy),
    Check("DNS", network.check_name),
    Check("connection", network.check_connection),
    Check("TLS", network.check_tls),
    Check("answer", network.check_answer),
    Check("clock", network.check_clock),
)
SIGNING = "signature"


def examine(context: Context) -> Iterator[Finding]:
    """Run every check, in order; each finding comes as soon as it is there.

    Args:
        context: what is looked at.
    """
    has_failed = False
    for check in CHECKS:
        for finding in run_check(check.name, check.function, context):
            has_failed |= finding.status == "failed" and not check.is_of_sdk
            yield finding
    yield from run_check(SIGNING, partial(signing.check_signing, has_failed=has_failed), context)
