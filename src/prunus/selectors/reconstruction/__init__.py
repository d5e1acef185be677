"""WHICH stay, found by rebuilding what the next layer computes, with new weights for what stays."""

from prunus.selectors.reconstruction.greedy import Greedy as Greedy
from prunus.selectors.reconstruction.regression import Regression as Regression
from prunus.selectors.reconstruction.sweep import ColumnSweep as ColumnSweep
