"""Batches of tiles whose input and target are independent parts of the same counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

_CROPS = {1: 256, 2: 32, 3: 12}  # pixels along each axis, by the number of scan axes
_MOST_CROPS = 8
_BATCH_VALUES = 1_500_000  # filtered scores in a batch: tens of milliseconds a step


@dataclass(frozen=True)
class TilePair:
    r"""One split of the counts. T tiles, S filters, P components.

    Attributes
    ----------
    stack
        (T, S, P, \*tile) filtered scores of the input, with noise of variance 1.
    target
        (T, P, \*tile) scores of the other counts, in the same unit.
    weight
        Inverse noise variance of the target.
    centre, spread
        (P,) mean and standard deviation of the components, in the same unit.
    """

    stack: Tensor
    target: Tensor
    weight: float
    centre: Tensor
    spread: Tensor


class TilePairs:
    r"""Draws crops of tiles and returns the weighted squared error of what a network makes of them.

    The pairs differ in the share of the counts that is input, so one network serves all noise levels.

    Parameters
    ----------
    pairs
        Splits of the counts.
    valid
        (T, 1, \*tile), 1 where there is a spectrum, else 0.
    generator
        Source of randomness, on the CPU.
    """

    def __init__(self, pairs: Sequence[TilePair], valid: Tensor, *, generator: torch.Generator) -> None:
        self.pairs, self.valid, self.generator = pairs, valid, generator
        self.crop = [min(n, _CROPS[valid.ndim - 2]) for n in valid.shape[2:]]
        values = math.prod(pairs[0].stack.shape[1:3]) * math.prod(self.crop)
        self.n_crops = int(min(max(1, _BATCH_VALUES // values), _MOST_CROPS))

    def __call__(self, network: nn.Module) -> Tensor:
        """Return the loss of the network on the next batch."""
        pair = self.pairs[self._below(len(self.pairs))]
        stacks: list[Tensor] = []
        targets: list[Tensor] = []
        valids: list[Tensor] = []
        for _ in range(self.n_crops):
            tile = self._below(len(self.valid))
            box = [self._box(n, c) for n, c in zip(self.valid.shape[2:], self.crop, strict=True)]
            turned = [-1 - axis for axis in range(len(box)) if self._below(2)]
            for out, maps in zip(
                (stacks, targets, valids), (pair.stack, pair.target, self.valid), strict=True
            ):
                out.append(maps[tile][(slice(None),) * (maps.ndim - 1 - len(box)) + tuple(box)].flip(turned))
        valid = torch.stack(valids)  # (B, 1, *crop)
        shape = (self.n_crops, -1)
        prediction = network(
            torch.stack(stacks), valid, pair.centre.expand(shape), pair.spread.expand(shape)
        )  # (B, P, *crop)
        error = (prediction - torch.stack(targets)).square() * valid
        return pair.weight * error.sum() / valid.sum().clamp(min=1) / prediction.shape[1]

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.generator))

    def _box(self, size: int, crop: int) -> slice:
        start = self._below(size - crop + 1)
        return slice(start, start + crop)
