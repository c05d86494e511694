"""Networks by name: torchvision's video models, and what a function of one's own builds."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn


def video_models() -> list[str]:
    """The names of torchvision's video models; none where it is not installed."""
    try:
        from torchvision.models import list_models, video
    except ImportError:
        return []
    return list_models(module=video)


def build(name: str, weights: str | None = None) -> nn.Module:
    """The network of a name.

    Args:
        name: of one of `video_models()`, such as `"r3d_18"`; or `"package.module:function"` or `"file.py:function"`, where the
            function takes no arguments and returns the network.
        weights: a name of torchvision's for those that it downloads, such as `"DEFAULT"`. Without, they are random.

    Raises:
        ValueError: there is none of that name, or it cannot be built.
    """
    if ":" not in name:
        return _of_torchvision(name, weights)
    if weights is not None:
        raise ValueError(f"weights={weights!r} are torchvision's, and {name} is not")
    network = called(name)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} gave {type(network).__name__}; name a function that returns a torch.nn.Module")
    return network


def called(name: str) -> Any:
    """What the function `"package.module:function"` or `"file.py:function"` returns, called without arguments.

    Raises:
        ValueError: there is none, or it raised.
    """
    place, _, function = name.rpartition(":")
    if not place or not function:
        raise ValueError(f"{name!r} names no function; write package.module:function or file.py:function")
    try:
        module = _file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        return getattr(module, function)()
    except Exception as error:  # whatever the reader's own code raises
        raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error


def preparation(name: str) -> Callable[[Tensor], Tensor]:
    """What makes the input of a model of torchvision, (C, T, H, W), of a clip of bytes (T, C, H, W).

    Raises:
        ValueError: another network.
    """
    if name not in video_models():
        raise ValueError(f"videos are prepared for networks of torchvision; for {name} name a function that returns its clips")
    from torchvision.models import get_model_weights

    preset: Any = next(iter(get_model_weights(name)))
    return preset.transforms()


def input_size(name: str) -> tuple[int, ...] | None:
    """The shape of one clip that a model of torchvision was trained on, with 16 frames; None for other networks."""
    if name not in video_models():
        return None
    preset: Any = preparation(name)
    return (1, 3, 16, *preset.crop_size)


def _of_torchvision(name: str, weights: str | None) -> nn.Module:
    known = video_models()
    if name not in known:
        theirs = ", ".join(known) if known else "none, as torchvision is not installed"
        raise ValueError(f"{name!r} is no video model of torchvision ({theirs}); one of your own is package.module:function")
    from torchvision.models import get_model, get_model_weights

    of_model = get_model_weights(name)
    if weights is not None and weights not in of_model.__members__:
        raise ValueError(f"{name} has no weights {weights!r}; torchvision offers {', '.join(of_model.__members__)}")
    try:
        return get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:  # of the download: no connection, or a file that is not what it should be
        raise ValueError(f"the weights {weights} of {name} cannot be had: {error}") from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    spec: Any = importlib.util.spec_from_file_location(path.stem, path)  # not None, as its name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))  # as Python does where it runs a file, for the files beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
