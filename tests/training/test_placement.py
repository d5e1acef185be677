import pytest
import torch

from prunus.training.placement import moved


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_of_one_channel_are_in_both_layouts_and_not_copied(layout):
    images = torch.rand(4, 6, 6, 1).permute(0, 3, 1, 2)
    assert moved(images, torch.device("cpu"), layout) is images
