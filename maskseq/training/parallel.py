"""Ranks: one process by default, several under `torchrun`; DDP or FSDP2 around the loss."""

import atexit
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from maskseq.errors import UsageError
from maskseq.training.device import choose_device


@dataclass(frozen=True, kw_only=True)
class RankGroup:
    """Who this process is among those that train together."""

    rank: int = 0
    world: int = 1
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and talks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over all ranks."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank."""
        return self.sum(torch.tensor(float(here))).item() > 0

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world > 1:
            dist.barrier()


def join(device: str = "auto") -> RankGroup:
    """The ranks that `torchrun` started, or this process alone. The group lasts as long as the process."""
    world, local = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")))
    chosen = choose_device(device, local)
    if world == 1:
        return RankGroup(device=chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
        atexit.register(dist.destroy_process_group)
    return RankGroup(rank=dist.get_rank(), world=world, device=chosen)


def distribute(
    module: nn.Module, layers: nn.ModuleList, ranks: RankGroup, strategy: Literal["ddp", "fsdp"]
) -> nn.Module:
    """`module`, ready for a backward over all ranks: gradients come out as the mean over ranks.

    FSDP2 shards each of the `layers` and then what is left, in place.
    """
    if ranks.world == 1:
        return module
    if strategy == "ddp":
        return DistributedDataParallel(module)
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


@contextmanager
def accumulating(module: nn.Module, *, last: bool) -> Iterator[None]:
    """Around the forward and backward of one micro-batch: ranks talk only in the step's last one."""
    if isinstance(module, DistributedDataParallel) and not last:
        with module.no_sync():
            yield
        return
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    yield


def forget_gathered(module: nn.Module) -> None:
    """After sharded weights were written: FSDP2 keeps the root's gathered ones from one forward to the next."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def full(tensor: Tensor) -> Tensor:
    """All of a tensor that may be sharded. Every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this rank holds, if `like` is sharded and of that shape; else all of it."""
    if isinstance(like, DTensor) and tensor.shape == like.shape:
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return tensor


def check_shares(sizes: Sequence[int], world: int) -> None:
    """`UsageError`, with the worlds that would do, when `world` ranks cannot share steps of so many rows."""
    bad = [size for size in sizes if size % world]
    if bad:
        common = math.gcd(*sizes)
        valid = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
        raise UsageError(
            f"a step of {bad[0]} rows cannot be shared by {world} processes\n\nhint: start {valid} of them, or change "
            f"training.rows",
            code="bad-option",
        )
