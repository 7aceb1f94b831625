"""Torchvision's families of classification CNNs, one network of each, with an input it takes."""

FAMILIES: dict[str, int] = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "wide_resnet50_2": 32,
    "densenet121": 32,
    "googlenet": 64,
    "inception_v3": 96,
    "squeezenet1_1": 64,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "mnasnet0_5": 32,
    "efficientnet_b0": 32,
    "efficientnet_v2_s": 32,
    "regnet_x_400mf": 32,
    "regnet_y_400mf": 32,
    "shufflenet_v2_x1_0": 32,
    "convnext_tiny": 32,
}
"""Name to side of the square input in pixels: small, because only shapes are at stake."""


def family_arguments(name: str) -> dict[str, object]:
    """Constructor arguments for ten classes."""
    if name in ("inception_v3", "googlenet"):
        # Their own initialisation takes seconds, and auxiliary heads have a test of their own.
        return {"num_classes": 10, "aux_logits": False, "init_weights": False}
    return {"num_classes": 10}
