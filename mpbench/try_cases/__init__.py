"""The cases of `mpbench try`, for whoever has no bench/ folder: pytest collects them from the installed package."""
