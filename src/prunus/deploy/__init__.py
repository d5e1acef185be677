"""What leaves the house: ONNX and `torch.export` files, latency, and compact sparse files."""

from prunus.deploy.onnx import export_onnx
from prunus.deploy.packing import PackedFile, pack, unpack
from prunus.deploy.program import export_program
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
    "export_program",
    "latency",
    "pack",
    "speedup",
    "unpack",
]
