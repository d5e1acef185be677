"""Whether a target is reached: networks asked for 0.7, 0.5 and 0.3 of their MACs.

Each network is traced once and its widths are decided; nothing is trained or removed, as the
decision alone sets the cost. Goal: within 2 % of what was asked, or within one unit (the dearest
there is), or an error that says how far it could go.

    python benchmarks/targets.py [network ...]
"""

import sys

import torch
from rich.console import Console
from rich.table import Table
from zoos import networks

import prunus
from prunus.errors import TargetError
from prunus.pruning.plan import Plan
from prunus.types import Example

TORCHVISION = (
    *("alexnet", "vgg16_bn", "resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d"),
    *("densenet121", "googlenet", "mobilenet_v2", "mobilenet_v3_large", "mnasnet1_0"),
    *(
        "efficientnet_b0",
        "efficientnet_v2_s",
        "shufflenet_v2_x1_0",
        "squeezenet1_1",
        "regnet_y_400mf",
    ),
    *("convnext_tiny", "vit_b_16", "swin_t", "fcn_resnet50", "lraspp_mobilenet_v3_large"),
    *("fasterrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "r3d_18"),
)
HUGGINGFACE = ("bert", "gpt2", "llama", "t5", "whisper", "vit")
ASKED = (0.7, 0.5, 0.3)
HEADINGS = ("network", "asked", "reached", "dearest unit", "goal")


def dearest(plan: Plan) -> float:
    """Return the MACs of the dearest unit, as a share of the dense network's."""
    widths = plan.space.widths({}).requires_grad_()
    (gradient,) = torch.autograd.grad(plan.space.macs.at(widths), widths)
    return float(gradient.max()) / plan.space.macs.dense


def rows(name: str, model: torch.nn.Module, example: Example) -> list[tuple[str, ...]]:
    """Ask one network for each share; an error tells what could be reached."""
    method = prunus.methods.l1_filter(coupled=True, round_to=1)
    found = []
    for asked in ASKED:
        plan = Plan(model, example, method, prunus.Target(macs=asked))
        unit = dearest(plan)
        try:
            keep = plan.decide(model, torch.Generator(), plan.removed).keep
        except TargetError as error:
            found.append((name, f"{asked:g}", "refused", f"{unit:.3%}", f"told: {error}"))
            continue
        reached = float(plan.space.macs.at(plan.space.widths(keep))) / plan.space.macs.dense
        near = abs(reached - asked) <= max(0.02 * asked, unit)
        verdict = "met" if near else "missed"
        found.append((name, f"{asked:g}", f"{reached:.4f}", f"{unit:.3%}", verdict))
    return found


def main(names: list[str]) -> None:
    """Print the table."""
    table = Table(title="MACs asked for and reached")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for zoo, members in (("torchvision", TORCHVISION), ("huggingface", HUGGINGFACE)):
        for name in members:
            if not names or name in names:
                torch.manual_seed(0)
                model, example = networks(zoo)[name]()
                for row in rows(name, model.eval(), example):
                    table.add_row(*row)
    Console(width=150).print(table, markup=False)


if __name__ == "__main__":
    main(sys.argv[1:])
