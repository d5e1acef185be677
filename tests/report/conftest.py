"""Result documents such as a run leaves behind: CIFAR ResNets pruned to half their MACs."""

import math

import pytest


def resnet_result(depth):
    """Build the result of a CIFAR ResNet of `depth` layers with made-up, plausible figures."""
    blocks = (depth - 2) // 6
    groups, frozen = [], []
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        groups.append(
            {
                "name": f"layer{stage}.0.conv2",
                "before": width,
                "after": width - 8,
                "coupled": [f"layer{stage}.{block}.conv2" for block in range(1, blocks)],
            }
        )
        groups += [
            {
                "name": f"layer{stage}.{block}.conv1",
                "before": width,
                "after": max(8, 8 * round(width * (0.4 + 0.6 * abs(math.sin(block + stage))) / 8)),
                "coupled": [f"layer{stage}.{block}.bn1"],
            }
            for block in range(blocks)
        ]
        frozen += [
            {
                "name": f"layer{stage}.{block}.shortcut",
                "channels": width,
                "reason": "padding with zeros moves its channels",
            }
            for block in range(1)
            if stage > 1
        ]
    frozen.append({"name": "fc", "channels": 10, "reason": "reaches the network's output"})
    frozen.append({"name": "input", "channels": 3, "reason": "is the network's input"})
    dense = {"params": 269_722, "nonzero": 269_722, "macs": 40_813_184, "file_bytes": 1_122_304}
    small = {"params": 151_306, "nonzero": 151_306, "macs": 20_284_160, "file_bytes": 648_112}
    arms = [
        {
            "name": "dense",
            "accuracy": 0.9213,
            "loss": 0.31,
            **dense,
            "latency_ms": {"median": 1.184, "low": 1.171, "high": 1.202},
            "speedup": 1.0,
            "epochs": 160,
        }
    ]
    for name, accuracy, epochs in (
        ("fine-tuned", 0.9156, 40),
        ("scratch-E", 0.9102, 160),
        ("scratch-B", 0.9141, 322),
    ):
        arms.append(
            {
                "name": name,
                "accuracy": accuracy,
                "loss": 0.33,
                **small,
                "latency_ms": {"median": 0.688, "low": 0.679, "high": 0.701},
                "speedup": {"median": 1.721, "low": 1.683, "high": 1.752},
                "epochs": epochs,
            }
        )
    curves = {
        arm["name"]: [
            {
                "step": 391 * epoch,
                "epoch": float(epoch),
                "train_loss": 0.05 + 2.2 * math.exp(-epoch / (8 + number * 4)),
                "val_accuracy": arm["accuracy"] - 0.8 * math.exp(-epoch / (6 + number * 3)),
                "lr": 0.1,
            }
            for epoch in range(1, arm["epochs"] + 1, 3)
        ]
        for number, arm in enumerate(arms)
    }
    return {
        "title": f"ResNet-{depth} on CIFAR-10, half the MACs",
        "method": "l1_filter",
        "target": {"metric": "macs", "asked": 0.5, "reached": 0.497},
        "arms": arms,
        "curves": curves,
        "groups": groups,
        "frozen": frozen,
        "verification": {
            "max_relative_difference": 3.1e-16,
            "dtype": "float64",
            "inputs": 3,
            "passed": True,
        },
        "delivered": [
            {
                "network": network,
                "precision": precision,
                "bytes": size,
                "latency_ms": {"median": ms, "low": 0.99 * ms, "high": 1.01 * ms},
                "speedup": None
                if ms == 1.184
                else {"median": 1.184 / ms, "low": 1.17 / ms, "high": 1.2 / ms},
                "difference": 0.021 if precision == "int8" else None,
                "agreement": 0.987 if precision == "int8" else None,
            }
            for network, precision, size, ms in (
                ("dense", "fp32", 1_122_304, 1.184),
                ("dense", "int8", 301_112, 0.401),
                ("pruned", "fp32", 648_112, 0.688),
                ("pruned", "int8", 180_400, 0.245),
            )
        ],
        "latency": {"runtime": "onnxruntime 1.31.1", "threads": 1, "batch": 1, "rounds": 50},
        "environment": {
            "prunus": "0.1.0",
            "torch": "2.15.0",
            "python": "3.11.7",
            "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz",
            "cores": 2,
            "date": "2026-11-21",
        },
        "recipe": {
            "seed": 0,
            "model": {"name": f"resnet{depth}"},
            "data": {"name": "cifar10", "batch_size": 128},
            "method": {"name": "l1_filter"},
            "target": {"macs": 0.5},
            "train": {"length": "160ep", "lr": 0.1, "milestones": ["80ep", "120ep"]},
        },
        "notes": ["The widths were rounded to multiples of 8."],
    }


@pytest.fixture
def resnet20():
    return resnet_result(20)


@pytest.fixture
def resnet56():
    return resnet_result(56)
