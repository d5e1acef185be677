"""What leaves the house: ONNX files, their latency in a real runtime, and compact sparse files."""

from prunus.deploy.onnx import export_onnx
from prunus.deploy.packing import PackedFile, pack, unpack
from prunus.deploy.size import Size
from prunus.deploy.timing import Latency, Speedup, latency, speedup

__all__ = [
    "Latency",
    "PackedFile",
    "Size",
    "Speedup",
    "export_onnx",
    "latency",
    "pack",
    "speedup",
    "unpack",
]
