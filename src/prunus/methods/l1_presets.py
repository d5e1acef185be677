"""The configurations of Li et al. (2017), by name.

Convolutions are counted from 1 over all 3x3 layers, the stem being 1, so that the even ones are the
first of their block; those are what residual networks lose filters from.

Source: Li, Kadav, Durdanovic, Samet and Graf, ICLR 2017, arXiv:1608.08710, section 4; the skipped
convolutions are those of the code of Liu et al., ICLR 2019, arXiv:1810.05270.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunus.criteria import Evidence
from prunus.selectors import Decision, Selector
from prunus.space import Space, UnitGroup
from prunus.types import Scores, Target


@dataclass(frozen=True)
class Preset:
    """What each layer of one network loses.

    Attributes:
        network: The network, in words.
        sizes: Layer -> its filters in that network.
        ratios: Layer -> share of them removed; 0 for the paper's sensitive layers.
    """

    network: str
    sizes: Mapping[str, int]
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class OnlyFor:
    """Another selector, for the network of a preset and no other.

    Args:
        name: Of the preset.
        preset: Its layers.
        selector: What chooses.
    """

    name: str
    preset: Preset
    selector: Selector

    def select(
        self,
        space: Space,
        groups: Sequence[UnitGroup],
        scores: Scores,
        target: Target | None,
        evidence: Evidence,
    ) -> Decision:
        """Choose; see `Selector`.

        Raises:
            ValueError: The network has other layers, or a target is given.
        """
        if target is not None:
            raise ValueError(f"preset {self.name!r} decides how much goes; leave {target} out.")
        sizes = self.preset.sizes
        stages = {layer.partition(".")[0] for layer in sizes}
        found = {g.name: g.size for g in groups if g.name.partition(".")[0] in stages}
        faults = [
            f"{layer!r} with {sizes.get(layer, 'no')} filters is {found.get(layer, 'not there')}"
            for layer in sorted(found.keys() | sizes)
            if found.get(layer) != sizes.get(layer)
        ]
        if faults:
            raise ValueError(
                f"preset {self.name!r} is for {self.preset.network}, and this network differs in "
                f"{len(faults)} layers: {faults[0]}. Give ratios and skip instead."
            )
        return self.selector.select(space, groups, scores, target, evidence)


def _resnet(
    network: str,
    blocks: Sequence[int],
    widths: Sequence[int],
    ratios: Sequence[float],
    skip: set[int],
) -> Preset:
    layers = [(s, b) for s, count in enumerate(blocks) for b in range(count)]
    names = {2 * k: f"layer{s + 1}.{b}.conv1" for k, (s, b) in enumerate(layers, 1)}
    stages = dict(zip(names, (s for s, _ in layers), strict=True))
    return Preset(
        network,
        sizes={name: widths[stages[number]] for number, name in names.items()},
        ratios={
            name: 0.0 if number in skip else ratios[stages[number]]
            for number, name in names.items()
        },
    )


def _cifar_resnet(depth: int, ratios: Sequence[float], skip: set[int]) -> Preset:
    blocks = [(depth - 2) // 6] * 3
    return _resnet(f"ResNet-{depth} of CIFAR", blocks, (16, 32, 64), ratios, skip)


def _resnet34(ratios: Sequence[float]) -> Preset:
    skip = {2, 8, 14, 16, 26, 28, 30, 32}
    return _resnet("ResNet-34", (3, 4, 6, 3), (64, 128, 256, 512), ratios, skip)


def _vgg16() -> Preset:
    widths = (64, 64, 128, 128, *[256] * 3, *[512] * 6)
    places = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
    names = [f"features.{place}" for place in places]
    halved = {1, *range(8, 14)}
    return Preset(
        "VGG-16 with batch norm",
        sizes=dict(zip(names, widths, strict=True)),
        ratios={name: 0.5 if number in halved else 0.0 for number, name in enumerate(names, 1)},
    )


PRESETS = {
    "vgg16-a": _vgg16(),
    "resnet56-a": _cifar_resnet(56, (0.1, 0.1, 0.1), {16, 20, 38, 54}),
    "resnet56-b": _cifar_resnet(56, (0.6, 0.3, 0.1), {16, 18, 20, 34, 38, 54}),
    "resnet110-a": _cifar_resnet(110, (0.5, 0.0, 0.0), {36}),
    "resnet110-b": _cifar_resnet(110, (0.5, 0.4, 0.3), {36, 38, 74}),
    "resnet34-a": _resnet34((0.3, 0.3, 0.3, 0.0)),
    "resnet34-b": _resnet34((0.5, 0.6, 0.4, 0.0)),
}
"""Li et al.'s pruned networks, by name."""
