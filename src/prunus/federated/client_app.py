"""The app that Flower runs on every node: it answers the server's packets.

A node knows its data by its configuration: `data`, a dataset or "folder:PATH" that lies on the
device; or `client`, the name of one of the recipe's clients; or `partition-id`, its number.
"""

from functools import cache

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from prunus import zoo
from prunus.errors import RecipeError
from prunus.federated.client import Client
from prunus.federated.flower import from_records, recall, remember, to_records
from prunus.federated.recipe import FederatedRecipe, parse_json
from prunus.federated.task import Task, data_of
from prunus.training import Data

app = ClientApp()


@app.train()
@app.evaluate()
@app.query()
def answer(message: Message, context: Context) -> Message:
    """Do what a packet asks for; the node keeps its mask and sums in the context's state."""
    recipe = str(context.run_config["recipe"])
    chosen = tuple(
        (key, str(context.node_config[key]))
        for key in ("data", "client", "partition-id")
        if key in context.node_config
    )
    memory = recall(context.state)
    packet = _client(recipe, chosen).answer(from_records(message.content), memory)
    remember(context.state, memory)
    return Message(content=to_records(packet), reply_to=message)


@cache
def _client(recipe: str, chosen: tuple[tuple[str, str], ...]) -> Client:
    """Return the node's client; made anew only where the process is."""
    told = parse_json(recipe)
    name, data = _own(told, dict(chosen))
    return Client(name, data, Task.of(told))


def _own(recipe: FederatedRecipe, chosen: dict[str, str]) -> tuple[str, Data]:
    """Return the node's name among the clients, and its data.

    Raises:
        RecipeError: The node's configuration does not say which they are.
    """
    if "data" in chosen:
        batch = recipe.clients.batch_size
        own = zoo.dataset(chosen["data"], batch_size=batch, seed=recipe.seed)
        return chosen.get("client", chosen["data"]), own
    every = data_of(recipe)
    names = sorted(every)
    name = chosen.get("client")
    if name is None and chosen.get("partition-id", "").isdigit():
        place = int(chosen["partition-id"])
        name = names[place] if place < len(names) else None
    if name not in every:
        raise RecipeError(
            "a node's configuration must give data, client or partition-id, one of the recipe's "
            f"{len(names)} clients such as {names[0]!r}; got {chosen or 'nothing'}."
        )
    return name, every[name]
