"""What leaves the house: ONNX files, their latency in real runtimes, and compact sparse files."""

from prunus.deploy.onnx import export_onnx
from prunus.deploy.packing import PackedFile, pack, unpack
from prunus.deploy.runtimes import RUNTIMES
from prunus.deploy.size import Size
from prunus.deploy.stopwatch import Stopwatch
from prunus.deploy.timing import Latency, Speedup, latency, speedup

__all__ = [
    "RUNTIMES",
    "Latency",
    "PackedFile",
    "Size",
    "Speedup",
    "Stopwatch",
    "export_onnx",
    "latency",
    "pack",
    "speedup",
    "unpack",
]
