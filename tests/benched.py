"""A comparison of timed networks, made up."""


def row(name, median, threads=1, batch=1, **changes):
    latency = {"median": median, "low": 0.9 * median, "high": 1.2 * median}
    latency |= {"p50": median, "p90": 2 * median, "p99": None}
    plain = {
        "name": name,
        "runtime": "onnxruntime 1.32.0",
        "precision": "fp32",
        "threads": threads,
        "batch": batch,
        "latency_ms": latency,
        "throughput": 1000 / median,
        "speedup": None,
        "verdict": None,
        "bytes": 2048,
        "memory": None,
        "joules": None,
        "stable": True,
        "warmup_s": 0.1,
    }
    return plain | changes


def document():
    noise = {
        "speedup": {"median": 1.01, "low": 0.98, "high": 1.03},
        "verdict": "no difference beyond the noise",
    }
    return {
        "machine": {
            "processor": "A processor",
            "cores": 2,
            "instructions": "avx2",
            "memory": 2**34,
            "system": "Linux",
            "load": None,
        },
        "rounds": 50,
        "clock": "wall",
        "energy": "not readable",
        "rows": [
            row("<b>a</b>", 10.0),
            row("b", 9.9, **noise, stable=False),
            row("<b>a</b>", 6.0, threads=2),
        ],
        "refused": [
            {
                "name": "b",
                "runtime": "torch",
                "precision": "int8",
                "threads": 1,
                "batch": 1,
                "reason": "torch has no <int8>",
            }
        ],
        "notes": [],
    }
