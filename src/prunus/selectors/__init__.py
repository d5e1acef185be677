"""WHICH units stay: scores and an amount to a decision."""

from prunus.selectors.base import Decision as Decision
from prunus.selectors.base import Selector as Selector
from prunus.selectors.erdos_renyi import ErdosRenyi as ErdosRenyi
from prunus.selectors.rank import lowest as lowest
from prunus.selectors.reach import reach as reach
from prunus.selectors.reconstruction import ColumnSweep as ColumnSweep
from prunus.selectors.reconstruction import Greedy as Greedy
from prunus.selectors.reconstruction import Regression as Regression
from prunus.selectors.rows import Rows as Rows
from prunus.selectors.topk import TopK as TopK

SELECTORS: dict[str, type[Selector]] = {
    "topk": TopK,
    "rows": Rows,
    "erdos_renyi": ErdosRenyi,
    "greedy": Greedy,
    "regression": Regression,
    "column_sweep": ColumnSweep,
}
