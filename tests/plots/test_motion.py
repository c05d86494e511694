"""Films: the arrays that they show, and that each frame shows its own."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch.nn.functional import conv3d

from stdcf_lib.atoms import spatial_atoms, temporal_atoms
from stdcf_lib.data.probes import drifting_grating, moving_bar
from stdcf_lib.plots import motion
from stdcf_lib.plots.joint_convolution import direction_bank, response_amplitude
from stdcf_lib.plots.start import equation
from stdcf_lib.plots.style import Film


def pictures(film: Film) -> list[np.ndarray]:
    with Image.open(io.BytesIO(film.png())) as animation:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]


def of_rank(film: Film, rank: int) -> torch.Tensor:
    return torch.tensor(film.arrays[f"rank {rank}"])


def test_only_rank_two_tells_right_from_left():
    film = motion.watching()
    assert film.figure.texts[0].get_text().endswith("?")  # notebook 00 has its reader predict it
    for rank in (1, 2):
        w = of_rank(film, rank)
        assert np.linalg.matrix_rank(w.flatten(1), tol=1e-4) == rank
        for side, angle in (("right", 0), ("left", 180)):
            answer = film.arrays[f"answer of rank {rank}, {side}"]
            amplitude = response_amplitude(w[None, None], direction=angle)[0]
            assert np.abs(np.fft.rfft(answer))[1] * 2 / len(answer) == pytest.approx(amplitude, abs=1e-4)
    swings = {key: np.ptp(values) for key, values in film.arrays.items() if key.startswith("answer")}
    assert swings["answer of rank 1, right"] == pytest.approx(swings["answer of rank 1, left"], rel=1e-4)
    assert swings["answer of rank 2, right"] > 1.9 * swings["answer of rank 1, right"]
    assert swings["answer of rank 2, left"] < 0.01 * swings["answer of rank 2, right"]


def test_an_answer_is_made_from_the_frames_up_to_now():
    film = motion.watching()
    w = of_rank(film, 2)
    for side in ("right", "left"):
        shown = torch.tensor(film.arrays[f"grating, {side}"][:: motion.STEPS]).to(w)  # the whole frames of one period
        covered = 2 * torch.cat([shown[-4:], shown])[:, 7:-7, 7:-7] - 1
        answers = conv3d(covered[None, None], w[None, None]).flatten().numpy()
        np.testing.assert_allclose(answers, film.arrays[f"answer of rank 2, {side}"][:: motion.STEPS], atol=1e-5)


def test_the_film_of_the_start_page_is_a_loop_without_a_seam():
    film = motion.watching(wavelength=6)
    assert film.frames == motion.STEPS * 6
    before, after = film.arrays["grating, right"][-1], film.arrays["grating, right"][0]
    usual = np.abs(np.diff(film.arrays["grating, right"], axis=0)).max()
    assert np.abs(after - before).max() <= usual + 1e-6


def test_products_move_as_their_rhythms_say():
    psi, phi = spatial_atoms((3, 3), 4), temporal_atoms(3, 2)
    film = motion.products(psi, phi)
    np.testing.assert_allclose(film.arrays["products"], torch.einsum("mhw,nt->nmthw", psi, phi))
    for k in range(film.frames):
        film.show(k)
        images = [np.asarray(axes.images[0].get_array()) for axes in film.figure.axes if axes.images]
        for m in range(4):
            still, *moving = images[3 * m : 3 * m + 3]
            np.testing.assert_allclose(still, psi[m])
            for n, image in enumerate(moving):
                np.testing.assert_allclose(image, psi[m] * phi[n, k], atol=1e-6)


def test_a_film_is_large_enough_and_shows_every_frame():
    clips = {"right": drifting_grating(8)[0, 0].numpy(), "bytes": (255 * drifting_grating(8)[0, 0]).byte().numpy()}
    film = motion.side_by_side(clips)
    shown = pictures(film)
    assert len(shown) == film.frames == 8
    left, right = (axes.get_window_extent() for axes in film.figure.axes)
    assert min(left.width, right.width) >= motion.SMALLEST and left.width % 28 == 0
    y = shown[0].shape[0] - int(left.y0 + left.height / 2)
    for k, picture in enumerate(shown):
        row = picture[y, int(left.x0) : int(left.x1), 0].reshape(28, -1)[:, 2]
        np.testing.assert_allclose(row / 255, clips["right"][k, 14], atol=0.04)


def test_compass_has_each_answer_on_its_side():
    bank = direction_bank()
    film = motion.compass(moving_bar(5, 12, length=7), bank)
    film.show(2)
    places = {}
    for axes in film.figure.axes:
        extent = axes.get_window_extent()
        places[axes] = np.array([(extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2])
    middle = np.mean(list(places.values()), axis=0)
    for channel, answer in enumerate(film.arrays["answers"]):
        (place,) = (xy for axes, xy in places.items() if np.array_equal(axes.images[0].get_array(), answer[2]))
        angle = np.degrees(np.arctan2(*(place - middle)[::-1])) % 360
        assert angle == pytest.approx(45 * channel, abs=1)


def test_equation_adds_up():
    generator = torch.Generator().manual_seed(0)
    psi, phi, alpha = spatial_atoms((3, 3), 5), temporal_atoms(3, 3), torch.randn(5, 3, generator=generator)
    arrays = equation(psi, phi, alpha.double()).arrays
    by_hand = sum(float(alpha[m, n]) * phi[n][:, None, None] * psi[m] for m in range(5) for n in range(3))
    np.testing.assert_allclose(arrays["filter"], by_hand, atol=1e-6)
