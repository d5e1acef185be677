"""Networks with zeros that run faster on a CPU: sparse kernels beside ONNX Runtime."""

from prunus_engine._engine import Program as Program
from prunus_engine._engine import SparseMatrix as SparseMatrix
from prunus_engine._engine import instructions as instructions
from prunus_engine.choice import Choice as Choice
from prunus_engine.choice import default_cache as default_cache
from prunus_engine.plan import Plan as Plan
from prunus_engine.sparse import HEIGHTS as HEIGHTS
from prunus_engine.sparse import pack as pack
