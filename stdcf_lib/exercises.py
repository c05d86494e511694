"""The exercises' checks: each says that an answer is right, or which property of it fails.

A notebook's exercise ends in `check("02.3", answer)`. The truth is computed here, from the library and the kept runs, and is
never printed. Solutions have one source, the notebooks, where they are folded; `tests/test_exercises.py` runs them all.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stdcf_lib import atoms, capacity
from stdcf_lib.checks import choice, number
from stdcf_lib.conv import STDCFConv3d
from stdcf_lib.data import TRMNIST
from stdcf_lib.data.tr_mnist import bounce, overhang
from stdcf_lib.experiments import filters as measured_filters
from stdcf_lib.experiments import reconstruction, tempo
from stdcf_lib.itsl import schedule
from stdcf_lib.measure import cost
from stdcf_lib.models import KTHNet
from stdcf_lib.plots import itsl as itsl_plots
from stdcf_lib.plots import reconstruction as reconstruction_plots
from stdcf_lib.plots import tempo as tempo_plots
from stdcf_lib.plots.joint_convolution import response_amplitude

# Input, output and middle channels of the five layers of Table A.
TABLE_A = {"conv1": (1, 4, 4), "conv2": (4, 8, 8), "deconv1": (8, 4, 4), "deconv2": (4, 4, 4), "conv3": (4, 1, 4)}


class _Unanswered(Exception):
    """Nothing was given yet."""


class _Wrong(Exception):
    """What about an answer is not right, in a sentence for the reader."""


def check(name: str, answer: Any) -> None:
    """Print whether the answer to an exercise is right and, if it is not, which property of it fails.

    Args:
        name: the exercise: notebook, dot, number.
        answer: what its text asks for, a value or a function; None, or a function that returns None, is not answered yet.

    Raises:
        ValueError: there is no such exercise.

    Example:
        >>> check("02.1", None)
        02.1: not answered yet.
    """
    test = CHECKS[choice("name", name, CHECKS)]
    try:
        if answer is None:
            raise _Unanswered
        print(f"{name}: right. {test(answer)}")
    except _Unanswered:
        print(f"{name}: not answered yet.")
    except _Wrong as wrong:
        print(f"{name}: not yet. {wrong}")


def _of(answer: Any, *arguments: Any) -> Any:
    """What the reader's function returns."""
    if not callable(answer):
        raise _Wrong(f"A function is asked for; this is {answer!r}.")
    try:
        found = answer(*arguments)
    except Exception as error:
        raise _Wrong(f"Your function raised {type(error).__name__}: {error}") from error
    if found is None:
        raise _Unanswered
    return found


def _number(value: Any) -> float:
    try:
        return number("answer", value)
    except ValueError as error:
        raise _Wrong(f"{error}.") from error


def _array(value: Any, *shape: int) -> np.ndarray:
    """A float array of that shape, from numpy, torch or lists."""
    try:
        found = value if isinstance(value, np.ndarray) else torch.as_tensor(value).detach().numpy()
        found = found.astype(float)
    except (TypeError, ValueError, RuntimeError):
        raise _Wrong(f"An array of shape {shape} is asked for; this is a {type(value).__name__}.") from None
    if found.shape != shape:
        raise _Wrong(f"Its shape should be {shape} and is {found.shape}.")
    return found


# 01 · Capacity


def _gauge(answer: Any) -> str:
    rng = np.random.default_rng(0)
    true, m_1 = rng.normal(size=(3, 3)), rng.normal(size=(3, 2, 5))
    tall_1 = m_1.reshape(3, -1).T
    m_2 = (tall_1 @ true).T.reshape(m_1.shape)
    G = _array(_of(answer, m_1, m_2), 3, 3)
    missed = np.abs(tall_1 @ G - tall_1 @ true).max()
    if missed < 1e-8:
        return "And n₂ is the inverse of your G times n₁, so that both layers have one α."
    if np.allclose(G, np.linalg.inv(true)):
        raise _Wrong("This leads back, from the second layer to the first.")
    if np.allclose(G, true.T):
        raise _Wrong("Rows and columns are exchanged: G stands to the right of the tall matrix.")
    raise _Wrong(f"The tall matrix of m₁ times your G differs from that of m₂ by up to {missed:.2g}.")


