"""Measuring: steps built, warmed up, interleaved and stopped, with what the device says meanwhile."""
