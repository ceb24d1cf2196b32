"""Why a speedup is what it is: from the profile of a step to its breakdown, and to sentences."""
