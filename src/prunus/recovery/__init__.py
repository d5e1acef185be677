"""HOW accuracy comes back: other weights for the kept units, and fresh statistics."""

from prunus.recovery.controls import shuffled as shuffled
from prunus.recovery.penalty import GroupLasso as GroupLasso
from prunus.recovery.penalty import Penalty as Penalty
from prunus.recovery.penalty import ScaleL1 as ScaleL1
from prunus.recovery.recalibrate import recalibrate_batch_norm as recalibrate_batch_norm
from prunus.recovery.rewind import Rewind as Rewind
from prunus.recovery.rewind import Rewinding as Rewinding
from prunus.recovery.rewind import rewind as rewind
from prunus.recovery.rewind import snapshot as snapshot
from prunus.recovery.scratch import reinitialise as reinitialise
from prunus.recovery.scratch import scratch_settings as scratch_settings
