"""A client app that does what the server asks for, except when its plan says otherwise."""

import math
import struct
import time

from flwr.app import Array
from flwr.clientapp import ClientApp

from prunus.federated import client_app
from prunus.federated.flower import _RAW

PLAN = {("0", 1): "nan", ("1", 1): "shape", ("2", 2): "late"}
"""Number of the client and round -> what is wrong with its update."""
LATE = 240.0  # seconds

app = ClientApp()


@app.train()
@app.evaluate()
@app.query()
def answer(message, context):
    place = str(context.node_config["partition-id"])
    wrong = PLAN.get((place, message.content["header"].get("round")))
    reply = client_app.answer(message, context)
    if wrong == "late":
        time.sleep(LATE)
    elif wrong is not None:
        parts = reply.content["parts"]
        data = parts["values"].data
        bad = struct.pack("<f", math.nan) + data[4:] if wrong == "nan" else data[:-8]
        parts["values"] = Array(dtype="uint8", shape=(len(bad),), stype=_RAW, data=bad)
    return reply
