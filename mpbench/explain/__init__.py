"""Why a speedup is what it is: parts of a step, layers, rooflines, the input, and the account that adds up."""
