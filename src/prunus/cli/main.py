"""Where the command starts: arguments in, an exit code out, errors without a traceback."""

import os
import select
import sys
from collections.abc import Sequence

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from prunus import __version__, errors
from prunus.cli import federation, networks, packed, runs, studies, tables, tuning
from prunus.cli.bench import bench

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="prunus",
    suppress_keyboard_interrupt=False,
    version=__version__,
    help="""Make PyTorch networks smaller: proved equal to their masked selves, timed where run.

    Start with `prunus demo`. Then `prunus run RECIPE` does all of it for a network and data of your
    choice, and `prunus shrink MODEL` makes a network smaller without any training. Every command
    explains itself with examples: `prunus run --help`.

    Results go to standard output, as a table or with --json as JSON alone; progress and errors go
    to standard error. The exit code is 0 when done, 2 for bad input, 1 for a failure and 130 when
    interrupted. PRUNUS_DATA names the folder of datasets and published weights; PRUNUS_DEBUG=1
    shows where an error came from.
    """,
)
for command in (
    runs.demo,
    runs.run,
    studies.study,
    studies.advise,
    tuning.tune,
    federation.federate,
    networks.shrink,
    networks.inspect,
    networks.export,
    bench,
    packed.pack,
    packed.unpack,
    runs.report,
    tables.methods,
):
    app.command(command)

_BAD_INPUT = (
    ValueError,
    TypeError,
    FileNotFoundError,
    ModuleNotFoundError,
    errors.RecipeError,
    errors.DataError,
    errors.CheckpointError,
    errors.UntraceableError,
    errors.EmptyLayerError,
    errors.TargetError,
    errors.InferenceError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    # Threads that spin while they wait take the processor from whatever else the machine runs:
    # beside one other busy process a training step took six times as long. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "" not in sys.path:  # a network of one's own lies in the folder one is in
        sys.path.insert(0, "")
    try:
        app(given, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _say(error, BAD_INPUT, " See --help.")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError as error:
        return FAILED if _unread() else _say(error, FAILED)
    except _BAD_INPUT as error:
        # A checkpoint that cannot be written is no fault of the input.
        full = isinstance(error, errors.CheckpointError) and isinstance(error.__cause__, OSError)
        return _say(error, FAILED if full else BAD_INPUT)
    except Exception as error:
        return _say(error, FAILED)
    return DONE


def _unread() -> bool:
    """Whether whoever reads the output, such as `head`, has enough; as rich does, be silent."""
    if not hasattr(select, "poll"):  # Windows
        return False
    output = select.poll()
    output.register(sys.stdout, 0)  # errors are told unasked
    if gone := bool(output.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _say(error: Exception, code: int, more: str = "") -> int:
    if os.environ.get("PRUNUS_DEBUG") == "1":
        raise error
    known = isinstance(error, errors.PrunusError | CycloptsError | ValueError | TypeError | OSError)
    kind = "" if known else f"{type(error).__name__}: "
    print(f"error: {kind}{error}{more}", file=sys.stderr)
    return code
