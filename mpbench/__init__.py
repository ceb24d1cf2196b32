"""mpbench: what mixed precision really buys, measured step by step."""

__version__ = "0.1.0"
