"""WHICH stay, found by rebuilding what the next layer computes, with new weights for what stays."""

from prunus.selectors.reconstruction.column_sweep import ColumnSweep as ColumnSweep
from prunus.selectors.reconstruction.greedy import Greedy as Greedy
from prunus.selectors.reconstruction.layer_by_layer import LayerByLayer as LayerByLayer
from prunus.selectors.reconstruction.regression import Regression as Regression
