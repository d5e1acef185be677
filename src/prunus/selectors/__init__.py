"""WHICH units stay: scores and an amount to a decision."""

from prunus.selectors.above_zero import AboveZero as AboveZero
from prunus.selectors.base import Decision as Decision
from prunus.selectors.base import Selector as Selector
from prunus.selectors.base import innermost as innermost
from prunus.selectors.drop import DropOutIn as DropOutIn
from prunus.selectors.erdos_renyi import ErdosRenyi as ErdosRenyi
from prunus.selectors.given import Given as Given
from prunus.selectors.in_turn import InTurn as InTurn
from prunus.selectors.lifted import Lifted as Lifted
from prunus.selectors.online_size import OnlineSize as OnlineSize
from prunus.selectors.policy import PolicyGradient as PolicyGradient
from prunus.selectors.rank import lowest as lowest
from prunus.selectors.rates import Rates as Rates
from prunus.selectors.ratio_greedy import RatioGreedy as RatioGreedy
from prunus.selectors.reach import reach as reach
from prunus.selectors.reconstruction import ColumnSweep as ColumnSweep
from prunus.selectors.reconstruction import Greedy as Greedy
from prunus.selectors.reconstruction import LayerByLayer as LayerByLayer
from prunus.selectors.reconstruction import Regression as Regression
from prunus.selectors.rows import Rows as Rows
from prunus.selectors.sweep import Sweep as Sweep
from prunus.selectors.threshold import Threshold as Threshold
from prunus.selectors.time_model import TIME_MODELS as TIME_MODELS
from prunus.selectors.time_model import TimeModel as TimeModel
from prunus.selectors.time_model import fit_time_model as fit_time_model
from prunus.selectors.topk import TopK as TopK
