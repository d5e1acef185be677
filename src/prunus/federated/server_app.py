"""The app that Flower runs beside its SuperLink: the server of a federation.

Flower does not resume runs. The state is written after every round, so that a new run of the same
recipe in the same directory goes on where the last one ended.
"""

from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from prunus.federated.execute import federate
from prunus.federated.flower import OverGrid
from prunus.federated.recipe import parse_json

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the recipe of the run's configuration over the nodes that are there."""
    given = context.run_config
    federate(
        parse_json(str(given["recipe"])),
        Path(str(given["directory"])).expanduser(),
        exchange=lambda task: OverGrid(
            grid, seconds=float(given["seconds"]), least=int(given["nodes"])
        ),
    )
