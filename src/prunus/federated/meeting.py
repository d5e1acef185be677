"""Who takes part: whoever is there says who it is, and is taken in or left out for a reason."""

import warnings
from collections.abc import Collection, Sequence
from textwrap import shorten

from prunus.errors import TrainingError, WireError
from prunus.federated.federation import Server
from prunus.federated.packet import Packet
from prunus.federated.samples import SEPARATOR


def meet(server: Server, classes: Sequence[str], *, count: int) -> dict[str, str]:
    """Ask those who have come since the last round who they are, and take them in.

    Args:
        server: Takes them in.
        classes: Names of the classes by which the network is judged; empty where they have none.
        count: How many classes there are.

    Returns:
        Address -> why it takes no part, of all that are there; warned of, too.

    Raises:
        TrainingError: Nobody has ever been taken in.
    """
    there = set(server.exchange.clients())
    known = set(server.addresses.values())
    asked = {address: Packet({"kind": "describe"}) for address in sorted(there - known)}
    left_out = {}
    for address, answer in (server.exchange.ask(asked) if asked else {}).items():
        try:
            if isinstance(answer, str):
                raise WireError(answer)
            _take_in(server, address, answer, there, classes, count)
        except WireError as error:
            left_out[address] = shorten(str(error), 300)
            warnings.warn(f"client {address} takes no part: {error}", stacklevel=2)
    if not server.addresses:
        reasons = "; ".join(f"{address}: {why}" for address, why in left_out.items())
        raise TrainingError(
            "no client answered; start clients first, then the server."
            + (f" Left out were {reasons}" if reasons else "")
        )
    return left_out


def _take_in(
    server: Server,
    address: str,
    answer: Packet,
    there: Collection[str],
    classes: Sequence[str],
    count: int,
) -> None:
    """Take in a client.

    Raises:
        WireError: It does not say who it is, its name is another's, or its classes are others.
    """
    name, samples = answer.get("client", str), answer.get("samples", int)
    if server.addresses.get(name) in there:
        raise WireError(f"another client is {name!r} already; give each node a name of its own.")
    if "classes" in answer.header:
        own = answer.get("classes", str).split(SEPARATOR)
        if (own != list(classes)) if classes else (len(own) != count):
            missing, more = sorted(set(classes) - set(own)), sorted(set(own) - set(classes))
            raise WireError(
                f"the images of {name!r} have other classes than the server's {count}: lacking are "
                f"{', '.join(missing) or 'none'}, more are {', '.join(more) or 'none'}; give it "
                "one folder for each class of the server, empty where it has no images."
            )
    server.meet(name, address, max(1, samples))
