"""The physics and the rendering of TR-MNIST, each against a slower telling of the same, and the clips as a whole.

`python tests/data/test_tr_mnist.py` rewrites the stored reference, which is for other machines to agree with.
"""

import cmath
import gzip
import hashlib
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stdcf_lib.data import TRMNIST, mnist
from stdcf_lib.data.tr_mnist import bounce, ink_box, overhang, render

REFERENCE = Path(__file__).with_name("tr_mnist_reference.npz")
STORED = {
    "train": {"split": "train", "clips": 4},
    "test": {"split": "test", "clips": 4},
    "other": {
        "split": "test", "clips": 2, "seed": 7, "frames": 5, "size": 36, "digits": 3, "speed": (0, 9), "rotation": -20
    },
}  # fmt: skip

coordinate = st.floats(0, 1)
degrees = st.floats(-720, 720)


@pytest.fixture(scope="module")
def digits():
    return mnist("test")[0][:500]


def write_pool(folder, images):
    """A folder of idx files with these as the training digits."""
    labels = np.arange(len(images), dtype=np.uint8) % 10
    for name, array in {"images-idx3": images, "labels-idx1": labels}.items():
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def digest(dataset):
    return hashlib.sha256(dataset.clips.numpy().tobytes()).hexdigest()


# Motion


@given(st.floats(0.01, 50), coordinate, st.floats(-100, 100), st.integers(0, 40))
def test_bounce_is_what_a_ball_does_frame_by_frame(span, start, velocity, frames):
    position, speed = start * span, velocity
    for _ in range(frames):
        position += speed
        while not 0 <= position <= span:
            position, speed = (-position if position < 0 else 2 * span - position), -speed
    closed = bounce(*(torch.tensor(v, dtype=torch.float64) for v in (start * span, velocity, span, frames)))
    assert 0 <= closed <= span
    assert abs(closed - position) < 1e-9 * (1 + abs(velocity) * frames)


@given(st.floats(0.5, 30), coordinate, st.floats(-40, 40), st.floats(0, 10))
def test_bounce_conserves_speed(span, start, velocity, time):
    """The way covered is |velocity|·time: between bounces, where the path is straight, and so in sum."""
    start *= span
    first, last = sorted((start, start + velocity * time))
    walls = [k * span for k in range(math.ceil(first / span), math.floor(last / span) + 1)]
    times = sorted([0, time, *((wall - start) / velocity for wall in walls if velocity)])
    path = bounce(*(torch.tensor(v, dtype=torch.float64) for v in (start, velocity, span, times)))
    assert path.diff().abs().sum().item() == pytest.approx(abs(velocity) * time, abs=1e-8)


def test_bounce_starts_at_the_start_exactly():
    span = torch.linspace(0, 30, 1001, dtype=torch.float64)
    start = span * torch.linspace(0, 1, 1001, dtype=torch.float64).flip(0)
    assert (bounce(start, torch.tensor(3.3), span, torch.tensor(0.0)) == start).all()


def test_bounce_without_room_stands_still():
    zero = torch.zeros(1, dtype=torch.float64)
    assert (bounce(zero, torch.tensor([2.5]), zero, torch.arange(8.0)) == 0).all()
    with pytest.raises(ValueError, match=r"span must be at least 0, got -1.0"):
        bounce(zero, zero, zero - 1, zero)


def test_clips_move_as_they_say():
    dataset = TRMNIST("test", clips=400)
    *_, box, position, velocity = dataset.motion
    span = 28 - box[..., 2:]
    assert (position >= 0).all() and (position <= span[:, :, None]).all()
    speed = velocity.norm(dim=-1)
    assert (speed >= 1).all() and (speed <= 4).all() and speed.mean() == pytest.approx(2.5, abs=0.15)
    # Directions and starts are uniform: no side is preferred.
    quadrant = (velocity[..., 0] > 0) * 2 + (velocity[..., 1] > 0)
    assert quadrant.flatten().bincount().min() > 150
    assert (position[:, :, 0] / span).mean((0, 1)).numpy() == pytest.approx([0.5, 0.5], abs=0.05)
    # A frame without a bounce moves the box by the velocity; a bounce changes signs, never sizes.
    step = position.diff(dim=2).abs()
    free = (step - velocity.abs()[:, :, None]).abs() < 1e-9
    assert (step <= velocity.abs()[:, :, None] + 1e-9).all() and free.double().mean() > 0.5


# Rendering


def sample(image, row, column):
    """Bilinear, as the textbook has it: four neighbours, nothing outside."""
    top, left = math.floor(row), math.floor(column)
    total = 0.0
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        weight = (1 - abs(row - top - i)) * (1 - abs(column - left - j))
        if 0 <= top + i < image.shape[0] and 0 <= left + j < image.shape[1]:
            total += weight * int(image[top + i, left + j])
    return total


