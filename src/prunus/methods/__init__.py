"""One file per published method: a composition of the six rooms with the paper's defaults."""

from collections.abc import Callable

from prunus.methods.base import Method as Method
from prunus.methods.gradual import gradual as gradual
from prunus.methods.l1_filter import l1_filter as l1_filter
from prunus.methods.magnitude import magnitude as magnitude

METHODS: dict[str, Callable[..., Method]] = {
    "l1_filter": l1_filter,
    "magnitude": magnitude,
    "gradual": gradual,
}
