"""Why a speedup is what it is: `measuring/` finds figures on the device, `reading/` explains what was saved."""
