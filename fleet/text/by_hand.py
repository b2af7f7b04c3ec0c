"""The command with which a person goes to a box, as it can be typed. Pure."""

from fleet.model.spec import BoxSpec
from fleet.text.quote import sh


def by_hand(box: BoxSpec) -> str:
    """`ssh gpu1`, or with what the spec says beyond the alias: `ssh -p 2201 -i KEY root@203.0.113.7`."""
    words = ["ssh"]
    if box.port is not None:
        words.append(f"-p {box.port}")
    if box.identity is not None:
        words.append(f"-i {sh(box.identity)}")
    return " ".join([*words, sh(box.host if box.user is None else f"{box.user}@{box.host}")])
