import pytest

pytest.importorskip("prunus_engine", reason="prunus-engine is not installed: pip install ./engine")
