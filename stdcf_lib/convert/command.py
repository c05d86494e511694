"""`python -m stdcf_lib.convert`: a network by name, converted, recovered, tested and saved."""

import argparse
import copy
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import Subset

from stdcf_lib.checks import number, whole, wholes
from stdcf_lib.convert.conversion import ConvertedLayer, to_stdcf
from stdcf_lib.convert.layers import convertible, parameters_of
from stdcf_lib.convert.named import build, input_size
from stdcf_lib.convert.recovery import Clips, distill
from stdcf_lib.convert.saved import load, save
from stdcf_lib.convert.timing import seconds
from stdcf_lib.files import read_weights
from stdcf_lib.measure import cost

MOST_NUMBERS = 2**28
"""In the input that is drawn, 1 GiB of them. [ours]"""
HELD_OUT = 10
"""One of so many clips, and at least one, is held out of the recovery, to say how far it came."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    words = argparse.ArgumentParser(
        "stdcf_lib.convert",
        description="Convert the 3D convolutions of a trained network into STDCF, say what each layer keeps and what it costs, "
        "recover what was lost, and save a tested network.",
    )
    words.add_argument(
        "network",
        help="a video model of torchvision, such as r3d_18; or your own, as package.module:function or file.py:function, "
        "of a function that takes no arguments and returns the network",
    )
    words.add_argument(
        "--weights", metavar="FILE",
        help="its state_dict, of torch or safetensors; for torchvision also a name, such as DEFAULT, that it downloads",
    )  # fmt: skip
    words.add_argument(
        "--input", type=int, nargs="+", metavar="SIZE",
        help="shape of the input, batch included, such as 1 3 16 112 112; torchvision's own by default",
    )  # fmt: skip
    counts = words.add_mutually_exclusive_group()
    counts.add_argument("--atoms", type=int, nargs=2, metavar=("M", "N"), help="at most, for all layers; default 5 3")
    counts.add_argument(
        "--keep", type=float, metavar="SHARE", help="of ‖W‖², that every layer keeps; for the fewest parameters"
    )
    counts.add_argument("--parameters", type=float, metavar="SHARE", help="of the network's parameters that may be left")
    counts.add_argument("--macs", type=float, metavar="SHARE", help="of its MACs, an STDCF layer's as three layers")
    words.add_argument("--output", type=Path, metavar="FILE", help="where the converted network goes, such as net.safetensors")

    recovery = words.add_argument_group("recovery (self-distillation: no labels)")
    recovery.add_argument(
        "--clips",
        help="unlabelled, of the kind that the network was trained on: a folder of videos, for a network of torchvision; or a "
        "function, as for a network, that returns a tensor (n, C, T, H, W) or a Dataset",
    )
    recovery.add_argument("--epochs", type=int, default=3, help="passes over the clips; default 3")
    recovery.add_argument("--batch-size", type=int, default=8, help="clips a step; default 8")
    recovery.add_argument("--rate", type=float, default=1e-3, help="of Adam, at the beginning; default 1e-3")
    return words


def main(words: Sequence[str] | None = None) -> None:
    """The command. From a notebook, give it its words."""
    command = parser()
    arguments = command.parse_args(words)
    try:  # everything that can be refused is refused here, before anything is written
        size, network, clips = _asked_for(arguments)
        torch.manual_seed(0)
        clip = torch.randn(size)
        before = _answers(network, clip, f"the network does not take --input {' '.join(map(str, size))}")
        m, n = arguments.atoms or (None, None)
        budget = {"keep": arguments.keep, "parameters": arguments.parameters, "macs": arguments.macs}
        converted, report = to_stdcf(network, m, n, size, **budget)
    except (ValueError, OSError) as error:
        command.error(_line(error))

    print(table(network, report))
    print(totals(network, converted, report, clip))
    after = _answers(converted, clip, "the converted network fails")
    print(f"\non a drawn clip its answer differs by {difference(after, before):.1%} of the original's")
    try:
        if clips is not None:
            _recover(converted, network, clips, arguments)
        if arguments.output is not None:
            save(converted, arguments.output, arguments.network)
            again = load(arguments.output, build(arguments.network)).eval()
            if not all(map(torch.equal, _tensors(again(clip)), _tensors(converted.eval()(clip)))):
                raise ValueError(f"{arguments.output} does not answer as the network that was saved; do not use it")
            print(f"saved to {arguments.output}; loaded again, it gives the same answer, to the bit")
    except (ValueError, FloatingPointError, OSError) as error:
        sys.exit(f"stdcf_lib.convert: {_line(error)}")


def _asked_for(arguments: argparse.Namespace) -> tuple[tuple[int, ...], nn.Module, Clips | None]:
    """The input's shape, the network in evaluation mode, and the clips to recover with.

    Raises:
        ValueError, OSError: what is asked for cannot be had.
    """
    output = arguments.output
    if output is not None and (output.exists() or not output.parent.is_dir()):
        reason = "is there already" if output.exists() else "is in no folder that there is"
        raise ValueError(f"--output {output} {reason}; choose another name")
    whole("--epochs", arguments.epochs)
    whole("--batch-size", arguments.batch_size)
    number("--rate", arguments.rate, above=0)
    weights: str | None = arguments.weights
    is_file = weights is not None and (":" in arguments.network or Path(weights).suffix or Path(weights).exists())
    network = build(arguments.network, None if is_file else weights)
    size = arguments.input or input_size(arguments.network)
    if size is None:
        raise ValueError("name the shape of the network's input with --input, batch included, such as --input 1 3 16 112 112")
    size = wholes("--input", size, meaning="(batch, channels, frames, height, width)")
    if math.prod(size) > MOST_NUMBERS:
        raise ValueError(
            f"--input {' '.join(map(str, size))} has {math.prod(size):,} numbers; at most {MOST_NUMBERS:,} will do"
        )
    if weights is not None and is_file:
        try:
            network.load_state_dict(read_weights(Path(weights)))
        except RuntimeError as error:
            raise ValueError(f"--weights {weights} are of another network: {error}") from error
    elif weights is None:
        print(f"no --weights: those that {arguments.network} is built with; random ones keep less than trained ones do\n")
    found: Clips | None = None
    if arguments.clips is not None:
        from stdcf_lib.convert.clips import clips  # which decodes videos

        found = clips(arguments.clips, arguments.network, size)
    return size, network.eval(), found


def table(network: nn.Module, report: Sequence[ConvertedLayer]) -> str:
    """A line a layer: kernel, channels, counts of atoms, what they keep, and what they cost."""
    convs = convertible(network)
    wide = max(len(name) for name in ("layer", *convs))
    heads = f"{'kernel':8} {'channels':10} {'M':>3}{'N':>3}{'kept':>7}{'parameters':>18}"
    lines = [f"{'layer':{wide}}  {heads}{'MACs, as three layers':>29}"]
    rows = {row.name: row for row in report}
    for name, conv in convs.items():
        shape = f"{'×'.join(map(str, conv.kernel_size)):8} {f'{conv.in_channels}→{conv.out_channels}':10}"
        if (row := rows.get(name)) is None:
            lines.append(f"{name:{wide}}  {shape}  stays as it is")
            continue
        parameters = f"{row.parameters_before:11,} → {row.parameters_after:10,}"
        macs = "" if row.macs_before is None else f"{_short(row.macs_before):>10} → {_short(row.macs_after or 0)}"
        lines.append(f"{name:{wide}}  {shape} {row.spatial_atoms:3}{row.temporal_atoms:3}{row.energy:7.1%}{parameters}{macs}")
    return "\n".join(lines)


def totals(network: nn.Module, converted: nn.Module, report: Sequence[ConvertedLayer], clip: Tensor) -> str:
    """The whole network: parameters, MACs, and the time of each form on this machine."""
    before, after = parameters_of(network), parameters_of(converted)
    counted = cost(network, tuple(clip.shape)).macs
    left = counted - sum((row.macs_before or 0) - (row.macs_after or 0) for row in report)
    took = seconds(network, converted, [""], clip)[""]
    return "\n".join(
        [
            "",
            f"parameters   {before:,} → {after:,} ({after / before:.0%})",
            f"MACs         {_short(counted)}; as three layers {_short(left)} ({left / counted:.0%})",
            f"time here    {took.before:.3f} s a pass; converted {took.filters:.3f} s with filters rebuilt, {took.atoms:.3f} s "
            f"by atoms ({torch.get_num_threads()} threads)",
        ]
    )


@torch.no_grad()
def difference(answer: Any, wanted: Any) -> float:
    """‖answer − wanted‖ / ‖wanted‖, over all tensors of both."""
    pairs = list(zip(_tensors(answer), _tensors(wanted), strict=True))
    return float(sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs)) ** 0.5


def _recover(converted: nn.Module, network: nn.Module, clips: Clips, arguments: argparse.Namespace) -> None:
    """Distil into the converted network, in place, and print how far it came on clips that were held out; where it is no nearer
    than before, it is left as it was."""
    numbers = range(len(clips))
    indexed: Any = clips
    held_out, others = numbers[::HELD_OUT], [k for k in numbers if k % HELD_OUT]

    def away() -> float:
        parts = [torch.stack([indexed[k]]) for k in held_out]
        with torch.no_grad():
            found = [(converted.eval()(x), network(x)) for x in parts]
        return difference([one for one, _ in found], [other for _, other in found])

    first, given = away(), copy.deepcopy(converted.state_dict())
    distill(
        converted, network, Subset(indexed, others), arguments.epochs,
        batch_size=arguments.batch_size, rate=arguments.rate, progress=sys.stderr.isatty(),
    )  # fmt: skip
    now = away()
    print(f"recovered on {len(others)} clips; on {len(held_out)} held out it differed by {first:.1%}, and now by {now:.1%}")
    if not now < first:
        converted.load_state_dict(given)
        print("which is no nearer, so it is left as it was converted; try a lower --rate, more --epochs or more clips")


@torch.no_grad()
def _answers(network: nn.Module, clip: Tensor, complaint: str) -> Any:
    """What a network answers, of which all must be finite numbers.

    Raises:
        ValueError: with `complaint`, where it raises or answers something else.
    """
    try:
        answer = copy.deepcopy(network(clip))
    except Exception as error:  # of whatever the network is made of
        raise ValueError(f"{complaint}: {_line(error)}") from error
    if not (found := _tensors(answer)) or not all(bool(tensor.isfinite().all()) for tensor in found):
        raise ValueError(f"{complaint}: it answers no finite numbers")
    return answer


def _tensors(answer: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _short(count: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count:,}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
