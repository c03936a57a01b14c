from _typeshed import Incomplete
from .config import DistillConfig
from .families import Family
from .solver import Solver
from dataclasses import dataclass
from torch import Tensor
from typing import Any

__all__ = ['batch_indices', 'LatentFeed', 'TrajectoryFeed', 'Feeds', 'open_feeds']

def batch_indices(seed, step, b, n) -> Tensor: ...

class LatentFeed:
    latents: Incomplete
    n: Incomplete
    def __init__(self, latents, n) -> None: ...
    def __len__(self) -> int: ...
    def start_stage(self, teacher: Solver, weights): ...
    def conditions(self, k: Tensor) -> dict: ...
    def pair(self, teacher: Solver, k: Tensor, i: Tensor, noise: Tensor, w, blocks=()): ...

class TrajectoryFeed:
    cfg: Incomplete
    family: Incomplete
    n: Incomplete
    prompts: Incomplete
    quiet: Incomplete
    split: Incomplete
    held: Any
    def __init__(self, cfg: DistillConfig, family: Family, prompts, n, split, quiet: bool = False) -> None: ...
    def __len__(self) -> int: ...
    def start_stage(self, teacher: Solver, weights): ...
    def conditions(self, k: Tensor) -> dict: ...
    def pair(self, teacher: Solver, k, i, noise, w, blocks=()): ...

@dataclass
class Feeds:
    train: LatentFeed | TrajectoryFeed
    valid: LatentFeed | TrajectoryFeed

def open_feeds(cfg: DistillConfig, family: Family, quiet: bool = False) -> Feeds: ...
