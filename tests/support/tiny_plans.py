"""Groups of tiny real models."""

from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import Profile
from mpbench.engine.plan import GroupPlan, Member, StepSpec
from mpbench.system.device import Device

CPU = Device("cpu", "/CPU:0")

PROFILE = Profile("quick", batch_size=4, image_size_px=16, max_seconds=0.5)


def plan(models, phase="training"):
    """Arms float32 and mixed_float16, each of a tiny model of its own."""
    members = {
        name: Member(
            StepSpec(f"tiny_models:{model}", PRECISIONS[name], phase, 4, 16, None, CPU),
            baseline="float32" if "float32" in models and name != "float32" else None,
        )
        for name, model in models.items()
    }
    return GroupPlan(f"tiny {phase}", "", members, PROFILE)


def measure_group(plan, progress, keep=lambda measured: None, profile=None):
    """What became of the arms of one group, measured alone."""
    from mpbench.engine.session import measure_groups

    return dict(measure_groups([plan], progress, lambda _, measured: keep(measured), profile))[0]
