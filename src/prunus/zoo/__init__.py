"""The papers' networks and data, by name."""

from prunus.zoo.datasets import DATASETS, LOCAL, check_dataset, dataset
from prunus.zoo.federation import clients, divided
from prunus.zoo.frankle_conv import FrankleConv
from prunus.zoo.lenet import LeNet5, LeNet300
from prunus.zoo.mobilenet_v1 import MobileNetV1
from prunus.zoo.networks import (
    NETWORKS,
    check_network,
    example,
    network,
    network_options,
    user_network,
    user_network_and_example,
)
from prunus.zoo.prunefl import PruneFLConv2, PruneFLVGG11
from prunus.zoo.ptb_lstm import PtbLstm
from prunus.zoo.resnet_cifar import CifarResNet
from prunus.zoo.segmentation import FCN32s, SegNet
from prunus.zoo.seq2seq import Seq2Seq
from prunus.zoo.translation import bleu, translate
from prunus.zoo.vgg_cifar import CifarVGG
from prunus.zoo.weights import load_weights

__all__ = [
    "DATASETS",
    "LOCAL",
    "NETWORKS",
    "CifarResNet",
    "CifarVGG",
    "FCN32s",
    "FrankleConv",
    "LeNet5",
    "LeNet300",
    "MobileNetV1",
    "PruneFLConv2",
    "PruneFLVGG11",
    "PtbLstm",
    "SegNet",
    "Seq2Seq",
    "bleu",
    "check_dataset",
    "check_network",
    "clients",
    "dataset",
    "divided",
    "example",
    "load_weights",
    "network",
    "network_options",
    "translate",
    "user_network",
    "user_network_and_example",
]
