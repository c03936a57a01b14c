import tarfile
from .config import Data
from PIL import Image
from _typeshed import Incomplete
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ['MAX_PIXELS', 'MAX_BYTES', 'MAX_TEXT', 'check_file', 'reason_of', 'to_rgb', 'StoreError', 'Disconnected', 'read_image', 'PICTURES', 'image_files', 'read_bytes', 'read_prompts', 'Item', 'cut_out', 'check_caption', 'prepare', 'content_hash', 'Source', 'SceneItems', 'CAPTIONS', 'caption_of', 'choose_column', 'TABLES', 'read_table', 'Folder', 'HuggingFace', 'Member', 'Tars', 'Prompts', 'upright_size', 'Nearest', 'SOURCES', 'check_source', 'open_source']

MAX_PIXELS: Incomplete
MAX_BYTES: Incomplete
MAX_TEXT: Incomplete

def check_file(path, most=None) -> None: ...
def reason_of(error: BaseException) -> str: ...
def to_rgb(im: Image.Image) -> Image.Image: ...

class StoreError(ValueError): ...
class Disconnected(StoreError): ...

class _Budget:
    changed: Incomplete
    most: Incomplete
    used: Incomplete
    def __init__(self, most) -> None: ...
    @contextmanager
    def take(self, n) -> Generator[None, None, Incomplete]: ...

def read_image(data, max_pixels=...) -> Image.Image: ...

PICTURES: Incomplete

def image_files(folder) -> list[Path]: ...
def read_bytes(path, start: int = 0, size=None) -> bytes: ...
def read_prompts(path, key: str = 'data.source') -> list[str]: ...

@dataclass(slots=True)
class Item:
    key: str
    data: object
    caption: str
    problem: str = ...

def cut_out(im: Image.Image, resolution, top: float = 0.5, left: float = 0.5): ...
def check_caption(item: Item) -> str: ...
def prepare(item: Item, size, crop: str = 'center', seed: int = 0, min_side: int = 32): ...
def content_hash(values) -> str: ...

class Source:
    origin: str
    settings: Sequence
    files: Sequence[Path]
    notes: list[str]
    def fingerprint(self, hashes): ...
    def item_hashes(self, hashes) -> None: ...

class SceneItems(Source):
    block: Incomplete
    n: Incomplete
    origin: Incomplete
    seed: Incomplete
    settings: Incomplete
    size: Incomplete
    def __init__(self, n, seed: int = 0, size: int = 64, block: int = 256) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, i): ...

CAPTIONS: Incomplete

def caption_of(value) -> tuple[str, str]: ...
def choose_column(columns, wanted, usual, key, where) -> str: ...

TABLES: Incomplete

def read_table(path, image_column: str = '', caption_column: str = '') -> list[tuple]: ...

@dataclass(slots=True)
class _Row:
    name: str
    caption: str = ...
    problem: str = ...
    text: str = ...

class Folder(Source):
    notes: Incomplete
    rows: Incomplete
    path: Incomplete
    origin: Incomplete
    settings: Incomplete
    files: Incomplete
    def __init__(self, path, image_column: str = '', caption_column: str = '') -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, i): ...
    def item_hashes(self, hashes): ...

class HuggingFace(Source):
    files: Incomplete
    image: Incomplete
    name: Incomplete
    notes: Incomplete
    split: Incomplete
    text: Incomplete
    ds: Incomplete
    origin: Incomplete
    settings: Incomplete
    open: Incomplete
    def __init__(self, name, image_column: str = '', caption_column: str = '') -> None: ...
    def __iter__(self): ...

@dataclass(slots=True)
class Member:
    path: str
    name: str
    offset: int
    size: int
    plain: bool
    def read(self, most): ...

class _Header(tarfile.TarInfo):
    LONG: Incomplete

class _StoredFile:
    file: Incomplete
    def __init__(self, address) -> None: ...
    def read(self, n): ...
    def seek(self, offset): ...
    def tell(self): ...
    def close(self) -> None: ...

class Tars(Source):
    files: Incomplete
    origin: Incomplete
    key_of: Incomplete
    images: Incomplete
    texts: Incomplete
    paths: Incomplete
    notes: Incomplete
    settings: Incomplete
    def __init__(self, pattern, image_column: str = '', caption_column: str = '') -> None: ...
    def __iter__(self): ...

class Prompts(Source):
    texts: Incomplete
    origin: Incomplete
    settings: Incomplete
    def __init__(self, path) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, i): ...

def upright_size(data) -> tuple: ...

class Nearest(Source):
    files: Incomplete
    k: Incomplete
    origin: Incomplete
    sizes: Incomplete
    source: Incomplete
    notes: Incomplete
    def __init__(self, source, sizes, k) -> None: ...
    def fingerprint(self, hashes): ...
    def __iter__(self): ...

SOURCES: str

def check_source(data: Data): ...
def open_source(data: Data, seed: int = 0, size: int = 64) -> Source: ...