def render_slowly(image, position, angle, size):
    """One digit in one frame, pixel by pixel, with complex numbers for the plane: x to the right, y up."""
    rows, columns = np.nonzero(image)
    middle = complex(columns.min() + columns.max(), -(rows.min() + rows.max())) / 2
    corner = complex(columns.min(), -rows.min())
    centre = complex(position[1], -position[0]) + middle - corner
    frame = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            source = (complex(column, -row) - centre) * cmath.exp(-1j * math.radians(angle)) + middle
            frame[row, column] = sample(image, -source.imag, source.real)
    return frame


def render_one(image, position, angle, size):
    position, angle = (torch.as_tensor(v, dtype=torch.float64) for v in (position, angle))
    return render(image[None], ink_box(image[None]), position[None, None], angle[None], size)[0, 0]


@given(st.integers(0, 499), st.tuples(st.floats(-5, 20), st.floats(-5, 20)), degrees, st.integers(5, 33))
def test_render_agrees_with_a_pixel_by_pixel_one(digits, index, position, angle, size):
    slow = render_slowly(digits[index].numpy(), position, angle, size)
    assert np.abs(render_one(digits[index], position, angle, size).numpy() - slow).max() < 0.5 + 1e-6


@pytest.mark.parametrize("split", ["train", "test"])
def test_render_at_its_own_place_is_the_digit_bit_for_bit(split):
    for images in mnist(split)[0].split(1000):
        box = ink_box(images)
        assert torch.equal(render(images, box, box[:, None, :2], torch.zeros(1), 28)[:, 0], images)


@given(st.integers(0, 499), st.integers(-30, 40), st.integers(-30, 40))
def test_render_at_whole_pixels_moves_the_digit_bit_for_bit(digits, index, row, column):
    top, left, height, width = ink_box(digits[index][None])[0].tolist()
    canvas = torch.zeros(128, 128, dtype=torch.uint8)
    canvas[40 + row : 40 + row + height, 40 + column : 40 + column + width] = digits[
        index, top : top + height, left : left + width
    ]
    assert torch.equal(render_one(digits[index], (row, column), 0, 28), canvas[40:68, 40:68])


@given(st.integers(0, 499), degrees)
def test_a_quarter_turn_more_is_the_picture_turned(digits, index, angle):
    """About the middle of the frame, where turning the frame's pixels is exact."""
    position = (40 - ink_box(digits[index][None])[0, 2:]) / 2
    turned = render_one(digits[index], position, angle + 90, 40).int()
    assert (turned - render_one(digits[index], position, angle, 40).rot90().int()).abs().max() <= 1


def test_frame_k_is_turned_by_45k_degrees():
    """Told from the pixels alone: the ink's centre of mass circles the centre of the box."""
    dataset = TRMNIST("test", clips=300, digits=1, size=64)
    *_, box, position, _ = dataset.motion
    centre = position[:, 0] + (box[:, 0, None, 2:] - 1) / 2
    clips = dataset.clips[:, 0].double()
    pixel = torch.arange(64.0).double()
    mass = clips.sum((2, 3))
    arm = torch.stack([(clips.sum(3) @ pixel) / mass, (clips.sum(2) @ pixel) / mass], -1) - centre
    heading = torch.rad2deg(torch.atan2(-arm[..., 0], arm[..., 1]))
    turned = (heading - heading[:, :1] - 45 * torch.arange(8) + 180) % 360 - 180
    # Where the arm is long enough to point, and nothing is cut off.
    margin = overhang(box[:, 0])[:, None, None] + 1
    inside = ((position[:, 0] > margin) & (position[:, 0] < 64 - box[:, 0, None, 2:] - margin)).all(2).all(1)
    clear = inside & (arm.norm(dim=-1)[:, 0] > 1.5)
    assert clear.sum() >= 10
    assert turned[clear].abs().max() < 5


def test_every_frame_of_a_clip_is_its_digits_rendered_and_joined_by_maximum():
    dataset = TRMNIST("test", clips=2, seed=3, digits=3, frames=4, size=30, rotation=-70)
    pool, labels = mnist("test")
    motion = dataset.motion
    assert torch.equal(motion.label, labels[motion.digit])
    for clip in range(2):
        for k in range(4):
            slow = [
                render_slowly(pool[motion.digit[clip, d]].numpy(), motion.position[clip, d, k].tolist(), -70 * k, 30)
                for d in range(3)
            ]
            assert np.abs(np.max(slow, axis=0) - dataset.clips[clip, 0, k].numpy()).max() < 0.5 + 1e-6


# The border


