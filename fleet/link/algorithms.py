"""Which algorithms of SSH are off here, over either transport, and how a box without others is told. Pure."""

import re

# CBC, 3DES and sums of MD5 or SHA-1. Source: the weak ones that paramiko 5.1 still offers by itself.
WEAK = {
    "ciphers": ("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"),
    "macs": ("hmac-sha1", "hmac-md5", "hmac-sha1-96", "hmac-md5-96"),
}
# Any ssh may know further names with these parts.
_WEAK_PARTS = {"ciphers": ("cbc", "arcfour"), "macs": ("hmac-sha1", "hmac-md5", "hmac-ripemd")}
_BEST = {"ciphers": "aes256-ctr", "macs": "hmac-sha2-256"}  # where only weak ones were wanted
_SPELLED = {"ciphers": "Ciphers", "macs": "MACs"}
_UNACCEPTABLE = re.compile(r"Incompatible ssh .*\(no acceptable ([a-z ]+)\)")
_KINDS = {
    "ciphers": "cipher",
    "macs": "MAC",
    "kex algorithm": "key exchange method",
    "host key": "host key type",
}


def strong_settings(options: dict[str, list[str]]) -> list[str]:
    """Settings for ssh that leave all but the weak of what `options` (of `ssh -G`) allow."""
    settings = []
    for kind, parts in _WEAK_PARTS.items():
        names = options.get(kind, [""])[0].split(",")
        strong = [name for name in names if name and not any(part in name for part in parts)]
        if names != [""]:
            settings.append(f"{_SPELLED[kind]}={','.join(strong) or _BEST[kind]}")
    return settings


def nothing_in_common(error: Exception) -> tuple[str, str] | None:
    """For what paramiko found no common algorithm; None for other errors. It never says what was offered."""
    found = _UNACCEPTABLE.search(str(error))
    return (_KINDS.get(found[1], found[1]), "") if found else None
