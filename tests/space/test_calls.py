"""A graph as plain data says what it said before, and says nothing else."""

import json

import pytest
import torch
from torch import nn

from prunus.space.calls import graph_of, told, value_of, value_told
from prunus.space.shrink import as_graph


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        b = x.shape[0]
        y = self.linear(x) * self.scale + torch.arange(4, dtype=torch.float32, device=x.device)
        y = torch.cat([y, y.masked_fill(y < 0, float("-inf"))], dim=-1)
        y = nn.functional.gelu(y.view(b, 2, 4).transpose(1, 2)[..., :1].softmax(1)) / b**0.5
        return y.to(torch.float32).contiguous(memory_format=torch.contiguous_format).mT


def test_a_graph_survives_json():
    network = as_graph(Mixed(), torch.randn(3, 4))
    calls = network.evaluating.calls
    assert isinstance(calls, list)
    again = graph_of(json.loads(json.dumps(calls)), {"linear"}, {"scale"})
    assert told(again) == calls
    assert again.python_code("self").src == network.evaluating.source


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 3, -1.5, "a'\"\\", (1, [2, (3,)]), {"a": {1: slice(0, None, 2)}}, ...),
        *(torch.half, float("inf"), torch.device("cpu"), torch.strided, torch.channels_last),
    ],
)
def test_values_survive_json(value):
    back = value_of(json.loads(json.dumps(value_told(value))))
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("value", [object(), b"x", {1, 2}, torch.ones(1), print, 1j])
def test_a_value_that_is_not_plain_is_not_told(value):
    with pytest.raises(ValueError, match="it holds a"):
        value_told(value)


END = ["output", "output", "output", {"tuple": [{"node": "y"}]}, {"dict": []}]
X = ["placeholder", "x", "x", {"tuple": []}, {"dict": []}]


def call(op, target, *args, name="y", **kwargs):
    named = [[key, value] for key, value in kwargs.items()]
    return [op, name, target, {"tuple": list(args)}, {"dict": named}]


def test_what_is_forged_below_is_read_when_it_is_right():
    graph_of([X, call("call_method", "relu", {"node": "x"}), END], set(), set())


NODE = {"node": "x"}


@pytest.mark.parametrize(
    "forged",
    [
        call("call_function", "os.system", "id"),
        call("call_function", "builtins.eval", "1"),
        call("call_function", "eval", "1"),
        call("call_function", "torch.load", "x"),
        call("call_function", "torch.save", NODE, "x"),
        call("call_function", "torch.from_file", "x"),
        call("call_function", "torch.hub.load", "x"),
        call("call_function", "torch.compile", NODE),
        call("call_function", "torch.os", "x"),
        call("call_function", "torch.autocast", "cpu"),
        call("call_function", "operator.attrgetter", "__class__"),
        call("call_function", "operator.methodcaller", "numpy"),
        call("call_function", "operator.call", NODE),
        call("call_function", "getattr", NODE, "__class__"),
        call("call_function", "getattr", NODE, "grad_fn"),
        call("call_function", "getattr", NODE, "shape", 1),
        call("call_function", "holds", "", "methodcaller", True, "numpy"),
        *(
            call("call_method", name, NODE)
            for name in ("numpy", "type", "apply_", "map_", "storage", "untyped_storage", "set_")
        ),
        *(
            call("call_method", name, NODE)
            for name in ("__class__", "__reduce_ex__", "share_memory_", "register_hook", "resize_")
        ),
        call("call_method", "relu"),
        call("call_module", "layer", NODE),
        call("call_module", "__class__", NODE),
        call("get_attr", "weight"),
        call("get_attr", "relu'); import os; ('"),
        call("import", "os"),
        call("call_method", "relu", NODE, name="y; import os"),
        call("call_method", "relu", NODE, name="import"),
        call("call_method", "relu", NODE, name="x"),
        call("call_method", "relu", {"node": "z"}),
        call("call_method", "relu", NODE, **{"a b": 1}),
        call("call_method", "relu", {"dtype": "os"}),
        call("call_method", "relu", {"dtype": "load"}),
        call("call_method", "relu", {"device": "cpu'); import os"}),
        call("call_method", "relu", {"tuple": 3}),
        call("call_method", "relu", {"a": 1, "b": 2}),
        call("placeholder", "y = 1"),
        [],
        "x",
        {"op": "output"},
    ],
)
def test_a_graph_that_is_forged_is_refused(forged):
    with pytest.raises(ValueError):
        graph_of([X, forged, END], {"layer; 1"}, {"relu'); import os; ('"})


def test_a_graph_without_an_end_or_too_deep_is_refused():
    deep = {"tuple": []}
    for _ in range(50):
        deep = {"tuple": [deep]}
    for calls in ([], [X], [X, END], [[*END[:3], {"tuple": []}, {"dict": []}]]):
        with pytest.raises(ValueError):
            graph_of(calls, set(), set())
    with pytest.raises(ValueError, match="nested that deep"):
        value_of(deep)
