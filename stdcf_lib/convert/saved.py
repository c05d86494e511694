"""A converted network as one file, and back."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from stdcf_lib.checks import wholes
from stdcf_lib.conv import STDCFConv3d, STDCFConvTranspose3d
from stdcf_lib.convert.conversion import replaced
from stdcf_lib.convert.named import build, video_models
from stdcf_lib.files import as_safetensors, read_safetensors, write

KEY = "stdcf"
"""Of the safetensors file's metadata; under it is JSON."""


def save(network: nn.Module, path: Path | str, source: str | None = None) -> None:
    """Keep a converted network, recovered or not, as one safetensors file, whole or not at all.

    The file holds the weights and, as metadata, which layers are STDCF, with how many atoms, and how each meets its input.

    Args:
        network: of `to_stdcf`.
        path: of the file, such as `"r3d_18-stdcf.safetensors"`; what is there is replaced.
        source: what builds the network before conversion, by a name that `python -m stdcf_lib.convert` takes.

    Raises:
        ValueError: a network without an STDCF layer.
        OSError: the file cannot be written; what was there is whole.
    """
    layers = {
        name: {"atoms": (len(module.psi), len(module.phi)), "way": _way(module)}
        for name, module in network.named_modules()
        if isinstance(module, _STDCF)
    }
    if not layers:
        raise ValueError(f"network {type(network).__name__} has no STDCF layer; convert it with to_stdcf first")
    # Weights that two modules share are written twice, and are one again in the network that loads them.
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    write(Path(path), as_safetensors(weights, {KEY: json.dumps({"source": source, "layers": layers})}))


def load(path: Path | str, network: nn.Module | None = None) -> nn.Module:
    """The converted network that `save` has kept.

    Args:
        path: of the file.
        network: the network as it was before conversion, trained or not; it is left alone. May be left out where the source
            is a network of torchvision. Nothing else that a file names is built, as that would run code of its choice.

    Returns:
        A copy of `network` with the file's layers and weights, in its mode and on its devices.

    Raises:
        ValueError: a file that `save` has not written, or not all of it, or that was changed since; or of another network.
        OSError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    try:
        weights, metadata = read_safetensors(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}); save the network again") from error
    try:
        about = json.loads(metadata[KEY])
        source, forms = about["source"], {name: form["way"] for name, form in about["layers"].items()}
        atoms: Any = {name: wholes("atoms", form["atoms"], 2) for name, form in about["layers"].items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} was not written by stdcf_lib.convert.save: it does not say which layers are STDCF") from error
    if network is None:
        if source not in video_models():
            raise ValueError(f"{path} is of {source or 'a network without a name'}; build it and give it: load(path, network)")
        network = build(source)

    there: dict[str, Any] = {name: module for name, module in network.named_modules() if name in forms}
    for name, form in forms.items():
        found = _way(there[name]) if name in there else "nothing of that name"
        if found != form:
            raise ValueError(f"{path} is of another network: its layer {name!r} is {form}, and there is {found}")
    convs = {name: module for name, module in there.items() if not isinstance(module, _STDCF)}
    try:
        converted, _ = replaced(network, convs, {name: atoms[name] for name in convs}, fit=False)
        converted.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is of another network: {' '.join(str(error).split())}") from error
    return converted


_STDCF = (STDCFConv3d, STDCFConvTranspose3d)


def _way(module: Any) -> dict[str, Any] | str:
    """How a convolution meets its input, in the terms of JSON; atoms and filters have it in common."""
    if not isinstance(module, (nn.Conv3d, nn.ConvTranspose3d, *_STDCF)):
        return type(module).__name__
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    return json.loads(json.dumps({name: getattr(module, name) for name in names}))
