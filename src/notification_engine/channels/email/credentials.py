"""Whether a vendor takes our credentials, asked without sending anything; for `doctor`. No text here holds a secret."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tried:
    """`ok`: the vendor knows us and we may send. `wrong`: somebody has to change something; else it may pass."""

    ok: bool
    seen: str
    todo: str = ""
    wrong: bool = True


def unreachable(vendor: str, error: BaseException) -> Tried:
    return Tried(False, f"{vendor} cannot be reached ({type(error).__name__})", "Check the address, DNS and firewall.")
