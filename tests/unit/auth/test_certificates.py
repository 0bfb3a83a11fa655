"""Who shows a certificate."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from dockyard.auth.certificates import SEPARATORS, Certificates
from dockyard.auth.principal import ANONYMOUS
from dockyard.auth.recognition import NameTemplate, Recognition, TextPattern
from tests.unit.auth.signed import NOW


KEY = ec.generate_private_key(ec.SECP256R1())
SPIFFE = "spiffe://cluster/ns/build/sa/runner"


def shown(*names: str, alternatives: tuple[x509.GeneralName, ...] = ()) -> str:
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in names]
    subject = x509.Name(attributes)
    until = NOW + timedelta(hours=1)
    builder = x509.CertificateBuilder(subject, subject, KEY.public_key(), 1, NOW, until)
    if alternatives:
        extension = x509.SubjectAlternativeName(alternatives)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def certificates(principal: str, **patterns: str) -> Certificates:
    conditions = {
        name: [TextPattern(pattern, SEPARATORS[name])] for name, pattern in patterns.items()
    }
    return Certificates([Recognition(conditions, NameTemplate(principal))], lambda: NOW)


@pytest.mark.parametrize(
    ("patterns", "principal", "pem", "name"),
    [
        ({"cn": "alice"}, "alice", shown("alice"), "alice"),
        ({"cn": "alice"}, "alice", shown("alice\0"), ""),
        ({"cn": "*"}, "cert:{cn}", shown("node 1"), ""),
        ({"cn": "**"}, "cert:{cn}", shown("alice", "bob"), ""),
        ({"cn": "**"}, "cert:{cn}", shown(), ""),
        ({"dns": "*.a"}, "{dns}", shown("x", alternatives=(x509.DNSName("N.a"),)), "n.a"),
        ({"dns": "*.a"}, "{dns}", shown("x", alternatives=(x509.DNSName("m.n.a"),)), ""),
        ({"dns": "*.a"}, "{dns}", shown("n.a"), ""),  # a common name is no host
        (
            {"uri": "spiffe://cluster/ns/build/sa/*"},
            "robot:runner",
            shown(alternatives=(x509.UniformResourceIdentifier(SPIFFE),)),
            "robot$runner",
        ),
        (
            {"uri": "spiffe://cluster/ns/*"},
            "robot:runner",
            shown(alternatives=(x509.UniformResourceIdentifier(SPIFFE),)),
            "",
        ),
        (
            {"email": "*@a.b"},
            "{email}",
            shown(alternatives=(x509.RFC822Name("c.d@a.b"),)),
            "c.d@a.b",
        ),
        ({"cn": "x", "dns": "y"}, "z", shown("x", alternatives=(x509.DNSName("y"),)), "z"),
        ({"cn": "x", "dns": "y"}, "z", shown("x"), ""),
    ],
)
def test_who_fits_is_who_the_configuration_says(
    patterns: dict[str, str], principal: str, pem: str, name: str
) -> None:
    found = certificates(principal, **patterns)
    assert found.identify(pem).login == name
    assert found.identify(pem).login == name  # remembered


def test_a_certificate_that_ends_during_a_connection_proves_nothing_any_more() -> None:
    moments = [NOW]
    recognition = Recognition({}, NameTemplate("alice"))
    found = Certificates([recognition], lambda: moments[0])
    pem = shown("alice")
    assert found.identify(pem).name == "alice"
    moments[0] = NOW + timedelta(hours=2)
    assert found.identify(pem) is ANONYMOUS


def test_what_can_not_be_read_is_nobodys() -> None:
    assert certificates("alice", cn="**").identify("nonsense") is ANONYMOUS
