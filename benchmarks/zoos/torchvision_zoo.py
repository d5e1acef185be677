"""Every network of torchvision that is not quantised, with random weights and a small input."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torchvision.models import get_model, list_models
from torchvision.models.video import mvit
from torchvision.models.vision_transformer import VisionTransformer

from prunus.types import Example

ALONE = frozenset({"regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32"})
"""300 to 650 million parameters, several times over and in float64: 8 to 16 GB."""

DETECTION = ("rcnn", "fcos", "retinanet", "ssd")

SIDES = {
    "inception_v3": 299,  # its auxiliary classifier needs the published size
    "googlenet": 96,
    "alexnet": 96,
    "squeezenet": 64,
    "vgg": 64,
    "maxvit": 224,  # the partitions fix the size
    "deeplabv3": 64,
    "fcn": 64,
    "lraspp": 64,
    "swin": 96,
    "raft": 128,  # feature maps of at least 16 x 16
    "regnet_y_128gf": 64,
}
"""Beginning of the name -> side of the image; 96 for all others."""

CLIPS = {"s3d": (14, 224)}
"""Beginning of the name -> (frames, side); (4, 64) for the other networks of clips."""

VIDEO = ("mc3", "r2plus1d", "r3d", "s3d", "swin3d", "mvit")


def build(name: str) -> tuple[nn.Module, Example]:
    """Return one network in eval mode and its example input."""
    if name.startswith(VIDEO):
        frames, side = _longest(CLIPS, name, (4, 64))
        model = _mvit(name, frames, side) if name.startswith("mvit") else _model(name)
        return model, torch.randn(1, 3, frames, side, side)
    side = _longest(SIDES, name, 96)
    if any(kind in name for kind in DETECTION):
        return _detector(name)
    if name.startswith("raft"):
        return _model(name), (torch.randn(1, 3, side, side), torch.randn(1, 3, side, side))
    if name.startswith("vit"):
        return _vision_transformer(name)
    if name.startswith(("deeplabv3", "fcn", "lraspp")):
        return _model(name, weights_backbone=None), torch.randn(1, 3, side, side)
    if name in ("googlenet", "inception_v3"):
        return _model(name, init_weights=True), torch.randn(1, 3, side, side)
    return _model(name), torch.randn(1, 3, side, side)


def _model(name: str, **options: Any) -> nn.Module:
    return get_model(name, weights=None, **options).eval()


def _longest(table: Mapping[str, Any], name: str, default: Any) -> Any:
    fitting = [start for start in table if name.startswith(start)]
    return table[max(fitting, key=len)] if fitting else default


def _detector(name: str) -> tuple[nn.Module, Example]:
    """Return a detector that looks at few boxes, for speed, and keeps those of any score.

    With random weights no score is high, and without a box there is nothing to compare.
    """
    if "rcnn" in name:
        options = {"box_score_thresh": 0.0, "box_detections_per_img": 10}
        options |= {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 40}
    else:
        options = {"score_thresh": 0.0, "detections_per_img": 10, "topk_candidates": 40}
    if "ssd" not in name:  # their input has one size
        options |= {"min_size": 96, "max_size": 128}
    return _model(name, weights_backbone=None, **options), ([torch.rand(3, 96, 112)],)


def _mvit(name: str, frames: int, side: int) -> nn.Module:
    """Return a transformer of clips of another size than the one torchvision writes down."""
    sizes = {"spatial_size": (side, side), "temporal_size": frames}
    original = mvit._mvit

    def resized(**fields: Any) -> nn.Module:
        return original(**(fields | sizes))

    with patch.object(mvit, "_mvit", resized):
        return _model(name)


def _vision_transformer(name: str) -> tuple[nn.Module, Example]:
    """Return a vision transformer of four patches a side: attention needs no more."""
    patch = int(name.rpartition("_")[2])
    model = _model(name, image_size=4 * patch)
    assert isinstance(model, VisionTransformer)
    return model, torch.randn(1, 3, 4 * patch, 4 * patch)


NETWORKS = {
    name: partial(build, name) for name in list_models() if not name.startswith("quantized")
}
