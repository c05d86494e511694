import copy
import inspect
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from stdcf_lib import Rank1Conv3d, Rank1ConvTranspose3d, STDCFConv3d, STDCFConvTranspose3d

CONVOLUTIONS = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 4, 3), "stride": (2, 1, 2), "padding": (1, 2, 1), "dilation": (1, 1, 2), "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation": (2, 1, 1), "padding_mode": "reflect", "groups": 2},
    {"kernel_size": (4, 4, 3), "padding": "same", "padding_mode": "circular"},
    {"kernel_size": 3, "stride": 2, "padding": (1, 2, 1), "padding_mode": "replicate", "bias": False},
    {"kernel_size": 3, "padding": "valid"},
]
TRANSPOSES = [
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": (3, 4, 3), "stride": (2, 1, 2), "padding": (1, 0, 1), "output_padding": (1, 0, 0), "groups": 2},
    {"kernel_size": 3, "stride": 2, "dilation": (2, 1, 2), "bias": False},
]

CASES = [(STDCFConv3d, Rank1Conv3d, nn.Conv3d, options) for options in CONVOLUTIONS]
CASES += [(STDCFConvTranspose3d, Rank1ConvTranspose3d, nn.ConvTranspose3d, options) for options in TRANSPOSES]


def with_gradients(y, *inputs):
    return y, *torch.autograd.grad(y.sin().sum(), inputs)


