"""What a result was measured with, and how files are kept free of what names the machine, its users or its folders."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mpbench.system import machine
from mpbench.system.cache import expanded

ROOT = Path(__file__).resolve().parents[2]

HIDDEN = (
    *("Serial Number", "GPU UUID", "Board ID", "Bus Id", "Module ID", "GUID", "GPU Fabric GUID", "Chassis", "Slot"),
    *("Process", "Type", "Name", "Used GPU", "GPU 0000"),
)
"""Beginnings of nvidia-smi's lines that name this card, where it sits, or other programs."""

NAMES = ("node", "project")
"""In pytest-benchmark's JSON: the machine, and the folder of the checkout."""


def described() -> str:
    """The system, the GPU's state and all packages, without what names the machine."""
    facts = {name: value for name, value in machine.machine_facts().items() if value is not None}
    lines = [
        f"system: {platform.system()} {platform.release()}, {_distribution()}",
        f"processor: {_line('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        f"memory: {_line('/proc/meminfo', 'MemTotal')}",
        f"python: {platform.python_version()}",
        *(f"{name}: {value}" for name, value in facts.items()),
        "",
        "packages:",
        _output([sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]),
        "",
        "nvidia-smi -q:",
        _without_names(_output(["nvidia-smi", "-q"])) or "not there",
    ]
    return anonymous("\n".join(lines) + "\n")


def anonymous(text: str) -> str:
    """A text without this machine's name, its user's and its folders."""
    folders = {str(ROOT): ".", sys.prefix: "VENV", str(expanded("~")): "~", tempfile.gettempdir(): "TMP"}
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(folder, folders[folder])
    for name in {socket.gethostname(), platform.node(), _user()} - {"", "root"}:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "HOST", text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in some containers
        return ""


def anonymous_json(value: Any) -> Any:
    """The same for what a JSON file holds."""
    if isinstance(value, dict):
        return {key: "" if key in NAMES else anonymous_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [anonymous_json(inner) for inner in value]
    return anonymous(value) if isinstance(value, str) else value


def _without_names(report: str) -> str:
    """nvidia-smi's report without serial numbers, addresses and other programs."""
    return "\n".join(line.rstrip() for line in report.splitlines() if not line.strip().startswith(HIDDEN))


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _line(file: str, name: str) -> str:
    try:
        lines = Path(file).read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
    except (OSError, StopIteration, IndexError):
        return "unknown"
