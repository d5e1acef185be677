import pytest
import torch

from prunus.recovery import shuffled

KEEP = {
    "a": torch.arange(40).reshape(5, 8) < 4,
    "b": torch.arange(100) < 50,
    "c": torch.arange(10) < 10,
}


def counts(keep):
    return [int(kept.sum()) for kept in keep.values()]


def test_each_spread_keeps_what_it_says():
    assert counts(KEEP) == [4, 50, 10]
    assert counts(shuffled(KEEP, "layer", 0)) == [4, 50, 10]
    # 64 of 150: 17.07, 42.67 and 4.27 of the layers, none left over
    assert counts(shuffled(KEEP, "even", 0)) == [17, 43, 4]
    everywhere = counts(shuffled(KEEP, "all", 0))
    assert sum(everywhere) == 64
    assert everywhere[2] < 10 and everywhere[0] > 4


@pytest.mark.parametrize("spread", ["layer", "all", "even"])
def test_the_seed_alone_decides(spread):
    first, again, other = (shuffled(KEEP, spread, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in KEEP)
    assert not torch.equal(first["b"], other["b"])
    assert all(first[name].shape == kept.shape for name, kept in KEEP.items())


def test_places_are_drawn_evenly():
    draws = torch.stack([shuffled(KEEP, "layer", seed)["a"] for seed in range(1000)])
    # each place is kept in a tenth of 1000 draws; 4.5 standard deviations
    assert (draws.sum(0) - 100).abs().max() < 43


def test_another_spread_is_refused():
    with pytest.raises(ValueError, match="spread must be 'layer', 'all' or 'even', got 'global'"):
        shuffled(KEEP, "global", 0)
