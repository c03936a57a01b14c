from _typeshed import Incomplete
from dataclasses import dataclass
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ['SHAPES', 'COLORS', 'SIZES', 'LAYOUTS', 'BACKGROUNDS', 'ATTRIBUTES', 'Scenes', 'meaning', 'HELD_OUT', 'sample_scenes', 'draw_scenes', 'caption', 'captions', 'SceneDataset']

SHAPES: Incomplete
COLORS: Incomplete
SIZES: Incomplete
LAYOUTS: Incomplete
BACKGROUNDS: Incomplete
ATTRIBUTES: Incomplete

@dataclass
class Scenes:
    layout: Tensor
    background: Tensor
    shape1: Tensor
    color1: Tensor
    size1: Tensor
    shape2: Tensor
    color2: Tensor
    size2: Tensor
    def __len__(self) -> int: ...
    def __getitem__(self, i): ...
    def items(self): ...
    def stack(self): ...
    @classmethod
    def cat(cls, many): ...

def meaning(s: Scenes) -> Tensor: ...

HELD_OUT: float

def sample_scenes(n, seed: int = 0, split: str = 'train', singles: float = 0.2) -> Scenes: ...
def draw_scenes(s: Scenes, seed: int = 0, size: int = 64) -> Tensor: ...
def caption(row, rng, brief: float = 0.15): ...
def captions(s: Scenes, seed: int = 0, brief: float = 0.15): ...

class SceneDataset(Dataset):
    block: Incomplete
    n: Incomplete
    seed: Incomplete
    size: Incomplete
    split: Incomplete
    def __init__(self, n: int = 10000, seed: int = 0, split: str = 'train', size: int = 64, block: int = 256) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, i): ...
