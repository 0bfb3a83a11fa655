"""Who shows a certificate that TLS has verified."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from dockyard.auth.principal import ANONYMOUS, Principal
from dockyard.auth.recognition import Facts, Recognition, recognise
from dockyard.clock import Clock


REMEMBERED_CERTIFICATES: Final = 1024
"""Certificates that are remembered, under 1 MB; the one longest unused is forgotten."""

SEPARATORS: Final[Mapping[str, str]] = {"cn": "", "dns": ".", "uri": "/", "email": "@"}
"""What can be known of a certificate, each with the characters that ``*`` does not match in it: a
label of a host, a component of a path, one side of an address."""


class Certificates:
    """Tells who shows a certificate; one for each worker.

    Args:
        recognitions: who is who; the first that fits decides.
        clock: tells whether a certificate has ended since the handshake.
    """

    def __init__(self, recognitions: Sequence[Recognition], clock: Clock) -> None:
        self._recognitions: Final = recognitions
        self._clock: Final = clock
        self._known: Final[OrderedDict[bytes, tuple[Principal, datetime]]] = OrderedDict()

    def identify(self, pem: str) -> Principal:
        """Return who shows the certificate in `pem`, which is verified; `ANONYMOUS` for a stranger.

        One that ended since the handshake proves nothing any more.
        """
        mark = hashlib.blake2b(pem.encode(), digest_size=32).digest()
        known = self._known.get(mark)
        if known is None:
            known = self._known[mark] = self._look(pem)
            while len(self._known) > REMEMBERED_CERTIFICATES:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(mark)
        principal, until = known
        return principal if self._clock() <= until else ANONYMOUS

    def _look(self, pem: str) -> tuple[Principal, datetime]:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            facts, until = facts_of(certificate), certificate.not_valid_after_utc
        except (ValueError, x509.InvalidVersion, x509.DuplicateExtension):
            return ANONYMOUS, self._clock()  # OpenSSL takes some that are not quite right
        return recognise(self._recognitions, facts) or ANONYMOUS, until


def facts_of(certificate: x509.Certificate) -> Facts:
    """Return what a certificate says of its owner: a common name, and alternative names.

    A common name counts only if there is one: which of two is meant nobody knows.

    Raises:
        ValueError: a name can't be read.
    """
    facts: dict[str, Sequence[str]] = {}
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common) == 1 and isinstance(common[0].value, str):
        facts["cn"] = (common[0].value,)
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return facts
    names = extension.value
    facts["dns"] = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    facts["uri"] = names.get_values_for_type(x509.UniformResourceIdentifier)
    facts["email"] = names.get_values_for_type(x509.RFC822Name)
    return facts
