"""Result documents of studies, made up."""

TARGET = {"metric": "macs", "value": 0.5}


def row(method, arm, target=TARGET, **changes):
    value = {"mean": 0.9, "margin": 0.01, "count": 3, "sd": 0.004}
    spent = {"epochs": 3.0, "macs": 4e9}
    found = {
        "method": method, "target": target, "arm": arm, "title": arm, "seeds": 3, "done": 3,
        "failed": None, "test": value, "val": value, "macs": 5e5, "params": 1e5, "bytes": 4e5,
        "ms": None, "own": spent, "total": spent, "per_tera": 225.0,
    }  # fmt: skip
    return found | changes


def document(rows, **changes):
    found = {
        "title": "a study", "metric": "accuracy", "seeds": 3, "rows": rows, "cells": rows,
        "dense": {"macs": 10**6, "params": 2 * 10**5, "bytes": 8 * 10**5},
        "verdicts": {"summary": ["It is worth it."], "each": [{"text": "l1 is 0.4 above."}]},
        "layers": [
            {"method": "l1", "target": TARGET, "arm": "guided", "unit": "channels",
             "layers": [{"name": "conv1", "before": 20, "after": 9.5}]},
            {"method": "weights", "target": None, "arm": "", "unit": "share of weights",
             "layers": [{"name": "fc1.weight", "before": 1.0, "after": 0.125}]},
        ],
        "tickets": [], "timed": "",
        "notes": ["a note"], "environment": {"cpu": "some"}, "recipe": {},
    }  # fmt: skip
    return found | changes
