import io

import numpy as np
import pytest
import torch
from PIL import Image

from stdcf_lib.data import TRMNIST, mnist
from stdcf_lib.data.tr_mnist import overhang
from stdcf_lib.plots import tr_mnist as plots


@pytest.fixture(scope="module")
def dataset():
    return TRMNIST("test", clips=40)


@pytest.fixture(scope="module")
def images():
    return mnist("test")[0]


def test_an_animation_plays_every_frame(dataset):
    animation = plots.Animation(dataset.clips[:2, 0], scale=2, pace=100)
    picture = Image.open(io.BytesIO(animation.png()))
    assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (8, 100, 0)
    picture.seek(5)
    frame = np.array(picture.convert("L"))
    np.testing.assert_array_equal(frame[::2, :56:2], dataset.clips[0, 0, 5])
    assert animation.png() == animation.png()
    assert repr(animation) == "<Animation: 2 clips of 8 frames, 28 × 28 pixels>"


def test_an_animation_refuses_floats(dataset):
    with pytest.raises(TypeError, match=r"clips must be uint8 \(n, T, H, W\)"):
        plots.Animation(dataset.clips[:2, 0].float()).png()


def test_digits_alone_combine_to_the_clip(dataset, images):
    layers = plots.alone(dataset.motion, images)
    assert torch.equal(layers.amax(1), dataset.clips[:, 0])
    wide = plots.alone(dataset.motion, images, margin=16)
    assert torch.equal(wide[..., 16:-16, 16:-16], layers)


def test_an_eye_that_follows_sees_a_digit_at_rest():
    followed = plots.follow(TRMNIST("test", 30, digits=1)).float()
    apart = (followed - followed[:, :1]).abs().mean() / followed.mean()
    moving = TRMNIST("test", 30, digits=1).clips[:, 0].float()
    assert apart < 0.3 * (moving - moving[:, :1]).abs().mean() / moving.mean()
    with pytest.raises(ValueError, match="digits=1"):
        plots.follow(TRMNIST("test", 2))


def test_mirrors_folds_the_straight_path_into_the_room():
    arrays = plots.mirrors(speed=3, direction=0, frames=6, start=(5, 3), room=(8, 12)).arrays
    np.testing.assert_allclose(arrays["straight"][:, 1], [3, 6, 9, 12, 15, 18])
    np.testing.assert_allclose(arrays["folded"][:, 1], [3, 6, 9, 12, 9, 6])
    np.testing.assert_allclose(arrays["folded"][:, 0], 5, atol=1e-6)


def test_making_shows_the_clip_it_names():
    arrays = plots.making(clip=3).arrays
    np.testing.assert_array_equal(arrays["clip"], TRMNIST("test", clips=4).clips[3, 0])
    np.testing.assert_array_equal(arrays["alone"].max(0), arrays["clip"])


def test_overhangs_count_the_ink_outside(dataset, images):
    arrays = plots.overhangs(dataset.motion, images).arrays
    np.testing.assert_array_equal(arrays["bound"], overhang(dataset.motion.box).flatten())
    wide = plots.alone(dataset.motion, images, margin=16)[0, 0].double().sum((1, 2))
    inside = plots.alone(dataset.motion, images)[0, 0].double().sum((1, 2))
    np.testing.assert_allclose(arrays["cut"][0], 1 - inside / wide)
    assert (arrays["cut"][:, 0] == 0).all()  # upright, nothing overhangs


def test_borders_rank_the_choices_as_the_notebook_tells():
    arrays = plots.borders(clips=60).arrays
    rooms = [arrays[f"{name}, room"].mean() for name in ("patch", "circle", "ink box", "centre")]
    assert rooms[0] == 0 and rooms == sorted(rooms)
    assert arrays["centre, ink cut off"].mean() > 5 * arrays["ink box, ink cut off"].mean()


def test_speeds_counts_bounces_along_the_path():
    motion = TRMNIST("test", clips=40, digits=1).motion
    counts = plots.speeds(motion, clips=10).arrays["bounces"]
    fine = TRMNIST("test", clips=40, digits=1).motion
    turns = 0
    for i in range(40):
        for axis in (0, 1):
            path = np.linspace(0, 7, 7001) * float(fine.velocity[i, 0, axis]) + float(fine.position[i, 0, 0, axis])
            turns += np.count_nonzero(np.diff(np.floor(path / float(28 - fine.box[i, 0, 2 + axis]))))
    assert (np.arange(len(counts)) * counts).sum() == turns


def test_separable_energy_is_that_of_the_singular_values(dataset):
    clips = dataset.clips[:3, 0]
    s = torch.linalg.svdvals(clips.flatten(2).double())
    expected = s.square().cumsum(1) / s.square().sum(1, keepdim=True)
    torch.testing.assert_close(plots.separable_energy(clips), expected, atol=1e-8, rtol=0)
    still = TRMNIST("test", 3, digits=1, speed=(0, 0), rotation=0).clips[:, 0]
    torch.testing.assert_close(plots.separable_energy(still)[:, 0], torch.ones(3, dtype=torch.float64))


def test_joint_functions_hold_more_than_products_and_both_hold_all():
    joint, products = plots.patch_energy(plots.one_way(clips=300), patches=2000)
    assert (joint >= products - 1e-9).all() and joint[3] > products[3] + 0.03
    assert joint[-1] == pytest.approx(1) and products[-1] == pytest.approx(1)


def test_overlaps_by_hand(dataset, images):
    arrays = plots.overlaps(dataset.motion, images).arrays
    one, other = plots.alone(dataset.motion, images)[0, :, 0].long().numpy()
    assert arrays["overlap"][0] == pytest.approx(np.minimum(one, other).sum() / min(one.sum(), other.sum()))
    np.testing.assert_array_equal(arrays["maximum"], np.maximum(one, other))
    with pytest.raises(ValueError, match="give one of two"):
        plots.overlaps(TRMNIST("test", 2, digits=1).motion, images)


def test_sampling_and_turns(images):
    arrays = plots.sampling(images[0]).arrays
    assert np.ptp(arrays["nearest, ink"]) > 5 * np.ptp(arrays["bilinear, ink"])
    assert np.abs(arrays["rounding error"]).max() <= 0.5
    assert arrays["bilinear, ink"][90] == pytest.approx(1)
    (strips,) = plots.turns(images[0], (90,)).arrays.values()
    np.testing.assert_allclose(strips[4], strips[0], atol=1 / 255)
    assert np.abs(strips[1] - strips[0]).max() > 0.5


def test_labels_count_classes_and_pairs(dataset):
    arrays = plots.labels({"test": dataset.motion.label}).arrays
    assert arrays["test, pairs"].sum() == 40 and arrays["test, classes"].sum() == 80
    first, second = dataset.motion.label[0].tolist()
    assert arrays["test, pairs"][first, second] >= 1


def test_draws_count_every_digit(dataset):
    arrays = plots.draws(dataset.motion).arrays
    assert arrays["speed, counts"].sum() == arrays["direction, counts"].sum() == 80
    assert arrays["start, counts"].sum() == 160
    edges = arrays["speed, edges"][:-1]
    assert arrays["speed, counts"][(edges < 1) | (edges >= 4)].sum() == 0


def test_separability_refuses_what_could_not_be_told_apart(dataset):
    with pytest.raises(ValueError, match="7 entries; give 1 to 6"):
        plots.separability(dict.fromkeys("abcdefg", dataset.clips[:, 0]))
