"""The picture of notebook 00: Eq. 1 as a table, in the three colours that ψ, φ and α keep everywhere."""

import torch
from torch import Tensor

from stdcf_lib.plots.motion import blank, place, write
from stdcf_lib.plots.style import ALPHA, PHI, PSI, Drawing, show_signed, styled


@styled
@torch.no_grad()
def equation(psi: Tensor, phi: Tensor, alpha: Tensor) -> Drawing:
    """Draw W = Σ α^{mn} ψ_m ⊗ φ_n: pictures at the left, rhythms above, a coefficient where they cross, and the filter.

    Args:
        psi: (M, kh, kw).
        phi: (N, kt).
        alpha: (M, N), of one filter.
    """
    w = torch.einsum("mn,mhw,nt->thw", alpha, psi, phi)
    most, limit = float(alpha.abs().max()), float(w.abs().max())
    below = 150 + 74 * len(psi)
    across = 150 + 110 * len(phi)
    figure = blank(across + 60 + 100 * len(w), below + 10)
    formula = {
        "$W$": "black",
        r"$=\;\sum$": "black",
        r"$\alpha^{mn}$": ALPHA,
        r"$\psi_m$": PSI,
        r"$\otimes$": "black",
        r"$\varphi_n$": PHI,
    }
    for x, (symbol, color) in zip((-130, -74, -6, 52, 90, 126), formula.items(), strict=True):
        write(figure, figure.bbox.width / 2 + x, 30, symbol, size=22, color=color)
    for n, atom in enumerate(phi):
        write(figure, 150 + 110 * n + 50, 64, rf"$\varphi_{{{n + 1}}}$", size=13, color=PHI)
        axes = place(figure, 150 + 110 * n, 78, 100, 56, PHI)
        axes.bar(range(len(atom)), atom.numpy(), width=0.6, color=PHI)
        axes.axhline(0, color="0.6", linewidth=1)
        axes.set(xticks=[], yticks=[], ylim=1.15 * float(phi.abs().max()) * torch.tensor([-1.0, 1.0]).numpy())
    for m, atom in enumerate(psi):
        top = 150 + 74 * m
        write(figure, 30, top + 33, rf"$\psi_{{{m + 1}}}$", size=13, color=PSI)
        show_signed(place(figure, 58, top, 66, 66, PSI), atom.numpy(), float(psi.abs().max()))
        for n, value in enumerate(alpha[m].tolist()):
            axes = place(figure, 150 + 110 * n, top, 100, 66, ALPHA)
            show_signed(axes, alpha[m : m + 1, n : n + 1].numpy(), most).axes.set_aspect("auto")
            number, color = f"{value:+.2f}".replace("-", "−"), "white" if value < -0.3 * most else "black"
            axes.text(0, 0, number, ha="center", va="center", size=12, color=color)
    middle = (150 + below) / 2
    write(figure, across + 18, middle, "=", size=22)
    for t, frame in enumerate(w):
        show_signed(place(figure, across + 46 + 100 * t, middle - 48, 90, 90), frame.numpy(), limit)
        write(figure, across + 91 + 100 * t, middle - 62, f"$W$, frame {t + 1}", size=10)
    return Drawing(figure, {"psi": psi.numpy(), "phi": phi.numpy(), "alpha": alpha.numpy(), "filter": w.numpy()})