def as_torch(twin, filters, bias, options):
    conv = twin(4, 6, **options, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(filters)
        if bias is not None:
            conv.bias.copy_(bias)
    return conv


@st.composite
def set_ups(draw, transposed):
    """(channels in, channels out, options that torch's twin takes too, counts of atoms, shape of the input)."""

    def sizes(least, most):
        three = st.tuples(*[st.integers(least, most)] * 3)
        return draw(three | st.integers(least, most))

    def triple(value):
        return (value,) * 3 if isinstance(value, int) else value

    groups, c_in, c_out = (draw(st.integers(1, 2)) for _ in range(3))
    kernel, dilation, stride, padding = sizes(1, 4), sizes(1, 2), sizes(1, 3), sizes(0, 2)
    options = {"kernel_size": kernel, "dilation": dilation, "groups": groups, "bias": draw(st.booleans())}
    reach = [d * (k - 1) for d, k in zip(triple(dilation), triple(kernel), strict=True)]
    if transposed:
        extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(triple(stride), triple(dilation), strict=True)]
        # No more than the reach: padding takes away from the output, and some of it must be left.
        padding = tuple(min(p, r // 2) for p, r in zip(triple(padding), reach, strict=True))
        options |= {"stride": stride, "padding": padding, "output_padding": tuple(extra)}
        least = [1, 1, 1]
    else:
        options["padding"] = draw(st.sampled_from([padding, "same", "valid"]))
        options["padding_mode"] = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
        if options["padding"] != "same":
            options["stride"] = stride
        least = [max(r + 1, 3) for r in reach]  # reflection pads with less than the input
    kt, kh, kw = triple(kernel)
    counts = {"spatial_atoms": draw(st.integers(1, kh * kw)), "temporal_atoms": draw(st.integers(1, kt))}
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    shape = (*batch, groups * c_in, *(n + draw(st.integers(0, 2)) for n in least))
    return groups * c_in, groups * c_out, options, counts, shape


@pytest.fixture
def x():
    return torch.randn(2, 4, 7, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)


@pytest.mark.parametrize(("layer", "_", "twin", "options"), CASES)
def test_both_forms_are_torch_s_convolution_with_the_rebuilt_filters(layer, _, twin, options, x):
    results = []
    for evaluation in ("filters", "atoms"):
        torch.manual_seed(1)
        conv = layer(4, 6, **options, dtype=torch.float64, atoms="dct", evaluation=evaluation)
        if conv.bias is not None:
            nn.init.normal_(conv.bias)
        results.append(with_gradients(conv(x), x, *conv.parameters()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    expected = as_torch(twin, conv.filters(), conv.bias, options)(x)
    torch.testing.assert_close(results[0][0], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(conv(x[0]), expected[0], rtol=1e-10, atol=1e-10)


def agree_in_both_forms_and_with_torch(layer, twin, set_up):
    c_in, c_out, options, counts, shape = set_up
    torch.manual_seed(0)
    conv = layer(c_in, c_out, **options, **counts, dtype=torch.float64, atoms="random", evaluation="filters")
    if conv.bias is not None:
        nn.init.normal_(conv.bias)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    by_filters = with_gradients(conv(x), x, *conv.parameters())
    conv.evaluation = "atoms"
    for a, b in zip(by_filters, with_gradients(conv(x), x, *conv.parameters()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)

    filters = conv.filters()
    naive = torch.zeros_like(filters)
    for m, psi in enumerate(conv.psi):
        for n, phi in enumerate(conv.phi):
            naive = naive + conv.alpha[:, :, m, n, None, None, None] * phi[:, None, None] * psi
    torch.testing.assert_close(filters, naive, rtol=1e-12, atol=1e-12)
    theirs = twin(c_in, c_out, **options, dtype=torch.float64)
    theirs.load_state_dict({"weight": filters} | ({} if conv.bias is None else {"bias": conv.bias}))
    expected = with_gradients(theirs(x), x, *([] if conv.bias is None else [theirs.bias]))
    torch.testing.assert_close(by_filters[:2], expected[:2], rtol=1e-10, atol=1e-10)
    if conv.bias is not None:
        i = [name for name, _ in conv.named_parameters()].index("bias")
        torch.testing.assert_close(by_filters[2 + i], expected[2], rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # with even kernels it may copy, says torch, once a process
@given(set_up=set_ups(transposed=False))
def test_forms_agree_forward_and_backward_whatever_the_options(set_up):
    agree_in_both_forms_and_with_torch(STDCFConv3d, nn.Conv3d, set_up)


@given(set_up=set_ups(transposed=True))
def test_transposed_forms_agree_forward_and_backward_whatever_the_options(set_up):
    agree_in_both_forms_and_with_torch(STDCFConvTranspose3d, nn.ConvTranspose3d, set_up)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # with even kernels it may copy, says torch, once a process
@given(set_up=set_ups(transposed=False) | set_ups(transposed=True))
def test_rank1_is_torch_s_convolution_whatever_the_options(set_up):
    c_in, c_out, options, _, shape = set_up
    torch.manual_seed(0)
    transposed = "output_padding" in options
    layer, twin = (Rank1ConvTranspose3d, nn.ConvTranspose3d) if transposed else (Rank1Conv3d, nn.Conv3d)
    conv = layer(c_in, c_out, **options, dtype=torch.float64, middle_channels=3 * options["groups"])
    theirs = twin(c_in, c_out, **options, dtype=torch.float64)
    theirs.load_state_dict({"weight": conv.filters()} | ({"bias": conv.temporal.bias} if options["bias"] else {}))
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(conv(x), theirs(x), rtol=1e-10, atol=1e-10)


@given(set_up=set_ups(transposed=False), temporal=st.integers(1, 3), spatial=st.integers(1, 3) | st.just((2, 1)))
def test_whatever_is_dilated_or_swapped_is_put_back(set_up, temporal, spatial):
    c_in, c_out, options, counts, _ = set_up
    conv = STDCFConv3d(c_in, c_out, **options, **counts, atoms="dct")
    before = dict(vars(conv)), dict(conv.named_parameters())
    for change in (
        lambda: conv.dilate(temporal, spatial),
        lambda: conv.swap(torch.zeros(len(conv.psi), 5, 3), torch.zeros(len(conv.phi), 2)),
    ):
        try:
            with change() as inside:
                assert inside is conv
        except ValueError as error:
            assert "fractional" in str(error)
        assert (dict(vars(conv)), dict(conv.named_parameters())) == before


@pytest.mark.parametrize(("_", "layer", "twin", "options"), CASES)
def test_rank1_is_torch_s_convolution_with_the_composed_filters(_, layer, twin, options, x):
    conv = layer(4, 6, **options, dtype=torch.float64)
    expected = as_torch(twin, conv.filters(), conv.temporal.bias, options)(x)
    torch.testing.assert_close(conv(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("layer", "rank1", "twin", "_"), [CASES[0], CASES[-1]])
def test_positional_arguments_are_torch_s(layer, rank1, twin, _):
    order = list(inspect.signature(twin).parameters)
    for ours in (layer, rank1):
        assert list(inspect.signature(ours).parameters)[: len(order)] == order


@pytest.mark.parametrize(("layer", "_", "twin", "options"), CASES)
def test_from_conv3d_is_exact_with_all_atoms(layer, _, twin, options, x):
    conv = twin(4, 6, **options, dtype=torch.float64)
    kt, *k = conv.kernel_size
    torch.testing.assert_close(layer.from_conv3d(conv, k[0] * k[1], kt)(x), conv(x), rtol=1e-10, atol=1e-10)


def test_dilating_keeps_the_length_and_can_be_undone(x):
    conv = STDCFConv3d(4, 6, 3, padding=1, dtype=torch.float64)
    before = conv(x)
    with conv.dilate(temporal=2):
        expected = nn.functional.conv3d(x, conv.filters(), conv.bias, padding=(2, 1, 1), dilation=(2, 1, 1))
        torch.testing.assert_close(conv(x), expected)
        assert conv(x).shape == before.shape
    assert torch.equal(conv(x), before)


def test_swapping_changes_the_atoms_alone_and_undoing_brings_the_parameter_back(x):
    conv = STDCFConv3d(4, 6, 3, padding=1, dtype=torch.float64)
    old, alpha = conv.phi, conv.alpha
    change = conv.swap(phi=torch.randn(3, 5))
    assert conv.kernel_size == (5, 3, 3) and conv.padding == (2, 1, 1) and conv.alpha is alpha
    assert conv(x).shape[2:] == x.shape[2:]
    change.undo()
    assert conv.phi is old and conv.kernel_size == (3, 3, 3) and conv.padding == (1, 1, 1)
    with pytest.raises(ValueError, match=r"phi of shape \(2, 5\)"):
        conv.swap(phi=torch.randn(2, 5))


@pytest.mark.parametrize(("what", "frozen"), [("spatial", {"psi"}), ("temporal", {"phi"}), (None, set())])
def test_frozen_atoms_keep_their_bytes_and_all_else_trains(what, frozen, x):
    conv = STDCFConv3d(4, 6, 3, dtype=torch.float64)
    conv.freeze(what)
    before = {name: p.detach().clone() for name, p in conv.named_parameters()}
    optimizer = torch.optim.Adam([p for p in conv.parameters() if p.requires_grad])
    conv(x).square().mean().backward()
    optimizer.step()
    assert {name for name, p in conv.named_parameters() if torch.equal(p, before[name])} == frozen


LAYERS = {
    "convolution": (STDCFConv3d, {"kernel_size": 3, "stride": (1, 2, 2), "padding": 1}),
    "transposed": (STDCFConvTranspose3d, {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}),
}


@pytest.fixture(params=[(name, evaluation) for name in LAYERS for evaluation in ("filters", "atoms")], ids="-".join)
def layer(request):
    name, evaluation = request.param
    make, options = LAYERS[name]
    torch.manual_seed(2)
    return make(4, 6, **options, evaluation=evaluation)


@pytest.fixture
def clip():
    return torch.randn(2, 4, 5, 6, 7, generator=torch.Generator().manual_seed(3), requires_grad=True)


def test_compiled_layers_answer_and_learn_alike(layer, clip):
    expected = with_gradients(layer(clip), clip, *layer.parameters())
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    # Compiled, the atoms are met by other operations, in another order of sums.
    torch.testing.assert_close(with_gradients(compiled(clip), clip, *layer.parameters()), expected, rtol=1e-4, atol=1e-4)


def test_layers_work_as_functions_of_their_parameters(layer, clip):
    double = {name: 2 * p.detach() for name, p in layer.named_parameters()}
    before = layer(clip)
    answer = torch.func.functional_call(layer, double, (clip,))
    assert not torch.allclose(answer, before)
    assert torch.equal(layer(clip), before)
    layer.load_state_dict(double)
    assert torch.equal(layer(clip), answer)
    gradients = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (clip,)).square().sum())(double)
    layer(clip).square().sum().backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-4)  # as above


def test_autocast_gives_half_precision_outputs_and_full_precision_gradients(layer, clip):
    expected = with_gradients(layer(clip), clip, *layer.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(clip)
    assert y.dtype == torch.bfloat16
    for a, b in zip(with_gradients(y.float(), clip, *layer.parameters()), expected, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() < 0.05 * b.norm()


def test_filters_are_built_in_full_precision_under_autocast(layer):
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.filters(), layer.filters().float())
        filters = layer.filters()
    assert torch.equal(filters, layer.filters())


def test_state_survives_a_round_trip_and_a_file(layer, clip, tmp_path):
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    twin = copy.deepcopy(layer)
    for p in twin.parameters():
        nn.init.normal_(p)
    assert not torch.allclose(twin(clip), layer(clip))
    assert set(layer.state_dict()) == {"psi", "phi", "alpha", "bias"}
    twin.load_state_dict(torch.load(tmp_path / "layer.pt"))
    assert torch.equal(twin(clip), layer(clip))


def test_a_deep_copy_is_its_own_layer(layer, clip):
    before, twin = layer(clip), copy.deepcopy(layer)
    twin.dilate(temporal=2)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(layer(clip), before) and layer.dilation == (1, 1, 1)


def test_channels_last_layers_and_clips_give_the_same(layer, clip):
    last = copy.deepcopy(layer).to(memory_format=torch.channels_last_3d)
    y = last(clip.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(y, layer(clip))
    assert all(a.shape == b.shape for a, b in zip(layer.parameters(), last.parameters(), strict=True))
    assert last.double().alpha.dtype == torch.float64


def test_a_default_device_is_followed_and_leaves_atoms_as_they_are():
    with torch.device("meta"):
        layer = STDCFConv3d(4, 6, (3, 7, 7))
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert STDCFConv3d(4, 6, (3, 7, 7)).psi.isfinite().all()


def test_a_frozen_convolution_becomes_a_frozen_layer():
    conv = nn.Conv3d(4, 6, 3)
    conv.weight.requires_grad_(False)
    layer = STDCFConv3d.from_conv3d(conv)
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {"bias"}


BAD = [
    ({"kernel_size": 2**31}, "kernel_size=2147483648: give an integer of at least 1 .at most 1,048,576."),
    ({"in_channels": 2**31}, "in_channels=2147483648: give an integer from 1 to 1048576"),
    ({"bias": np.zeros(2)}, "bias=.*: choose True or False"),
    ({"in_channels": 0}, "in_channels=0"),
    ({"in_channels": 3, "groups": 2}, "in_channels=3 does not divide into groups=2"),
    ({"out_channels": True}, "out_channels=True"),
    ({"out_channels": 5, "groups": 2}, "out_channels=5 does not divide into groups=2"),
    ({"groups": 0}, "groups=0"),
    ({"kernel_size": 0}, "kernel_size=0"),
    ({"kernel_size": (3, 3)}, r"kernel_size=\(3, 3\)"),
    ({"kernel_size": 2.5}, "kernel_size=2.5"),
    ({"stride": (1, 2)}, r"stride=\(1, 2\)"),
    ({"stride": 0}, "stride=0"),
    ({"dilation": (1, 0, 1)}, r"dilation=\(1, 0, 1\)"),
    ({"padding": -1}, "padding=-1"),
    ({"padding_mode": "mirror"}, "padding_mode='mirror'"),
    ({"dtype": torch.int32}, "dtype=torch.int32"),
    ({"dtype": "float32"}, "dtype=float32"),
]
BAD_ATOMS = [
    ({"spatial_atoms": 0}, "spatial_atoms=0"),
    ({"spatial_atoms": 2.0}, "spatial_atoms=2.0"),
    ({"spatial_atoms": 7}, "spatial_atoms=7 .* atoms='dct' offers 9"),
    ({"temporal_atoms": 0}, "temporal_atoms=0"),
    ({"temporal_atoms": 4}, "temporal_atoms=4 .* larger kernel"),
    ({"atoms": "haar"}, "atoms='haar'"),
    ({"evaluation": "fast"}, "evaluation='fast'"),
]
BAD_HERE = [
    (STDCFConv3d, {"padding": "full"}, "padding='full'"),
    (STDCFConv3d, {"padding": "same", "stride": 2}, "padding='same'"),
    (Rank1Conv3d, {"padding": "full"}, "padding='full'"),
    (Rank1Conv3d, {"padding": "same", "stride": 2}, "padding='same'"),
    (Rank1Conv3d, {"middle_channels": 0}, "middle_channels=0"),
    (Rank1Conv3d, {"middle_channels": 3, "groups": 2}, "middle_channels=3 does not divide into groups=2"),
    (Rank1ConvTranspose3d, {"middle_channels": 2.5}, "middle_channels=2.5"),
]
for transposed in (STDCFConvTranspose3d, Rank1ConvTranspose3d):
    BAD_HERE += [
        (transposed, {"padding": "same"}, "padding='same'"),
        (transposed, {"padding_mode": "reflect"}, "padding_mode='reflect'"),
        (transposed, {"output_padding": -1}, "output_padding=-1"),
        (transposed, {"output_padding": 2, "stride": 2}, "output_padding=2"),
    ]
BAD_HERE += [(layer, *bad) for layer in (STDCFConv3d, STDCFConvTranspose3d) for bad in BAD + BAD_ATOMS]
BAD_HERE += [(layer, *bad) for layer in (Rank1Conv3d, Rank1ConvTranspose3d) for bad in BAD]


@pytest.mark.parametrize(("layer", "options", "told"), BAD_HERE)
def test_bad_arguments_are_named(layer, options, told):
    with pytest.raises(ValueError, match=told):
        layer(**{"in_channels": 4, "out_channels": 6, "kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda conv: conv(torch.zeros(2, 3, 5, 5, 5)), ValueError, r"input of shape \(2, 3, 5, 5, 5\)"),
        (lambda conv: conv(torch.zeros(4, 5, 5)), ValueError, r"input of shape \(4, 5, 5\)"),
        (lambda conv: conv(torch.zeros(2, 4, 5, 5, 5, dtype=torch.uint8)), TypeError, r"torch\.uint8"),
        (lambda conv: conv.freeze("time"), ValueError, "what='time': choose 'spatial', 'temporal', 'both' or None"),
        (lambda conv: conv.freeze(np.zeros(2)), ValueError, r"what=array.*: choose 'spatial'"),
        (lambda conv: conv.dilate(spatial=np.array(0)), ValueError, r"dilation=\(1, array\(0\), array\(0\)\)"),
        (lambda conv: conv.dilate(temporal=0), ValueError, r"dilation=\(0, 1, 1\)"),
        (lambda conv: conv.dilate(spatial=1.5), ValueError, r"dilation=\(1, 1.5, 1.5\)"),
        (lambda conv: conv.swap(phi=torch.zeros(2, 5)), ValueError, r"phi of shape \(2, 5\).*\(3, kt\)"),
        (lambda conv: conv.swap(psi=torch.zeros(5, 3)), ValueError, r"psi of shape \(5, 3\).*\(5, kh, kw\)"),
        (lambda conv: conv.swap(psi=torch.zeros(5, 0, 3)), ValueError, r"psi of shape \(5, 0, 3\)"),
        (lambda conv: conv.swap(phi=torch.zeros(3, 5, dtype=torch.int64)), ValueError, r"torch\.int64"),
        (lambda conv: conv.swap(phi=[[1.0]] * 3), TypeError, "phi is list"),
        (lambda conv: conv.from_conv3d(nn.Conv2d(4, 6, 3)), TypeError, "conv is Conv2d"),
        (lambda conv: conv.from_conv3d(nn.Conv3d(4, 6, 3), 10, 3), ValueError, "spatial_atoms=10"),
        (lambda conv: conv.from_conv3d(nn.Conv3d(4, 6, 3), 9, 4), ValueError, "temporal_atoms=4"),
        (lambda _: STDCFConvTranspose3d.from_conv3d(cast(Any, nn.Conv3d(4, 6, 3))), TypeError, "conv is Conv3d"),
        (lambda _: Rank1Conv3d(4, 6, 3, between=cast(Any, nn.ReLU)), TypeError, "between=.*ReLU"),
        (lambda _: Rank1Conv3d(4, 6, 3, between=nn.ReLU()).filters(), ValueError, "no composed filter: ReLU"),
        (
            lambda _: STDCFConvTranspose3d(4, 6, 3, stride=2)(torch.zeros(1, 4, 2, 2, 2), output_size=(5, 5, 9)),
            ValueError,
            r"output_size=\(5, 5, 9\): .* \(5, 5, 5\) to \(6, 6, 6\)",
        ),
    ],
)
def test_bad_uses_are_named(call, error, told):
    with pytest.raises(error, match=told):
        call(STDCFConv3d(4, 6, 3))


def test_a_padding_that_cannot_follow_is_refused_and_nothing_changes():
    conv = STDCFConv3d(4, 6, (4, 3, 3), padding=1)
    for change in (
        lambda: conv.swap(phi=torch.zeros(3, 5)),
        lambda: conv.swap(psi=torch.zeros(5, 4, 4), phi=torch.zeros(3, 3)),
    ):
        with pytest.raises(ValueError, match=r"padding=\(1, 1, 1\) .* fractional; build the layer with padding='same'"):
            change()
        assert conv.kernel_size == (4, 3, 3) and conv.padding == (1, 1, 1)


def test_output_size_chooses_as_torch_does():
    ours = STDCFConvTranspose3d(4, 6, 3, stride=2, padding=1, dtype=torch.float64)
    theirs = nn.ConvTranspose3d(4, 6, 3, stride=2, padding=1, dtype=torch.float64)
    theirs.load_state_dict({"weight": ours.filters(), "bias": ours.bias})
    x = torch.randn(1, 4, 3, 4, 5, dtype=torch.float64)
    for size in ((5, 7, 9), (6, 8, 10), (5, 8, 9)):
        torch.testing.assert_close(ours(x, output_size=size), theirs(x, output_size=size))
        assert Rank1ConvTranspose3d(4, 6, 3, stride=2, padding=1)(x.float(), output_size=size).shape[2:] == size


@pytest.mark.parametrize("kernel_size", [1, 2, 3, (1, 3, 3), (3, 1, 1), (5, 7, 7), (2, 3, 4)])
@pytest.mark.parametrize("layer", [STDCFConv3d, STDCFConvTranspose3d])
def test_it_drops_in_with_its_own_defaults_whatever_the_kernel(layer, kernel_size):
    made = layer(4, 6, kernel_size)
    kt, kh, kw = made.kernel_size
    assert len(made.phi) == min(3, kt) and len(made.psi) <= min(5, kh * kw)
    assert made(torch.rand(1, 4, 8, 8, 8)).shape[1] == 6
    with pytest.raises(ValueError, match=f"temporal_atoms={kt + 1} is more than the {kt}"):
        layer(4, 6, kernel_size, temporal_atoms=kt + 1)  # what was asked for and does not fit is no default


def test_padding_comes_back_whatever_was_swapped_and_dilated_in_between():
    layer = STDCFConv3d(1, 2, (3, 3, 5), padding=(1, 1, 2))
    phi, psi = layer.phi.detach(), layer.psi.detach()
    layer.swap(phi=torch.ones(3, 1))
    assert layer.padding == (0, 1, 2)
    with layer.dilate(temporal=2, spatial=(2, 1)):
        assert layer.padding == (0, 2, 2)
    layer.swap(psi=torch.ones(5, 1, 1))
    assert layer.padding == (0, 0, 0)
    layer.swap(phi=torch.ones(3, 5), psi=torch.ones(5, 5, 9))
    assert layer.padding == (2, 2, 4)
    layer.swap(phi=phi, psi=psi)
    assert layer.padding == (1, 1, 2)


def test_a_padding_or_dilation_that_is_set_is_what_later_changes_count_from():
    layer = STDCFConv3d(1, 2, 3)
    layer.dilation = 2
    assert layer.padding == (0, 0, 0)
    layer.padding = (2, 0, 2)
    with layer.dilate(temporal=1):
        assert layer.padding == (1, 0, 2)
    layer.dilation = (4, 1, 1)  # as in torch, setting one leaves the other
    assert layer.padding == (2, 0, 2)
    with pytest.raises(ValueError, match="padding=-1: give an integer of at least 0"):
        layer.padding = -1
    with pytest.raises(ValueError, match="dilation=0: give an integer of at least 1"):
        layer.dilation = 0


@pytest.mark.parametrize("layer", [STDCFConv3d, STDCFConvTranspose3d])
def test_parameters_can_be_drawn_again(layer):
    torch.manual_seed(0)
    made = layer(2, 3, 3)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(0)
    made.reset_parameters()
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


@pytest.mark.parametrize("count", [5, np.int64(5)])
def test_numpy_integers_are_integers(count):
    make: Any = STDCFConv3d
    layer = make(np.int64(2), np.int32(3), np.array([3, 3, 3]), padding=np.int64(1), spatial_atoms=count)
    assert layer(torch.rand(1, 2, 4, 4, 4)).shape == (1, 3, 4, 4, 4)
    assert type(layer.in_channels) is int and layer.padding == (1, 1, 1)
