from prunus_engine import _engine
