"""HOW accuracy comes back: other weights for the kept units, fresh statistics, and teachers."""

from prunus.recovery.bias import BiasFix as BiasFix
from prunus.recovery.bias import fix_bias as fix_bias
from prunus.recovery.controls import shuffled as shuffled
from prunus.recovery.distil import Distillation as Distillation
from prunus.recovery.distil import SoftTargets as SoftTargets
from prunus.recovery.penalty import GroupLasso as GroupLasso
from prunus.recovery.penalty import Penalty as Penalty
from prunus.recovery.penalty import ScaleL1 as ScaleL1
from prunus.recovery.predictions import predict as predict
from prunus.recovery.recalibrate import recalibrate_batch_norm as recalibrate_batch_norm
from prunus.recovery.rewind import Rewind as Rewind
from prunus.recovery.rewind import Rewinding as Rewinding
from prunus.recovery.rewind import rewind as rewind
from prunus.recovery.rewind import snapshot as snapshot
from prunus.recovery.scratch import norm_weights as norm_weights
from prunus.recovery.scratch import reinitialise as reinitialise
from prunus.recovery.scratch import scratch_settings as scratch_settings
from prunus.recovery.specialists import Coarse as Coarse
from prunus.recovery.specialists import cluster_classes as cluster_classes
from prunus.recovery.specialists import consult as consult
from prunus.recovery.specialists import specialist as specialist