def _enough(answer: Any) -> str:
    middle, sizes, free = _count(answer), (8, 5, 3), capacity.free_parameters(8, 5, 3)
    if capacity.rank1_dimension(*sizes, middle) < free:
        raise _Wrong(f"With C'' = {middle} the dimension is {capacity.rank1_dimension(*sizes, middle)}, and α has {free}.")
    if middle > 1 and capacity.rank1_dimension(*sizes, middle - 1) == free:
        raise _Wrong(f"Nothing is lost with C'' = {middle}, nor with one less.")
    return f"It costs {capacity.rank1_parameters(*sizes, middle)} weights, where a free α has {free}."


def _block(answer: Any) -> str:
    alpha = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    for o, c in ((0, 0), (2, 1)):
        if not np.array_equal(_array(_of(answer, capacity.matricize(alpha), o, c, 5, 4), 5, 4), alpha[o, c]):
            raise _Wrong(f"The shape is right, and for output channel {o} and input channel {c} it is another block.")
    return "Input channels run downwards, output channels across."


def _matched(answer: Any) -> str:
    middle, sizes, budget = _count(answer), (4, 5, 3), capacity.free_parameters(4, 5, 3)
    weights = capacity.rank1_parameters(*sizes, middle)
    if weights > budget:
        raise _Wrong(f"With C'' = {middle} it has {weights} weights, and {budget} are allowed.")
    if capacity.rank1_parameters(*sizes, middle + 1) <= budget:
        raise _Wrong(f"C'' = {middle} fits, and so does one more.")
    return f"Its dimension is {capacity.rank1_dimension(*sizes, middle)}, of {budget}."


def _general_dimension(answer: Any) -> str:
    for name, (c_in, c_out, middle) in TABLE_A.items():
        found, true = _number(_of(answer, c_in, c_out, 5, 3, middle)), _jacobian_rank(c_in, c_out, middle)
        if found != true:
            much = "many" if found > true else "few"
            raise _Wrong(
                f"For {name}, from {c_in} to {c_out} channels with C'' = {middle}, {found:g} directions are too {much}."
            )
    return "For all five layers it is the rank of the Jacobian of `compose`."


def _jacobian_rank(c_in: int, c_out: int, middle: int) -> int:
    """The directions in which α moves, for other numbers of input than of output channels; at a random point."""
    generator = torch.Generator().manual_seed(0)
    m, n = (torch.randn(shape, generator=generator).double() for shape in ((middle, c_in, 5), (c_out, middle, 3)))
    by_m, by_n = torch.autograd.functional.jacobian(capacity.compose, (m, n))
    return int(torch.linalg.matrix_rank(torch.cat([part.flatten(4).flatten(0, 3) for part in (by_m, by_n)], 1)))


def _count(answer: Any) -> int:
    found = _number(answer)
    if found < 1 or found != int(found):
        raise _Wrong(f"{answer} counts no channels.")
    return int(found)


# 02 · The joint convolution


def _parameters(answer: Any) -> str:
    layer, found = STDCFConv3d(32, 64, kernel_size=3, bias=False, spatial_atoms=5, temporal_atoms=3), _number(answer)
    true = sum(p.numel() for p in layer.parameters())
    if found == layer.alpha.numel():
        raise _Wrong("These are the coefficients alone; atoms are parameters, too.")
    if found != true:
        raise _Wrong(f"That is too {'many' if found > true else 'few'}.")
    return f"A full 3D convolution of these sizes has {nn.Conv3d(32, 64, 3, bias=False).weight.numel()}."


def _upwards(answer: Any) -> str:
    alpha = _array(answer, 3, 3)
    W = np.einsum("mn, mhw, nt -> thw", alpha, atoms.spatial_atoms((5, 5), 3), atoms.temporal_atoms(5, 3))
    W = torch.from_numpy(W)[None, None]
    up, down = (float(response_amplitude(W, direction=angle)[0]) for angle in (90, 270))
    if up > 10 * down:
        return f"It answers {up:.2f} to up and {down:.2f} to down."
    word = f"It answers {up:.2f} to up and {down:.2f} to down"
    if np.linalg.matrix_rank(alpha) < 2:
        raise _Wrong(f"{word}, as must any filter whose α has a rank below two.")
    raise _Wrong(f"{word}{': it looks the other way' * (down > 10 * up)}.")


