"""`python -m mpbench`: one model tried, and what is done with saved runs; one sub-command each.

Exit status as pytest's: 0 fine, 1 the gate failed or something was left, 2 interrupted, 3 an error of mpbench's own,
4 bad usage. It is decided before anything is printed.
"""

from __future__ import annotations

import argparse
import io
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from mpbench.errors import UsageProblem, reason
from mpbench.gate.command import add_gate
from mpbench.history.command import add_history
from mpbench.journal.recover import add_recover
from mpbench.plugin.try_command import add_try
from mpbench.report.command import add_report
from mpbench.terminal import show_data, warn
from mpbench.why.reading.command import add_explain

FINE, INTERRUPTED, INTERNAL_ERROR, BAD_USAGE = 0, 2, 3, 4


class Parser(argparse.ArgumentParser):
    """Says what is wrong with its arguments in one line, by an exception."""

    def error(self, message: str) -> NoReturn:
        raise UsageProblem(f"{self.prog.rsplit(' ', 1)[-1]}: {message}: -h shows what is valid")

    def print_help(self, file: Any = None) -> None:
        show_data(self.format_help().rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command and return its exit status.

    Args:
        arguments: of the command line; None for this process's.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        return int((options := _parser().parse_args(arguments)).run(options))
    except UsageProblem as problem:
        warn(" ".join(str(problem).split()))
        return BAD_USAGE
    except OSError as error:  # a name that is too long, a folder that nobody may look into
        warn(f"{error.filename or 'mpbench'}: {reason(error)}: valid is what can be read")
        return BAD_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # not 1, which Python would exit with: that is a red gate's
        for line in traceback.format_exc().splitlines():
            warn(line)
        return INTERNAL_ERROR


def _parser() -> Parser:
    parser = Parser(
        prog="python -m mpbench", description="Measure one model (try), or look at saved runs.", allow_abbrev=False
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_explain(subparsers)
    add_gate(subparsers)
    add_history(subparsers)
    add_recover(subparsers, _benchmark_statistics)
    add_report(subparsers)
    add_try(subparsers)
    return parser


def _benchmark_statistics(rounds: Sequence[float]) -> Mapping[str, Any]:
    from mpbench.plugin.benchmark_stats import benchmark_statistics  # imports pytest: here alone it is needed

    return benchmark_statistics(rounds)


if __name__ == "__main__":
    sys.exit(main())
