"""Networks by name: the papers' own, torchvision's, and the user's by factory."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision import models

from prunus.names import did_you_mean
from prunus.space.unwrap import unwrapped
from prunus.types import Example
from prunus.zoo.frankle_conv import FrankleConv
from prunus.zoo.lenet import LeNet5, LeNet300
from prunus.zoo.mobilenet_v1 import MobileNetV1
from prunus.zoo.prunefl import CharLstm, PruneFLConv2, PruneFLConv4, PruneFLVGG11
from prunus.zoo.ptb_lstm import PtbLstm
from prunus.zoo.resnet_cifar import CifarResNet
from prunus.zoo.segmentation import FCN32s, SegNet
from prunus.zoo.seq2seq import Seq2Seq
from prunus.zoo.vgg_cifar import CifarVGG


@dataclass(frozen=True)
class NetworkEntry:
    """One row of `NETWORKS`.

    Args:
        build: Makes the network with random weights; keyword options change it.
        shape: Of one input: (channels, height, width) of an image, or (time,) of words.
        inputs: How many such inputs the network takes.
    """

    build: Callable[..., nn.Module]
    shape: tuple[int, ...]
    inputs: int = 1


NETWORKS = {
    "lenet300": NetworkEntry(LeNet300, (1, 28, 28)),
    "lenet5": NetworkEntry(LeNet5, (1, 28, 28)),
    "conv2": NetworkEntry(partial(FrankleConv, 2), (3, 32, 32)),
    "conv4": NetworkEntry(partial(FrankleConv, 4), (3, 32, 32)),
    "conv6": NetworkEntry(partial(FrankleConv, 6), (3, 32, 32)),
    "resnet20": NetworkEntry(partial(CifarResNet, 20), (3, 32, 32)),
    "resnet32": NetworkEntry(partial(CifarResNet, 32), (3, 32, 32)),
    "resnet44": NetworkEntry(partial(CifarResNet, 44), (3, 32, 32)),
    "resnet56": NetworkEntry(partial(CifarResNet, 56), (3, 32, 32)),
    "resnet110": NetworkEntry(partial(CifarResNet, 110), (3, 32, 32)),
    "vgg11": NetworkEntry(PruneFLVGG11, (3, 32, 32)),
    "vgg16": NetworkEntry(partial(CifarVGG, 16), (3, 32, 32)),
    "vgg19": NetworkEntry(partial(CifarVGG, 19), (3, 32, 32)),
    "prunefl_conv2": NetworkEntry(PruneFLConv2, (1, 28, 28)),
    "prunefl_conv4": NetworkEntry(PruneFLConv4, (1, 28, 28)),
    "char_lstm": NetworkEntry(CharLstm, (80,)),
    "mobilenet_v1": NetworkEntry(MobileNetV1, (3, 224, 224)),
    "segnet": NetworkEntry(SegNet, (3, 180, 240)),
    "fcn32s": NetworkEntry(FCN32s, (3, 180, 240)),
    "ptb_lstm": NetworkEntry(PtbLstm, (35,)),
    "seq2seq": NetworkEntry(Seq2Seq, (20,), inputs=2),
}
"""The networks of the papers, by name."""

_WORDS = 70  # of the examples, few enough for any vocabulary


def network(name: str, **options: Any) -> nn.Module:
    """Build a network with random weights, drawn from torch's global generator.

    Args:
        name: A key of `NETWORKS`, or "torchvision:NAME" for any name that
            `torchvision.models.list_models()` lists.
        options: Passed on to the network's constructor, such as `classes=100` for the networks here
            or `num_classes=100` for torchvision's.

    Raises:
        ValueError: There is no such network, or an option has a bad value.
        TypeError: There is no such option.

    Example:
        >>> sum(p.numel() for p in network("resnet56").parameters())
        853018
    """
    inner = _torchvision_name(name)
    if inner is not None:
        return _torchvision_network(inner, options)
    entry = _entry(name)
    known = inspect.signature(entry.build).parameters
    for option in options:
        if option not in known:
            raise TypeError(
                f"network {name!r} has no option {option!r}.{did_you_mean(option, known)} "
                f"Its options are {', '.join(known)}."
            )
    return entry.build(**options)


def network_options(name: str) -> tuple[str, ...]:
    """Return the options of a network by name.

    Args:
        name: As `network` takes it, or "package.module:function" for the user's own.

    Raises:
        ValueError: There is no such network or function.
    """
    if name in NETWORKS:
        build: Callable[..., Any] = NETWORKS[name].build
    elif (inner := _torchvision_name(name)) is not None:
        build = _torchvision_builder(inner)
    else:
        build = _user_function(name)
    return tuple(inspect.signature(build).parameters)


def check_network(name: str) -> None:
    """Raise what `network` raises for an unknown name, without building anything.

    Raises:
        ValueError: There is no such network.
    """
    inner = _torchvision_name(name)
    if inner is None:
        _entry(name)
    else:
        _torchvision_builder(inner)


def example(name: str) -> Example:
    """Return an input for the network `name`: two samples, always the same.

    Returns:
        Images of normal noise, float32 (2, channels, height, width); torchvision's networks get
        224x224 pixels. Networks of words get random ones, int64 (2, time), or a tuple of those.

    Raises:
        ValueError: There is no such network, or it does not take one batch of images.
    """
    inner = _torchvision_name(name)
    shape = _entry(name).shape if inner is None else _torchvision_shape(inner)
    generator = torch.Generator().manual_seed(0)
    if len(shape) == 3:
        return torch.randn(2, *shape, generator=generator)
    count = _entry(name).inputs
    words = torch.randint(1, _WORDS, (count, 2, *shape), generator=generator)
    return words[0] if count == 1 else tuple(words)


def user_network(factory: str, options: Mapping[str, Any] | None = None) -> nn.Module:
    """Call a function of the user's that makes a network; see `user_network_and_example`."""
    return user_network_and_example(factory, options)[0]


