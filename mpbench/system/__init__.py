"""What the machine is and offers: facts, memory, NVML, locks, the cache folder, files written whole."""
