"""The app that Flower runs on every node: it answers the server's packets.

A node knows its data by its configuration: `data`, a dataset or "folder:PATH" that lies on the
device, and `client`, a name that no other node has; or `client` alone, the name of one of the
recipe's clients; or `partition-id`, its number.
"""

from collections.abc import Mapping
from functools import lru_cache

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from prunus.errors import RecipeError
from prunus.federated.client import Client
from prunus.federated.flower import from_records, recall, remember, to_records
from prunus.federated.recipe import parse_json
from prunus.federated.task import Task, data_of, dataset_of, held_out
from prunus.training import Data

app = ClientApp()


@app.train()
@app.evaluate()
@app.query()
def answer(message: Message, context: Context) -> Message:
    """Do what a packet asks for; the node keeps its mask and sums in the context's state."""
    recipe = str(context.run_config["recipe"])
    chosen = {
        key: str(context.node_config[key])
        for key in ("data", "client", "partition-id")
        if key in context.node_config
    }
    memory = recall(context.state)
    packet = _client(recipe, chosen).answer(from_records(message.content), memory)
    remember(context.state, memory)
    return Message(content=to_records(packet), reply_to=message)


@lru_cache(maxsize=1)
def _task(recipe: str) -> Task:
    """Return what clients do; made anew only where the process or the recipe is."""
    return Task.of(parse_json(recipe))


@lru_cache(maxsize=1)
def _every(recipe: str) -> Mapping[str, Data]:
    """Return the data of all of the recipe's clients; a node of a simulation may be any of them."""
    return data_of(parse_json(recipe))


def _client(recipe: str, chosen: Mapping[str, str]) -> Client:
    """Return the node's client.

    Raises:
        RecipeError: The node's configuration does not say which data it has.
    """
    task = _task(recipe)
    if "data" in chosen:
        if "client" not in chosen:
            raise RecipeError(
                "a node's configuration must give client, a name of its own, beside data; got "
                f"{dict(chosen)}."
            )
        batch, name = task.recipe.clients.batch_size, chosen["client"]
        own = held_out(task.recipe, dataset_of(task.recipe, chosen["data"], batch))
        return Client(name, own, task)
    every = _every(recipe)
    names = sorted(every)
    found = chosen.get("client", "")
    if not found and chosen.get("partition-id", "").isdigit():
        place = int(chosen["partition-id"])
        found = names[place] if place < len(names) else ""
    if found not in every:
        raise RecipeError(
            "a node's configuration must give data, client or partition-id, one of the recipe's "
            f"{len(names)} clients such as {names[0]!r}; got {dict(chosen) or 'nothing'}."
        )
    return Client(found, every[found], task)
