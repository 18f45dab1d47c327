"""Certificates that tests sign themselves."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def self_signed(
    key: Any,
    common_name: str,
    *extensions: tuple[x509.ExtensionType, bool],
    begin: timedelta = timedelta(days=-1),
    end: timedelta = timedelta(days=30),
) -> bytes:
    """PEM. `extensions`: each with whether it is critical; `begin` and `end`: from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def certificate(directory: Path) -> tuple[str, str]:
    """Of 127.0.0.1, its own authority: file names of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    authority = x509.BasicConstraints(ca=True, path_length=None)
    pem, private = directory / "server.pem", directory / "server.key"
    pem.write_bytes(self_signed(key, "a server of a test", (alternative, False), (authority, True)))
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    private.write_bytes(encoded)
    return str(pem), str(private)
