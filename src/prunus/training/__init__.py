"""Training: data, settings, and the one loop."""

from prunus.training.checkpoint import RunFiles as RunFiles
from prunus.training.data import ArrayData as ArrayData
from prunus.training.data import Data as Data
from prunus.training.evaluation import Metrics as Metrics
from prunus.training.evaluation import evaluate as evaluate
from prunus.training.folder import FolderData as FolderData
from prunus.training.hook import Hook as Hook
from prunus.training.hook import Objective as Objective
from prunus.training.hook import Rewinder as Rewinder
from prunus.training.hook import Watch as Watch
from prunus.training.loop import History as History
from prunus.training.loop import fit as fit
from prunus.training.metrics import Record as Record
from prunus.training.metrics import best_record as best_record
from prunus.training.metrics import early_stop as early_stop
from prunus.training.metrics import trainings as trainings
from prunus.training.settings import TrainSettings as TrainSettings
