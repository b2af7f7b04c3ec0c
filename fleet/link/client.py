"""What logs in to a box over paramiko: fabric's connection, or for a probe the client inside it alone.

Both end in the same `SSHClient.connect` on the same terms: our socket, policy, login and limits. fabric's
connection is for who stays and may want more than one command. It costs its import, invoke's and 1.5 ms of
CPU a box, which a patrol would pay at every tick for nothing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import paramiko

from fleet.link.address import Address

Client = tuple[paramiko.SSHClient, Callable[[], Any]]


def bare(address: Address, terms: Mapping[str, Any]) -> Client:
    """A client, and what makes it connect and log in."""
    client = paramiko.SSHClient()
    return client, partial(client.connect, address.host, address.port, address.user, **terms)


def by_fabric(address: Address, terms: Mapping[str, Any]) -> Client:
    """The same of fabric's connection."""
    import fabric  # noqa: PLC0415 - a tick does without

    connection = fabric.Connection(
        address.host,
        user=address.user,
        port=address.port,
        # ssh_config is resolved already; no file of fabric's own may change where we go
        config=fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig()),
        forward_agent=False,
        connect_kwargs=dict(terms),
    )
    return connection.client, connection.open