@given(st.integers(0, 499), st.tuples(coordinate, coordinate), degrees)
def test_ink_leaves_the_frame_by_no_more_than_the_overhang(digits, index, start, angle):
    box = ink_box(digits[index][None])
    position = (28 - box[0, 2:]) * torch.tensor(start, dtype=torch.float64)
    around = 12
    wide = render_one(digits[index], position + around, angle, 28 + 2 * around)
    # The fringe of bilinear sampling reaches half a pixel beyond the ink's own, in the digit's own rows and columns.
    margin = overhang(box)[0] + math.sqrt(0.5)
    for axis in (0, 1):
        inked = (wide > 0).any(axis).nonzero() + 0.5 - around
        assert inked.min() >= -margin and inked.max() <= 28 + margin
    # What is outside is cut off. A gray level may differ, where one halfway between two is rounded.
    seen = render_one(digits[index], position, angle, 28).int()
    assert (wide[around:-around, around:-around].int() - seen).abs().max() <= 1


def test_upright_ink_never_leaves_the_frame():
    dataset = TRMNIST("test", clips=300, digits=1, rotation=0)
    ink = mnist("test")[0][dataset.motion.digit[:, 0]].double().sum((1, 2))
    assert (dataset.clips.double().sum((3, 4))[:, 0] / ink[:, None]).sub(1).abs().max() < 0.02


def test_overhang_is_reached():
    """A bar, upright at the left border and then on its side."""
    bar = torch.zeros(28, 28, dtype=torch.uint8)
    bar[4:24, 12:14] = 255
    wide = render_one(bar, (16, 12), 90, 52)
    assert (wide > 0).any(0).nonzero().min() - 12 == -9
    assert overhang(ink_box(bar[None]))[0] == pytest.approx((math.hypot(20, 2) - 2) / 2) == pytest.approx(9.05, abs=0.01)


def test_ink_box_is_the_smallest(digits):
    for image, (top, left, height, width) in zip(digits[:50], ink_box(digits[:50]).tolist(), strict=True):
        ink = image[top : top + height, left : left + width]
        assert ink.sum() == image.sum()
        assert all(edge.any() for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
    assert ink_box(torch.ones(1, 5, 9, dtype=torch.uint8)).tolist() == [[0, 0, 5, 9]]
    assert ink_box(torch.eye(4, dtype=torch.uint8).roll(1, 0)[None, :2]).tolist() == [[0, 0, 2, 4]]


# Clips as a data set


def test_one_digit_one_frame_clip_equals_the_digit(tmp_path):
    """Ink as large as the frame leaves the start no choice, so nothing may differ; nor in any other upright frame."""
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    images[:, [0, 27], [5, 9]] = images[:, [3, 8], [0, 27]] = 1
    folder = write_pool(tmp_path, images)
    for frames in (1, 3):
        dataset = TRMNIST("train", clips=20, digits=1, frames=frames, rotation=0, folder=folder)
        for k in range(frames):
            assert torch.equal(dataset.clips[:, 0, k], torch.from_numpy(images)[dataset.motion.digit[:, 0]])
    assert sorted(dataset.motion.digit.flatten().tolist()) == list(range(20))
    with pytest.raises(ValueError, match="size 27 is smaller than a digit's ink, which needs 28 pixels"):
        TRMNIST("train", clips=1, size=27, folder=folder)


@pytest.mark.parametrize(("split", "clips"), [("train", 10_000), ("test", 5_000)])
def test_protocol_uses_every_digit_once(split, clips):
    dataset = TRMNIST(split, frames=1)
    assert dataset.clips.shape == (clips, 1, 1, 28, 28)
    assert dataset.motion.digit.flatten().sort().values.equal(torch.arange(2 * clips))


def test_digits_are_used_again_only_when_all_are_used(tmp_path):
    images = np.ones((5, 28, 28), np.uint8)
    dataset = TRMNIST("train", clips=8, frames=1, folder=write_pool(tmp_path, images))
    drawn = dataset.motion.digit.flatten()
    for turn in drawn.split(5):
        assert len(turn.unique()) == len(turn)


def test_items_are_what_networks_take():
    dataset = TRMNIST("test", clips=6)
    assert dataset.clips.shape == (6, 1, 8, 28, 28) and dataset.clips.dtype == torch.uint8
    assert len(dataset) == len([*dataset]) == 6
    clip = dataset[-1]
    assert clip.shape == (1, 8, 28, 28) and clip.dtype == torch.float32
    assert torch.equal((clip * 255).round().byte(), dataset.clips[5]) and 0.9 < clip.max() <= 1
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=4)))
    assert batch.shape == (4, 1, 8, 28, 28)
    with pytest.raises(IndexError):
        dataset[6]


