"""Pruning inside a Hugging Face `Trainer`, and pruned transformers in Hugging Face's own form."""

from prunus.integrations.transformers.callback import PruningCallback
from prunus.integrations.transformers.pretrained import load_pretrained, save_pretrained

__all__ = ["PruningCallback", "load_pretrained", "save_pretrained"]
