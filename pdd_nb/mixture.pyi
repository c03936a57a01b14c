from .curriculum import AdaptiveCurriculumScheduler
from .solver import Solver
from .timesteps import Grid
from .tracker import TimestepDivergenceTracker
from _typeshed import Incomplete
from dataclasses import dataclass
from torch import Tensor, nn

__all__ = ['Mixture', 'grid_position', 'exact_grid', 'Students', 'corrected', 'Guide', 'new_guide', 'Cohort', 'clip_each', 'train', 'measure']

class Mixture:
    dim: Incomplete
    weight: Incomplete
    mean: Incomplete
    std: Incomplete
    def __init__(self, dim: int = 8, components: int = 12, spread: float = 0.08, seed: int = 0) -> None: ...
    def sample(self, n, generator=None) -> Tensor: ...
    def denoise(self, xt: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor: ...
    def solver(self, grid: Grid) -> Solver: ...

def grid_position(grid: Grid, t: Tensor) -> Tensor: ...
def exact_grid(n) -> Grid: ...

class Students(nn.Module):
    freqs: Incomplete
    w: Incomplete
    b: Incomplete
    def __init__(self, seeds, dim, width: int = 96, depth: int = 3, emb: int = 16) -> None: ...
    def forward(self, x, l): ...

def corrected(world: Mixture, net: Students, grid: Grid) -> Solver: ...

@dataclass
class Guide:
    regions: Tensor
    tracker: TimestepDivergenceTracker
    curriculum: AdaptiveCurriculumScheduler

def new_guide(settings: dict, grid: Grid) -> Guide: ...

class Cohort:
    batch: Incomplete
    coarse: Incomplete
    decay: Incomplete
    fine: Incomplete
    lr: Incomplete
    world: Incomplete
    runs: Incomplete
    teacher: Incomplete
    loss: Incomplete
    net: Incomplete
    student: Incomplete
    opt: Incomplete
    mean: Incomplete
    guides: Incomplete
    def __init__(self, world: Mixture, steps: int = 16, samplers=..., seeds=(0,), batch: int = 16, lr: float = 0.002, ema: float = 0.99) -> None: ...
    def compare(self, z: Tensor, noise: Tensor, i: Tensor): ...
    def update(self, k, updates) -> None: ...
    def mixed_walk(self, x: Tensor, ours=...): ...
    def end_errors(self, noise: Tensor) -> Tensor: ...

def clip_each(net: Students, norm: float = 1.0): ...
def train(cohort: Cohort, updates, quiet: bool = True) -> list[dict]: ...
def measure(cohort: Cohort, updates, n: int = 4096) -> list[dict]: ...
