"""What the user asked for: options, checked settings, profiles, precisions, modes, sweeps, models' names."""
