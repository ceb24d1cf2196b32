"""docs/options.md, from the table of options: `python -m mpbench.config.page > docs/options.md`."""

from __future__ import annotations

from mpbench.config.options import OPTIONS, SECTIONS, Option
from mpbench.config.profiles import PROFILES

INTRODUCTION = """\
<!-- Generated from mpbench/config/options.py: python -m mpbench.config.page > docs/options.md -->

# Options

`pytest --help` lists them too. A value that is not valid is one line that names the option, what was given and what is
valid, and exit status 4, before anything is measured.

What a project always wants stands in the pyproject.toml of pytest's root folder, under an option's name without
`--mp-`:

```toml
[tool.mpbench]
models = ["mobilenet_v2", "my_package.models:small_unet"]
max-time = 30
energy = false          # or "off"
require-gpu = true

[tool.mpbench.gate]     # the gate's rules: docs/gate.md
slower = 2.5
```

What is typed goes before it: `--mp-max-time=60`, `--mp-energy=on`, `--no-mp-require-gpu` (each option without a value
can be turned off so). An unknown key, or one in the wrong table, is an error. `{command_line_only}` are for the
command line alone. pytest's own `addopts` works as well.
"""


def options_page() -> str:
    """The whole document."""
    not_there = "`, `".join(option.name for option in OPTIONS if option.not_in_pyproject)
    parts = [INTRODUCTION.replace("{command_line_only}", not_there)]
    for title, options in SECTIONS.items():
        rows = "\n".join(map(_row, options))
        parts.append(f"## {title}\n\n| option | meaning | default |\n|---|---|---|\n{rows}\n")
    return "\n".join([*parts, _profiles()])


def _row(option: Option) -> str:
    typed, pipe = f"{option.typed} {option.metavar}".strip(), r"\|"  # which would end the cell, in code too
    meaning = f"{option.help}. {option.more}" if option.more else option.help
    return f"| `{typed.replace('|', pipe)}` | {meaning.replace('+-', '±')} | {option.default_in_words} |"


def _profiles() -> str:
    """What each profile sets."""
    names = list(PROFILES)
    rows = [
        f"| `{option.typed}` | {' | '.join(option.by_profile[name] for name in names)} |"
        for option in OPTIONS
        if option.by_profile
    ]
    head = (
        f"## Profiles\n\nWhat `--mp-profile` sets; a given option goes before it.\n\n| option | {' | '.join(names)} |"
    )
    return "\n".join([head, f"|---|{'---|' * len(names)}", *rows, ""])


if __name__ == "__main__":
    print(options_page(), end="")
