"""A platform's login server: signs with the cryptography package alone, and serves its keys as a JWKS on loopback."""

import base64
import json
import time
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.servers.http import HttpServer

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8, "big"))


class Signer:
    """One key pair with its `kid`."""

    def __init__(self, algorithm: str, kid: str = "k1", *, bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key: Private
        if algorithm == "RS256":
            self.key = rsa.generate_private_key(65537, bits)
        elif algorithm == "ES256":
            self.key = ec.generate_private_key(ec.SECP256R1())
        else:
            self.key = ed25519.Ed25519PrivateKey.generate()

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return self.key.sign(data)

    def token(self, claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None) -> str:
        """`...` as a value leaves the name out."""
        now = int(time.time())
        given = {"sub": "u1", "roles": ["user"], "iat": now, "exp": now + 600} | (claims or {})
        head = {"alg": self.algorithm, "typ": "JWT", "kid": self.kid} | (header or {})
        parts = [b64(raw({k: v for k, v in part.items() if v is not ...})) for part in (head, given)]
        signed = ".".join(parts)
        return f"{signed}.{b64(self.sign(signed.encode()))}"

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key; `...` leaves a member out."""
        public = self.key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            n = public.public_numbers()
            own = {"kty": "RSA", "n": number(n.n), "e": number(n.e)}
        elif isinstance(public, ec.EllipticCurvePublicKey):
            p = public.public_numbers()
            own = {"kty": "EC", "crv": "P-256", "x": number(p.x, 32), "y": number(p.y, 32)}
        else:
            own = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}
        whole = own | {"use": "sig", "alg": self.algorithm, "kid": self.kid} | changes
        return {k: v for k, v in whole.items() if v is not ...}

    def pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


class LoginServer(HttpServer):
    """`answer` is what the address gives: a body, a status, or both; `asked` counts."""

    def __init__(self, *signers: Signer) -> None:
        super().__init__()
        self.body = key_set(*(signer.jwk() for signer in signers))
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked = 0

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{any:.*}", self._answer)
        return app

    @property
    def url(self) -> str:
        return f"{self.address}/keys"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(body=self.body, status=self.status, headers=self.headers)
