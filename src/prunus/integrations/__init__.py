"""Pruning inside other libraries' trainers, each imported only where it is used."""
