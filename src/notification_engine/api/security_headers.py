"""What a browser may do with an answer: nothing, unless the page it belongs to says more.

Invariant: no page needs `'unsafe-inline'` for a script; scripts are files of ours, or named by their hash.
"""

import base64
import hashlib
import re

_BLOCKS = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
NOTHING = "default-src 'none'; frame-ancestors 'none'"
NO_FEATURES = ", ".join(f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb"))
HSTS = (b"strict-transport-security", b"max-age=31536000")
_EVERY_ANSWER = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": NOTHING,
    "cache-control": "no-store",  # what is answered here is of one caller
}
EVERY_ANSWER = tuple((name.encode(), value.encode()) for name, value in _EVERY_ANSWER.items())


def page_headers(policy: str) -> dict[str, str]:
    """For HTML: `policy` is what it needs beyond nothing."""
    return {
        "Content-Security-Policy": f"{NOTHING}; base-uri 'none'; form-action 'self'; {policy}",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": NO_FEATURES,
        "Cache-Control": "no-store",
    }


def inline_policy(html: str) -> str:
    """Names the scripts and styles in a page by their hashes; the page must not be changed inside them."""
    found: dict[str, list[str]] = {}
    for kind, text in _BLOCKS.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found.setdefault(kind, []).append(f"'sha256-{digest}'")
    return "; ".join(f"{kind}-src {' '.join(hashes)}" for kind, hashes in sorted(found.items()))
