"""What leaves the house: ONNX files, and their latency in real runtimes."""

from prunus.deploy.onnx import export_onnx
from prunus.deploy.runtimes import RUNTIMES
from prunus.deploy.stopwatch import Stopwatch
from prunus.deploy.timing import Latency, Speedup, latency, speedup

__all__ = [
    "RUNTIMES",
    "Latency",
    "Speedup",
    "Stopwatch",
    "export_onnx",
    "latency",
    "speedup",
]
