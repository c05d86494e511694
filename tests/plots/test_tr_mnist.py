import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stdcf_lib.data import TRMNIST, mnist
from stdcf_lib.data.tr_mnist import Motion, overhang
from stdcf_lib.plots import tr_mnist as plots


def boxes(axes) -> list[Any]:
    return list(axes.patches)


@pytest.fixture(scope="module")
def dataset():
    return TRMNIST("test", clips=40)


@pytest.fixture(scope="module")
def images():
    return mnist("test")[0]


def test_an_animation_plays_every_frame(dataset):
    animation = plots.Animation(dataset.clips[:2, 0], scale=2, pace=100)
    picture: Any = Image.open(io.BytesIO(animation.png()))
    assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (8, 100, 0)
    picture.seek(5)
    frame = np.array(picture.convert("L"))
    np.testing.assert_array_equal(frame[::2, :56:2], dataset.clips[0, 0, 5])
    assert animation.png() == animation.png()
    assert repr(animation) == "<Animation: 2 clips of 8 frames, 28 × 28 pixels>"


def test_an_animation_refuses_floats(dataset):
    with pytest.raises(TypeError, match=r"clips must be uint8 \(n, T, H, W\)"):
        plots.Animation(dataset.clips[:2, 0].float()).png()


def test_an_animation_shows_itself_as_a_png_for_any_viewer(dataset):
    bundle = plots.Animation(dataset.clips[:1, 0])._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/plain"}


