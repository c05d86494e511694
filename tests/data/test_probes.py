import math

import pytest
import torch

from stdcf_lib.data.probes import drifting_grating, moving_bar


def centroid(clip):
    """The centre of brightness of each frame, in pixels: x to the right, y upwards."""
    h, w = clip.shape[3:]
    weight = clip[0, 0].double() / clip[0, 0].double().sum(dim=(1, 2), keepdim=True)
    x = (weight.sum(1) * torch.arange(w)).sum(1)
    y = (weight.sum(2) * torch.arange(h)).sum(1)
    return torch.stack([x, -y], dim=1)


@pytest.mark.parametrize("speed", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize("direction", [0, 90, 180, 270])
def test_the_bars_centroid_moves_at_the_speed(direction, speed):
    clip = moving_bar(frames=8, size=24, speed=speed, direction=direction, length=9)
    steps = centroid(clip).diff(dim=0)
    angle = math.radians(direction)
    wanted = speed * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    torch.testing.assert_close(steps, wanted.expand_as(steps), atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", [30, 45, 200])
def test_an_oblique_bar_moves_at_the_speed_to_a_tenth_of_a_pixel(direction):
    path = centroid(moving_bar(frames=9, size=32, speed=1.3, direction=direction, length=9))
    angle = math.radians(direction)
    wanted = 8 * 1.3 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    torch.testing.assert_close(path[-1] - path[0], wanted, atol=0.1, rtol=0)


def test_the_bar_has_its_size_and_crosses_the_centre():
    clip = moving_bar(frames=5, size=21, speed=0.4, width=3, length=7)
    torch.testing.assert_close(clip.sum(dim=(0, 1, 3, 4)), torch.full((5,), 21.0))
    torch.testing.assert_close(centroid(clip)[2], torch.tensor([10.0, -10.0], dtype=torch.float64))


def test_what_is_not_said_of_a_probe():
    bar = moving_bar(16, 28, speed=1.0, direction=0.0, width=3.0, length=15.0)
    grating = drifting_grating(16, 28, speed=1.0, direction=0.0, wavelength=8.0, phase=0.0)
    assert torch.equal(moving_bar(), bar) and torch.equal(drifting_grating(), grating)
    assert drifting_grating(1, 5)[0, 0, 0, 2, 2] == 1  # a crest in the middle


def test_the_bar_lies_across_its_motion():
    upright = moving_bar(frames=1, size=21, direction=0, width=3, length=7)[0, 0, 0]
    assert upright.any(0).sum() == 3 and upright.any(1).sum() == 7


@pytest.mark.parametrize(("speed", "direction"), [(1.0, 0), (0.5, 90), (-0.75, 30), (1.3, 222)])
def test_the_gratings_phase_velocity(speed, direction):
    wavelength, frames, size = 8.0, 6, 16
    clip = drifting_grating(frames, size, speed=speed, direction=direction, wavelength=wavelength).double()
    quarter = drifting_grating(frames, size, speed=speed, direction=direction, wavelength=wavelength, phase=-90).double()
    analytic = (2 * clip - 1) + 1j * (2 * quarter - 1)  # cos + i sin of the local phase
    torch.testing.assert_close(analytic.abs(), torch.ones_like(clip), atol=1e-5, rtol=0)
    k, angle = 2 * math.pi / wavelength, math.radians(direction)
    for axis, step in ((2, -k * speed), (3, -k * math.sin(angle)), (4, k * math.cos(angle))):
        n = analytic.shape[axis]
        turned = analytic.narrow(axis, 1, n - 1) * analytic.narrow(axis, 0, n - 1).conj()
        torch.testing.assert_close(turned.angle(), torch.full_like(turned.real, step), atol=1e-5, rtol=0)


def test_a_grating_is_a_shift_of_itself():
    clip = drifting_grating(frames=4, size=20, speed=2.0, direction=0)
    torch.testing.assert_close(clip[:, :, 1:, :, 2:], clip[:, :, :-1, :, :-2])


@pytest.mark.parametrize("make", [moving_bar, drifting_grating])
def test_shape_type_and_range(make):
    clip = make(frames=3, size=9, speed=1.3, direction=77)
    assert clip.shape == (1, 1, 3, 9, 9) and clip.dtype == torch.float32
    assert clip.min() >= 0 and clip.max() <= 1 and clip.max() > 0.9


@pytest.mark.parametrize("make", [moving_bar, drifting_grating])
@pytest.mark.parametrize("wrong", [{"frames": 0}, {"size": 2.5}, {"speed": math.inf}, {"direction": math.nan}])
def test_wrong_arguments_are_named(make, wrong):
    with pytest.raises(ValueError, match=rf"^{next(iter(wrong))}=.*: give"):
        make(**wrong)


def test_a_bar_below_a_pixel_and_a_wave_without_length_are_refused():
    with pytest.raises(ValueError, match=r"width=0\.5: give a finite number of at least 1"):
        moving_bar(width=0.5)
    with pytest.raises(ValueError, match=r"wavelength=0: give a finite number above 0"):
        drifting_grating(wavelength=0)