def _spread(answer: Any) -> str:
    torch.manual_seed(0)
    layer = STDCFConv3d(1, 2, kernel_size=3, dtype=torch.float64)
    clip = torch.rand(1, 1, 9, 6, 6, dtype=torch.float64)
    for dilation in (1, 2, 4):
        phi = _array(_of(answer, layer.phi.detach(), dilation), 3, 2 * dilation + 1)
        with torch.no_grad():
            with layer.dilate(temporal=dilation):
                wanted = layer(clip)
            with layer.swap(phi=torch.from_numpy(phi)):
                missed = float((layer(clip) - wanted).abs().max())
        if missed > 1e-10:
            raise _Wrong(f"The length is right; with dilation {dilation} the answers differ by up to {missed:.2g}.")
    return "And as α is the same, so is its rank: a change of tempo makes no filter more or less separable."


def _channels(answer: Any) -> str:
    C = _count(answer)
    if C > 512:
        raise _Wrong("Fewer will do.")
    fewer = {n: _three_layers_multiply_less(n) for n in (C - 1, C) if n}
    if not fewer[C]:
        raise _Wrong(f"With {C} channels the three layers still multiply as much or more.")
    if fewer.get(C - 1):
        raise _Wrong(f"With {C} channels they multiply less, and so they do with {C - 1}.")
    return "The atoms' share grows like C, that of α like C², and so does the full filter's."


def _three_layers_multiply_less(C: int) -> bool:
    options: Any = {"kernel_size": 3, "padding": 1, "bias": False}
    full, joint = nn.Conv3d(C, C, **options), STDCFConv3d(C, C, **options, evaluation="atoms")
    return cost(joint, (1, C, 4, 6, 6)).macs < cost(full, (1, C, 4, 6, 6)).macs


def _nearest_separable(answer: Any) -> str:
    alpha = np.random.default_rng(0).normal(size=(5, 3))
    found = _array(_of(answer, alpha.copy()), 5, 3)
    if (rank := np.linalg.matrix_rank(found)) > 1:
        raise _Wrong(f"Its rank is {rank}, so it is not separable.")
    best = capacity.nearest_rank1(alpha[None, None], 1).error
    error = np.linalg.norm(found - alpha) / np.linalg.norm(alpha)
    if error > best + 1e-6:
        raise _Wrong(f"Separable, at a relative distance of {error:.2f}; there is one at {best:.2f}.")
    return f"It leaves {best:.0%} of the size of α behind, and all preference for a direction with it."


# 03 · TR-MNIST


def _sticks_out(answer: Any) -> str:
    for box in ((20, 20), (20, 12), (8, 18)):
        found, true = _number(_of(answer, *box)), overhang(torch.tensor([0, 0, *box])).item()
        if abs(found - true) > 1e-6:
            raise _Wrong(f"For a box of {box[0]} × {box[1]} pixels, {found:.2f} is too {'much' if found > true else 'little'}.")
    return "This is the bound that the library computes for all digits."


def _fold(answer: Any) -> str:
    for x, span in [(x / 4, span) for x in sorted(range(-80, 81), key=abs) for span in (3.0, 8.0)]:
        found, step = _number(_of(answer, x, span)), torch.ones(1).double()
        if abs(found - bounce(0 * step, x * step, span * step, step).item()) > 1e-9:
            outside = "outside the room" if not 0 <= found <= span else "inside the room, in another place"
            raise _Wrong(f"x = {x} in a room of {span}: {found:g} is {outside}.")
    return "For negative numbers and many bounces, too."


def _coefficients(answer: Any) -> str:
    clip = _drifting().clips[0, 0].double() / 255
    psi, phi = atoms.spatial_atoms((28, 28), 20), atoms.temporal_atoms(8, 3)
    phi[1:] += phi[:-1] / 2  # no longer orthogonal, as after training
    alpha = torch.from_numpy(_array(_of(answer, clip, psi.clone(), phi.clone()), 20, 3))
    rest = clip - torch.einsum("mn, mhw, nt -> thw", alpha, psi, phi)
    left = float(torch.einsum("thw, mhw, nt -> mn", rest, psi, phi).abs().max())
    if left > 1e-8:  # the best coefficients leave a rest that has nothing of any product
        raise _Wrong(f"The shape is right; but what α leaves of the clip still holds up to {left:.2g} of one of the products.")
    return "What it leaves of the clip is orthogonal to every product of a picture and a rhythm."


