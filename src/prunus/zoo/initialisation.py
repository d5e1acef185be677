"""The random start of the CIFAR networks."""

from torch import nn


def he_normal(model: nn.Module, bn_gamma: float = 1.0) -> None:
    """Initialise every layer of `model` in place, from torch's global generator.

    Convolutions are drawn from N(0, 2 / (kh * kw * out)), linear weights from N(0, 0.01^2); biases
    are 0, batch norms have gamma = `bn_gamma` and beta = 0.

    Source: He, Zhang, Ren and Sun, ICCV 2015, arXiv:1502.01852, equation 14 (fan-out); the linear
    layers and gamma as in the code of Liu et al., ICLR 2019, arXiv:1810.05270.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, bn_gamma)
            nn.init.zeros_(module.bias)
