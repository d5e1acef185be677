"""The `prunus` command: thin, each command is a call or two of the library."""

from prunus.cli.main import main

__all__ = ["main"]
