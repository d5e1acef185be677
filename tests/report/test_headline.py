import pytest

from prunus.report.headline import aim, headline, speed


@pytest.mark.parametrize(
    ("target", "what", "reached", "met"),
    [
        (("macs", 0.5, 0.497), "keep 50.0 % of the MACs", "49.7 %", True),
        (("macs", 0.5, 0.502), "keep 50.0 % of the MACs", "50.2 %", True),
        (("params", 0.5, 0.51), "keep 50.0 % of the parameters", "51.0 %", False),
        (("sparsity", 0.9, 0.95), "remove 90.0 % of the prunable units", "95.0 %", True),
        (("sparsity", 0.9, 0.85), "remove 90.0 % of the prunable units", "85.0 %", False),
        (("latency_ms", 1.25, 1.2), "run in 1.25 ms", "1.20 ms", True),
        (("speedup", 2.0, 1.5), "run 2.00x as fast", "1.50x", False),
        (("energy", 3.0, 2.0), "energy 3", "2", True),
    ],
)
def test_asked_against_reached(target, what, reached, met):
    found = aim(dict(zip(("metric", "asked", "reached"), target, strict=True)))
    assert (found.what, found.reached_text, found.met) == (what, reached, met)


@pytest.mark.parametrize("target", [None, {}, {"metric": "macs", "asked": 0.5, "reached": None}])
def test_no_aim_without_both_numbers(target):
    assert aim(target) is None


def two_arms(speedup, dense=None, small=None):
    return {
        "arms": [
            {"name": "dense", "latency_ms": dense, "speedup": 1.0},
            {"name": "pruned", "latency_ms": small, "speedup": speedup},
        ]
    }


@pytest.mark.parametrize(
    ("speedup", "label"),
    [
        ({"median": 1.5, "low": 1.4, "high": 1.6}, "faster"),
        ({"median": 1.1, "low": 0.98, "high": 1.2}, "no faster"),
        ({"median": 0.8, "low": 0.7, "high": 0.9}, "slower"),
        (1.3, "faster"),
        (None, "speed not measured"),
    ],
)
def test_faster_only_if_the_interval_says_so(speedup, label):
    assert speed(two_arms(speedup)).label == label


def test_a_bare_speedup_is_judged_by_the_intervals_of_the_latencies():
    dense = {"median": 1.1, "low": 0.9, "high": 1.3}
    small = {"median": 1.0, "low": 0.9, "high": 1.1}
    assert speed(two_arms(1.1, dense, small)).label == "no faster"
    assert speed(two_arms(2.2, dense, {"median": 0.5, "low": 0.49, "high": 0.51})).label == "faster"


def test_a_failed_proof_is_in_the_sentence():
    assert "; not equal to the masked network;" in headline({"verification": {"passed": False}})
