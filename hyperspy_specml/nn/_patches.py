"""A transformer that reads a spectrum in patches of channels, knows their energies, and need not see all of them.

References
----------
A. Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021; K. He et al., "Masked autoencoders are scalable
vision learners", CVPR 2022; E. J. Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

# Frequencies of the code of an energy, per factor of e: from a hundredth of it to all energies together.
_FREQUENCIES = 32
_FINEST, _COARSEST = 100.0, 0.1


def energy_code(where: Tensor) -> Tensor:
    """Return the (..., 2 * 32) sines and cosines of positive numbers, even in their logarithm."""
    rates = torch.logspace(math.log10(_COARSEST), math.log10(_FINEST), _FREQUENCIES, device=where.device)
    phase = torch.log(where.clamp_min(1e-6))[..., None] * rates
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


class _Block(nn.Module):
    """Attention and a layer of neurons, each beside a direct path."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) tokens to as many."""
        b, n, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(b, n, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class PatchEncoder(nn.Module):
    """Patches of a spectrum, their energies and its dose to one vector.

    Parameters
    ----------
    patch
        Channels in a patch.
    width, depth, heads
        Of the transformer.
    """

    def __init__(self, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch, self.width, self.heads = patch, width, heads
        self.embed = nn.Linear(patch, width)
        self.place = nn.Linear(4 * _FREQUENCIES, width)
        self.dose = nn.Linear(2, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def tokens(self, patches: Tensor, place: Tensor, dose: Tensor) -> Tensor:
        """Map (B, N, patch) values, codes and (B,) log doses to (B, 1 + N, width); first the dose.

        Codes are (B, N, 128), or (1, N, 128) where all spectra have the same.
        """
        first = self.dose(torch.stack([dose, torch.ones_like(dose)], dim=-1))[:, None]
        x = torch.cat([first, self.embed(patches) + self.place(place)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, patches: Tensor, place: Tensor, dose: Tensor) -> Tensor:
        """Return the (B, width) mean of the tokens."""
        return self.tokens(patches, place, dose).mean(dim=1)


class MaskedDecoder(nn.Module):
    """From the tokens of the patches that were seen to the values of all.

    Parameters
    ----------
    encoder
        Whose tokens it takes.
    depth
        Blocks; few, as it is thrown away after training.
    """

    def __init__(self, encoder: PatchEncoder, depth: int = 1) -> None:
        super().__init__()
        width = encoder.width // 2
        self.enter, self.place = nn.Linear(encoder.width, width), nn.Linear(4 * _FREQUENCIES, width)
        self.hidden = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(_Block(width, encoder.heads) for _ in range(depth))
        self.leave = nn.Linear(width, encoder.patch)

    def forward(self, tokens: Tensor, seen: Tensor, place: Tensor) -> Tensor:
        """Map (B, 1 + S, width) tokens of the (B, S) seen patches to (B, N, patch) values of all."""
        inner = self.enter(tokens)
        n, width = place.shape[1], inner.shape[-1]  # place: (B or 1, N, 128)
        x = self.hidden.expand(len(tokens), n, width)
        x = x.scatter(1, seen[..., None].expand(-1, -1, width), inner[:, 1:]) + self.place(place)
        x = torch.cat([inner[:, :1], x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.leave(x[:, 1:])


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder that are trained together on hidden patches."""

    def __init__(self, encoder: PatchEncoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, MaskedDecoder(encoder)

    def forward(self, patches: Tensor, place: Tensor, dose: Tensor, seen: Tensor) -> Tensor:
        """Return the (B, N, patch) values of all patches from the (B, S) seen ones."""
        take = lambda x: torch.gather(x, 1, seen[..., None].expand(-1, -1, x.shape[-1]))  # noqa: E731
        shown = take(place.expand(len(patches), -1, -1))
        return self.decoder(self.encoder.tokens(take(patches), shown, dose), seen, place)


class WithHead(nn.Module):
    """An encoder with a linear layer behind it."""

    def __init__(self, encoder: PatchEncoder, n_outputs: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.width, n_outputs)

    def forward(self, patches: Tensor, place: Tensor, dose: Tensor) -> Tensor:
        """Return (B, n_outputs)."""
        return self.head(self.encoder(patches, place, dose))


class LowRank(nn.Module):
    """A linear layer that stays as it is, plus a product of two narrow ones that is trained.

    Parameters
    ----------
    layer
        The linear layer.
    rank, alpha
        Of the product, and what it is scaled with: alpha / rank.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, alpha / rank
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / math.sqrt(layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        layer.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map as the layer does, and add the product."""
        return self.layer(x) + self.scale * (x @ self.down.T) @ self.up.T


def adapt(encoder: PatchEncoder, *, rank: int, alpha: float, targets: tuple[str, ...]) -> None:
    """Freeze an encoder and put low-rank products beside some of the linear layers of its attention, in place.

    Parameters
    ----------
    encoder
        The network.
    rank, alpha
        See `LowRank`.
    targets
        Names of layers in each block: "qkv", "out", "up", "down".
    """
    encoder.requires_grad_(False)
    for block in encoder.blocks:
        for name in targets:
            setattr(block, name, LowRank(getattr(block, name), rank, alpha))


def products(encoder: PatchEncoder) -> dict[str, Tensor]:
    """Return the narrow matrices of the adapters: "0.qkv.down", "0.qkv.up" (scaled) of the first block, and so on."""
    found = {}
    for k, block in enumerate(encoder.blocks):
        for name, layer in block.named_children():
            if isinstance(layer, LowRank):
                found[f"{k}.{name}.down"] = layer.down.detach()
                found[f"{k}.{name}.up"] = layer.scale * layer.up.detach()
    return found


def with_products(encoder: PatchEncoder, added: Mapping[str, Tensor]) -> PatchEncoder:
    """Return the encoder with the products of narrow matrices added to its layers, in place, without adapters.

    Parameters
    ----------
    encoder
        With or without adapters.
    added
        See `products`.
    """
    for k, block in enumerate(encoder.blocks):
        for name, layer in list(block.named_children()):
            plain = layer.layer if isinstance(layer, LowRank) else layer
            if f"{k}.{name}.down" in added and isinstance(plain, nn.Linear):
                with torch.no_grad():
                    plain.weight += added[f"{k}.{name}.up"] @ added[f"{k}.{name}.down"]
            setattr(block, name, plain)
    return encoder.requires_grad_(True)
