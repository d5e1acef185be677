"""Layer rates against counts worked by hand."""

from types import SimpleNamespace

import pytest
import torch

from prunus import Target
from prunus.criteria import Evidence
from prunus.errors import TargetError
from prunus.selectors import Rates


def group(name, size):
    return SimpleNamespace(
        name=name, size=size, tensors=(name,), may_vanish=False, positions=1, channels=1
    )


GROUPS = [group("a", 10), group("b", 20), group("c", 4)]
SPACE = SimpleNamespace(weights=[SimpleNamespace(name="c")])  # the last layer's
SCORES = {g.name: torch.arange(g.size, dtype=torch.float32) for g in GROUPS}


def kept(selector, progress, target=None, keep=None, scores=SCORES, space=SPACE):
    evidence = Evidence(weights={}, generator=torch.Generator(), progress=progress, keep=keep or {})
    return selector.select(space, GROUPS, scores, target, evidence).keep


def counts(*args, **options):
    return [int(mask.sum()) for mask in kept(*args, **options).values()]


def test_each_layer_loses_its_share_of_what_remains():
    selector = Rates(rate=0.5, rates={"b": 0.1}, last=0.5, rounds=2)
    assert counts(selector, 0.0) == [10, 20, 4]
    # 10 * 0.5, 20 * 0.9, 4 * 0.75
    assert counts(selector, 0.5) == [5, 18, 3]
    # 10 - round(7.5), 20 - round(3.8), 4 - round(1.75)
    assert counts(selector, 1.0) == [2, 16, 2]
    assert kept(selector, 0.5)["c"].tolist() == [False, True, True, True]


def test_only_the_networks_own_last_layer_has_the_rate_of_the_last():
    found = kept(Rates(rate=0.5, last=0.5), 1.0, space=SimpleNamespace(weights=[]))
    assert int(found["c"].sum()) == 2


def test_a_global_ranking_loses_one_share():
    selector = Rates(rate=0.5, scope="global", rounds=1)
    # the 17 lowest of 34: 0 to 6 of both larger layers, and three of the last, which keeps one
    assert counts(selector, 1.0) == [3, 13, 1]


def test_a_target_is_met_by_all_layers_together():
    selector = Rates(last=0.5, rounds=5)
    for density in (0.9, 0.5, 0.2):
        found = counts(selector, 0.3, Target(density=density))
        assert sum(found) == pytest.approx(34 * density, abs=1.5)
        assert found[2] / 4 >= found[1] / 20
    assert counts(selector, 0.3, Target(density=1.0)) == [10, 20, 4]


def test_what_is_gone_stays_gone_whatever_its_score():
    first = kept(Rates(rate=0.5, rounds=2), 0.5)
    second = kept(
        Rates(rate=0.5, rounds=2), 1.0, keep=first, scores={n: -s for n, s in SCORES.items()}
    )
    assert not any((~first[name] & second[name]).any() for name in first)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 20}, r"rate must be in \(0, 1\), got 20. Did you mean 0.2?"),
        ({"rates": {"a": 1.0}}, r"rates\['a'\] must be in \[0, 1\), got 1"),
        ({"last": 2}, r"last must be in \[0, 1\], got 2"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"scope": "stage"}, "scope must be 'layer' or 'global', got 'stage'"),
        ({"scope": "global", "last": 0.5}, "layers ranked together have one rate"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Rates(**fields)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rates names 'd'"):
        kept(Rates(rates={"d": 0.1}), 1.0)
    with pytest.raises(TargetError, match=r"macs 0.5 is a cost"):
        kept(Rates(), 1.0, Target(macs=0.5))
    with pytest.raises(TargetError, match=r"density 0.5 cannot be reached.* hold 0.588 of the"):
        kept(Rates(rates={"b": 0.0}), 1.0, Target(density=0.5))


def test_a_rate_and_a_target_must_agree_on_the_rounds():
    Rates(rate=0.2, rounds=10).check_target(Target(density=0.1))
    with pytest.raises(TargetError, match=r"sparsity 0.9 takes 10 rounds at a rate of 0.2, got r"):
        Rates(rate=0.2, rounds=5).check_target(Target(sparsity=0.9))
    Rates(rounds=5).check_target(Target(sparsity=0.9))
