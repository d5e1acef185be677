"""The papers' networks and data, by name."""

from prunus.zoo.datasets import DATASETS, check_dataset, dataset
from prunus.zoo.lenet import LeNet5, LeNet300
from prunus.zoo.networks import (
    NETWORKS,
    check_network,
    example,
    network,
    user_network,
    user_network_and_example,
)
from prunus.zoo.resnet_cifar import CifarResNet
from prunus.zoo.vgg_cifar import CifarVGG
from prunus.zoo.weights import load_weights

__all__ = [
    "DATASETS",
    "NETWORKS",
    "CifarResNet",
    "CifarVGG",
    "LeNet5",
    "LeNet300",
    "check_dataset",
    "check_network",
    "dataset",
    "example",
    "load_weights",
    "network",
    "user_network",
    "user_network_and_example",
]
