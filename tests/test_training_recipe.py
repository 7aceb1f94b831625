"""Recipes and the epochs of the two protocols, against the published ones and by brute force."""

import random

import pytest
from pydantic import ValidationError

from prunenas.errors import TrainingError
from prunenas.training import Recipe, scratch_epochs
from prunenas.training.schedule import milestone_epochs


def vgg16_flops(widths: list[int]) -> int:
    """Closed form of Li et al.'s CIFAR VGG-16: 3×3 convolutions and one linear layer."""
    total, channels, size = 0, 3, 32
    for layer, width in enumerate(widths):
        total += 9 * channels * width * size * size
        channels = width
        if layer in (1, 3, 6, 9, 12):
            size //= 2
    return total + channels * 10


def test_scratch_b_of_vgg16_a_is_the_published_243_epochs() -> None:
    dense = vgg16_flops([64, 64, 128, 128, 256, 256, 256] + [512] * 6)
    pruned = vgg16_flops([32, 64, 128, 128, 256, 256, 256] + [256] * 6)
    assert dense == 313_201_664
    assert scratch_epochs("scratch_b", 160, dense_flops=dense, flops=pruned) == 243


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [(243, (121, 182)), (178, (89, 133)), (220, (110, 165)), (260, (130, 195)), (160, (80, 120))],
)
def test_milestones_are_the_published_ones(epochs: int, steps: tuple[int, int]) -> None:
    assert milestone_epochs(Recipe(epochs=160), epochs) == steps


def test_milestones_are_decimal_numbers_not_binary_ones() -> None:
    assert int(0.29 * 100) == 28  # the trap
    assert milestone_epochs(Recipe(epochs=1, milestones=(0.29, 0.57)), 100) == (29, 57)


def test_scratch_b_never_spends_more_than_the_dense_network_and_one_epoch_more_would() -> None:
    draw = random.Random(0)
    for _ in range(500):
        epochs, flops = draw.randint(1, 300), draw.randint(1, 10**9)
        dense = flops * draw.randint(1, 20) if draw.random() < 0.3 else draw.randint(flops, 10**10)
        longer = scratch_epochs("scratch_b", epochs, dense_flops=dense, flops=flops)
        assert longer * flops <= epochs * dense < (longer + 1) * flops


def test_scratch_e_keeps_the_epochs() -> None:
    assert scratch_epochs("scratch_e", 160, dense_flops=100, flops=7) == 160


def test_cap_is_the_papers_double_on_imagenet() -> None:
    def epochs(flops: int) -> int:
        return scratch_epochs("scratch_b", 90, dense_flops=1000, flops=flops, cap=2.0)

    assert (epochs(100), epochs(500), epochs(800)) == (180, 180, 112)


def test_recipe_knows_its_epochs() -> None:
    recipe = Recipe(epochs=10, protocol="scratch_b", scratch_b_cap=2.5)
    assert recipe.epochs_for(dense_flops=100, flops=50) == 20
    assert recipe.epochs_for(dense_flops=100, flops=10) == 25
    assert recipe.model_copy(update={"protocol": "scratch_e"}).epochs_for(
        dense_flops=100, flops=10
    ) == (10)


def test_an_architecture_above_the_dense_flops_still_trains_an_epoch() -> None:
    assert scratch_epochs("scratch_b", 2, dense_flops=10, flops=1000) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"protocol": "scratch_c"}, "unknown protocol"),
        ({"flops": 0}, "unusable epochs"),
        ({"epochs": 0}, "unusable epochs"),
        ({"cap": 0.5}, "unusable epochs"),
    ],
)
def test_unusable_epochs_are_refused(arguments: dict[str, object], reason: str) -> None:
    usable: dict[str, object] = {
        "protocol": "scratch_b",
        "epochs": 4,
        "dense_flops": 10,
        "flops": 5,
    }
    with pytest.raises(TrainingError) as caught:
        scratch_epochs(**{**usable, **arguments})
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": True}, "valid integer"),
        ({"epochs": 2.5}, "valid integer"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": float("nan")}, "finite number"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"momentum": 1.0}, "less than 1"),
        ({"momentum": 0, "nesterov": True}, "needs momentum > 0"),
        ({"milestones": [0.75, 0.5]}, "must ascend"),
        ({"milestones": [0.5, 0.5]}, "must ascend"),
        ({"milestones": [0.5, 1.0]}, "less than 1"),
        ({"warmup_epochs": 4}, "must be below epochs"),
        ({"schedule": "one_cycle", "warmup_epochs": 1}, "warm-up of its own"),
        ({"schedule": "steps"}, "'step', 'cosine', 'one_cycle' or 'constant'"),
        ({"learning_rate": 0.1}, "not permitted"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, object], law: str) -> None:
    with pytest.raises(ValidationError, match=law):
        Recipe.model_validate({"epochs": 4, **fields})


def test_yaml_reads_1e_4_as_text_and_the_recipe_as_a_number() -> None:
    assert Recipe.model_validate({"epochs": 4, "weight_decay": "1e-4"}).weight_decay == 1e-4


def test_recipe_round_trips_through_json_and_stays_as_it_is() -> None:
    recipe = Recipe(epochs=4, milestones=(0.3,), schedule="cosine", precision="bfloat16")
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    with pytest.raises(ValidationError, match="frozen"):
        recipe.lr = 1.0


def test_every_field_is_described() -> None:
    assert all(field.description for field in Recipe.model_fields.values())
