"""Data of the stories: MNIST digits and the translating, rotating pairs of them (TR-MNIST)."""

from stdcf_lib.data.mnist import mnist
from stdcf_lib.data.tr_mnist import TRMNIST

__all__ = ["TRMNIST", "mnist"]