@cache
def _drifting() -> TRMNIST:
    return TRMNIST("test", clips=60, digits=1, rotation=0)


def _velocity(answer: Any) -> str:
    made = _drifting()
    place, velocity = made.motion.position[:, 0], made.motion.velocity[:, 0]
    # Those that meet no wall between the first two frames.
    free = [i for i in range(60) if torch.allclose(place[i, 1] - place[i, 0], velocity[i])]
    for i in free:
        found, true = _array(_of(answer, made.clips[i, 0].double() / 255), 2), velocity[i].numpy()
        if np.abs(found - true).max() > 0.1:
            if np.abs(found[::-1] - true).max() < 0.1:
                raise _Wrong("Rows come first, then columns.")
            if np.abs(found + true).max() < 0.1:
                raise _Wrong("It moves the other way.")
            raise _Wrong(f"Clip {i} moves by {true.round(1).tolist()} pixels a frame, and you find {found.round(1).tolist()}.")
    return f"Within a tenth of a pixel a frame, for {len(free)} clips."


# 04 · Reconstruction


def _stdcf_weights(answer: Any) -> str:
    network = reconstruction.FAMILIES["stdcf"].build()
    for name, (c_in, c_out, _) in TABLE_A.items():
        layer: Any = network.get_submodule(name)
        true = layer.psi.numel() + layer.phi.numel() + layer.alpha.numel()
        found = _number(_of(answer, c_in, c_out, len(layer.psi), len(layer.phi)))
        if found != true:
            raise _Wrong(f"{name}, from {c_in} to {c_out} channels: {found:g} are too {'many' if found > true else 'few'}.")
    return f"All five layers together have {reconstruction_plots.weights('stdcf'):,}."


def _seeds_needed(answer: Any) -> str:
    wide, stdcf = (_final_errors(name) for name in ("rank1-wide", "stdcf"))
    variance = (wide.var(ddof=1) + stdcf.var(ddof=1)) / 2
    difference, found = wide.mean() - stdcf.mean(), _number(answer)
    true = 2 * (1.96 + 0.84) ** 2 * variance / difference**2
    if abs(found - true) <= 1:  # rounded up or down, or not at all
        return f"Where {len(stdcf)} were trained. It holds if the true difference is the measured one, which nobody knows."
    if found < 1:
        raise _Wrong("Less than one seed? Both d and s are squared.")
    raise _Wrong(f"{found:.0f} are too {'many' if found > true else 'few'}. s² is a variance and d a difference of means.")


def _taps_per_voxel(answer: Any) -> str:
    ones, found = torch.ones(1, 1, 20, 20, 20), _number(answer)
    reach = F.conv_transpose3d(ones, torch.ones(1, 1, 3, 3, 3), stride=2, padding=1, output_padding=1)
    true = reach[..., 4:-4, 4:-4, 4:-4].mean().item()  # away from the border
    if abs(found - true) > 0.01:
        raise _Wrong(f"That is too {'many' if found > true else 'few'}. Think of one axis first, then of three.")
    return "Measured on a map of ones, inside, it is the same."


def _best_below(answer: Any) -> str:
    if not isinstance(answer, dict) or set(answer) != {1_300, 1_600, 2_400}:
        raise _Wrong("Give a dictionary from the three budgets, 1_300, 1_600 and 2_400, to names of families.")
    if None in answer.values():
        raise _Unanswered
    for budget, name in answer.items():
        affordable = [one for one in reconstruction.FAMILIES if reconstruction_plots.weights(one) <= budget]
        if not isinstance(name, str) or name not in reconstruction.FAMILIES:
            raise _Wrong(f"{name!r} is no family; they are {', '.join(reconstruction.FAMILIES)}.")
        if name not in affordable:
            raise _Wrong(f"{name} has {reconstruction_plots.weights(name):,} weights, more than {budget:,}.")
        if any(_final_errors(one).mean() < _final_errors(name).mean() for one in affordable):
            raise _Wrong(f"Within {budget:,} weights another family has a lower mean error than {name}.")
    return "By the mean. Whether a lead is larger than what seeds differ by is another question."


def _final_errors(name: str) -> np.ndarray:
    return np.array([reconstruction.kept(name, seed).metrics[-1]["test_mse"] for seed in reconstruction.SEEDS])


# 05 · Tempo


