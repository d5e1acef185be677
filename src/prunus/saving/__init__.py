"""Saving a pruned network and getting it back for further training, without pickle."""

from prunus.saving.network import is_saved, load, save

__all__ = ["is_saved", "load", "save"]
