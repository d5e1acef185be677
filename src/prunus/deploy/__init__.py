"""What leaves the house: ONNX files, and their latency in a real runtime."""

from prunus.deploy.onnx import export_onnx
from prunus.deploy.timing import Latency, Speedup, latency, speedup

__all__ = ["Latency", "Speedup", "export_onnx", "latency", "speedup"]
