"""The same Keras models on JAX: Keras's own stateless `train_step` and `predict_step`, jitted as `fit` does it.

Compiled by XLA in any case. The state that a step returns is the next one's, its buffers given back for reuse.
"""

from __future__ import annotations

from typing import Any

import jax
import keras
import numpy as np
from worker import ArmSpec, PeerArm

from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import SEED
from mpbench.engine.models import CLASSES, build_model, compile_model
from mpbench.errors import CaseFailure

MATMUL_PRECISION = {"float32": "highest", "tf32": "tensorfloat32"}
"""On a GPU JAX takes TF32 for float32 products unless told otherwise; half precision has but one."""


def build(spec: ArmSpec) -> PeerArm:
    found = jax.devices()[0].platform
    if (found == "gpu") != (spec.device == "gpu"):
        raise CaseFailure(f"JAX {jax.__version__} computes on {found}: a GPU needs jax[cuda13] (or jax[cuda12])")
    return _KerasOnJax(spec)


class _KerasOnJax:
    flops: float | None = None  # mpbench counts the same model's

    def __init__(self, spec: ArmSpec) -> None:
        precision, shape = PRECISIONS[spec.precision], (spec.image_size_px, spec.image_size_px, 3)
        self._training = spec.phase == "training"
        self._model = model = build_model(spec.model, spec.image_size_px, precision)
        rng = np.random.default_rng(SEED)
        batch = jax.device_put(rng.uniform(-1, 1, (spec.batch_size, *shape)).astype(np.float32))
        self._data: tuple[Any, ...] = (batch,)
        if self._training:
            compile_model(model, precision, True, shape)
            model.optimizer.build(model.trainable_variables)
            self._data = (batch, jax.device_put(rng.integers(0, CLASSES, spec.batch_size).astype(np.int32)))
        kinds = [model.trainable_variables, model.non_trainable_variables]
        if self._training:
            kinds += [model.optimizer.variables, model.metrics_variables]
        self._state = tuple([variable.value for variable in variables] for variables in kinds)
        self._sums_before = self._sums()
        step = model.train_step if self._training else self._predict_step
        with jax.default_matmul_precision(MATMUL_PRECISION.get(spec.precision, "default")):
            self._call = jax.jit(step, donate_argnums=0).lower(self._state, self._data).compile()
        self._out: Any = None
        self.steps = 0
        self.run(1)

    def run(self, steps: int) -> None:
        call, data, state, out = self._call, self._data, self._state, self._out
        for _ in range(steps):
            out, state = call(state, data)
        jax.block_until_ready((out, state))
        self._state, self._out = state, out
        self.steps += steps

    def skipped_steps(self) -> int:
        if not self._training or not isinstance(self._model.optimizer, keras.optimizers.LossScaleOptimizer):
            return 0
        optimizer = self._model.optimizer
        place = next(i for i, one in enumerate(optimizer.variables) if one is optimizer.iterations)
        return self.steps - int(self._state[2][place])

    def check(self) -> None:
        if not all(np.isfinite(np.asarray(value, dtype=np.float64)).all() for value in jax.tree.leaves(self._out)):
            raise CaseFailure(f"the {'loss' if self._training else 'output'} is not finite after {self.steps} steps")
        if not np.isfinite(sums := self._sums()).all():
            raise CaseFailure(f"weights are not finite after {self.steps} steps")
        if self._training and (sums == self._sums_before).all():
            raise CaseFailure(f"training moved no weight in {self.steps} steps")

    def _sums(self) -> np.ndarray[Any, Any]:
        return np.array([np.asarray(value, dtype=np.float64).sum() for value in self._state[0]])

    def _predict_step(self, state: Any, data: Any) -> Any:
        outputs, others = self._model.predict_step(state, data)
        return outputs, (state[0], others)
