"""The packages form layers, and imports only point downwards."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "prunus"

TIERS = [
    {"types", "errors", "files", "modes", "names", "ranks", "seeds"},
    {"space"},
    {"criteria", "schedules"},
    {"selectors"},
    {"recovery", "masking"},
    {"training"},
    {"methods", "zoo", "deploy", "tracking"},
    {"pruning", "saving"},
    {"integrations"},
    {"recipe"},
    {"run", "report"},
    {"study", "federated"},
    {"cli", "demo"},
]
RANK = {name: rank for rank, names in enumerate(TIERS) for name in names}
SAME_TIER = {
    ("files", "errors"),
    ("types", "errors"),
    ("types", "names"),
    ("ranks", "errors"),
    ("saving", "pruning"),
    ("run", "report"),
    ("cli", "demo"),
}


def imported(path: Path) -> set[str]:
    """Names of the top-level parts of prunus that the file imports, at any depth of its code."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("prunus.")}
    return parts


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if part(path) not in {"__init__", "__main__"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    here = part(path)
    assert here in RANK, f"give '{here}' a tier in this test"
    for other in imported(path) - {here, "__version__"}:
        assert other in RANK, f"{path.name} imports prunus.{other}, which has no tier"
        allowed = RANK[other] < RANK[here] or (here, other) in SAME_TIER
        assert allowed, f"prunus.{here} may not import prunus.{other}"


def test_the_rule_bites(tmp_path):
    file = tmp_path / "upward.py"
    file.write_text("from prunus.cli import main\nimport prunus.space.trace\n")
    assert imported(file) == {"cli", "space"}
    assert RANK["cli"] > RANK["space"]