def test_same_clips_for_any_chunk_and_thread_count():
    threads = torch.get_num_threads()
    expected = digest(TRMNIST("train", clips=301))
    try:
        for count, chunk in [(1, 1), (1, 1000), (2, 7), (3, 32), (5, 300)]:
            torch.set_num_threads(count)
            assert digest(TRMNIST("train", clips=301, chunk=chunk)) == expected
    finally:
        torch.set_num_threads(threads)


def test_same_clips_in_another_process():
    code = """if True:
        import hashlib, torch
        torch.set_num_threads(3), torch.manual_seed(5), torch.set_default_dtype(torch.float16)
        from stdcf_lib.data import TRMNIST
        print(hashlib.sha256(TRMNIST("train", clips=301).clips.numpy().tobytes()).hexdigest())"""
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert other.stdout.strip() == digest(TRMNIST("train", clips=301))


def test_a_clip_does_not_depend_on_how_many_there_are():
    few, many = TRMNIST("test", clips=3), TRMNIST("test", clips=50)
    assert torch.equal(few.clips, many.clips[:3])
    assert all(torch.equal(a, b[:3]) for a, b in zip(few.motion, many.motion, strict=True))
    longer = TRMNIST("test", clips=3, frames=11)
    assert torch.equal(few.clips, longer.clips[:, :, :8])


def test_seeds_and_splits_move_differently():
    one, other, test = (TRMNIST(s, clips=5, frames=1, seed=i) for s, i in (("train", 0), ("train", 1), ("test", 0)))
    for a, b in ((one, other), (one, test)):
        assert not (a.motion.digit == b.motion.digit).all()
        assert ((a.motion.velocity - b.motion.velocity).abs() > 1e-3).all()


def test_clips_agree_with_the_stored_ones_within_a_gray_level():
    with np.load(REFERENCE) as stored:
        assert set(stored.files) == set(STORED)
        for name, options in STORED.items():
            clips = TRMNIST(**options).clips.numpy()
            assert clips.shape == stored[name].shape
            assert np.abs(clips.astype(int) - stored[name]).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "split='val': choose 'train' or 'test'"),
        ({"clips": 0}, "clips=0: give an integer of at least 1"),
        ({"clips": 2.5}, r"clips=2\.5: give an integer of at least 1"),
        ({"seed": -1}, "seed=-1: give an integer of at least 0"),
        ({"seed": None}, "seed=None: give an integer of at least 0"),
        ({"frames": 0}, "frames=0: give an integer of at least 1"),
        ({"digits": 0}, "digits=0: give an integer of at least 1"),
        ({"chunk": 0}, "chunk=0: give an integer of at least 1"),
        ({"size": "28"}, "size='28': give an integer of at least 1"),
        ({"size": 19, "clips": 50}, "size 19 is smaller than a digit's ink, which needs 20 pixels"),
        ({"speed": 3}, r"speed=3: give a pair \(lowest, highest\)"),
        ({"speed": (1, 2, 3)}, r"speed=\(1, 2, 3\): give a pair"),
        ({"speed": (4, 1)}, "highest of speed=1: give a finite number of at least 4"),
        ({"speed": (-1, 1)}, "lowest of speed=-1: give a finite number of at least 0"),
        ({"speed": (0, math.nan)}, "highest of speed=nan: give a finite number"),
        ({"speed": (0, math.inf)}, "highest of speed=inf: give a finite number"),
        ({"rotation": math.nan}, "rotation=nan: give a finite number"),
        ({"rotation": "45"}, "rotation='45': give a finite number"),
    ],
)
def test_bad_arguments_are_refused_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        TRMNIST(**{"split": "test", "clips": 1} | options)


def test_numpy_numbers_will_do():
    plain = TRMNIST("test", clips=3, seed=1, frames=4, speed=(1.0, 2.0), rotation=30.0)
    make: Any = TRMNIST
    one = make("test", np.int64(3), np.uint8(1), np.int32(4), speed=np.array([1.0, 2.0]), rotation=np.float32(30))
    assert torch.equal(one.clips, plain.clips)


def test_bad_images_are_refused_in_words():
    blank = torch.ones(3, 28, 28, dtype=torch.uint8)
    blank[1] = 0
    with pytest.raises(ValueError, match="image 1 of images has no ink"):
        ink_box(blank)
    with pytest.raises(TypeError, match=r"images must be uint8 .n, H, W., got torch.float32 .1, 28, 28."):
        ink_box(torch.rand(1, 28, 28))
    with pytest.raises(TypeError, match="images must be uint8"):
        render(torch.rand(1, 28, 28), torch.zeros(1, 4), torch.zeros(1, 1, 2), torch.zeros(1), 28)


if __name__ == "__main__":
    clips: dict[str, Any] = {name: TRMNIST(**options).clips.numpy() for name, options in STORED.items()}
    np.savez_compressed(REFERENCE, **clips)
