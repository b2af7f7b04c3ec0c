"""What passes between the courier and the child that sends: one document in, one out."""

from msgspec import Struct


class Parcel(Struct, frozen=True):
    """One notice for one receiver. `url` is the secret itself: it goes by standard input and nowhere else.

    `type` is info, success, warning or failure. After `limit_s` seconds the child ends itself.
    `only_check`: see whether a service takes the URL, and send nothing.
    """

    url: str
    title: str
    body: str
    type: str
    event: str
    limit_s: float
    only_check: bool = False


class Receipt(Struct, frozen=True):
    """How it went. `status` is sent, fits (only checked), bad-url or failed.

    `says` is a line for a person, free of secrets. `wait_s`: the receiver asks to be left alone so long, an
    hour at the most. `gone`: it says that there is no such receiver.
    """

    ok: bool
    status: str
    says: str
    wait_s: float | None = None
    gone: bool = False