def _frames_seen(answer: Any) -> str:
    network = KTHNet("stdcf")
    taps = [layer.kernel_size[0] for layer in (network.conv1, network.conv2, network.conv3)]
    pool: Any = network.pool2.kernel_size
    for dilations in ((1, 1, 1), (2, 2, 2), (3, 1, 2)):
        found = _number(_of(answer, *dilations))
        # Ones for weights and a mean for the pool: a frame has a gradient exactly where it can change the value.
        frames = torch.zeros(1, 1, 64, requires_grad=True)
        x = frames
        for k, (size, dilation) in enumerate(zip(taps, dilations, strict=True)):
            x = F.avg_pool1d(x, pool[0]) if k == 2 else x
            x = F.conv1d(x, torch.ones(1, 1, size), dilation=dilation)
        (gradient,) = torch.autograd.grad(x[0, 0, 5], frames)
        if found != (true := int(gradient.count_nonzero())):
            much = "many" if found > true else "few"
            raise _Wrong(f"With dilations {dilations}, {found:g} frames are too {much}.")
    return "A value after conv3 depends on so many frames and no others."


def _best_at_3(answer: Any) -> str:
    if not isinstance(answer, tuple | list) or len(answer) != 3 or any(_number(one) not in (1, 2, 3) for one in answer):
        raise _Wrong("Give three dilations, each 1, 2 or 3, such as (3, 3, 3).")
    classify = tempo.trained("stdcf").fc

    def right(dilations: tuple[int, ...]) -> float:
        features = torch.from_numpy(tempo_plots.grid_features(3.0, dilations))  # pyright: ignore[reportArgumentType]
        return float((classify(features).argmax(1).numpy() == tempo_plots.grid_actions()).mean())

    best = max(right((a, b, c)) for a in (1, 2, 3) for b in (1, 2, 3) for c in (1, 2, 3))
    if (found := right(tuple(answer))) < best:
        raise _Wrong(f"{tuple(answer)} gets {found:.3f} right; there is a better one.")
    return f"It gets {found:.3f} right, where (3, 3, 3) gets {right((3, 3, 3)):.3f}."


def _most_spoiled(answer: Any) -> str:
    signal = torch.from_numpy(_array(answer, 8))
    if signal.min() < 0 or signal.max() > 1:
        raise _Wrong("Its values should lie from 0 to 1.")

    def change(x: Tensor) -> float:
        pooled, repeated = (F.max_pool1d(v[None, None], 2).mean() for v in (x, x.repeat_interleave(2)))
        return float(pooled - repeated)

    # A pair (a, b) turns from its maximum into its mean, so no pair changes by more than this one.
    most = change(torch.tensor([0.0, 1.0] * 4))
    found = change(signal)
    if found == 0:
        raise _Wrong("Repetition does not change the result here.")
    if found < most - 1e-6:
        raise _Wrong(f"Repetition changes the result by {found:.3f}; there are signals that it changes more.")
    return f"Repetition takes {found:.3f} away; what was the mean of maxima is now the mean."


# 06 · ITSL


def _reduction(answer: Any) -> str:
    reduction = _number(answer)
    if reduction not in (4, 16):
        raise _Wrong("Reductions are squares: choose 4 or 16.")

    def most(r: int) -> float:
        t, s, _ = schedule(1, 64, 224, r)
        return max(itsl_plots.r50_cost(stage.frames, stage.size, batch=8).stored_bytes / 1e9 for stage in (t, s))

    if (found := most(int(reduction))) >= 8:
        raise _Wrong(f"With {reduction:g} the larger of the two stages keeps {found:.1f} GB.")
    if reduction == 16 and most(4) < 8:
        raise _Wrong("A smaller reduction does it, too.")
    return f"The larger of the two stages keeps {found:.1f} GB."


def _angles(answer: Any) -> str:
    _, s, full = schedule(1, 16, 28, 4)
    step = full.frames // s.frames
    true = {angle for angle in range(1, 181) if step * angle % 360 == 0}
    try:
        found = {_number(angle) for angle in answer}
    except TypeError:
        raise _Wrong("Give a set of angles, such as {30, 60}.") from None
    if moving := found - true:
        raise _Wrong(f"At {min(moving):g}° a frame, a digit has turned by {step * min(moving):g}° at the next frame shown.")
    if found != true:
        raise _Wrong("These stand still, and they are not all.")
    return "Stage-s samples time too coarsely for what turns as fast as this: aliasing."


