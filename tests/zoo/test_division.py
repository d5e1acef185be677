"""Training samples divided among clients by chance."""

import pytest
import torch

from prunus import zoo
from prunus.training import ArrayData


def data(count=200):
    samples = torch.arange(count).view(count, 1, 1, 1).to(torch.uint8)
    labels = torch.arange(count) % 4
    return ArrayData("d", (samples, labels), (samples, labels), 4, (0.0,), (1.0,), batch_size=7)


def owned(client):
    """Which samples a client trains on: each has its number for a pixel."""
    pixels = [x.flatten() for x, _ in client.train_batches(0)]
    return sorted((torch.cat(pixels) * 255).round().long().tolist())


@pytest.mark.parametrize("alpha", [None, 0.1, 100.0])
def test_every_sample_belongs_to_one_client(alpha):
    found = zoo.divided(data(), 8, alpha=alpha, seed=3)
    every = [sample for client in found.values() for sample in owned(client)]
    assert sorted(every) == list(range(200))
    assert list(found) == sorted(found)
    again = zoo.divided(data(), 8, alpha=alpha, seed=3)
    assert {n: owned(c) for n, c in found.items()} == {n: owned(c) for n, c in again.items()}


def test_alpha_says_how_unequal_clients_are():
    sizes = {
        alpha: [len(c.train_labels) for c in zoo.divided(data(), 5, alpha=alpha).values()]
        for alpha in (None, 0.1, 1000.0)
    }
    assert set(sizes[None]) == {40}
    assert max(sizes[0.1]) - min(sizes[0.1]) > 30 > 12 > max(sizes[1000.0]) - min(sizes[1000.0])


def test_clients_without_samples_are_left_out_and_too_many_refused():
    assert 0 < len(zoo.divided(data(8), 8, alpha=0.01)) < 8
    with pytest.raises(ValueError, match=r"count must be in \[1, 200\]"):
        zoo.divided(data(), 201)


def test_what_is_held_out_is_not_trained_on():
    whole = data().holding_out(0.25)
    pixels = torch.cat([x.flatten() for x, _ in whole.eval_batches("val")])
    held = (pixels * 255).round().long().tolist()
    assert len(held) == 50 and sorted([*held, *owned(whole)]) == list(range(200))
    assert owned(data().holding_out(0.0)) == list(range(200))