def user_network_and_example(
    factory: str, options: Mapping[str, Any] | None = None
) -> tuple[nn.Module, Example | None]:
    """Call a function of the user's that makes a network, or a network and an example input.

    Args:
        factory: "package.module:function"; the module must be importable.
        options: Keyword arguments for the function.

    Returns:
        The network, without what torch.compile or DataParallel wraps around it, and its example,
        None where the function returned the network alone.

    Raises:
        ValueError: `factory` has another form, or there is no such module or function.
        TypeError: The function returned neither an `nn.Module` nor one with an example.
    """
    function = _user_function(factory)
    model, example = function(**(options or {})), None
    if isinstance(model, tuple) and len(model) == 2:
        model, example = model
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"factory {factory!r} must return an nn.Module, or one with an example input as "
            f"(model, example), got {type(model).__name__}."
        )
    return unwrapped(model), example


def _user_function(factory: str) -> Callable[..., Any]:
    module_name, _, function_name = factory.partition(":")
    if not module_name or not function_name:
        raise ValueError(f"factory must be 'package.module:function', got {factory!r}.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # A module that the user's module fails to import is the user's error, shown as it is.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"factory {factory!r}: there is no module {error.name!r}; install it, or put its "
            "folder on PYTHONPATH."
        ) from error
    function: Callable[..., Any] | None = getattr(module, function_name, None)
    if function is None or not callable(function):
        raise ValueError(
            f"factory {factory!r}: module {module_name!r} has no function {function_name!r}."
            f"{did_you_mean(function_name, dir(module))}"
        )
    return function


def _torchvision_name(name: str) -> str | None:
    return name.removeprefix("torchvision:") if name.startswith("torchvision:") else None


def _entry(name: str) -> NetworkEntry:
    if name not in NETWORKS:
        raise ValueError(
            f"network {name!r} is unknown.{did_you_mean(name, NETWORKS)} Known are "
            f"{', '.join(NETWORKS)} and 'torchvision:NAME'."
        )
    return NETWORKS[name]


def _torchvision_builder(name: str) -> Callable[..., nn.Module]:
    try:
        builder: Callable[..., nn.Module] = models.get_model_builder(name)
    except ValueError as error:
        raise ValueError(
            f"torchvision has no model {name!r}.{did_you_mean(name, models.list_models())}"
        ) from error
    return builder


def _torchvision_network(name: str, options: Mapping[str, Any]) -> nn.Module:
    build = _torchvision_builder(name)
    # Detection and segmentation models would download a trained backbone unless told not to.
    random = {"weights": None, "weights_backbone": None}
    known = inspect.signature(build).parameters
    return build(**{key: None for key in random if key in known} | dict(options))


def _torchvision_shape(name: str) -> tuple[int, ...]:
    family = _torchvision_builder(name).__module__.removeprefix("torchvision.models.").split(".")[0]
    if family in ("detection", "optical_flow", "video"):
        raise ValueError(
            f"'torchvision:{name}' does not take one batch of images, so it has no example here; "
            "give your own."
        )
    # Inception's auxiliary classifier does not fit on 224x224 pixels.
    return (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
