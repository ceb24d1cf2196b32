"""Is this run slower than the last ones? Verdicts by the rules of docs/gate.md, and what is printed of them."""
