"""What leaves the house: ONNX and `torch.export` files, latency, and compact sparse files."""

from prunus.deploy.bench import Candidate, Refusal, Row, compare
from prunus.deploy.delivery import Delivered, side_by_side
from prunus.deploy.int8 import Quantised, quantise
from prunus.deploy.machine import machine
from prunus.deploy.onnx import export_onnx
from prunus.deploy.packing import PackedFile, pack, unpack
from prunus.deploy.program import export_program
from prunus.deploy.runtimes import RUNTIMES
from prunus.deploy.size import Size
from prunus.deploy.stopwatch import Stopwatch
from prunus.deploy.timing import Latency, Speedup, latency, speedup
from prunus.deploy.torch_runtimes import Module

__all__ = [
    "RUNTIMES",
    "Candidate",
    "Delivered",
    "Latency",
    "Module",
    "PackedFile",
    "Quantised",
    "Refusal",
    "Row",
    "Size",
    "Speedup",
    "Stopwatch",
    "compare",
    "export_onnx",
    "export_program",
    "latency",
    "machine",
    "pack",
    "quantise",
    "side_by_side",
    "speedup",
    "unpack",
]
