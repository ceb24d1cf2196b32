"""Names of models, in any spelling, and the smallest images that they take. Builds nothing."""

from __future__ import annotations

import difflib

from mpbench.errors import UsageProblem

DEFAULT_MODELS = ("vgg16", "inception_v3", "resnet152_v2")

APPLICATIONS = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "resnet50_v2": "ResNet50V2",
    "resnet101_v2": "ResNet101V2",
    "resnet152_v2": "ResNet152V2",
    "inception_v3": "InceptionV3",
    "inception_resnet_v2": "InceptionResNetV2",
    "xception": "Xception",
    "mobilenet": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
    "densenet121": "DenseNet121",
    "densenet169": "DenseNet169",
    "densenet201": "DenseNet201",
    "nasnet_mobile": "NASNetMobile",
    "nasnet_large": "NASNetLarge",
    **{f"efficientnet_b{i}": f"EfficientNetB{i}" for i in range(8)},
    **{f"efficientnet_v2_{x}": f"EfficientNetV2{x.upper()}" for x in ("b0", "b1", "b2", "b3", "s", "m", "l")},
    **{f"convnext_{x}": f"ConvNeXt{c}" for x, c in zip(
        ("tiny", "small", "base", "large", "xlarge"), ("Tiny", "Small", "Base", "Large", "XLarge"), strict=True)},
}  # fmt: skip
"""Our names for the architectures of keras.applications."""

MIN_IMAGE_SIZE_PX = {"inception_v3": 75, "inception_resnet_v2": 75, "xception": 71}

DEFAULT_MIN_IMAGE_SIZE_PX = 32
"""keras.applications' own minimum with include_top=False."""


def canonical_name(name: str, option: str = "--mp-models") -> str:
    """Our name for a model given in any spelling of it, such as `ResNet152V2` or `resnet152_v2`.

    A user's factory, `package.module:callable`, is returned as it is. `option` is what a refusal names.

    Raises:
        UsageProblem: neither a known architecture nor of a factory's form.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        if module and attribute and all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
            return name
        raise UsageProblem(f"{option}: {name!r} is not a factory: must be package.module:callable")
    for known in APPLICATIONS:
        if squeezed(known) == squeezed(name):
            return known
    close = difflib.get_close_matches(name.lower(), APPLICATIONS, n=1, cutoff=0.5)
    meant = f" (did you mean {close[0]}?)" if close else ""
    valid = f"valid are package.module:factory and {', '.join(APPLICATIONS)}"
    raise UsageProblem(f"{option}: unknown model {name!r}{meant}: {valid}")


def squeezed(name: str) -> str:
    """What all spellings of a model's name have in common."""
    return name.lower().replace("_", "").replace("-", "")


def min_image_size_px(name: str) -> int:
    """Smallest square image that the model takes; 1 for a user's factory, which knows best itself."""
    return 1 if ":" in name else MIN_IMAGE_SIZE_PX.get(name, DEFAULT_MIN_IMAGE_SIZE_PX)
