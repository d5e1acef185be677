"""What gives zeros where it is given zeros: functions by name, and layers.

The names are those of ATen and of PyTorch's functions and methods, without a trailing underscore.
"""

from torch import nn

VALUE_BY_VALUE = (
    *("neg", "abs", "relu", "leaky_relu", "gelu", "silu", "tanh", "elu", "sqrt", "sin", "sign"),
    *("square", "hardswish", "mish", "_prelu_kernel", "rrelu_with_noise"),
    *("native_dropout", "dropout", "clone", "alias", "detach", "_to_copy", "contiguous"),
)
"""Of each value alone."""

ALONG = (
    *("max_pool2d_with_indices", "avg_pool2d", "slice", "roll", "flip"),
    *("split", "split_with_sizes", "_fft_c2c", "_fft_r2c", "_fft_c2r"),
    *("channel_shuffle", "native_channel_shuffle", "renorm"),
)
"""Of other positions too, in the same dimensions."""

REGROUPED = ("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze")
"""The same positions, cut into other dimensions."""

MOVED = (
    *("permute", "transpose", "movedim", "t", "flatten", "unflatten", "expand", "chunk", "unbind"),
    *("getitem", "getattr", "narrow", "to", "float", "type_as", "mean", "sum", "interpolate"),
    *("adaptive_avg_pool2d", "pixel_shuffle", "pixel_unshuffle", "div", "truediv", "__truediv__"),
)
"""In other dimensions; the first input decides."""

LAYERS = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity, nn.ReLU, nn.ReLU6),
    *(nn.GELU, nn.SiLU, nn.Tanh, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Flatten, nn.Upsample),
    *(nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.PixelShuffle, nn.PixelUnshuffle),
    nn.ChannelShuffle,
)
"""Layers without parameters that do."""
