import pytest

from prunus.study.compare import comparisons, verdicts
from prunus.study.verdicts import sentence

SUBJECT = "At 0.5 of the MACs, fine-tuned l1_filter"
TARGET = {"metric": "macs", "value": 0.5}


def compared(other, mean, margin, p, seeds=3):
    return {"other": other, "mean": mean, "margin": margin, "p_holm": p, "seeds": seeds}


def cell(method, arm, seed, test, val=None, weights=None):
    target = None if arm == "unpruned" else TARGET
    return {
        "method": method, "target": target, "arm": arm, "seed": seed, "test": test,
        "val": test if val is None else val, "resolution": {"val": 1e-4, "test": 1e-4},
        "weights": weights or f"{method} {arm} {seed}",
    }  # fmt: skip


def test_a_winner_is_named_only_outside_the_noise():
    found = [
        compared("scratch-B", 0.004, 0.002, 0.01),
        compared("scratch-E", 0.012, 0.003, 0.001),
        compared("random units", -0.001, 0.004, 0.7),
    ]
    assert sentence(SUBJECT, found, "accuracy") == (
        "At 0.5 of the MACs, fine-tuned l1_filter is 0.40 ± 0.2 points above scratch-B and "
        "1.20 ± 0.3 points above scratch-E; it cannot be told apart from random units "
        "(-0.10 ± 0.4) with 3 seeds."
    )


def test_an_interval_without_zero_is_no_winner_where_the_family_is_large():
    said = sentence(SUBJECT, [compared("scratch-B", 0.004, 0.003, 0.2)], "accuracy")
    assert said == f"{SUBJECT} cannot be told apart from scratch-B (+0.40 ± 0.3) with 3 seeds."


def test_a_wide_margin_is_written_without_powers_of_ten():
    found = [
        compared("scratch-B", -0.29, 1.938, 0.4, seeds=2),
        compared("scratch-E", 0.19, 0.0996, 0.4, seeds=2),
    ]
    said = sentence(SUBJECT, found, "accuracy")
    assert "scratch-B (-29.00 ± 194) or scratch-E (+19.00 ± 10) with 2 seeds" in said


def test_one_seed_is_said_to_tell_nothing():
    said = sentence(SUBJECT, [compared("scratch-E", -0.004, None, None, seeds=1)], "accuracy")
    assert said == (
        f"{SUBJECT} is 0.40 points below scratch-E: one seed, which tells nothing of chance."
    )


def test_each_comparison_is_told_with_its_own_seeds():
    found = [
        compared("scratch-B", 0.004, 0.003, 0.2, seeds=2),
        compared("scratch-E", 0.002, 0.003, 0.4),
        compared("random units", 0.001, 0.002, 0.4),
        compared("unpruned", 0.001, None, None, seeds=1),
    ]
    assert sentence(SUBJECT, found, "accuracy") == (
        f"{SUBJECT} cannot be told apart from scratch-B (+0.40 ± 0.3) with 2 seeds, or from "
        "scratch-E (+0.20 ± 0.3) or random units (+0.10 ± 0.2) with 3 seeds, or from unpruned "
        "(+0.10) with 1 seed."
    )


def test_families_and_the_method_chosen_on_validation():
    cells = [
        cell(*one, test=base + 0.0003 * seed * (-1) ** len(one[1]), val=val)
        for seed in range(3)
        for *one, base, val in [
            ("", "unpruned", seed, 0.90, 0.9),
            ("l1", "fine_tuned", seed, 0.88, 0.7),
            ("l1", "scratch_e", seed, 0.80, 0.8),
            ("taylor", "fine_tuned", seed, 0.86, 0.75),  # worse on the test split
            ("taylor", "scratch_e", seed, 0.8601, 0.8),
        ]
    ]
    found = comparisons(cells, "accuracy")
    told = [(one["family"], one["method"], one["other"]) for one in found]
    assert told == [
        ("control", "l1", "scratch-E"),
        ("control", "taylor", "scratch-E"),
        ("method", "taylor", "l1"),
        ("unpruned", "l1", "unpruned"),
        ("unpruned", "taylor", "unpruned"),
    ]
    assert all(one["p_holm"] >= one["p"] for one in found)
    said = verdicts(found, "accuracy", 3)
    assert said["summary"][0] == (
        "Of 2 comparisons of fine-tuning with training the small network from scratch, fine-tuning "
        "is better in 1, worse in 0, and cannot be told apart in 1."
    )
    assert (
        "taylor is best on the validation split; on the test split it is 2." in said["summary"][1]
    )
    assert "below l1" in said["summary"][1]


def test_arms_that_are_one_network_are_compared_once():
    cells = [
        cell(method, arm, seed, base + step * (seed + 1), weights=weights and f"{weights} {seed}")
        for seed in range(3)
        for method, arm, base, step, weights in [
            ("", "unpruned", 0.9, 0.001, None),
            ("l1", "fine_tuned", 0.88, 0.002, None),
            ("l1", "scratch_e", 0.87, 0.001, "one"),
            ("l1", "small_dense", 0.87, 0.001, "one"),
            ("l1", "scratch_b", 0.87, 0.001, None),  # as good by chance, or collapsed alike
            ("l1", "random", 0.86, 0.003, None),
        ]
    ]
    found = {one["other"]: one for one in comparisons(cells, "accuracy") if one["p_holm"]}
    scratch, same, other = (found[k] for k in ("scratch-E", "equal-size dense", "scratch-B"))
    assert scratch["p"] == same["p"] == other["p"]
    factors = [one["p_holm"] / one["p"] for one in found.values() if one["family"] == "control"]
    assert max(factors) == pytest.approx(3)  # of three networks, not of four arms
    assert scratch["p_holm"] == same["p_holm"]


def test_a_lower_perplexity_is_better():
    cells = [
        cell(method, "fine_tuned", seed, base + seed)
        for seed in range(2)
        for method, base in (("a", 90), ("b", 80))
    ]
    assert comparisons(cells, "perplexity")[0]["method"] == "b"