def _best_rule(answer: Any) -> str:
    names = {"keep": "itsl", "dilate": "itsl-dilate", "resample": "itsl-resample"}
    if not isinstance(answer, str) or answer not in names:
        raise _Wrong("Choose 'keep', 'dilate' or 'resample'.")
    arrays = itsl_plots.carried_over().arrays
    reached = {rule: arrays[f"{name}, at full size"][:, 2].mean() for rule, name in names.items()}
    if reached[answer] < max(reached.values()):
        raise _Wrong(f"After t-2, {answer} reaches {reached[answer]:.3f} at full size; another rule does better.")
    return f"After t-2 it reaches {reached[answer]:.3f} at full size, without a step of training there."


# 07 · Your network


def _as_many(answer: Any) -> str:
    found = _count(answer)
    shape = [64, 64, 3, 3, 3]
    allowed, each = measured_filters.joint_parameters(shape, 5, 3), measured_filters.family_parameters(shape)
    if found * each > allowed:
        raise _Wrong(f"With {found} middle channels it has {found * each:,} weights; the joint layer has {allowed:,}.")
    if (found + 1) * each <= allowed:
        raise _Wrong(f"With {found} middle channels it has {found * each:,} weights, and one more still fits in {allowed:,}.")
    return f"They make {found * each:,} weights of {allowed:,}: a quarter more middle channels than C'' = C_out."


def _cheapest(answer: Any) -> str:
    rng = np.random.default_rng(0)
    for keep in (0.5, 0.8, 0.95, 1.0):
        kept = np.sort(np.sort(rng.uniform(0.1, 1, (9, 3)), 0), 1)
        kept[-1, -1] = 1
        pairs = {(m, n): m * n for m in range(1, 10) for n in range(1, 4) if kept[m - 1, n - 1] >= keep}
        found = _of(answer, kept.copy(), keep)
        try:
            m, n = (int(_number(count)) for count in found)
        except (TypeError, ValueError):
            raise _Wrong("Give a pair of counts, M and N.") from None
        if not (1 <= m <= 9 and 1 <= n <= 3):
            raise _Wrong(f"M = {m}, N = {n}: a kernel of 3×3×3 has room for 1 to 9 and 1 to 3. Rows and columns count from 0.")
        if (m, n) not in pairs:
            raise _Wrong(f"M = {m}, N = {n} keep {kept[m - 1, n - 1]:.3f}, and {keep} was asked for.")
        if m * n > min(pairs.values()):
            raise _Wrong(f"M = {m}, N = {n} keep enough for {keep}, and there is a pair with fewer coefficients.")
    return "That is what keep does, layer by layer."


def _flattest(answer: Any) -> str:
    names = ("face", "molecule", "brain")
    if not isinstance(answer, str) or answer not in names:
        raise _Wrong(f"Choose one of {', '.join(names)}.")
    kept = {
        name: measured_filters.in_all(list(measured_filters.measured(name).values()), lambda layer: layer["along"][0][1])
        for name in names
    }
    if kept[answer] > min(kept.values()):
        raise _Wrong(f"There two atoms along the first axis keep {kept[answer]:.3f}; elsewhere they keep less.")
    return f"Two atoms along time keep {kept[answer]:.3f} there; it is the only one of the three that looks along time."


CHECKS: dict[str, Callable[[Any], str]] = {
    "01.1": _gauge,
    "01.2": _enough,
    "01.3": _block,
    "01.4": _matched,
    "01.5": _general_dimension,
    "02.1": _parameters,
    "02.2": _upwards,
    "02.3": _spread,
    "02.4": _channels,
    "02.5": _nearest_separable,
    "03.1": _sticks_out,
    "03.2": _fold,
    "03.3": _coefficients,
    "03.4": _velocity,
    "04.1": _stdcf_weights,
    "04.2": _seeds_needed,
    "04.3": _taps_per_voxel,
    "04.4": _best_below,
    "05.1": _frames_seen,
    "05.2": _best_at_3,
    "05.3": _most_spoiled,
    "06.1": _reduction,
    "06.2": _angles,
    "06.3": _best_rule,
    "07.1": _as_many,
    "07.2": _cheapest,
    "07.3": _flattest,
}
