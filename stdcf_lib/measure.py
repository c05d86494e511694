"""What a network costs: parameters, multiplications, and the memory that training keeps, at any input size."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from stdcf_lib.checks import wholes


class Cost(NamedTuple):
    """What `cost` counts. Whole numbers, for the whole batch of `input_size`."""

    parameters: int
    macs: int
    stored_bytes: int


def cost(model: nn.Module, input_size: tuple[int, ...]) -> Cost:
    """Count what one forward pass of `model` costs, without computing or allocating it.

    The pass runs on PyTorch's `meta` device, where tensors have shapes and no data, so a network far too large for this machine
    can be counted. The model itself is not touched; its mode (`train` or `eval`) and its frozen parameters count as they are.

    - `parameters`: numbers that can be learned, biases and frozen ones included, shared ones once.
    - `macs`: multiply-accumulate operations of all convolutions and `nn.Linear`, a tap that falls on padding included.
      Rebuilding W from atoms (`STDCFConv3d.filters`) is left out, as it does not grow with the input: it is
      C_out · C_in/groups · M·N · kt·kh·kw a pass, and none at
      all once a trained network keeps its W. Norms, activations, pools are left out too.
    - `stored_bytes`: what autograd keeps from the forward pass for the backward pass: every storage once, parameters and
      buffers left out. It includes the input, where a layer keeps it, and a rebuilt W. It is not the peak: gradients, the
      workspace of a kernel and the optimiser's state come on top.

    `evaluation="auto"` counts as `"filters"`, so that a count depends on no machine, and `"atoms"` as the three layers of
    Eq. 2 (on a CPU they keep less: `stdcf_lib.forms`). Layers that keep tensors out of autograd's sight (a custom `Function`
    that stores them as attributes) or checkpoint their activations are not seen.

    Args:
        model: takes one tensor of floats.
        input_size: the input's whole shape, batch included, such as (1, 3, 8, 224, 224).

    Raises:
        TypeError: `model` is not a module.
        ValueError: a size that is not a tuple of integers of at least 1, or that the model does not take.

    Example:
        >>> cost(nn.Conv3d(3, 4, 3, padding=1), (1, 3, 8, 10, 10))
        Cost(parameters=328, macs=259200, stored_bytes=9600)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}; give a torch.nn.Module")
    input_size = wholes("input_size", input_size, meaning="(the input's shape, batch included, such as (1, 3, 8, 224, 224))")

    state = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
    state |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    own = {tensor.untyped_storage() for tensor in state.values()}
    # A deep copy takes what its memo holds in place of a copy, so that this one has shapes and no data.
    # (`torch.func.functional_call` loses the weights of a module that the network holds twice.)
    shapes = copy.deepcopy(model, state)
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    kept = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    counter = _Counter()
    for module in shapes.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(counter.linear)
    try:
        x = torch.empty(input_size, device="meta", dtype=floats[0] if floats else None)
        with torch.enable_grad(), counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            shapes(x)
    except (RuntimeError, TypeError) as error:  # torch's words for shapes that do not fit, and for numbers beyond its own
        raise ValueError(f"input_size={input_size}: the model does not take it ({str(error).partition(chr(10))[0]})") from error

    return Cost(
        parameters=sum(p.numel() for p in model.parameters()),
        macs=counter.macs,
        stored_bytes=sum(storage.nbytes() for storage in kept - own),
    )


class _Counter(TorchDispatchMode):
    """PyTorch's own counter takes norms apart into elementary operations, and most of its time."""

    macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            x, weight, *_, transposed, _, _ = args
            # A value meets one filter of each channel that it is mixed with: of an output channel, or of an input channel.
            self.macs += (x if transposed else output).numel() * weight[0].numel()
        return output

    def linear(self, module: nn.Linear, args: Any, output: Tensor) -> None:
        self.macs += output.numel() * module.in_features
