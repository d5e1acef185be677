"""Errors a caller may want to catch; every other bad argument is a ValueError or TypeError."""


class PrunusError(Exception):
    """Base of every error below."""


class UntraceableError(PrunusError):
    """The model could not be run on the example input, so its structure is unknown."""


class UnseenWarning(UserWarning):
    """Channels are gone beside parameters that no run has met: what leads there may now fail."""


class DecisionWarning(UserWarning):
    """What goes is hardly what was meant: nothing at all, or nearly all of one layer."""


class EmptyLayerError(PrunusError):
    """A decision would leave a layer without any channel."""


class TargetError(PrunusError):
    """The requested size or cost cannot be reached; the message says how far it got."""


class EquivalenceError(PrunusError):
    """The removed network does not compute what the masked one did; nothing was returned."""


class RecipeError(PrunusError):
    """A recipe has an unknown key, a missing table or a value out of range."""


class DataError(PrunusError):
    """A dataset is missing, empty, or inconsistent."""


class CheckpointError(PrunusError):
    """A file of weights is damaged, does not fit the model, or is not safe to load."""


class TrainingError(PrunusError):
    """Training cannot go on, for example because the loss is not finite."""


class RankError(PrunusError):
    """The first of several ranks failed in what it does for all; its own error says why."""


class ExportError(PrunusError):
    """An exported file could not be written or does not agree with the model."""


class InferenceError(PrunusError):
    """A runtime cannot run a network, or not with the numbers that were asked for."""


class WireError(PrunusError):
    """What another participant sent is damaged, does not fit the network, or is not plausible."""
