"""The two LeNets of the pruning literature, for 28x28 grey images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet300(nn.Module):
    """LeNet-300-100: three linear layers, 784 -> 300 -> 100 -> classes, 266,610 parameters.

    Weights start as PyTorch's `nn.Linear` draws them, uniform in +-1/sqrt(fan_in). The lottery
    ticket papers draw from Glorot's normal distribution instead, which is 2.1 to 2.3 times as
    wide here.

    Source: LeCun, Bottou, Bengio and Haffner, Proc. IEEE 1998; with ReLU as in Han, Pool, Tran and
    Dally, NeurIPS 2015, arXiv:1506.02626, table 3.

    Args:
        classes: Outputs of the last layer.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images, (batch, 1, 28, 28) or (batch, 784), to logits (batch, classes)."""
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        logits: Tensor = self.fc3(F.relu(self.fc2(x)))
        return logits


class LeNet5(nn.Module):
    """Caffe's LeNet-5: 20 and 50 filters of 5x5, then 500 units; 430,500 weights and 580 biases.

    As in Caffe the convolutions have no padding, and the only ReLU is behind the first linear
    layer. Weights start as PyTorch draws them, uniform in +-1/sqrt(fan_in); Caffe's own filler
    ("xavier") is uniform in +-sqrt(3/fan_in).

    Source: `examples/mnist/lenet.prototxt` of BVLC/caffe, the network of Han et al., NeurIPS 2015,
    arXiv:1506.02626, table 4.

    Args:
        classes: Outputs of the last layer.
        dropout: Share of the 500 units dropped while training; Caffe's network has none, Han et
            al. retrain with less of it the more they pruned.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 1, 28, 28) to logits (batch, classes)."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        logits: Tensor = self.fc2(self.dropout(F.relu(self.fc1(torch.flatten(x, 1)))))
        return logits