def test_ink_boxes_frame_the_ink(images):
    figure, arrays = plots.ink_boxes(images[:3])
    for axes, image, (top, left, height, width) in zip(figure.axes, arrays["images"], arrays["boxes"], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        rows, columns = np.nonzero(image)
        expected = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert boxes(axes)[0].get_bbox().bounds == expected == (left, top, width, height)
        centre = np.squeeze(axes.get_lines()[0].get_xydata())
        np.testing.assert_allclose(centre, [left + width / 2, top + height / 2])


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


def test_mirrors_draws_what_it_says():
    figure, arrays = plots.mirrors(speed=4, direction=120, frames=12)
    position, velocity, bounces, ball = np.array([5.0, 3.0]), [-4 * np.sin(2 * np.pi / 3), -2.0], 0, []
    for _ in range(12):
        ball.append(position.copy())
        position += velocity
        for axis, room in enumerate((8, 12)):
            while not 0 <= position[axis] <= room:
                position[axis] = -position[axis] if position[axis] < 0 else 2 * room - position[axis]
                velocity[axis] *= -1
                bounces += len(ball) < 12
    np.testing.assert_allclose(arrays["folded"], ball, atol=1e-9)
    straight, _, folded, _ = figure.axes[0].get_lines()
    np.testing.assert_array_equal(straight.get_xydata(), arrays["straight"][:, ::-1])
    np.testing.assert_array_equal(folded.get_xydata(), arrays["folded"][:, ::-1])
    assert f"12 frames, {bounces} bounces" in figure.axes[0].get_title()


def test_making_shows_the_clip_it_names():
    arrays = plots.making(clip=3).arrays
    np.testing.assert_array_equal(arrays["clip"], TRMNIST("test", clips=4).clips[3, 0])
    np.testing.assert_array_equal(arrays["alone"].max(0), arrays["clip"])


def test_making_draws_boxes_and_paths_where_the_digits_are():
    options = {"digits": 3, "speed": (2, 5), "rotation": -30, "size": 40}
    figure, arrays = plots.making(clip=2, **options)
    motion = TRMNIST("test", clips=3, **options).motion
    strip, paths = figure.axes
    drawn = np.array([patch.get_bbox().bounds for patch in boxes(strip)]).reshape(3, 8, 4)
    height, width = motion.box[2, :, 2:].T.numpy()
    np.testing.assert_allclose(drawn[:, :, 2] * 40, np.repeat(width[:, None], 8, 1))
    np.testing.assert_allclose(drawn[:, :, 3] * 40, np.repeat(height[:, None], 8, 1))
    frame, row = np.arange(8) * plots.STEP, np.arange(3)[:, None] * plots.STEP
    np.testing.assert_allclose((drawn[:, :, 0] - frame) * 40, motion.position[2, :, :, 1], atol=1e-9)
    np.testing.assert_allclose((drawn[:, :, 1] - row) * 40, motion.position[2, :, :, 0], atol=1e-9)
    centres = motion.position[2] + motion.box[2, :, None, 2:] / 2
    np.testing.assert_allclose(arrays["centres"], centres)
    for d, markers in enumerate(paths.get_lines()[1::3]):
        np.testing.assert_allclose(np.asarray(markers.get_xydata()), centres[d].numpy()[:, ::-1])


def test_overhangs_count_the_ink_outside(dataset, images):
    figure, arrays = plots.overhangs(dataset.motion, images)
    np.testing.assert_array_equal(arrays["bound"], overhang(dataset.motion.box).flatten())
    # One pixel more or less in a box moves the bound by up to 0.4 pixels: finer bins would be empty in turns.
    widths = [bar.get_width() for container in figure.axes[0].containers for bar in container]
    assert min(widths) > 0.4
    wide = plots.alone(dataset.motion, images, margin=16)[0, 0].double().sum((1, 2))
    inside = plots.alone(dataset.motion, images)[0, 0].double().sum((1, 2))
    np.testing.assert_allclose(arrays["cut"][0], 1 - inside / wide)
    assert (arrays["cut"][:, 0] == 0).all()  # upright, nothing overhangs


def test_borders_rank_the_choices_as_the_notebook_tells():
    arrays = plots.borders(clips=60).arrays
    rooms = [arrays[f"{name}, room"].mean() for name in ("patch", "circle", "ink box", "centre")]
    assert rooms[0] == 0 and rooms == sorted(rooms)
    assert arrays["centre, ink cut off"].mean() > 5 * arrays["ink box, ink cut off"].mean()


def test_borders_measures_the_room_and_the_loss_of_the_very_clips():
    figure, arrays = plots.borders(clips=20)
    dataset, images = TRMNIST("train", clips=20, digits=1), mnist("train")[0]
    side = dataset.motion.box[:, 0, 2:].numpy()
    np.testing.assert_array_equal(arrays["ink box, room"], 28 - side)
    expected = np.maximum(28 - np.hypot(*side.T), 0)
    np.testing.assert_allclose(arrays["circle, room"], np.stack([expected, expected], 1))
    # What the ink box loses is what the data set's own clips lack.
    inside = dataset.clips[:, 0].double().sum((2, 3))
    whole = plots.alone(dataset.motion, images, margin=20)[:, 0].double().sum((2, 3))
    np.testing.assert_allclose(arrays["ink box, ink cut off"], (1 - inside / whole).mean(1), atol=1e-3)
    stuck = [bar.get_width() for bar in boxes(figure.axes[1])]
    np.testing.assert_allclose(stuck, [100, 100 * (np.hypot(*side.T) >= 28).mean(), 0, 0])


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


def test_speeds_finds_frames_less_alike_the_faster_they_move():
    figure, arrays = plots.speeds(TRMNIST("test", clips=5).motion, clips=10)
    (at,) = np.flatnonzero(arrays["speed"] == 3)
    for line, (name, rotation) in zip(figure.axes[1].get_lines(), {"upright": 0, "turning by 45°": 45}.items(), strict=True):
        clips = TRMNIST("train", 10, digits=1, speed=(3, 3), rotation=rotation).clips[:, 0].numpy() / 255
        clips = clips - clips.mean((0, 1))
        assert arrays[name][at] == pytest.approx(np.corrcoef(clips[:, :-1].ravel(), clips[:, 1:].ravel())[0, 1])
        np.testing.assert_array_equal(line.get_ydata(), arrays[name])
    assert arrays["upright"][0] == pytest.approx(1) and (np.diff(arrays["upright"][:7]) < 0).all()
    assert (arrays["turning by 45°"] < arrays["upright"])[:6].all()


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


def test_products_hold_as_much_as_joint_functions_where_clips_are_products():
    generator = torch.Generator().manual_seed(0)
    brightness = torch.rand(400, 5, 1, 1, generator=generator) + torch.arange(5.0)[:, None, None]
    joint, products = plots.patch_energy(brightness * torch.ones(5, 5), patches=400)
    np.testing.assert_allclose(joint, products, atol=1e-9)
    assert products[4] == pytest.approx(1) and products[0] < 0.5  # five frames vary on their own, space does not


def test_joint_functions_are_the_principal_components():
    clips = torch.randint(0, 256, (500, 3, 3, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    joint, _ = plots.patch_energy(clips, size=3, patches=3000)
    patch = clips[np.random.default_rng(0).integers(0, 500, 3000)].flatten(1).double().numpy()
    variance = np.sort(np.linalg.eigvalsh(np.cov(patch.T)))[::-1]
    np.testing.assert_allclose(joint, variance.cumsum() / variance.sum())


def test_clips_of_one_way_go_that_way():
    pixel = torch.arange(44.0)
    for direction, axis, sign in ((0, 2, 1), (90, 1, -1), (180, 2, -1)):
        clips = plots.one_way(direction, clips=400).float()
        # The centre of ink along x, or along y.
        profile = clips.sum(2 if axis == 2 else 3)
        centre = (profile * pixel).sum(2) / profile.sum(2)
        assert len(clips) > 5 and (sign * centre.diff(dim=1) > 0.5).all()
    assert len(plots.one_way(None, clips=400)) > 4 * len(clips)


def test_coupling_draws_the_energy_of_each_kind():
    clips = plots.one_way(clips=300)
    figure, arrays = plots.coupling({"right": clips, "again": clips.flip(1)}, most=7)
    joint, products = plots.patch_energy(clips)
    np.testing.assert_array_equal(arrays["right, joint"], joint[:7])
    np.testing.assert_array_equal(arrays["right, products"], products[:7])
    of_joint, of_products = (line.get_ydata() for line in figure.axes[0].get_lines())
    np.testing.assert_array_equal(of_joint, joint[:7])
    np.testing.assert_array_equal(of_products, products[:7])
    gap = f"up to {100 * (joint - products)[:7].max():.0f} points apart"
    assert figure.axes[0].get_title() == f"right: {gap}" and figure.axes[1].get_title().startswith("again: ")


def test_kinds_of_motion_are_what_they_are_called():
    kinds = plots.kinds_of_motion(20)
    assert (kinds["still"] == kinds["still"][:, :1]).all()
    for name in ("moves", "turns", "both"):
        assert torch.equal(kinds[name][:, 0], kinds["still"][:, 0])
        assert (kinds[name][:, 1] != kinds["still"][:, 1]).any()
    assert torch.equal(kinds["both"], TRMNIST("test", 20, digits=1).clips[:, 0])
    energy = {name: plots.separable_energy(clips)[:, 0].mean() for name, clips in kinds.items()}
    assert energy["still"] > energy["followed"] > 0.97 > 0.6 > max(energy[name] for name in ("moves", "turns", "both"))


def test_unrelated_frames_come_from_clips_of_their_own():
    clips = (torch.arange(100)[:, None] * 10 + torch.arange(8))[..., None, None]
    mixed = plots.unrelated(clips).squeeze()
    assert torch.equal(mixed % 10, torch.arange(8).expand(100, 8))
    assert all(len(set((row // 10).tolist())) == 8 for row in mixed)
    assert torch.equal(mixed.flatten().sort().values, clips.flatten())


def test_slices_and_separability_draw_the_row_they_name(dataset):
    kinds = {"a": dataset.clips[:, 0], "b": dataset.clips[:, 0].flip(1)}
    for draw in (plots.slices, plots.separability):
        figure = draw(kinds, clip=5, row=11).figure
        panels = [axes for axes in figure.axes if axes.images]
        for axes, (name, clips) in zip(panels, kinds.items(), strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), clips[5, :, 11])
            assert axes.get_title() == name
    curves = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[-1].get_lines()}
    for name, clips in kinds.items():
        np.testing.assert_allclose(curves[name], plots.separable_energy(clips).mean(0))


def test_separability_names_all_kinds_in_its_title_where_there_is_room(dataset):
    clips = dataset.clips[:, 0]
    still = clips[:, :1].expand_as(clips)
    three = {"still": still, "yours": clips, "unrelated": plots.unrelated(clips)}
    one, other = (f"{plots.separable_energy(three[name])[:, 0].mean():.0%}" for name in ("yours", "unrelated"))
    energy = plots.separability(three).figure.axes[-1]
    assert energy.get_title() == f"One product: still 100%, yours {one}, unrelated {other}"
    assert plots.separability(three | {"still, too": still}).figure.axes[-1].get_title().count("%") == 2


def test_overlaps_by_hand(dataset, images):
    arrays = plots.overlaps(dataset.motion, images).arrays
    one, other = plots.alone(dataset.motion, images)[0, :, 0].long().numpy()
    assert arrays["overlap"][0] == pytest.approx(np.minimum(one, other).sum() / min(one.sum(), other.sum()))
    np.testing.assert_array_equal(arrays["maximum"], np.maximum(one, other))
    np.testing.assert_array_equal(arrays["sum, cut at white"], np.minimum(one + other, 255))
    layers = plots.alone(dataset.motion, images).long()
    assert arrays["too bright"] == pytest.approx(float((layers.sum(1) > 255).sum() / layers.any(1).sum()))
    with pytest.raises(ValueError, match="give one of two"):
        plots.overlaps(TRMNIST("test", 2, digits=1).motion, images)


def test_sampling_and_turns(images):
    arrays = plots.sampling(images[0]).arrays
    assert np.ptp(arrays["nearest, ink"]) > 5 * np.ptp(arrays["bilinear, ink"])
    assert np.abs(arrays["rounding error"]).max() <= 0.5
    assert arrays["bilinear, ink"][90] == pytest.approx(1)
    # A quarter turn counter-clockwise, and on the way the sampling of the library.
    np.testing.assert_allclose(plots.sampling(images[0], 90).arrays["bilinear"], np.rot90(images[0].numpy()), atol=1e-6)
    (strips,) = plots.turns(images[0], (90,)).arrays.values()
    np.testing.assert_allclose(strips[4], strips[0], atol=1 / 255)
    assert np.abs(strips[1] - strips[0]).max() > 0.5


def test_labels_count_classes_and_pairs(dataset):
    arrays = plots.labels({"test": dataset.motion.label}).arrays
    assert arrays["test, pairs"].sum() == 40 and arrays["test, classes"].sum() == 80
    for first, second in np.ndindex(10, 10):
        found = sum(pair == [first, second] for pair in dataset.motion.label.tolist())
        assert arrays["test, pairs"][first, second] == found
    assert arrays["test, classes"].tolist() == [(dataset.motion.label == c).sum() for c in range(10)]


def test_draws_count_every_digit(dataset):
    arrays = plots.draws(dataset.motion).arrays
    assert arrays["speed, counts"].sum() == arrays["direction, counts"].sum() == 80
    assert arrays["start, counts"].sum() == 160
    edges = arrays["speed, edges"][:-1]
    assert arrays["speed, counts"][(edges < 1) | (edges >= 4)].sum() == 0


def test_draws_know_up_from_right_and_near_from_far(dataset):
    _, label, box, position, velocity = (values[:1, :1].clone() for values in dataset.motion)
    velocity[0, 0] = torch.tensor([-3.2, 0.3])  # up, and a little to the right
    box[0, 0] = torch.tensor([0, 0, 20, 18])
    position[0, 0, 0] = torch.tensor([0.9, 9.1])  # of 8 and of 10
    arrays = plots.draws(Motion(label, label, box, position, velocity)).arrays
    edges = {name: arrays[f"{name}, edges"][:-1][arrays[f"{name}, counts"] > 0] for name in ("speed", "direction", "start")}
    np.testing.assert_allclose(edges["speed"], [3])
    np.testing.assert_allclose(edges["direction"], [75])
    np.testing.assert_allclose(edges["start"], [0.1, 0.9])


def test_draws_of_the_protocol_are_even():
    arrays = plots.draws(TRMNIST("train", frames=1).motion).arrays
    for name in ("speed", "direction", "start"):
        counts = arrays[f"{name}, counts"]
        counts = counts[counts > 0]
        chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert chi_square < len(counts) + 4 * (2 * len(counts)) ** 0.5


def test_separability_refuses_what_could_not_be_told_apart(dataset):
    with pytest.raises(ValueError, match="7 entries; give 1 to 6"):
        plots.separability({name: dataset.clips[:, 0] for name in "abcdefg"})
    with pytest.raises(ValueError, match="0 entries"):
        plots.separability({})
