"""Statistics as pure functions: no clock, no files, nothing drawn at random: the same rounds give the same figures.

`import scipy` loads its sub-packages when they are first used. `scipy.stats` is not used at all: it takes half a second
to load, `python -m mpbench` answers in one, and the plugin is in every pytest run. Functions that repeat something of
it, or of `scipy.fft`, say so and are tested against it.
"""
